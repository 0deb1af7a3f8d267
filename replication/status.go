package replication

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// hub holds the status of a stream and wakes those who wait for a notable change.
type hub struct {
	now func() time.Time

	mu      sync.Mutex
	status  Status
	told    Status // as of the last notable change
	changed chan struct{}
}

func newHub(now func() time.Time, st Status) *hub {
	// Versions go on rising after a restart, so that a waiter with one from before
	// does not wait for ever.
	st.Version = uint64(now().UnixMicro())
	return &hub{now: now, status: st, told: st, changed: make(chan struct{})}
}

// update changes the status; the version rises if the change is notable.
func (h *hub) update(fn func(*Status)) {
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

// settle computes what follows from other fields. The caller holds h.mu.
func (h *hub) settle() {
	st := &h.status
	if st.LastPoint != nil && st.Stage != StageStopped {
		st.Lag = max(0, h.now().Sub(st.LastPoint.Time))
	}
	switch {
	case st.Stage == StageRealTime || st.LastPoint != nil:
		st.Percent = 100
	case st.BytesTotal > 0:
		// 100 is reserved for the moment at which the first point exists.
		st.Percent = min(99.9, 100*float64(st.BytesDone)/float64(st.BytesTotal))
	}
}

// notable says which changes a supervisor wants to hear of.
func notable(a, b *Status) bool {
	lag := b.Lag - a.Lag
	return a.Stage != b.Stage || a.Health != b.Health || a.HealthReason != b.HealthReason || a.Epoch != b.Epoch ||
		pointID(a) != pointID(b) || int(a.Percent/5) != int(b.Percent/5) || lag >= 10*time.Second || lag <= -10*time.Second
}

func pointID(s *Status) string {
	if s.LastPoint == nil {
		return ""
	}
	return s.LastPoint.ID
}

func (h *hub) get() (Status, <-chan struct{}) {
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

// hubOf gives the hub of a stream: the one of the source, unless this engine only
// receives the stream or its sending has ended.
func (e *Engine) hubOf(stream string) (*hub, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, t := e.sources[stream], e.targets[stream]
	switch {
	case s != nil && t != nil:
		if s.snapshot().Spec.Epoch >= t.snapshot().Spec.Epoch {
			return s.hub, nil
		}
		return t.hub, nil
	case s != nil:
		return s.hub, nil
	case t != nil:
		return t.hub, nil
	}
	return nil, unknownStream(stream)
}

func unknownStream(stream string) error {
	return fmt.Errorf("%w: %s; start it or prepare its target first", ErrUnknownStream, stream)
}

// Status gives a picture of a stream. Where this engine is both source and target of
// a stream, the role with the higher epoch counts.
func (e *Engine) Status(stream string) (Status, error) {
	h, err := e.hubOf(stream)
	if err != nil {
		return Status{}, err
	}
	st, _ := h.get()
	return st, nil
}

// Wait returns at the next notable change after the given version: of stage, health or
// reason, a new point, each five percent, ten seconds of lag. With another version
// than the current one it returns at once. When ctx ends it gives the current
// status and the error of ctx.
func (e *Engine) Wait(ctx context.Context, stream string, afterVersion uint64) (Status, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		h, err := e.hubOf(stream)
		if err != nil {
			return Status{}, err
		}
		h.update(func(*Status) {}) // lag grows by itself
		st, changed := h.get()
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
