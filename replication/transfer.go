package replication

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// scan prepares the reading of volumes.
func (ss *sourceSession) scan(vols []SourceVolume) *scan {
	return &scan{
		disks: ss.spec.Disks, vols: vols, indexes: ss.indexes, meter: &ss.s.meter, emit: ss.emit,
		pass: &progress{done: func(used int64) {
			ss.s.hub.update(func(st *Status) { st.BytesDone = min(st.BytesDone+used, st.BytesTotal) })
		}},
	}
}

// queued is a frame between scanner and link.
type queued struct {
	frame *wireFrame
	upd   *update
}

// transfer runs a producer of frames and sends what it emits, until all is
// acknowledged as durable.
func (ss *sourceSession) transfer(produce func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ss.link.ctx)
	ss.queue = make(chan queued, sendQueue)
	g.Go(func() error {
		defer close(ss.queue)
		return produce(ctx)
	})
	g.Go(func() error { return ss.sendQueued(ctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	began := time.Now()
	defer spend(&ss.s.meter.target, began)
	if err := ss.link.send(frameFlush, nil, false); err != nil {
		return err
	}
	return ss.window.drained(ss.link.ctx)
}

// sendQueued sends frames in order and notes what it waits for.
func (ss *sourceSession) sendQueued(ctx context.Context) error {
	m := &ss.s.meter
	for {
		began := time.Now()
		var q queued
		var ok bool
		select {
		case q, ok = <-ss.queue:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		spend(&m.source, began)
		if !ok {
			return nil
		}
		began = time.Now()
		if err := ss.window.enter(ctx, q.upd); err != nil {
			return err
		}
		spend(&m.target, began)
		began = time.Now()
		if err := ss.link.write(q.frame); err != nil {
			return err
		}
		spend(&m.link, began)
		m.sent.Add(int64(q.frame.size()))
	}
}

// emit queues changes. They are compressed while the link is what the pass waits for,
// except where that was tried in vain a moment ago.
func (ss *sourceSession) emit(ctx context.Context, m *dataMessage, j *job) error {
	pack := len(ss.queue) >= sendQueue/4 || ss.s.throttle.limited.Load()
	if pack && ss.incompressible.Load() > 0 {
		ss.incompressible.Add(-1)
		pack = false
	}
	w, err := encodeFrame(frameData, m.marshal(), pack)
	if err != nil {
		return err
	}
	if pack && w.head[4]&flagZstd == 0 {
		ss.incompressible.Store(incompressibleSkip)
	}
	select {
	case ss.queue <- queued{w, updateOf(m, ss.geos[m.disk], j)}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// incompressibleSkip is how many frames are sent as they are after one that did not shrink.
const incompressibleSkip = 3

// endPass asks the target to compare roots and make the point, and notes the outcome.
func (ss *sourceSession) endPass(point *pointMessage, tokens map[string]string) (passDoneMessage, error) {
	m := passMessage{ID: point.ID, Point: point}
	for _, x := range ss.indexes {
		if err := x.sync(); err != nil {
			return passDoneMessage{}, err
		}
		m.Roots = append(m.Roots, rootString(x.root()))
	}
	if err := ss.link.sendJSON(framePassEnd, m); err != nil {
		return passDoneMessage{}, err
	}
	f, err := ss.reply(framePassDone)
	if err != nil {
		return passDoneMessage{}, err
	}
	var done passDoneMessage
	if err := decodeJSON(f, &done); err != nil {
		return done, err
	}
	if done.ID != m.ID || done.Point == nil {
		return done, fmt.Errorf("%w: the target answered another pass", ErrProtocol)
	}
	return done, ss.noteDone(m, done, tokens)
}

// noteDone makes the outcome of a pass durable at the source, and answers requests.
func (ss *sourceSession) noteDone(m passMessage, done passDoneMessage, tokens map[string]string) error {
	s := ss.s
	final := m.Point.Kind == PointCurrentTime
	err := s.change(func(st *sourceState) {
		st.LastPoint, st.Pass = done.Point, nil
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
				st.Trackers[d.Name] = trackerMark{Token: token, Root: m.Roots[i]}
			}
		}
	})
	if err != nil {
		return err
	}
	ss.trustTracker()
	s.hub.update(func(st *Status) {
		st.Stage, st.LastPoint, st.CutMethod = StageRealTime, done.Point, done.Point.CutMethod
		st.BytesDone, st.ETA = st.BytesTotal, 0
		s.fill(st, s.meter.snapshot())
		st.Passes++
		if final {
			st.Stage, st.Health, st.HealthReason = StageStopped, HealthOK, ""
		}
	})
	s.cleanCuts()
	s.answered()
	return nil
}

// watermarkEvery is how often the position in a cut is made durable.
const watermarkEvery = 2 * time.Second

// saveWatermarks notes from time to time up to where a cut is acknowledged.
func (ss *sourceSession) saveWatermarks(p *progress) (stop func()) {
	ctx, cancel := context.WithCancel(ss.link.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(watermarkEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := ss.saveWatermark(p); err != nil {
				ss.link.cancel(err)
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (ss *sourceSession) saveWatermark(p *progress) error {
	disk, region, ok := p.watermark()
	if !ok {
		return nil
	}
	var errs []error
	for _, x := range ss.indexes {
		errs = append(errs, x.sync())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	before := ss.nodesBefore(disk, region)
	return ss.s.change(func(st *sourceState) {
		if st.Pass == nil {
			return
		}
		pass := *st.Pass
		pass.Disk, pass.Region, pass.Before = disk, region, before
		st.Pass = &pass
	})
}

// counters of a meter at one moment.
type counters struct{ scanned, changed, skipped, sent, source, link, target int64 }

func (m *meter) snapshot() counters {
	load := func(a *atomic.Int64) int64 { return a.Load() }
	return counters{load(&m.scanned), load(&m.changed), load(&m.skipped), load(&m.sent), load(&m.source), load(&m.link), load(&m.target)}
}
