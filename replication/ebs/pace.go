package ebs

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pace spreads requests of a kind over time. The quota of an account is shared with others, so it
// goes slower when the service says that it is too fast, and slowly back.
type pace struct {
	limit *rate.Limiter
	most  rate.Limit

	mu      sync.Mutex
	changed time.Time
}

const (
	// slowerEvery keeps the answers to requests that were sent together from counting as many.
	slowerEvery = 200 * time.Millisecond
	slowerBy    = 0.6
	// fasterEvery and fasterBy lead from a tenth back to the full rate in half a minute.
	fasterEvery = time.Second
	fasterBy    = 1.08
	// leastShare of the rate is always used.
	leastShare = 0.02
)

func newPace(perSecond, standard float64) *pace {
	if perSecond <= 0 {
		perSecond = standard
	}
	most := rate.Limit(perSecond)
	// A tenth of a second may come at once.
	return &pace{limit: rate.NewLimiter(most, max(1, int(perSecond/10))), most: most, changed: time.Now()}
}

// wait returns when the next request may be made.
func (p *pace) wait(ctx context.Context) error {
	if err := p.limit.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return context.DeadlineExceeded // it would come before the turn
	}
	return nil
}

// slower is for a request that was refused as one too many.
func (p *pace) slower() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.changed) >= slowerEvery || p.limit.Limit() == p.most {
		p.limit.SetLimit(max(p.limit.Limit()*slowerBy, p.most*leastShare))
		p.changed = now
	}
}

// fine is for a request that was taken.
func (p *pace) fine() {
	if p.limit.Limit() >= p.most {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.changed) >= fasterEvery {
		p.limit.SetLimit(min(p.limit.Limit()*fasterBy, p.most))
		p.changed = now
	}
}
