package activities

import (
	"context"
	"errors"
	"time"

	"lifeboat/activities/cloud"
)

// Timing says how activities wait; time-outs are the workflows'.
type Timing struct {
	Poll    time.Duration // first pause between two looks at a resource
	PollMax time.Duration // longest pause; each is twice the one before
	// Visible is how long a resource that was just created may be not found.
	Visible time.Duration
	// Stuck is how long a clean-up goes on without any progress.
	Stuck time.Duration
}

// StandardTiming is for real clouds.
func StandardTiming() Timing {
	return Timing{Poll: time.Second, PollMax: 10 * time.Second, Visible: time.Minute, Stuck: 5 * time.Minute}
}

// LocalTiming is for local sites: looking costs nothing there.
func LocalTiming() Timing {
	return Timing{Poll: 10 * time.Millisecond, PollMax: time.Second, Visible: 5 * time.Second, Stuck: 5 * time.Minute}
}

// FastTiming is for tests: a kill costs seconds.
func FastTiming() Timing {
	return Timing{Poll: 20 * time.Millisecond, PollMax: 250 * time.Millisecond, Visible: 2 * time.Second, Stuck: 10 * time.Second}
}

// hiccups is how many failures in a row, of the kind that passes, a wait takes for
// granted: what it has done so far need not be done again by another attempt.
const hiccups = 5

// until calls done, with pauses between, until it says so, fails, or ctx ends.
func (t Timing) until(ctx context.Context, done func() (bool, error)) error {
	failures := 0
	for pause := t.Poll; ; pause = min(2*pause, t.PollMax) {
		ok, err := done()
		if ok && err == nil {
			return nil
		}
		if err == nil {
			failures = 0
		} else if failures++; failures > hiccups || !passes(err) || ctx.Err() != nil {
			return err
		}
		if err := sleep(ctx, max(pause, retryAfter(err))); err != nil {
			return err
		}
	}
}

// passes tells whether a site's error goes away by itself.
func passes(err error) bool {
	class := cloud.ClassOf(err)
	return cloud.CodeOf(err) != "" && (class == cloud.Retry || class == cloud.Wait)
}

// retryAfter is the pause that a site asks for with its error.
func retryAfter(err error) time.Duration {
	var e *cloud.Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// sleep pauses for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// stopwatch measures for how long something has been so without a break.
type stopwatch struct{ since time.Time }

// running starts it when it stands still, and returns how long it has run.
func (s *stopwatch) running() time.Duration {
	if s.since.IsZero() {
		s.since = time.Now()
	}
	return time.Since(s.since)
}

// reset makes it stand still.
func (s *stopwatch) reset() { s.since = time.Time{} }
