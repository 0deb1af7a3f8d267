package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// draw takes the kills of a step from the random numbers: always the same count of
// them, so that what happens meanwhile does not change the next steps.
func (c *campaign) draw(s step) []strike {
	second := c.rng.Float64() < 0.5
	var strikes []strike
	for range 2 {
		strikes = append(strikes, strike{
			victim: s.victims[c.rng.IntN(len(s.victims))],
			after:  time.Duration(c.rng.Float64() * float64(s.usual)),
			away:   time.Duration(c.rng.Float64() * float64(1500*time.Millisecond)),
		})
	}
	if !second {
		strikes = strikes[:1]
	}
	slices.SortFunc(strikes, func(a, b strike) int { return int(a.after - b.after) })
	return strikes
}

// strike is one kill.
type strike struct {
	victim victim
	after  time.Duration // since the beginning of the step
	away   time.Duration // until the victim is started again
}

// strike carries out the kills of a step; those whose time has not come when the
// step is over are carried out then.
func (c *campaign) strike(ctx context.Context, s step, strikes []strike, over <-chan struct{}) error {
	began := time.Now()
	for _, k := range strikes {
		timer := time.NewTimer(time.Until(began.Add(k.after)))
		select {
		case <-timer.C:
		case <-over:
			timer.Stop()
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := c.kill(ctx, s, k, over); err != nil {
			return fmt.Errorf("kill %s: %w", k.victim, err)
		}
	}
	return nil
}

// kill ends one victim and starts it again where nobody else does.
func (c *campaign) kill(ctx context.Context, s step, k strike, over <-chan struct{}) error {
	switch k.victim {
	case killServing:
		before := c.nowServing()
		if _, err := c.theatre.kill(ctx, before.id); err != nil {
			return err
		}
		c.killed(k.victim)
		if s.leaves {
			return nil // the operation leaves this server behind; if not, standing finds it
		}
		return c.theatre.start(ctx, before.site, before.id)
	case killStandby:
		killed, err := c.killStandby(ctx, over)
		if killed {
			c.killed(k.victim)
		}
		return err
	}
	var p program = c.programs.temporal
	for _, w := range c.programs.workers() {
		if w.label == string(k.victim) {
			p = w
		}
	}
	if err := p.kill(ctx); err != nil {
		return err
	}
	c.killed(k.victim)
	select {
	case <-time.After(k.away):
	case <-ctx.Done():
		return ctx.Err()
	}
	return p.start(ctx)
}

// killStandby kills the server that the running operation brings up, as soon as
// there is one; false when the step was over before.
func (c *campaign) killStandby(ctx context.Context, over <-chan struct{}) (bool, error) {
	for {
		if u := c.nowStandby(); u.operation != "" {
			servers, err := serversOf(ctx, u.site, u.operation)
			if err != nil {
				return false, err
			}
			for _, s := range servers {
				if killed, err := c.theatre.kill(ctx, s.ID); killed || err != nil {
					return killed, errors.Join(err, c.theatre.revive(ctx, u.site, s.ID))
				}
			}
		}
		select {
		case <-over:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
