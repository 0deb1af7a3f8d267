package agentless

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lifeboat/activities/cloud"
	"lifeboat/replication"

	"go.uber.org/zap"
)

// stream is one protected server, as this process sees it.
type stream struct {
	engine *Engine
	name   string
	target cloud.Site
	hub    *hub
	wake   chan struct{}

	writing sync.Mutex // one change at a time
	sweepAt time.Time  // not earlier; of the goroutine alone

	mu       sync.Mutex
	state    *state // as last read or written; never changed in place. nil = not read yet
	version  string // of the document
	progress []progress
	cancel   context.CancelFunc
	done     chan struct{}
	answers  chan struct{} // closed and replaced when a request may have its answer

	looked   chan struct{} // closed after the first look at the state
	lookOnce sync.Once
}

// progress of the copy of one disk.
type progress struct{ done, total int64 }

var (
	// ErrSpoiled says that what was begun for a cut can never become a point.
	ErrSpoiled = errors.New("cannot be completed any more")
	// errLost says that another engine runs the stream now.
	errLost = errors.New("another worker has taken the stream over")
)

// start runs the stream until stop.
func (s *stream) start() {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	ctx, cancel := context.WithCancel(e.ctx)
	done := make(chan struct{})
	s.mu.Lock()
	s.cancel, s.done = cancel, done
	s.mu.Unlock()
	e.running.Go(func() {
		defer close(done)
		defer cancel()
		s.run(ctx)
	})
}

// stop ends the goroutine and waits for it: no request is on its way any more then.
func (s *stream) stop(ctx context.Context) error {
	s.mu.Lock()
	cancel, done := s.cancel, s.done
	s.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stream %s: wait for its end: %w", s.name, ctx.Err())
	}
}

// restart runs a stream again that stop ended.
func (s *stream) restart() {
	if s.started() {
		s.start()
	}
}

// started tells a stream that runs, or did, from one that is about to.
func (s *stream) started() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancel != nil
}

// standing ends the goroutine, does work, and runs the stream again.
func (s *stream) standing(ctx context.Context, work func() error) error {
	if err := s.stop(ctx); err != nil {
		return err
	}
	defer s.restart()
	return work()
}

// doing tells that a start asks for what this engine does already.
func (s *stream) doing(st *state, spec Spec) bool {
	if st.Owner != s.engine.owner || st.Stopped {
		return false
	}
	spec.Settings = st.Spec.Settings
	return sameSpec(spec, st.Spec)
}

// poke lets the goroutine look at the state again.
func (s *stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// answered wakes those who wait for a request.
func (s *stream) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.answers)
	s.answers = make(chan struct{})
}

// run is the life of a stream: pass after pass, with back-off after failures.
func (s *stream) run(ctx context.Context) {
	s.engine.running.Go(func() { s.watch(ctx) })
	delay := s.engine.config.RetryMin
	failed := false
	for ctx.Err() == nil {
		st, err := s.load(ctx)
		if err == nil {
			s.show()
			if pause, why, held := s.held(st); held {
				s.hub.hold(why.health, why.reason)
				s.seen()
				s.sweep(ctx, st)
				s.sleep(ctx, pause)
				failed = false
				continue
			}
			if !failed {
				s.hub.free()
				s.seen()
				s.sweep(ctx, st)
				if wait := s.due(st); wait > 0 {
					s.sleep(ctx, wait)
					continue
				}
			}
			err = s.pass(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if failed = err != nil && !errors.Is(err, errLost) && !errors.Is(err, errGivenUp); !failed {
			delay = s.engine.config.RetryMin
			continue
		}
		pause := s.backoff(err, delay)
		s.failure(ctx, err, pause)
		s.seen()
		if s.sleep(ctx, pause) {
			delay = s.engine.config.RetryMin
		} else {
			delay = 2 * pause
		}
	}
}

// seen says that the status is that of the state now.
func (s *stream) seen() { s.lookOnce.Do(func() { close(s.looked) }) }

// backoff is the pause after a failure. What only a person or another spec can mend is not
// tried often: an attempt may be a pause of the server.
func (s *stream) backoff(err error, delay time.Duration) time.Duration {
	var e *cloud.Error
	if class := cloud.ClassOf(err); (class == cloud.GiveUp || class == cloud.AskPerson) && !errors.Is(err, ErrSpoiled) {
		delay = s.engine.config.RetryMax
	} else if delay = min(delay, s.backoffMax()); errors.As(err, &e) {
		delay = max(delay, min(e.RetryAfter, s.engine.config.RetryMax))
	}
	return delay
}

// backoffMax is the longest pause after a failure.
func (s *stream) backoffMax() time.Duration {
	longest := s.engine.config.RetryMax
	if st := s.cached(); st != nil {
		longest = min(longest, interval(st.Spec.Settings))
	}
	return longest
}

// reason is a health with its words.
type reason struct{ health, reason string }

// idle is how often a stream that does nothing looks whether somebody else wants something.
const idle = 10 * time.Second

// held says why no pass may be made now, and for how long to look away.
func (s *stream) held(st *state) (time.Duration, reason, bool) {
	pause := min(idle, s.backoffMax())
	switch {
	case st.Owner != s.engine.owner:
		return pause, reason{replication.HealthInterrupted, "another worker runs this stream"}, true
	case st.Stopped, st.Finished:
		if len(st.Doomed) == 0 {
			pause = idle
		}
		return pause, reason{replication.HealthOK, ""}, true
	case st.wantsFinal(): // overrides pause and interruption
		return 0, reason{}, false
	case st.Paused:
		return idle, reason{replication.HealthPaused, "paused by request; resume the stream"}, true
	case st.Interrupted != "":
		return idle, reason{replication.HealthInterrupted, st.Interrupted}, true
	}
	return 0, reason{}, false
}

// due is how long there is until the next pass.
func (s *stream) due(st *state) time.Duration {
	if st.Cut != nil || st.wants() || st.Passes == 0 {
		return 0
	}
	return st.LastCut.Add(interval(st.Spec.Settings)).Sub(s.engine.now())
}

// sleep pauses; true when it was woken.
func (s *stream) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.wake:
		return true
	}
	return false
}

// failure turns the end of a pass into health, and into an interruption where the stream
// must not go on by itself.
func (s *stream) failure(ctx context.Context, err error, retryIn time.Duration) {
	s.engine.log.Warn("pass ended", zap.String("stream", s.name), zap.Error(err))
	class := cloud.ClassOf(err)
	st := s.cached()
	health := replication.HealthStalled
	why := fmt.Sprintf("%v; the points that are there stay usable; next attempt in %v", err, retryIn)
	if class == cloud.Retry || class == cloud.Wait {
		health = replication.HealthInterrupted
		if st != nil && class == cloud.Retry && st.Passes > 0 && !st.Spec.Settings.AutoResume && !st.wantsFinal() {
			why = fmt.Sprintf("%v; the points that are there stay usable; resume the stream", err)
			if _, cerr := s.own(ctx, func(st *state) error { st.Interrupted = why; return nil }); cerr != nil {
				s.engine.log.Warn("interruption not noted", zap.String("stream", s.name), zap.Error(cerr))
			}
		}
	}
	s.hub.hold(health, why)
}
