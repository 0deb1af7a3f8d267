package delta

import (
	"context"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Throttle is a bandwidth limit that may change at any time.
type Throttle struct {
	limiter *rate.Limiter
	limited atomic.Bool
	burst   atomic.Int64
}

// NewThrottle makes a limit; 0 bytes a second is none.
func NewThrottle(bytesPerSecond int64) *Throttle {
	t := &Throttle{limiter: rate.NewLimiter(rate.Inf, 1)}
	t.Set(bytesPerSecond)
	return t
}

// Set changes the limit; what is under way ends at the old one, which takes at
// most 50 ms.
func (t *Throttle) Set(bytesPerSecond int64) {
	if bytesPerSecond <= 0 {
		t.limited.Store(false)
		t.limiter.SetLimit(rate.Inf)
		return
	}
	burst := min(max(bytesPerSecond/20, 512), 256<<10)
	t.burst.Store(burst)
	t.limiter.SetBurst(int(burst))
	t.limiter.SetLimit(rate.Limit(bytesPerSecond))
	t.limited.Store(true)
}

// take waits until up to n bytes may be sent and says how many.
func (t *Throttle) take(ctx context.Context, n int) (int, error) {
	if !t.limited.Load() {
		return n, nil
	}
	for {
		k := min(n, int(t.burst.Load()))
		err := t.limiter.WaitN(ctx, k)
		if err == nil || ctx.Err() != nil {
			return k, err
		}
		// The burst shrank between the two lines: ask again with the new one.
	}
}
