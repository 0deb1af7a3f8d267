package agentless

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

// stateFormat is the version of the documents that hold streams.
const stateFormat = 1

// state is all that is known of a stream; one document at its target site.
type state struct {
	Format int `json:"format"`
	// Owner is the engine that runs the stream; each write has a Stamp of its own, by which
	// a write is recognised whose answer was lost.
	Owner string `json:"owner"`
	Stamp string `json:"stamp"`
	// Nonce makes tokens differ from those of a stream of this name that was forgotten.
	Nonce    string `json:"nonce"`
	Spec     Spec   `json:"spec"`
	Sequence int64  `json:"sequence"` // of the newest cut; never reused

	Paused      bool   `json:"paused,omitempty"`
	Interrupted string `json:"interrupted,omitempty"` // why it waits for Resume
	Stopped     bool   `json:"stopped,omitempty"`     // by StopTarget or StopSource
	Finished    bool   `json:"finished,omitempty"`    // the point current-time of this epoch exists
	// Leaving says that StopSource was asked for after the stop: the source may still be
	// asked to delete what is left there.
	Leaving bool `json:"leaving,omitempty"`

	LastCut  time.Time `json:"last_cut,omitzero"`
	Passes   int64     `json:"passes"` // of this epoch
	Cut      *cut      `json:"cut,omitempty"`
	Base     *base     `json:"base,omitempty"`
	Points   []entry   `json:"points"` // newest first
	Requests []request `json:"requests,omitempty"`
	Doomed   []doomed  `json:"doomed,omitempty"`
}

// cut is a pass that is under way: announced before the first call is made for it.
type cut struct {
	Point    replication.Point `json:"point"` // as it will be
	Requests []string          `json:"requests,omitempty"`
	For      For               `json:"for"`
	Site     cloud.Site        `json:"site"` // of the cut
	ServerID string            `json:"server_id"`
	Disks    []Disk            `json:"disks"`
	Snaps    []Snap            `json:"snaps"`            // there
	Copies   []Snap            `json:"copies,omitempty"` // at the target; none where the cut is the point
	Made     bool              `json:"made,omitempty"`   // Snaps are available
	Tries    int               `json:"tries"`
}

// base is the newest pair of cut and copies: what the next copy is told as its difference.
type base struct {
	Site   cloud.Site `json:"site"` // of the cut
	Disks  []Disk     `json:"disks"`
	Snaps  []Snap     `json:"snaps"`
	Copies []Snap     `json:"copies"`
}

// entry is a point in the catalogue with its snapshots at the target.
type entry struct {
	Point    replication.Point `json:"point"`
	Requests []string          `json:"requests,omitempty"`
	Snaps    []Snap            `json:"snaps"`
	Token    string            `json:"token,omitempty"` // of the one use of current-time
}

// request is a Mark or Final, until and after it has its point.
type request struct {
	ID    string                `json:"id"`
	Kind  replication.PointKind `json:"kind"`
	Label string                `json:"label,omitempty"`
	Point *replication.Point    `json:"point,omitempty"`
}

// doomed are snapshots that are not needed any more. They leave what refers to them
// in the same write, so that a crash in between leaves nothing that is not known.
type doomed struct {
	Site  cloud.Site `json:"site"`
	Snaps []Snap     `json:"snaps"`
	Point string     `json:"point"` // that they belonged to
	// Since is when they were given up while they were being made; nil when they are
	// known to be there.
	Since *time.Time `json:"since,omitempty"`
}

// maxRequests bounds how many answered requests are remembered.
const maxRequests = 64

func decodeState(name string, raw []byte) (*state, error) {
	var head struct {
		Format int `json:"format"`
	}
	err := json.Unmarshal(raw, &head)
	if err == nil && head.Format > stateFormat {
		return nil, fmt.Errorf("%w: document %s has format %d, this program knows %d; run the newer program", replication.ErrNewerState, name, head.Format, stateFormat)
	}
	st := &state{}
	if err == nil {
		err = json.Unmarshal(raw, st)
	}
	if err == nil {
		err = st.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: document %s: %w; restore it from an earlier version", replication.ErrDamagedState, name, err)
	}
	return st, nil
}

// check finds what no write of this program leaves.
func (st *state) check() error {
	if st.Format < 1 || st.Spec.Stream == "" {
		return errors.New("it has no stream")
	}
	if c := st.Cut; c != nil && (len(c.Snaps) == 0 || len(c.Snaps) != len(c.Disks) || len(c.Copies) != 0 && len(c.Copies) != len(c.Disks) ||
		c.Made && len(c.Point.Disks) != len(c.Disks)) {
		return errors.New("its cut does not fit its disks")
	}
	if b := st.Base; b != nil && (len(b.Snaps) != len(b.Disks) || len(b.Copies) != len(b.Disks)) {
		return errors.New("its base does not fit its disks")
	}
	for _, d := range st.Doomed {
		if len(d.Snaps) == 0 {
			return errors.New("it has snapshots to delete without saying which")
		}
	}
	return nil
}

// encode gives the stored form, with a stamp of its own.
func (st *state) encode() ([]byte, error) {
	st.Format, st.Stamp = stateFormat, rand.Text()
	return json.Marshal(st)
}

// clone copies a state with all that it points to.
func (st *state) clone() (*state, error) {
	raw, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	next := &state{}
	return next, json.Unmarshal(raw, next)
}

// same tells whether a change changed nothing.
func (st *state) same(other *state) bool {
	a, err := json.Marshal(st)
	b, berr := json.Marshal(other)
	return err == nil && berr == nil && bytes.Equal(a, b)
}

// adopt makes a spec the one of the stream, and owner the engine that runs it.
func (st *state) adopt(spec Spec, owner string, now time.Time) error {
	old, known := st.Spec, st.Spec.Stream != ""
	if known && spec.Epoch < old.Epoch {
		return staleEpoch(spec, old.Epoch)
	}
	if !known {
		st.Nonce = rand.Text()
	}
	st.Owner, st.Stopped, st.Leaving = owner, false, false
	anew := !known || spec.Epoch > old.Epoch
	if anew {
		st.Finished, st.Paused, st.Interrupted, st.Passes = false, false, "", 0
		st.Requests = slices.DeleteFunc(st.Requests, func(r request) bool { return r.Point == nil })
	} else {
		spec.Settings = old.Settings
	}
	st.Spec = spec
	if st.Cut != nil && (anew || st.Cut.Site != spec.cutSite() || st.Cut.ServerID != spec.ServerID || !slices.Equal(st.Cut.Disks, spec.Disks) || len(st.Cut.Copies) == 0 != samePlace(spec.Source, spec.Target)) {
		st.abandon(now)
	}
	if st.Base != nil && (st.Base.Site != spec.cutSite() || !slices.Equal(st.Base.Disks, spec.Disks) || samePlace(spec.Source, spec.Target)) {
		st.dropBase()
	}
	return nil
}

// doom notes snapshots that are to be deleted.
func (st *state) doom(site cloud.Site, snaps []Snap, point string) {
	st.Doomed = append(st.Doomed, doomed{Site: site, Snaps: snaps, Point: point})
}

// abandon gives up the pass that is under way; its requests wait for the next one.
func (st *state) abandon(now time.Time) {
	if st.Cut == nil {
		return
	}
	for _, d := range []doomed{{Site: st.Cut.Site, Snaps: st.Cut.Snaps}, {Site: st.Spec.Target, Snaps: st.Cut.Copies}} {
		if d.Point, d.Since = st.Cut.Point.ID, &now; len(d.Snaps) > 0 {
			st.Doomed = append(st.Doomed, d)
		}
	}
	st.Cut, st.LastCut = nil, time.Time{} // the next one is due at once
}

// dropBase gives up the base at the source; its copies are a point's.
func (st *state) dropBase() {
	if st.Base != nil {
		st.doom(st.Base.Site, st.Base.Snaps, "")
		st.Base = nil
	}
}

// announce begins a pass.
func (st *state) announce(now time.Time) {
	st.Sequence++
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	p := replication.Point{ID: now.Format("20060102-150405-") + hex.EncodeToString(random[:]), Stream: st.Spec.Stream, Epoch: st.Spec.Epoch,
		Time: now, Kind: replication.PointScheduled, Consistency: "crash", CutMethod: CutSnapshot}
	c := &cut{Site: st.Spec.cutSite(), ServerID: st.Spec.ServerID, Disks: st.Spec.Disks,
		For: For{Plan: st.Spec.Plan, Server: st.Spec.Server, Operation: st.Spec.Operation, Point: p.ID}}
	for _, r := range st.Requests {
		if r.Point != nil {
			continue
		}
		c.Requests = append(c.Requests, r.ID)
		if p.Kind == replication.PointScheduled || r.Kind == replication.PointCurrentTime {
			p.Kind, p.Label = r.Kind, r.Label
		}
	}
	if p.Kind == replication.PointCurrentTime {
		p.CutMethod = replication.CutStopped
	}
	c.Point = p
	for _, d := range st.Spec.Disks {
		c.Snaps = append(c.Snaps, Snap{Disk: d.Name, Token: st.token("cut", d.Name)})
		if !samePlace(st.Spec.Source, st.Spec.Target) {
			c.Copies = append(c.Copies, Snap{Disk: d.Name, Token: st.token("copy", d.Name)})
		}
	}
	st.Cut, st.LastCut = c, now
}

// token derives the client token of a snapshot of the newest cut.
func (st *state) token(step, disk string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{"agentless", st.Nonce, st.Spec.Stream,
		strconv.FormatInt(st.Spec.Epoch, 10), strconv.FormatInt(st.Sequence, 10), step, disk}, "\x00")))
	return "lb-" + hex.EncodeToString(sum[:20])
}

// complete turns the pass into a point, whose snapshots are its own from now on.
func (st *state) complete(now time.Time) {
	c := st.Cut
	p := c.Point
	p.Verified = true
	own := c.Copies
	if len(own) == 0 {
		own = c.Snaps
	} else {
		st.dropBase()
		st.Base = &base{Site: c.Site, Disks: c.Disks, Snaps: c.Snaps, Copies: c.Copies}
	}
	for i := range p.Disks {
		p.Disks[i].Snapshot = own[i].ID
	}
	st.Points = append(st.Points, entry{Point: p, Requests: c.Requests, Snaps: own})
	sortPoints(st.Points)
	final := p.Kind == replication.PointCurrentTime
	for i, r := range st.Requests {
		if r.Point == nil && (final || slices.Contains(c.Requests, r.ID)) {
			st.Requests[i].Point = &p
		}
	}
	st.Cut, st.Finished, st.Interrupted = nil, st.Finished || final, ""
	st.Passes++
	st.prune(now)
}

func sortPoints(points []entry) {
	slices.SortStableFunc(points, func(a, b entry) int {
		if c := b.Point.Time.Compare(a.Point.Time); c != 0 {
			return c
		}
		return strings.Compare(b.Point.ID, a.Point.ID)
	})
}

// prune evicts points beyond the retention. Locked ones, ones in use and the newest stay.
func (st *state) prune(now time.Time) {
	keep, rank := st.Spec.Keep, 0
	st.Points = slices.DeleteFunc(st.Points, func(e entry) bool {
		old := keep.Within > 0 && now.Sub(e.Point.Time) > keep.Within
		evict := rank > 0 && (old || keep.Count > 0 && rank >= keep.Count) && !e.Point.Locked && !e.Point.InUse
		rank++
		if evict {
			st.doom(st.Spec.Target, e.Snaps, e.Point.ID)
		}
		return evict
	})
}

func (st *state) point(id string) *entry {
	for i := range st.Points {
		if st.Points[i].Point.ID == id {
			return &st.Points[i]
		}
	}
	return nil
}

func (st *state) request(id string) *request {
	for i := range st.Requests {
		if st.Requests[i].ID == id {
			return &st.Requests[i]
		}
	}
	return nil
}

// trim forgets the oldest answered requests beyond the bound.
func (st *state) trim() {
	surplus := len(st.Requests) - maxRequests
	st.Requests = slices.DeleteFunc(st.Requests, func(r request) bool {
		drop := surplus > 0 && r.Point != nil
		if drop {
			surplus--
		}
		return drop
	})
}

func (st *state) wantsFinal() bool {
	return slices.ContainsFunc(st.Requests, func(r request) bool { return r.Kind == replication.PointCurrentTime && r.Point == nil })
}

func (st *state) wants() bool {
	return slices.ContainsFunc(st.Requests, func(r request) bool { return r.Point == nil })
}
