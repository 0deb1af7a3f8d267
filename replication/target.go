package replication

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"lifeboat/replication/volume"

	"go.uber.org/zap"
)

// targetState is what the engine keeps about a stream that it receives.
type targetState struct {
	Spec    TargetSpec `json:"spec"`
	Stopped bool       `json:"stopped"`
	// Replicas says which file or device each index belongs to, and when it was last
	// written by us. Another identity means that the index is about another disk.
	Replicas map[string]volume.Identity `json:"replicas"`
	Scrub    scrubState                 `json:"scrub"`
}

// targetStream is a stream that this engine receives. At most one session is
// attached to it at a time.
type targetStream struct {
	engine *Engine
	name   string
	dir    string
	hub    *hub

	mu      sync.Mutex // guards state, session and damage
	state   targetState
	session *targetSession
	damage  string // that a scrub found, until the next verified pass
	fenced  error  // while the stream changes hands: why senders are refused

	points sync.Mutex // serialises changes of the catalogue
}

// PrepareTarget makes the engine accept a stream, and says where and as whom it
// listens. Doing it again is fine. A higher epoch supersedes a lower one, whose sender is
// cut off before this returns; a lower one is ErrStaleEpoch. Missing replica files
// are created, sparse.
func (e *Engine) PrepareTarget(ctx context.Context, spec TargetSpec) (TargetInfo, error) {
	if err := spec.validate(); err != nil {
		return TargetInfo{}, err
	}
	defer e.lockStream(spec.Stream)()
	t, err := e.targetFor(spec.Stream)
	if err != nil {
		return TargetInfo{}, err
	}
	t.mu.Lock()
	current := t.state
	t.mu.Unlock()
	if current.Spec.Stream != "" && spec.Epoch < current.Spec.Epoch {
		return TargetInfo{}, fmt.Errorf("%w: stream %s is at epoch %d, prepare asked for %d; somebody newer is in charge",
			ErrStaleEpoch, spec.Stream, current.Spec.Epoch, spec.Epoch)
	}
	switch {
	case current.Spec.Stream != "" && sameReplicas(current, spec):
		if current.Spec.Keep == spec.Keep && maps.Equal(current.Spec.Labels, spec.Labels) {
			break
		}
		if err := t.change(func(s *targetState) { s.Spec.Keep, s.Spec.Labels = spec.Keep, spec.Labels }); err != nil {
			return TargetInfo{}, err
		}
	default:
		defer t.fence(nil)
		t.fence(fmt.Errorf("%w: stream %s is being prepared for epoch %d", errRetry, spec.Stream, spec.Epoch))
		if err := t.detach(ctx, ErrStaleEpoch); err != nil {
			return TargetInfo{}, err
		}
		next, err := t.adopt(t.snapshot(), spec)
		if err != nil {
			return TargetInfo{}, err
		}
		if err := t.change(func(s *targetState) { *s = next }); err != nil {
			return TargetInfo{}, err
		}
		e.addTarget(t)
		t.hub.update(func(s *Status) {
			s.Epoch, s.Stage, s.Health, s.HealthReason = spec.Epoch, StageStarting, HealthOK, ""
		})
	}
	return TargetInfo{Address: e.Address(), Fingerprint: e.Fingerprint()}, nil
}

// sameReplicas tells that a prepare asks for the disks, epoch and sender that are
// there already, so that the sender need not be disturbed.
func sameReplicas(s targetState, spec TargetSpec) bool {
	if s.Stopped || s.Spec.Epoch != spec.Epoch || s.Spec.Peer != spec.Peer || !slices.Equal(s.Spec.Disks, spec.Disks) {
		return false
	}
	for _, d := range spec.Disks {
		if id, err := volume.Identify(d.Path); err != nil || !id.SameVolume(s.Replicas[d.Name]) {
			return false
		}
	}
	return true
}

// adopt makes replicas and indexes fit for a spec. An index is believed when it is
// about this very disk and nobody else wrote to it since; else the disk is going
// to be read, which is never a full copy.
func (t *targetStream) adopt(current targetState, spec TargetSpec) (targetState, error) {
	next := targetState{Spec: spec, Replicas: map[string]volume.Identity{}}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return next, spaceError("state of stream "+t.name, err)
	}
	for _, d := range spec.Disks {
		if err := createReplica(d); err != nil {
			return next, fmt.Errorf("stream %s: replica of disk %s: %w", t.name, d.Name, err)
		}
		id, err := volume.Identify(d.Path)
		if err != nil {
			return next, fmt.Errorf("stream %s: replica of disk %s: %w", t.name, d.Name, err)
		}
		known, ok := current.Replicas[d.Name]
		believed := ok && id.SameVolume(known) && id.Size == known.Size &&
			(current.Spec.Epoch == spec.Epoch && !current.Stopped || known.Mtime != 0 && known.Mtime == id.Mtime)
		if !believed {
			if err := t.forgetIndex(d); err != nil {
				return next, err
			}
			id.Mtime = 0 // as a disk of which nothing is known
			known = id
		}
		next.Replicas[d.Name] = known
	}
	return next, nil
}

// fence refuses senders for a while; nil ends that.
func (t *targetStream) fence(reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fenced = reason
}

// change makes a changed state durable and current.
func (t *targetStream) change(fn func(*targetState)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.state
	fn(&next)
	if err := t.engine.store.put(bucketTargets, t.name, next); err != nil {
		return fmt.Errorf("stream %s: %w", t.name, err)
	}
	t.state = next
	return nil
}

func (t *targetStream) snapshot() targetState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// detach ends the session of a stream, if there is one, and waits until it no longer
// writes.
func (t *targetStream) detach(ctx context.Context, cause error) error {
	t.mu.Lock()
	s := t.session
	t.mu.Unlock()
	if s == nil {
		return nil
	}
	s.end(cause)
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stream %s: wait for the end of the sender's session: %w", t.name, ctx.Err())
	}
}

// StopTarget makes the engine refuse senders of the stream from now on, up to
// and including this epoch. Replica files and points stay. It is idempotent; an epoch
// lower than the current one is ErrStaleEpoch.
func (e *Engine) StopTarget(ctx context.Context, stream string, epoch int64) error {
	defer e.lockStream(stream)()
	t, err := e.target(stream)
	if err != nil {
		return err
	}
	if at := t.snapshot().Spec.Epoch; epoch < at {
		return fmt.Errorf("%w: stream %s is at epoch %d, stop asked for %d", ErrStaleEpoch, stream, at, epoch)
	}
	if err := t.change(func(s *targetState) { s.Stopped, s.Spec.Epoch = true, epoch }); err != nil {
		return err
	}
	t.hub.update(func(s *Status) { s.Epoch, s.Stage = epoch, StageStopped })
	if err := t.detach(ctx, ErrStaleEpoch); err != nil {
		return err
	}
	if err := t.repair(ctx); err != nil {
		e.log.Warn("a point that was being made is not finished yet", zap.String("stream", stream), zap.Error(err))
	}
	return nil
}

// ForgetTarget drops the state of a stream and its catalogue of points. Replica
// files and snapshots are the caller's to delete. It is idempotent.
func (e *Engine) ForgetTarget(ctx context.Context, stream string) error {
	defer e.lockStream(stream)()
	t, err := e.target(stream)
	if errors.Is(err, ErrUnknownStream) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := t.change(func(s *targetState) { s.Stopped = true }); err != nil {
		return err
	}
	if err := t.detach(ctx, ErrUnknownStream); err != nil {
		return err
	}
	if err := e.store.forgetTarget(stream); err != nil {
		return err
	}
	e.dropTarget(stream)
	if err := os.RemoveAll(t.dir); err != nil {
		return fmt.Errorf("forget stream %s: %w", stream, err)
	}
	t.engine.log.Info("stream forgotten", zap.String("stream", stream))
	return nil
}
