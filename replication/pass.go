package replication

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

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
	before := s.meter.snapshot()
	began := time.Now()
	var done passDoneMessage
	var err error
	switch {
	case st.wantsFinal():
		done, err = ss.finalPass(reflink)
	case reflink && (len(ss.spec.Disks) == 1 || pauser):
		done, err = ss.reflinkPass()
	case pauser:
		done, err = ss.pausePass()
	default:
		return ss.livePass()
	}
	if err != nil {
		return err
	}
	s.judge(before, time.Since(began), done.Point)
	return nil
}

// reflinks tells, asked once a session, whether all disks can be cloned.
func (ss *sourceSession) reflinks() bool {
	if ss.reflink == nil {
		all := true
		for _, d := range ss.spec.Disks {
			all = all && canReflink(d)
		}
		ss.reflink = &all
	}
	return *ss.reflink
}

// total counts the used bytes of the source disks, and how many of them lie before the
// position in a kept cut.
func (ss *sourceSession) total() error {
	var used, done int64
	pass := ss.s.snapshot().Pass
	for i, v := range ss.vols {
		for off := int64(0); ; {
			start, end, err := v.NextData(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("%w: find data of disk %s: %w", ErrReadSource, ss.spec.Disks[i].Name, err)
			}
			used, off = used+end-start, end
			if pass != nil && i < pass.Disk {
				done += end - start
			} else if pass != nil && i == pass.Disk {
				done += max(0, min(end, pass.Region*RegionSize)-start)
			}
		}
	}
	ss.s.hub.update(func(st *Status) { st.BytesTotal, st.BytesDone = used, done })
	return nil
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
func (ss *sourceSession) reflinkPass() (passDoneMessage, error) {
	pass := ss.kept()
	var only []map[int64]bool
	var tokens map[string]string
	if pass == nil {
		var err error
		tokens = ss.tokens()
		if pass, err = ss.cut(ss.newPoint(CutReflink)); err != nil {
			return passDoneMessage{}, err
		}
		only = ss.tracked()
	}
	vols, err := openAll(pass.Cuts)
	if err != nil {
		return passDoneMessage{}, err
	}
	sc := ss.scan(vols)
	sc.only, sc.disk, sc.region = only, pass.Disk, pass.Region
	stopSaving := ss.saveWatermarks(sc.pass)
	err = ss.transfer(sc.run)
	stopSaving()
	for _, v := range vols {
		err = errors.Join(err, v.Close())
	}
	if err != nil {
		return passDoneMessage{}, err
	}
	return ss.endPass(&pass.Point, tokens)
}

func openAll(paths []string) (vols []SourceVolume, err error) {
	for _, path := range paths {
		v, err := OpenVolume(path)
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
	if pass.Before != ss.nodesBefore(pass.Disk, pass.Region) {
		pass.Disk, pass.Region = 0, 0
	}
	ss.s.engine.log.Info("going on with the cut of before", zap.String("stream", ss.s.name),
		zap.Int("disk", pass.Disk), zap.Int64("region", pass.Region))
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

// nodesBefore names what the index says about all regions before a position.
func (ss *sourceSession) nodesBefore(disk int, region int64) string {
	out := ""
	for i := range disk {
		out += rootString(ss.indexes[i].root())
	}
	if disk >= len(ss.indexes) {
		return out
	}
	return out + rootString(rootHash(region*RegionSize, ss.indexes[disk].node))
}

// cut clones all disks at one instant. The paths are durable before the clones are
// made, so that none is ever forgotten.
func (ss *sourceSession) cut(point *pointMessage) (*passState, error) {
	s := ss.s
	pass := &passState{Point: *point}
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
	complete.Before = ss.nodesBefore(0, 0)
	return &complete, s.change(func(st *sourceState) { st.Pass, st.Pausing = &complete, false })
}

// paused stops the server, runs fn, and lets the server go on, whatever happens. It
// gives the instant and the length of the pause. That the server may stand still is durable
// before: the caller has set Pausing.
func (ss *sourceSession) paused(fn func(context.Context) error) (at time.Time, stood time.Duration, err error) {
	began := time.Now()
	resume, err := ss.s.engine.config.Pauser.Pause(ss.link.ctx, ss.spec)
	if err != nil {
		return at, 0, fmt.Errorf("%w: server of stream %s: %w; check that it runs", ErrPause, ss.s.name, err)
	}
	at = ss.s.engine.now()
	err = fn(ss.link.ctx)
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
func (ss *sourceSession) pausePass() (passDoneMessage, error) {
	s := ss.s
	live := ss.scan(ss.vols)
	live.only = ss.tracked()
	if err := ss.transfer(live.run); err != nil {
		return passDoneMessage{}, err
	}
	spool, err := newSpool(s.dir)
	if err != nil {
		return passDoneMessage{}, err
	}
	defer spool.close()
	point := ss.newPoint(CutPause)
	if err := s.change(func(st *sourceState) { st.Pausing, st.Pass = true, nil }); err != nil {
		return passDoneMessage{}, err
	}
	tokens := ss.tokens()
	point.Time, point.Pause, err = ss.paused(func(ctx context.Context) error {
		sc := ss.scan(ss.vols)
		sc.only, sc.emit = ss.tracked(), spool.add
		sc.pass.done = func(int64) {}
		return errors.Join(sc.run(ctx), spool.flush())
	})
	if err != nil {
		return passDoneMessage{}, err
	}
	if err := s.change(func(st *sourceState) { st.Pausing = false }); err != nil {
		return passDoneMessage{}, err
	}
	err = ss.transfer(func(ctx context.Context) error { return spool.each(ctx, ss.geos, ss.emit) })
	if err != nil {
		return passDoneMessage{}, err
	}
	return ss.endPass(point, tokens)
}

// finalPass reads disks that stand still, because the caller stopped the server.
func (ss *sourceSession) finalPass(reflink bool) (passDoneMessage, error) {
	if reflink {
		return ss.reflinkPass()
	}
	point := ss.newPoint(CutStopped)
	if err := ss.transfer(ss.scan(ss.vols).run); err != nil {
		return passDoneMessage{}, err
	}
	return ss.endPass(point, nil)
}

// livePass copies without a cut. Its result is never a point.
func (ss *sourceSession) livePass() error {
	if err := ss.transfer(ss.scan(ss.vols).run); err != nil {
		return err
	}
	ss.s.hub.update(func(st *Status) {
		st.CutMethod, st.Health = CutNone, HealthStalled
		st.HealthReason = fmt.Sprintf("%v: the disks are copied, but no point can be made; put them on btrfs or xfs with reflinks, or give the engine a way to pause the server", ErrNoCut)
	})
	return nil
}
