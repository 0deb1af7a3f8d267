package replication

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat/replication/delta"
	"lifeboat/replication/volume"

	"go.uber.org/zap"
)

// sourceState is what the engine keeps about a stream that it sends.
type sourceState struct {
	Spec SourceSpec `json:"spec"`
	// Paused by Pause, until Resume.
	Paused bool `json:"paused"`
	// Interrupted says why the stream waits for Resume, when AutoResume is off.
	Interrupted string `json:"interrupted,omitempty"`
	// Connected: the target was reached once, so that a failing link is an interruption.
	Connected bool `json:"connected"`
	// Stopped: the point current-time exists; nothing is sent any more.
	Stopped   bool            `json:"stopped"`
	Passes    int64           `json:"passes"`
	LastPoint *Point          `json:"last_point,omitempty"`
	Requests  []sourceRequest `json:"requests,omitempty"`
	// Pass is the cut that is being sent.
	Pass *passState `json:"pass,omitempty"`
	// Base is the cut of the last verified pass.
	Base *baseState `json:"base,omitempty"`
	// Pausing: the server may stand still because of us.
	Pausing bool `json:"pausing"`
	// Trackers holds, by disk, the tracker's token of the last verified pass.
	Trackers map[string]trackerMark `json:"trackers,omitempty"`
}

// sourceRequest is a Mark or Final, until and after it has its point.
type sourceRequest struct {
	ID    string    `json:"id"`
	Kind  PointKind `json:"kind"`
	Label string    `json:"label,omitempty"`
	Point *Point    `json:"point,omitempty"`
}

// maxRequests bounds how many answered requests are remembered.
const maxRequests = 256

// passState is a cut by reflink, kept so that the pass over it goes on after a restart.
type passState struct {
	Point    pointMessage `json:"point"`
	Cuts     []string     `json:"cuts"`
	Complete bool         `json:"complete"` // all clones were made
	// Marks say how the clones were when they were made.
	Marks []volume.Identity `json:"marks,omitempty"`
	// Tracked says, by disk, that the target had what the base has when this pass began.
	Tracked []bool `json:"tracked,omitempty"`
	// Left are the regions that are not durable at the target yet; null is all.
	Left []delta.Span `json:"left"`
}

// trackerMark binds a tracker's token to the root that the disk had then: with another
// root in the index the tracker's word does not count.
type trackerMark struct {
	Token string `json:"token"`
	Root  string `json:"root"`
}

// sourceStream is a stream that this engine sends.
type sourceStream struct {
	engine   *Engine
	name     string
	dir      string
	hub      *hub
	throttle *delta.Throttle
	meter    delta.Meter
	links    delta.Links
	lanes    atomic.Int64 // of the newest session
	wake     chan struct{}

	limiting sync.Mutex // guards unfollow
	unfollow func()     // ends what sets the limit by a calendar

	mu      sync.Mutex
	state   sourceState
	hold    context.CancelCauseFunc // ends the session
	cancel  context.CancelFunc      // ends the stream's goroutine
	done    chan struct{}
	lastCut time.Time
	outrun  string        // in figures, when writes outran the link in the last pass
	answers chan struct{} // closed and replaced when a request was answered or the stream ended
}

func (e *Engine) newSource(st sourceState) *sourceStream {
	name := st.Spec.Stream
	s := &sourceStream{
		engine: e, name: name, dir: filepath.Join(e.config.Dir, "sources", fileName(name)),
		throttle: delta.NewThrottle(0), unfollow: func() {}, wake: make(chan struct{}, 1),
		state: st, answers: make(chan struct{}),
	}
	stage := StageStarting
	switch {
	case st.Stopped:
		stage = StageStopped
	case st.LastPoint != nil:
		stage = StageRealTime
	}
	s.hub = newHub(e.now, Status{
		Stream: name, Epoch: st.Spec.Epoch, Role: RoleSource, Stage: stage, Health: HealthOK, LastPoint: st.LastPoint, Passes: st.Passes,
	})
	return s
}

// start runs the stream until stop. After a restart of the process, a stream without
// AutoResume waits for Resume.
func (s *sourceStream) start(restarted bool) {
	ctx, cancel := context.WithCancel(s.engine.ctx)
	s.mu.Lock()
	s.cancel, s.done = cancel, make(chan struct{})
	done, st := s.done, s.state
	s.mu.Unlock()
	if restarted && !st.Spec.Settings.AutoResume && st.Connected && !st.Stopped && !st.wantsFinal() && st.Interrupted == "" {
		s.mu.Lock()
		s.state.Interrupted = "the source agent was restarted; resume the stream"
		s.mu.Unlock()
	}
	s.engine.running.Go(func() {
		defer close(done)
		defer cancel()
		s.run(ctx)
	})
}

// stop ends the goroutine and waits for it.
func (s *sourceStream) stop(ctx context.Context) error {
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

func (s *sourceStream) snapshot() sourceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// change makes a changed state durable and current. fn must not change what the old
// state points to.
func (s *sourceStream) change(fn func(*sourceState)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state
	fn(&next)
	if err := s.engine.store.put(bucketSources, s.name, next); err != nil {
		return fmt.Errorf("stream %s: %w", s.name, err)
	}
	s.state = next
	return nil
}

func (st *sourceState) wantsFinal() bool {
	for _, r := range st.Requests {
		if r.Kind == PointCurrentTime && r.Point == nil {
			return true
		}
	}
	return false
}

// pending gives the requests that wait for a point.
func (st *sourceState) pending() (open []sourceRequest) {
	for _, r := range st.Requests {
		if r.Point == nil {
			open = append(open, r)
		}
	}
	return open
}

// poke lets the goroutine look at the state again.
func (s *sourceStream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// interrupt ends the running session, if any.
func (s *sourceStream) interrupt(cause error) {
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		hold(cause)
	}
	s.poke()
}

// answered wakes those who wait for a request.
func (s *sourceStream) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.answers)
	s.answers = make(chan struct{})
}

var (
	errPaused  = errors.New("paused by request")
	errResumed = errors.New("settings or target changed")
)

// held says why the stream may not send now.
func (s *sourceStream) held() (health, reason string, held bool) {
	st := s.snapshot()
	switch {
	case st.Stopped:
		return HealthOK, "", true
	case st.wantsFinal():
		return "", "", false // a final pass overrides pause and interruption
	case st.Paused:
		return HealthPaused, "paused by request; resume the stream", true
	case st.Interrupted != "":
		return HealthInterrupted, st.Interrupted, true
	}
	return "", "", false
}

// run is the life of a stream: session after session, with back-off in between.
func (s *sourceStream) run(ctx context.Context) {
	if err := s.limit(s.snapshot().Spec.Settings); err != nil { // it was checked before it was stored
		s.hub.update(func(st *Status) { st.Health, st.HealthReason = HealthStalled, err.Error() })
		return
	}
	defer func() {
		s.limiting.Lock()
		defer s.limiting.Unlock()
		s.unfollow()
	}()
	s.engine.running.Go(func() { s.watch(ctx) })
	s.cleanCuts()
	delay := s.engine.config.RetryMin
	for ctx.Err() == nil {
		s.unpauseServer(ctx)
		if health, reason, held := s.held(); held {
			s.hub.update(func(st *Status) {
				st.Health, st.HealthReason, st.RateBytesPerSecond, st.ETA = health, reason, 0, 0
				if s.snapshot().Stopped {
					st.Stage = StageStopped
				}
			})
			select {
			case <-ctx.Done():
			case <-s.wake:
			}
			continue
		}
		began := time.Now()
		err := s.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errPaused) || errors.Is(err, errResumed) || s.snapshot().Stopped {
			continue
		}
		if time.Since(began) > s.engine.config.RetryMax {
			delay = s.engine.config.RetryMin
		}
		s.failed(err, delay)
		if _, _, held := s.held(); held {
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
			delay = s.engine.config.RetryMin
		case <-time.After(delay):
			delay = min(2*delay, s.engine.config.RetryMax)
		}
	}
}

// failed turns the end of a session into health, and into an interruption where the
// stream must not go on by itself.
func (s *sourceStream) failed(err error, retryIn time.Duration) {
	s.engine.log.Warn("session ended", zap.String("stream", s.name), zap.Error(err))
	health, reason := HealthInterrupted, fmt.Sprintf("link to the target: %v; next attempt in %v", err, retryIn)
	switch {
	case errors.Is(err, ErrRootMismatch):
		health, reason = HealthResyncing, err.Error()
	case !isLink(err):
		health, reason = HealthStalled, err.Error()
	default:
		if st := s.snapshot(); st.Connected && !st.Spec.Settings.AutoResume {
			reason = fmt.Sprintf("link to the target broke: %v; resume the stream", err)
			if err := s.change(func(st *sourceState) { st.Interrupted = reason }); err != nil {
				reason = fmt.Sprintf("%s (%v)", reason, err)
				s.mu.Lock()
				s.state.Interrupted = reason
				s.mu.Unlock()
			}
		}
	}
	s.hub.update(func(st *Status) {
		st.Health, st.HealthReason, st.RateBytesPerSecond, st.ETA = health, reason, 0, 0
	})
}

// unpauseServer lets a server run again that a crash of this process left standing
// still.
func (s *sourceStream) unpauseServer(ctx context.Context) {
	for s.snapshot().Pausing && s.engine.config.Pauser != nil && ctx.Err() == nil {
		resume, err := s.engine.config.Pauser.Pause(ctx, s.snapshot().Spec)
		if err == nil {
			err = resume()
		}
		if err == nil {
			err = s.change(func(st *sourceState) { st.Pausing = false })
		}
		if err == nil {
			return
		}
		s.hub.update(func(st *Status) {
			st.Health, st.HealthReason = HealthStalled, fmt.Sprintf("the server may stand still since a crash: %v; check that it runs", err)
		})
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-time.After(s.engine.config.RetryMax):
		}
		if st := s.snapshot(); st.Stopped || st.wantsFinal() {
			return // the caller has stopped the server
		}
	}
}
