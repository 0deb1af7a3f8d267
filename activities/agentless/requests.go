package agentless

import (
	"context"
	"fmt"
	"time"

	"lifeboat/replication"
)

// Mark makes an extra point now and waits for it. The request is durable: with the same
// requestID again, also after a restart, it gives the same point.
func (e *Engine) Mark(ctx context.Context, name, requestID, label string) (replication.Point, error) {
	return e.request(ctx, name, request{ID: requestID, Kind: replication.PointMarked, Label: label})
}

// Final makes the point current-time and then ends the stream. The caller has stopped the
// source server, so that the disks stand still. A pause or interruption is overridden. It is
// idempotent by requestID, also after a restart; while a site cannot be reached it waits until
// ctx ends, and the request stays.
func (e *Engine) Final(ctx context.Context, name, requestID string) (replication.Point, error) {
	return e.request(ctx, name, request{ID: requestID, Kind: replication.PointCurrentTime, Label: "current-time"})
}

// request makes a request durable, once, and waits until it has its point.
func (e *Engine) request(ctx context.Context, name string, r request) (replication.Point, error) {
	var none replication.Point
	if r.ID == "" {
		return none, fmt.Errorf("%w: stream %s: a request needs an id", replication.ErrInvalidSpec, name)
	}
	epoch := int64(-1)
	for {
		s, err := e.stream(name)
		if err != nil {
			return none, err
		}
		s.mu.Lock()
		answers := s.answers
		s.mu.Unlock()
		point, err := s.ask(ctx, r, &epoch)
		if err != nil || point != nil {
			if point == nil {
				return none, err
			}
			return *point, err
		}
		// Where another engine runs the stream nobody here hears of its answer.
		look := time.NewTimer(time.Second)
		select {
		case <-answers:
		case <-look.C:
		case <-ctx.Done():
			look.Stop()
			now, _ := s.hub.get()
			return none, fmt.Errorf("stream %s: point for request %s: %w (health %s: %s)", name, r.ID, ctx.Err(), now.Health, now.HealthReason)
		case <-e.ctx.Done():
			look.Stop()
			return none, fmt.Errorf("%w: the engine was closed; ask again with the same request", replication.ErrStopped)
		}
		look.Stop()
	}
}

// ask looks for the answer of a request, and adds the request when it is not known.
func (s *stream) ask(ctx context.Context, r request, epoch *int64) (*replication.Point, error) {
	st, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	if *epoch < 0 {
		*epoch = st.Spec.Epoch
	}
	if st.Spec.Epoch != *epoch {
		return nil, fmt.Errorf("%w: stream %s went from epoch %d to %d while request %s waited", replication.ErrStaleEpoch, s.name, *epoch, st.Spec.Epoch, r.ID)
	}
	known := st.request(r.ID)
	switch {
	case known != nil && known.Kind != r.Kind:
		return nil, fmt.Errorf("%w: stream %s: request %s was for a point of kind %s", replication.ErrInvalidSpec, s.name, r.ID, known.Kind)
	case known != nil && known.Point != nil:
		return known.Point, nil
	case st.Finished:
		return nil, fmt.Errorf("%w: %s; its point current-time exists", replication.ErrStopped, s.name)
	case st.Stopped:
		return nil, fmt.Errorf("%w: %s; start it again", replication.ErrStopped, s.name)
	case known != nil:
		return nil, nil
	}
	_, err = s.known(ctx, func(st *state) error {
		if st.request(r.ID) == nil {
			st.trim()
			st.Requests = append(st.Requests, r)
		}
		return nil
	})
	return nil, err
}
