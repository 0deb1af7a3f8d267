package cloudtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat/activities/cloud"
)

// Caller is the smallest caller that follows the contract. It announces what it
// makes in the ledger, repeats a creating call under the same token only, waits
// for what is not visible yet, and cleans up what ledger and tags know. It may
// be killed after any call; another Caller of the same operation goes on.
type Caller struct {
	Provider  cloud.Provider
	Plan      string
	Operation string
	// Patience is how many looks it takes until something that was made is sure to
	// be visible; Attempts bounds the repeats of one call; Pause is between looks.
	Patience, Attempts int
	Pause              time.Duration
}

// Step makes one resource.
type Step struct {
	Name   string // unique within the operation
	Kind   cloud.Kind
	Ready  cloud.State
	Create func(ctx context.Context, in cloud.Create) (cloud.Resource, error)
}

// Token returns the client token of a step.
func (c *Caller) Token(step string) string { return c.Operation + "/" + step }

// Make makes the resource of a step, or finds the one that was made already.
func (c *Caller) Make(ctx context.Context, s Step) (cloud.Resource, error) {
	ledger, err := cloud.As[cloud.Ledger](c.Provider, "Ledger")
	if err != nil {
		return cloud.Resource{}, err
	}
	token, now := c.Token(s.Name), time.Now().UTC()
	var entry cloud.Entry
	err = c.repeat(ctx, func() (err error) {
		entry, err = ledger.Intend(ctx, cloud.Entry{Token: token, Kind: s.Kind, Plan: c.Plan, Operation: c.Operation, Intended: now})
		return err
	})
	if err != nil {
		return cloud.Resource{}, err
	}
	if entry.ID == "" {
		in := cloud.Create{Token: token, Name: s.Name, Repeat: !entry.Intended.Equal(now),
			Tags: map[string]string{cloud.TagPlan: c.Plan, cloud.TagOperation: c.Operation, cloud.TagToken: token}}
		err = c.repeat(ctx, func() error {
			r, err := s.Create(ctx, in)
			in.Repeat, entry.ID = true, r.ID
			return err
		})
		if err == nil {
			err = c.repeat(ctx, func() error { return ledger.Made(ctx, token, entry.ID) })
		}
		if err != nil {
			return cloud.Resource{}, err
		}
	}
	return c.await(ctx, s, entry.ID)
}

// repeat makes a call until it succeeds or its error says that this is useless.
func (c *Caller) repeat(ctx context.Context, call func() error) error {
	for attempt := 1; ; attempt++ {
		err := call()
		class := cloud.ClassOf(err)
		if err == nil || attempt >= c.Attempts || class != cloud.Retry && class != cloud.Wait {
			return err
		}
		var e *cloud.Error
		hint := c.Pause
		if errors.As(err, &e) {
			hint = cmp.Or(e.RetryAfter, c.Pause)
		}
		if err := pause(ctx, hint); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// await follows a resource until it is ready. It was made: not to be visible is
// a matter of time.
func (c *Caller) await(ctx context.Context, s Step, id string) (r cloud.Resource, err error) {
	h, err := handleOf(c.Provider, s.Kind)
	if err != nil {
		return r, err
	}
	err = c.repeat(ctx, func() error {
		r, err = h.get(ctx, id)
		switch {
		case cloud.IsNotFound(err):
			return cloud.E(cloud.NotReady, "await", id, "is not visible yet", "", err)
		case err != nil:
			return err
		case r.State == cloud.Failing:
			return cloud.E(cloud.Failed, "await", id, r.Message, "", nil)
		case r.State != s.Ready:
			return cloud.E(cloud.NotReady, "await", id, "is "+string(r.State), "", nil)
		}
		return nil
	})
	return r, err
}

// CleanUp deletes what the operation made, in the reverse order, and returns how
// much is left by listing.
func (c *Caller) CleanUp(ctx context.Context) (left int, err error) {
	ledger, err := cloud.As[cloud.Ledger](c.Provider, "Ledger")
	if err != nil {
		return 0, err
	}
	var entries []cloud.Entry
	err = c.repeat(ctx, func() (err error) {
		entries, err = ledger.Entries(ctx, cloud.LedgerFilter{Operation: c.Operation})
		return err
	})
	if err != nil {
		return 0, err
	}
	slices.Reverse(entries)
	for _, e := range entries {
		if e.Deleted != nil || e.Kept {
			continue
		}
		if err := c.remove(ctx, e); err != nil {
			return 0, fmt.Errorf("%s %s: %w", e.Kind, e.Token, err)
		}
		if err := c.repeat(ctx, func() error { return ledger.Gone(ctx, e.Token) }); err != nil {
			return 0, err
		}
	}
	return c.count(ctx)
}

// remove deletes the resource of an entry. One without an identifier may have
// been made all the same: its tag is looked for until it would be visible.
func (c *Caller) remove(ctx context.Context, e cloud.Entry) error {
	h, err := handleOf(c.Provider, e.Kind)
	if err != nil {
		return err
	}
	for look := 0; ; look++ {
		var found []cloud.Resource
		err := c.repeat(ctx, func() (err error) {
			found, err = h.list(ctx, cloud.Filter{Tags: map[string]string{cloud.TagToken: e.Token}})
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range found {
			if err := c.repeat(ctx, func() error { return cloud.IgnoreNotFound(h.del(ctx, r.ID)) }); err != nil {
				return err
			}
		}
		if len(found) == 0 && look >= c.Patience {
			return nil
		}
		if err := pause(ctx, c.Pause); err != nil {
			return err
		}
	}
}

// count lists what carries the tag of the operation.
func (c *Caller) count(ctx context.Context) (n int, err error) {
	for _, kind := range kinds {
		h, err := handleOf(c.Provider, kind)
		if cloud.CodeOf(err) == cloud.Unsupported {
			continue
		}
		var found []cloud.Resource
		err = c.repeat(ctx, func() (err error) {
			found, err = h.list(ctx, cloud.Filter{Tags: map[string]string{cloud.TagOperation: c.Operation}})
			if cloud.CodeOf(err) == cloud.Unsupported {
				return nil
			}
			return err
		})
		if err != nil {
			return 0, err
		}
		n += len(found)
	}
	return n, nil
}
