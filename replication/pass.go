package replication

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"lifeboat/replication/delta"
	"lifeboat/replication/volume"

	"go.uber.org/zap"
)

// pass sends what changed since the last one: from a cut where there can be one.
func (ss *sourceSession) pass() error {
	s := ss.s
	s.cleanCuts()
	if err := ss.total(); err != nil {
		return err
	}
	st := s.snapshot()
	reflink := ss.reflinks()
	pauser := s.engine.config.Pauser != nil
	before := s.meter.Read()
	began := time.Now()
	var point *Point
	var err error
	switch {
	case st.wantsFinal():
		point, err = ss.finalPass(reflink)
	case reflink && (len(ss.spec.Disks) == 1 || pauser):
		point, err = ss.reflinkPass()
	case pauser:
		point, err = ss.pausePass()
	default:
		return ss.livePass()
	}
	if err != nil {
		return err
	}
	s.judge(before, time.Since(began), point)
	return nil
}

// reflinks tells, asked once a session, whether all disks can be cloned.
func (ss *sourceSession) reflinks() bool {
	if ss.reflink == nil {
		all := true
		for _, d := range ss.spec.Disks {
			all = all && volume.CanClone(d.Path)
		}
		ss.reflink = &all
	}
	return *ss.reflink
}

// newPoint describes the point of a cut that is about to be made.
func (ss *sourceSession) newPoint(method string) *pointMessage {
	st := ss.s.snapshot()
	now := ss.s.engine.now()
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	p := &pointMessage{
		ID: now.UTC().Format("20060102-150405-") + hex.EncodeToString(random[:]), Time: now, Kind: PointScheduled, CutMethod: method,
	}
	for _, r := range st.pending() {
		p.Requests = append(p.Requests, r.ID)
		if p.Kind == PointScheduled || r.Kind == PointCurrentTime {
			p.Kind, p.Label = r.Kind, r.Label
		}
	}
	return p
}

// reflinkPass sends clones; one that a restart interrupted goes on where it was.
func (ss *sourceSession) reflinkPass() (*Point, error) {
	pass := ss.kept()
	var tokens map[string]string
	var changed [][]Extent
	if pass == nil {
		var err error
		tokens = ss.tokens()
		if pass, err = ss.cut(ss.newPoint(CutReflink)); err != nil {
			return nil, err
		}
		changed = ss.tracked()
	}
	if ss.s.engine.config.Tracker == nil {
		changed = ss.sinceBase(pass)
	}
	vols, err := openAll(pass.Cuts)
	if err != nil {
		return nil, err
	}
	mark := watermark{ss: ss, left: pass.Left, saved: time.Now()}
	err = ss.sender.Pass(ss.ctx, delta.Pass{Volumes: vols, Changed: changed, Spans: ss.spans(pass), Settled: mark.settled})
	if err = errors.Join(err, mark.err); err != nil {
		err = errors.Join(err, mark.save())
	}
	for _, v := range vols {
		err = errors.Join(err, v.Close())
	}
	if err != nil {
		return nil, err
	}
	return ss.endPass(&pass.Point, tokens)
}

func openAll(paths []string) (vols []SourceVolume, err error) {
	for _, path := range paths {
		// A clone shares no cache with its disk, so what is read of it is not there yet.
		v, err := volume.Open(path, volume.WithDirectIfCold(true))
		if err != nil {
			for _, open := range vols {
				err = errors.Join(err, open.Close())
			}
			return nil, fmt.Errorf("cut: %w", err)
		}
		vols = append(vols, v)
	}
	return vols, nil
}

// maxCutAge is when a kept cut is too old to go on with, unless it is the first copy.
const maxCutAge = time.Hour

// kept gives the cut that an earlier session left, if it can be gone on with, and where.
func (ss *sourceSession) kept() *passState {
	st := ss.s.snapshot()
	if st.Pass == nil || !ss.usable(st, st.Pass) {
		return nil
	}
	pass := *st.Pass
	ss.s.engine.log.Info("going on with the cut of before", zap.String("stream", ss.s.name), zap.Int("ranges left", len(pass.Left)))
	return &pass
}

func (ss *sourceSession) usable(st sourceState, pass *passState) bool {
	if !pass.Complete || st.wantsFinal() || len(pass.Cuts) != len(ss.spec.Disks) {
		return false
	}
	if st.LastPoint != nil && ss.s.engine.now().Sub(pass.Point.Time) > maxCutAge {
		return false
	}
	for i, path := range pass.Cuts {
		if fi, err := os.Stat(path); err != nil || fi.Size() != ss.spec.Disks[i].Size {
			return false
		}
	}
	return true
}

// cut clones all disks at one instant. The paths are durable before the clones are
// made, so that none is ever forgotten.
func (ss *sourceSession) cut(point *pointMessage) (*passState, error) {
	s := ss.s
	pass := &passState{Point: *point, Tracked: ss.begunWith(s.snapshot().Base)}
	for _, d := range ss.spec.Disks {
		pass.Cuts = append(pass.Cuts, s.cutPath(d, point.ID))
	}
	pause := len(ss.spec.Disks) > 1 && point.Kind != PointCurrentTime
	if err := s.change(func(st *sourceState) { st.Pass, st.Pausing = pass, st.Pausing || pause }); err != nil {
		return nil, err
	}
	s.cleanCuts()
	var stood time.Duration
	at := s.engine.now()
	var err error
	if pause {
		at, stood, err = ss.paused(func(context.Context) error { return makeClones(ss.spec.Disks, pass.Cuts) })
	} else {
		err = makeClones(ss.spec.Disks, pass.Cuts)
	}
	if err != nil {
		return nil, err
	}
	complete := *pass
	complete.Complete, complete.Point.Time, complete.Point.Pause = true, at, stood
	for _, path := range pass.Cuts {
		mark, err := volume.Identify(path)
		if err != nil {
			return nil, fmt.Errorf("cut: %w", err)
		}
		complete.Marks = append(complete.Marks, mark)
	}
	return &complete, s.change(func(st *sourceState) { st.Pass, st.Pausing = &complete, false })
}

// paused stops the server, runs fn, and lets the server go on, whatever happens. It
// gives the instant and the length of the pause. That the server may stand still is durable
// before: the caller has set Pausing.
func (ss *sourceSession) paused(fn func(context.Context) error) (at time.Time, stood time.Duration, err error) {
	began := time.Now()
	resume, err := ss.s.engine.config.Pauser.Pause(ss.ctx, ss.spec)
	if err != nil {
		return at, 0, fmt.Errorf("%w: server of stream %s: %w; check that it runs", ErrPause, ss.s.name, err)
	}
	at = ss.s.engine.now()
	err = fn(ss.ctx)
	rerr := resume()
	stood = time.Since(began)
	if rerr != nil {
		return at, stood, errors.Join(err, fmt.Errorf("%w: let the server of stream %s run again: %w; check that it runs", ErrPause, ss.s.name, rerr))
	}
	ss.s.hub.update(func(st *Status) { st.LastPause = stood })
	if err != nil {
		return at, stood, errors.Join(err, ss.s.change(func(st *sourceState) { st.Pausing = false }))
	}
	return at, stood, nil
}

// pausePass first sends what changed while the server runs; then the server stands
// still while the rest is read into a spool, which is sent when it runs again.
func (ss *sourceSession) pausePass() (_ *Point, err error) {
	s := ss.s
	if err := ss.live(ss.tracked()); err != nil {
		return nil, err
	}
	spool, err := os.OpenFile(filepath.Join(s.dir, "spool"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, spaceError("spool of the source", err)
	}
	// It is worthless after a restart; the next one empties it as well.
	defer func() { err = errors.Join(err, spool.Truncate(0), spool.Close()) }()
	point := ss.newPoint(CutPause)
	if err := s.change(func(st *sourceState) { st.Pausing, st.Pass = true, nil }); err != nil {
		return nil, err
	}
	tokens := ss.tokens()
	var rest delta.Pass
	point.Time, point.Pause, err = ss.paused(func(ctx context.Context) (err error) {
		rest, err = ss.sender.Collect(ctx, delta.Pass{Volumes: ss.vols, Changed: ss.tracked()}, spool)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.change(func(st *sourceState) { st.Pausing = false }); err != nil {
		return nil, err
	}
	rest.Settled = ss.shown
	if err := ss.sender.Pass(ss.ctx, rest); err != nil {
		return nil, err
	}
	return ss.endPass(point, tokens)
}

// live sends what the disks hold now; nil is all of it.
func (ss *sourceSession) live(changed [][]Extent) error {
	return ss.sender.Pass(ss.ctx, delta.Pass{Volumes: ss.vols, Changed: changed, Settled: ss.shown})
}

// shown shows how far a pass is that is not gone on with after a restart.
func (ss *sourceSession) shown([]delta.Span) { ss.progress() }

// finalPass reads disks that stand still, because the caller stopped the server.
func (ss *sourceSession) finalPass(reflink bool) (*Point, error) {
	if reflink {
		return ss.reflinkPass()
	}
	point := ss.newPoint(CutStopped)
	if err := ss.live(nil); err != nil {
		return nil, err
	}
	return ss.endPass(point, nil)
}

// livePass copies without a cut. Its result is never a point.
func (ss *sourceSession) livePass() error {
	if err := ss.live(nil); err != nil {
		return err
	}
	ss.s.hub.update(func(st *Status) {
		st.CutMethod, st.Health = CutNone, HealthStalled
		st.HealthReason = fmt.Sprintf("%v: the disks are copied, but no point can be made; put them on btrfs or xfs with reflinks, or give the engine a way to pause the server", ErrNoCut)
	})
	return nil
}

// endPass asks the target to compare roots and make the point, and notes the outcome.
func (ss *sourceSession) endPass(point *pointMessage, tokens map[string]string) (*Point, error) {
	var done pointDone
	roots, err := ss.sender.Finish(point, &done)
	if err != nil {
		return nil, err
	}
	if done.Point == nil {
		return nil, fmt.Errorf("%w: the target answered a pass without a point", ErrProtocol)
	}
	return done.Point, ss.noteDone(point, roots, done, tokens)
}

// noteDone makes the outcome of a pass durable at the source, and answers requests.
func (ss *sourceSession) noteDone(point *pointMessage, roots []string, done pointDone, tokens map[string]string) error {
	s := ss.s
	final := point.Kind == PointCurrentTime
	err := s.change(func(st *sourceState) {
		st.LastPoint, st.Base = done.Point, nil
		if st.Pass != nil && !final && s.engine.config.Tracker == nil {
			st.Base = &baseState{Cuts: st.Pass.Cuts, Marks: st.Pass.Marks, Roots: roots}
		}
		st.Pass = nil
		st.Passes++
		st.Stopped = st.Stopped || final
		st.Requests = append([]sourceRequest(nil), st.Requests...)
		for i := range st.Requests {
			if p, ok := done.Requests[st.Requests[i].ID]; ok && st.Requests[i].Point == nil {
				st.Requests[i].Point = &p
			}
		}
		st.Trackers = nil
		for i, d := range ss.spec.Disks {
			if token, ok := tokens[d.Name]; ok {
				if st.Trackers == nil {
					st.Trackers = map[string]trackerMark{}
				}
				st.Trackers[d.Name] = trackerMark{Token: token, Root: roots[i]}
			}
		}
	})
	if err != nil {
		return err
	}
	ss.roots, ss.doubts = roots, doubts{}
	ss.lost = false
	s.hub.update(func(st *Status) {
		st.Stage, st.LastPoint, st.CutMethod = StageRealTime, done.Point, done.Point.CutMethod
		st.BytesDone, st.ETA = st.BytesTotal, 0
		s.fill(st, s.meter.Read())
		st.Passes++
		if final {
			st.Stage, st.Health, st.HealthReason = StageStopped, HealthOK, ""
		}
	})
	s.cleanCuts()
	s.answered()
	return nil
}
