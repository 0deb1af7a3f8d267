package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"

	"go.uber.org/zap"
)

// source gives a stream that this engine sends.
func (e *Engine) source(stream string) (*sourceStream, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.sources[stream]; s != nil {
		return s, nil
	}
	return nil, unknownStream(stream)
}

// StartSource begins to send a stream, and is durable when it returns: the stream
// goes on by itself after a restart. With the same epoch again it takes over changes of
// disks, target and labels; settings of a stream that is there are changed by Set
// only, so that a repeated start does not undo them. A higher epoch starts anew, also
// after Final; a lower one is ErrStaleEpoch.
func (e *Engine) StartSource(ctx context.Context, spec SourceSpec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	if err := e.measure(&spec); err != nil {
		return err
	}
	defer e.lockStream(spec.Stream)()
	old, err := e.source(spec.Stream)
	if err != nil && !errors.Is(err, ErrUnknownStream) {
		return err
	}
	next := sourceState{Spec: spec}
	if old != nil {
		at := old.snapshot().Spec
		if spec.Epoch < at.Epoch {
			return fmt.Errorf("%w: stream %s is sent with epoch %d, start asked for %d", ErrStaleEpoch, spec.Stream, at.Epoch, spec.Epoch)
		}
		at.Settings = spec.Settings
		if reflect.DeepEqual(spec, at) {
			return nil
		}
		if err := old.stop(ctx); err != nil {
			return err
		}
		st := old.snapshot()
		if spec.Epoch == st.Spec.Epoch {
			next = st
			next.Spec = spec
		}
		next.Pausing = st.Pausing
	}
	s := e.newSource(next)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return spaceError("state of stream "+spec.Stream, err)
	}
	if err := s.change(func(*sourceState) {}); err != nil {
		return err
	}
	e.mu.Lock()
	e.sources[spec.Stream] = s
	e.mu.Unlock()
	s.start(false)
	if old != nil {
		old.answered()
	}
	return nil
}

// measure fills in sizes and refuses disks that are not there or not as said.
func (e *Engine) measure(spec *SourceSpec) error {
	disks := make([]Disk, len(spec.Disks))
	for i, d := range spec.Disks {
		v, err := e.config.OpenSource(d)
		if err != nil {
			return fmt.Errorf("stream %s: source disk %s: %w; check path and rights", spec.Stream, d.Name, err)
		}
		size := v.Size()
		if err := v.Close(); err != nil {
			return err
		}
		if size == 0 || d.Size != 0 && d.Size != size {
			return fmt.Errorf("%w: stream %s: source disk %s (%s) has %d bytes, the spec says %d", ErrInvalidSpec, spec.Stream, d.Name, d.Path, size, d.Size)
		}
		d.Size = size
		disks[i] = d
	}
	spec.Disks = disks
	return nil
}

// Set changes the settings of a running stream, durably. Switching AutoResume on also
// ends an interruption.
func (e *Engine) Set(stream string, settings Settings) error {
	s, err := e.source(stream)
	if err != nil {
		return err
	}
	if err := settings.validate(stream); err != nil {
		return err
	}
	err = s.change(func(st *sourceState) {
		st.Spec.Settings = settings
		if settings.AutoResume {
			st.Interrupted = ""
		}
	})
	if err != nil {
		return err
	}
	if err := s.limit(settings); err != nil {
		return err
	}
	s.poke()
	return nil
}

// Pause stops sending, durably, until Resume.
func (e *Engine) Pause(stream string) error {
	s, err := e.source(stream)
	if err != nil {
		return err
	}
	if err := s.change(func(st *sourceState) { st.Paused = true }); err != nil {
		return err
	}
	if st := s.snapshot(); !st.wantsFinal() {
		s.interrupt(errPaused)
	}
	return nil
}

// Resume lets a stream go on that was paused or interrupted.
func (e *Engine) Resume(stream string) error {
	s, err := e.source(stream)
	if err != nil {
		return err
	}
	if err := s.change(func(st *sourceState) { st.Paused, st.Interrupted = false, "" }); err != nil {
		return err
	}
	s.poke()
	return nil
}

// StopSource ends a stream and forgets it, durably. It is idempotent.
func (e *Engine) StopSource(ctx context.Context, stream string) error {
	defer e.lockStream(stream)()
	s, err := e.source(stream)
	if errors.Is(err, ErrUnknownStream) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.stop(ctx); err != nil {
		return err
	}
	if st := s.snapshot(); st.Pausing {
		s.unpauseServer(ctx)
	}
	if err := s.change(func(st *sourceState) { st.Stopped, st.Pass, st.Base = true, nil, nil }); err != nil {
		return err
	}
	s.cleanCuts()
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("forget stream %s: %w", stream, err)
	}
	if err := e.store.remove(bucketSources, stream); err != nil {
		return err
	}
	e.mu.Lock()
	delete(e.sources, stream)
	e.mu.Unlock()
	s.answered()
	e.log.Info("stream stopped", zap.String("stream", stream))
	return nil
}

// Mark makes an extra point now and waits for it. The request is durable: with the
// same requestID again, also after a restart of either end, it gives the same point.
func (e *Engine) Mark(ctx context.Context, stream, requestID, label string) (Point, error) {
	return e.request(ctx, stream, sourceRequest{ID: requestID, Kind: PointMarked, Label: label})
}

// Final makes the point current-time and then stops the stream. The caller has stopped
// the source server, so that the disks stand still. A pause or interruption is
// overridden. It is idempotent by requestID, also after a restart of either end; while the
// target cannot be reached it waits until ctx ends, and the request stays.
func (e *Engine) Final(ctx context.Context, stream, requestID string) (Point, error) {
	return e.request(ctx, stream, sourceRequest{ID: requestID, Kind: PointCurrentTime, Label: "current-time"})
}

// request makes a request durable, once, and waits until it has its point.
func (e *Engine) request(ctx context.Context, stream string, r sourceRequest) (Point, error) {
	if r.ID == "" {
		return Point{}, fmt.Errorf("%w: stream %s: a request needs an id", ErrInvalidSpec, stream)
	}
	epoch := int64(-1)
	for first := true; ; first = false {
		s, err := e.source(stream)
		if err != nil {
			return Point{}, err
		}
		s.mu.Lock()
		st, answers := s.state, s.answers
		s.mu.Unlock()
		if epoch < 0 {
			epoch = st.Spec.Epoch
		}
		if st.Spec.Epoch != epoch {
			return Point{}, fmt.Errorf("%w: stream %s went from epoch %d to %d while request %s waited", ErrStaleEpoch, stream, epoch, st.Spec.Epoch, r.ID)
		}
		known := st.request(r.ID)
		switch {
		case known != nil && known.Kind != r.Kind:
			return Point{}, fmt.Errorf("%w: stream %s: request %s was for a point of kind %s", ErrInvalidSpec, stream, r.ID, known.Kind)
		case known != nil && known.Point != nil:
			return *known.Point, nil
		case st.Stopped:
			return Point{}, fmt.Errorf("%w: %s; its point current-time exists", ErrStopped, stream)
		case known == nil:
			if err := s.change(func(st *sourceState) { st.Requests = append(st.trimmed(), r) }); err != nil {
				return Point{}, err
			}
			first = true
		}
		if first {
			s.poke()
		}
		select {
		case <-answers:
		case <-ctx.Done():
			now, _ := s.hub.get()
			return Point{}, fmt.Errorf("stream %s: point for request %s: %w (health %s: %s)", stream, r.ID, ctx.Err(), now.Health, now.HealthReason)
		case <-e.ctx.Done():
			return Point{}, fmt.Errorf("%w: the engine was closed; ask again with the same request", ErrStopped)
		}
	}
}

func (st *sourceState) request(id string) *sourceRequest {
	for i := range st.Requests {
		if st.Requests[i].ID == id {
			return &st.Requests[i]
		}
	}
	return nil
}

// trimmed copies the requests, without the oldest answered ones beyond the bound.
func (st *sourceState) trimmed() []sourceRequest {
	surplus := len(st.Requests) - maxRequests
	out := make([]sourceRequest, 0, len(st.Requests)+1)
	for _, r := range st.Requests {
		if surplus > 0 && r.Point != nil {
			surplus--
			continue
		}
		out = append(out, r)
	}
	return out
}
