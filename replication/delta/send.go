package delta

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

// SendConfig is one copy of a volume to a receiver.
type SendConfig struct {
	// Path of the file or block device to copy.
	Path string
	// State is a directory that remembers what the target has, so that the next copy sends
	// only what changed since. Empty: nothing is remembered, and the hashes of both ends
	// are compared.
	State string
	Proof block.Proof
	// Dial makes a connection to the receiver.
	Dial func(ctx context.Context) (net.Conn, error)
	// Changes are the ranges that may have changed since the volume had the root Since, by a
	// tracker's word. They count only if that is what the target has.
	Changes []volume.Extent
	Since   string

	Lanes    int
	Throttle *Throttle
	Compress Compression
	Meter    *Meter
	// IOPriority of what is read; empty is IONormal.
	IOPriority IOPriority
	// Began is called with each pass before it runs; it may be nil.
	Began func(p Pass, lanes int)
	// Retry is how long to try again after the link broke; 0 is not at all.
	Retry time.Duration
	// Notice hears of what a person may want to know; it may be nil.
	Notice func(string)

	id string // of this copy, over all its sessions
}

// SendResult says what a copy did.
type SendResult struct {
	// Root of the volume, proved to be the target's.
	Root string
	// Tracked: Changes were believed, and the rest was not read.
	Tracked bool
	// Resumed: a copy that was broken off went on where it was.
	Resumed bool
	// Stirred: the source was written to during the copy. The result is not of one instant.
	Stirred bool
}

// MaxLanes bounds SendConfig.Lanes.
const MaxLanes = maxLanes

const (
	retryFirst = time.Millisecond
	retryMost  = 5 * time.Second
	// mismatchesMost bounds how often a copy starts over because what was proved differed.
	mismatchesMost = 3
)

// Send copies a volume, and returns when it is durable at the target and proved to be equal.
func Send(ctx context.Context, c SendConfig) (SendResult, error) {
	if c.State == "" {
		dir, err := os.MkdirTemp("", "lifeboat-copy-")
		if err != nil {
			return SendResult{}, err
		}
		defer os.RemoveAll(dir)
		c.State = dir
	} else if err := os.MkdirAll(c.State, 0o700); err != nil {
		return SendResult{}, fmt.Errorf("state directory: %w", err)
	}
	if c.Meter == nil {
		c.Meter = new(Meter)
	}
	c.id = rand.Text()
	delay, since, mismatches := retryFirst, time.Now(), 0
	for {
		durable := c.Meter.Durable.Load()
		res, err := c.once(ctx)
		if err == nil || ctx.Err() != nil {
			return res, err
		}
		if c.Meter.Durable.Load() > durable {
			delay, since = retryFirst, time.Now()
		}
		if errors.Is(err, ErrMismatch) {
			mismatches++
		}
		again := (IsLink(err) || errors.Is(err, ErrBusy)) && time.Since(since) < c.Retry || errors.Is(err, ErrMismatch) && mismatches < mismatchesMost
		if !again {
			return res, err
		}
		if c.Notice != nil && delay >= time.Second/4 {
			c.Notice(fmt.Sprintf("%v; next attempt in %v", err, delay))
		}
		select {
		case <-ctx.Done():
			return res, context.Cause(ctx)
		case <-time.After(delay):
			delay = min(2*delay, retryMost)
		}
	}
}

// once is one session.
func (c *SendConfig) once(ctx context.Context) (res SendResult, err error) {
	v, err := volume.Open(c.Path, volume.WithDirectIfCold(true))
	if err != nil {
		return res, fmt.Errorf("source: %w", err)
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	x, report, err := index.Open(filepath.Join(c.State, "source"), index.Options{Size: v.Size(), Proof: c.Proof, Digests: true})
	if err != nil {
		return res, fmt.Errorf("state of the copy: %w", err)
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	if report.Damaged != "" && c.Notice != nil {
		c.Notice("state of the copy: " + report.Damaged + "; the hashes of both ends are compared")
	}
	before, err := x.Root()
	if err != nil {
		return res, err
	}
	s, err := Connect(ctx, SenderConfig{Dial: c.Dial, Disks: []SourceDisk{{Name: "disk", Index: x}}, Body: sessionBody{Copy: c.id}, Lanes: c.Lanes,
		Throttle: c.Throttle, Compress: c.Compress, Meter: c.Meter, IOPriority: c.IOPriority, Cold: volume.Cold(v)})
	if err != nil {
		return res, err
	}
	defer s.Close()
	return c.transfer(ctx, s, v, before, !report.New)
}

// transfer compares, sends what differs, and has it proved.
func (c *SendConfig) transfer(ctx context.Context, s *Sender, v volume.Source, before block.Hash, known bool) (res SendResult, err error) {
	identity, err := volume.Identify(c.Path)
	if err != nil {
		return res, err
	}
	watermark := newWatermark(filepath.Join(c.State, "pass.json"), identity)
	left, interrupted := watermark.load()
	res.Resumed = interrupted && known
	if c.Since != "" && known && !res.Resumed && c.Since == c.Proof.RootString(before) {
		if res.Tracked, err = s.Equal(); err != nil {
			return res, err
		}
	}
	p := Pass{Volumes: []volume.Source{v}}
	if res.Tracked {
		p.Changed = [][]volume.Extent{c.Changes}
	} else {
		doubts, err := c.agree(s)
		if err != nil {
			return res, err
		}
		if res.Resumed {
			p.Spans = append(left, doubts...)
		}
	}
	if c.Changes != nil && !res.Tracked && c.Notice != nil {
		c.Notice("the list of changes is not about what the target has: the source is read in full")
	}
	if !res.Tracked {
		p.Settled = watermark.save
	}
	if c.Began != nil {
		c.Began(p, s.Lanes())
	}
	if err := s.Pass(ctx, p); err != nil {
		return res, err
	}
	roots, err := s.Finish(nil, nil)
	if err != nil {
		return res, err
	}
	res.Root = roots[0]
	if err := watermark.remove(); err != nil {
		return res, err
	}
	after, err := volume.Identify(c.Path)
	res.Stirred = after.Mtime != identity.Mtime
	return res, err
}

// agree makes the index say what the target has, and gives the regions in which it did not. A clean
// index may have been damaged where it lies, so it is read first; only a copy that a tracker makes
// short does without, and its proof finds it.
func (c *SendConfig) agree(s *Sender) (doubts []Span, err error) {
	x := s.disks[0].Index
	if err := Verify(x); err != nil {
		return nil, err
	}
	if n := x.DamagedPages(); n > 0 && c.Notice != nil {
		c.Notice(fmt.Sprintf("state of the copy: %d pages of it are damaged; the target is asked about them", n))
	}
	if equal, err := s.Equal(); equal || err != nil {
		return nil, err
	}
	err = s.Compare(func(disk int, piece int64) { doubts = AppendSpan(doubts, disk, piece/block.PiecesPerRegion) })
	return doubts, err
}

// watermark remembers what is left of a pass, so that a copy that was killed goes on there, if
// the source is as it was.
type watermark struct {
	path     string
	identity volume.Identity
}

type watermarkState struct {
	Source volume.Identity `json:"source"`
	Left   []Span          `json:"left"`
}

func newWatermark(path string, source volume.Identity) *watermark {
	return &watermark{path: path, identity: source}
}

// load gives what an earlier pass left. A file that cannot be read counts as none: all is read
// then.
func (w *watermark) load() ([]Span, bool) {
	raw, err := os.ReadFile(w.path)
	if err != nil {
		return nil, false
	}
	var st watermarkState
	if json.Unmarshal(raw, &st) != nil || !w.identity.Unchanged(st.Source) {
		return nil, false
	}
	return st.Left, true
}

// save is not synced: what is lost with the power is read again.
func (w *watermark) save(left []Span) {
	if len(left) == 0 {
		return
	}
	raw, err := json.Marshal(watermarkState{w.identity, left})
	if err != nil {
		return
	}
	if os.WriteFile(w.path+".tmp", raw, 0o600) == nil {
		_ = os.Rename(w.path+".tmp", w.path) // what is not saved is read again
	}
}

func (w *watermark) remove() error {
	if err := os.Remove(w.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
