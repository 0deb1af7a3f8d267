package agentless

import (
	"context"
	"fmt"
	"sync"
	"time"

	"lifeboat/replication"
)

// hub holds the status of a stream and wakes those who wait for a notable change.
type hub struct {
	now func() time.Time

	mu      sync.Mutex
	status  replication.Status
	told    replication.Status // as of the last notable change
	changed chan struct{}
}

func newHub(now func() time.Time, st replication.Status) *hub {
	// Versions go on rising after a restart, so that a waiter with one from before
	// does not wait for ever.
	st.Version = uint64(now().UnixMicro())
	return &hub{now: now, status: st, told: st, changed: make(chan struct{})}
}

// update changes the status; the version rises if the change is notable.
func (h *hub) update(fn func(*replication.Status)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fn(&h.status)
	h.settle()
	if !notable(&h.told, &h.status) {
		return
	}
	h.status.Version++
	h.told = h.status
	close(h.changed)
	h.changed = make(chan struct{})
}

// hold sets the health of a stream that does not copy now.
func (h *hub) hold(health, reason string) {
	h.update(func(s *replication.Status) {
		s.Health, s.HealthReason, s.RateBytesPerSecond, s.ETA = health, reason, 0, 0
	})
}

// free ends the health of a stream that was held, or failed before it was held.
func (h *hub) free() {
	h.update(func(s *replication.Status) {
		if s.Health != replication.HealthLagging {
			s.Health, s.HealthReason = replication.HealthOK, ""
		}
	})
}

// settle computes what follows from other fields. The caller holds h.mu.
func (h *hub) settle() {
	st := &h.status
	if st.LastPoint != nil && st.Stage != replication.StageStopped {
		st.Lag = max(0, h.now().Sub(st.LastPoint.Time))
	}
	switch {
	case st.Passes > 0:
		st.Percent = 100
	case st.BytesTotal > 0:
		// 100 is reserved for the moment at which the first point exists.
		st.Percent = min(99.9, 100*float64(st.BytesDone)/float64(st.BytesTotal))
	default:
		st.Percent = 0
	}
}

// notable says which changes a supervisor wants to hear of, as replication's.
func notable(a, b *replication.Status) bool {
	lag := b.Lag - a.Lag
	return a.Stage != b.Stage || a.Health != b.Health || a.HealthReason != b.HealthReason || a.Epoch != b.Epoch ||
		lastPoint(a) != lastPoint(b) || int(a.Percent/5) != int(b.Percent/5) || lag >= 10*time.Second || lag <= -10*time.Second
}

func lastPoint(s *replication.Status) string {
	if s.LastPoint == nil {
		return ""
	}
	return s.LastPoint.ID
}

func (h *hub) get() (replication.Status, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settle()
	st := h.status
	if st.LastPoint != nil {
		p := *st.LastPoint
		st.LastPoint = &p
	}
	return st, h.changed
}

// Status gives a picture of a stream.
func (e *Engine) Status(name string) (replication.Status, error) {
	s, err := e.stream(name)
	if err != nil {
		return replication.Status{}, err
	}
	s.first(e.ctx)
	st, _ := s.hub.get()
	return st, nil
}

// firstLook is how long a question waits for what a restarted engine has to read first.
const firstLook = 5 * time.Second

func (s *stream) first(ctx context.Context) {
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	select {
	case <-s.looked:
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Wait returns at the next notable change after the given version: of stage, health or
// reason, a new point, each five percent, ten seconds of lag. With another version than
// the current one it returns at once. When ctx ends it gives the current status and the
// error of ctx.
func (e *Engine) Wait(ctx context.Context, name string, afterVersion uint64) (replication.Status, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s, err := e.stream(name)
		if err != nil {
			return replication.Status{}, err
		}
		s.first(ctx)
		s.hub.update(func(*replication.Status) {}) // lag grows by itself
		st, changed := s.hub.get()
		if st.Version != afterVersion {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, ctx.Err()
		case <-changed:
		case <-tick.C:
		}
	}
}

// show brings the status in line with the state.
func (s *stream) show() {
	st := s.cached()
	if st == nil {
		return
	}
	s.hub.update(func(h *replication.Status) {
		h.Epoch, h.Passes, h.LastPoint = st.Spec.Epoch, st.Passes, nil
		if len(st.Points) > 0 {
			p := st.Points[0].Point
			h.LastPoint, h.CutMethod = &p, p.CutMethod
		}
		switch {
		case st.Stopped || st.Finished:
			h.Stage, h.RateBytesPerSecond, h.ETA = replication.StageStopped, 0, 0
		case st.Passes > 0:
			h.Stage = replication.StageRealTime
		case st.Cut != nil && st.Cut.Made:
			h.Stage = replication.StageFull
		default:
			h.Stage, h.BytesDone = replication.StageStarting, 0
		}
	})
}

// begun resets the progress for the copies of a cut.
func (s *stream) begun(c *cut) {
	s.mu.Lock()
	s.progress = make([]progress, len(c.Copies))
	for i, d := range c.Point.Disks {
		s.progress[i].total = d.Bytes
	}
	s.mu.Unlock()
	s.show()
	s.count()
}

// progressed notes how far the copy of a disk is.
func (s *stream) progressed(i int, done, total int64) {
	s.mu.Lock()
	if i < len(s.progress) {
		s.progress[i] = progress{done: min(done, total), total: total}
	}
	s.mu.Unlock()
	s.count()
}

// ended says that nothing is copied.
func (s *stream) ended() {
	s.mu.Lock()
	s.progress = nil
	s.mu.Unlock()
	s.hub.update(func(h *replication.Status) {
		h.BytesDone, h.RateBytesPerSecond, h.ETA, h.Bottleneck = h.BytesTotal, 0, 0, ""
		if h.Stage != replication.StageStopped {
			h.Health, h.HealthReason = replication.HealthOK, ""
		}
	})
}

// count sums the progress up.
func (s *stream) count() {
	var done, total int64
	s.mu.Lock()
	copying := s.progress != nil
	for _, p := range s.progress {
		done, total = done+p.done, total+p.total
	}
	s.mu.Unlock()
	if !copying {
		return
	}
	s.hub.update(func(h *replication.Status) {
		h.BytesDone, h.BytesTotal, h.Bottleneck = done, total, "the copies of the provider"
	})
}

// watch computes rate, time left and lag once a second.
func (s *stream) watch(ctx context.Context) {
	const alpha = 0.3 // of an exponentially weighted mean
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, rate := int64(0), 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.hub.update(func(h *replication.Status) {
			if h.Bottleneck == "" || h.BytesDone < last {
				last, rate = h.BytesDone, 0
			}
			rate += alpha * (float64(h.BytesDone-last) - rate)
			last = h.BytesDone
			h.RateBytesPerSecond, h.ETA = rate, 0
			if left := h.BytesTotal - h.BytesDone; left > 0 && rate > 1 {
				h.ETA = time.Duration(float64(left) / rate * float64(time.Second))
			}
			s.lagging(h)
		})
	}
}

// lagging says that points grow older than three intervals although the sites answer.
func (s *stream) lagging(h *replication.Status) {
	st := s.cached()
	if st == nil || h.Stage != replication.StageRealTime || h.Health != replication.HealthOK && h.Health != replication.HealthLagging {
		return
	}
	every := interval(st.Spec.Settings)
	if h.Lag <= 3*every+2*time.Second {
		h.Health, h.HealthReason = replication.HealthOK, ""
		return
	}
	waits := h.Bottleneck
	if waits == "" {
		waits = "the cut"
	}
	h.Health = replication.HealthLagging
	h.HealthReason = fmt.Sprintf("the newest point is older than three intervals of %v; waiting for: %s", every, waits)
}
