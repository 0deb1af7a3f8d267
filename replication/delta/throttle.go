package delta

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Throttle is a bandwidth limit that may change at any time. All lanes that send by one share
// it: whoever asked first is served first, and nobody gets more than 50 ms of it at a time.
type Throttle struct {
	limiter *rate.Limiter
	limit   atomic.Int64 // bytes a second; 0 is none
	piece   atomic.Int64 // most that is given at once
}

// NewThrottle makes a limit; 0 bytes a second is none.
func NewThrottle(bytesPerSecond int64) *Throttle {
	t := &Throttle{limiter: rate.NewLimiter(rate.Inf, 1)}
	t.Set(bytesPerSecond)
	return t
}

// Limit is the limit as it is now, in bytes a second; 0 is none.
func (t *Throttle) Limit() int64 { return t.limit.Load() }

// Set changes the limit; what is under way ends at the old one, which takes at most 50 ms.
func (t *Throttle) Set(bytesPerSecond int64) {
	if bytesPerSecond <= 0 {
		t.limit.Store(0)
		t.limiter.SetLimit(rate.Inf)
		return
	}
	piece := max(bytesPerSecond/20, 512)
	// A lane that a busy machine did not run in time may catch up with a quarter of a second.
	burst := 5 * piece
	t.piece.Store(piece)
	if t.limit.Swap(bytesPerSecond) == 0 {
		t.limiter.SetBurst(0) // begin without savings, else the first moment is above the limit
	}
	t.limiter.SetLimit(rate.Limit(bytesPerSecond))
	t.limiter.SetBurst(int(burst))
}

// followAtLeast is how often a calendar is looked at: clocks are set, and machines sleep.
const followAtLeast = time.Minute

// Follow sets the limit by a calendar, in local time, until the context ends.
func (t *Throttle) Follow(ctx context.Context, c *Calendar) {
	for {
		now := time.Now()
		if limit := c.LimitAt(now); limit != t.Limit() {
			t.Set(limit)
		}
		wait := followAtLeast
		if next, ok := c.Next(now); ok {
			wait = min(wait, next.Sub(now))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// take waits until up to n bytes may be sent and says how many.
func (t *Throttle) take(ctx context.Context, n int) (int, error) {
	for {
		if t.limit.Load() == 0 {
			return n, context.Cause(ctx)
		}
		k := min(n, int(t.piece.Load()))
		r := t.limiter.ReserveN(time.Now(), k)
		if !r.OK() {
			continue // the limit shrank between the two lines: ask again for less
		}
		delay := r.Delay()
		if delay == 0 {
			return k, context.Cause(ctx)
		}
		select {
		case <-time.After(delay):
			return k, nil
		case <-ctx.Done():
			r.Cancel()
			return 0, context.Cause(ctx)
		}
	}
}
