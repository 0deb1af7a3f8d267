package agentless

import (
	"context"
	"errors"
	"fmt"

	"lifeboat/activities/cloud"
	"lifeboat/replication"

	"go.uber.org/zap"
)

// Set changes the settings of a stream, durably. Switching AutoResume on also ends an
// interruption. Bandwidth is the provider's: limits have no effect on snapshots.
func (e *Engine) Set(name string, settings replication.Settings) error {
	if err := validSettings(name, settings); err != nil {
		return err
	}
	return e.simple(name, func(st *state) {
		st.Spec.Settings = settings
		if settings.AutoResume {
			st.Interrupted = ""
		}
	})
}

// Pause holds a stream, durably, until Resume: copies that the provider makes already go on,
// and are used then.
func (e *Engine) Pause(name string) error {
	s, err := e.stream(name)
	if err != nil {
		return err
	}
	if err := e.simple(name, func(st *state) { st.Paused = true }); err != nil {
		return err
	}
	if st := s.cached(); st != nil && st.wantsFinal() {
		return nil
	}
	defer e.lockStream(name)()
	ctx, cancel := e.ask()
	defer cancel()
	return s.standing(ctx, func() error { return nil })
}

// Resume lets a stream go on that was paused or interrupted.
func (e *Engine) Resume(name string) error {
	return e.simple(name, func(st *state) { st.Paused, st.Interrupted = false, "" })
}

// simple changes the state of a stream.
func (e *Engine) simple(name string, change func(*state)) error {
	s, err := e.stream(name)
	if err != nil {
		return err
	}
	ctx, cancel := e.ask()
	defer cancel()
	_, err = s.known(ctx, func(st *state) error { change(st); return nil })
	return err
}

// StopTarget ends a stream, up to and including this epoch. When it returns no request goes to the
// source site any more: what is left over there waits for StopSource or a new Start. Points stay.
// It is idempotent; an epoch lower than the current one is [replication.ErrStaleEpoch].
func (e *Engine) StopTarget(ctx context.Context, name string, epoch int64) error {
	defer e.lockStream(name)()
	s, err := e.stream(name)
	if err != nil {
		return err
	}
	err = s.standing(ctx, func() error {
		_, err := s.known(ctx, func(st *state) error {
			if epoch < st.Spec.Epoch {
				return fmt.Errorf("%w: stream %s is at epoch %d, stop asked for %d", replication.ErrStaleEpoch, name, st.Spec.Epoch, epoch)
			}
			// The engine that runs it, if it is another one, meets this at its next write.
			st.Owner, st.Stopped, st.Leaving, st.Spec.Epoch = e.owner, true, false, epoch
			st.abandon(e.now())
			return nil
		})
		return err
	})
	s.answered()
	return err
}

// StopSource ends a stream and deletes what it has left at the source site. Points stay. It
// is idempotent, also where nothing is known of the stream; while the source site does not
// answer the stream is stopped, and the error says what is left: it is tried again by itself
// until ForgetTarget.
func (e *Engine) StopSource(ctx context.Context, name string) error {
	defer e.lockStream(name)()
	s, err := e.stream(name)
	if errors.Is(err, replication.ErrUnknownStream) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.standing(ctx, func() error {
		st, err := s.known(ctx, func(st *state) error {
			st.Owner, st.Stopped, st.Leaving = e.owner, true, true
			st.abandon(e.now())
			st.dropBase()
			return nil
		})
		s.answered()
		if err != nil {
			return ignoreUnknown(err)
		}
		return s.remove(ctx, st, func(d doomed) bool { return !samePlace(d.Site, st.Spec.Target) })
	})
}

// leave tries once more to delete what StopSource has left at the source. Only what may yet
// appear there is waited for.
func (s *stream) leave(ctx context.Context) error {
	st, err := s.load(ctx)
	if err != nil || !st.Leaving || len(st.Doomed) == 0 {
		return ignoreUnknown(err)
	}
	leaving, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	err = s.remove(leaving, st, func(d doomed) bool { return !samePlace(d.Site, st.Spec.Target) })
	if err != nil && cloud.CodeOf(err) != cloud.NotReady {
		s.engine.log.Warn("snapshots are left at the source", zap.String("stream", s.name), zap.Error(err))
		return nil
	}
	return err
}

func ignoreUnknown(err error) error {
	if errors.Is(err, replication.ErrUnknownStream) {
		return nil
	}
	return err
}

// ForgetTarget drops the state of a stream and its catalogue of points. Snapshots at the target
// are the caller's to delete, by the ledger; so is what a source that does not answer keeps.
// It is idempotent.
func (e *Engine) ForgetTarget(ctx context.Context, name string) error {
	defer e.lockStream(name)()
	s, err := e.stream(name)
	if errors.Is(err, replication.ErrUnknownStream) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.stop(ctx); err != nil {
		return err
	}
	err = s.leave(ctx)
	docs, derr := e.config.Documents(ctx, s.target)
	if err = errors.Join(err, derr); err == nil {
		err = cloud.IgnoreNotFound(docs.DeleteDocument(ctx, documentName(name)))
	}
	if err == nil {
		err = e.drop(ctx, s)
	}
	if err != nil {
		s.restart()
		return s.atTarget(err)
	}
	s.answered()
	e.log.Info("stream forgotten", zap.String("stream", name))
	return nil
}
