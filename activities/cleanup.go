package activities

import (
	"context"
	"slices"

	"lifeboat/activities/cloud"
)

// CleanUp deletes what an operation, or a server in a role, made at a site: what the
// ledger says and what carries the tags. It ends when a listing shows nothing more,
// or when nothing moves any more; then what is left is in the result, with the reason.
// What was handed over stays, unless IncludeKept. It may be repeated at any time.
func (c *Cloud) CleanUp(ctx context.Context, in CleanUpInput) (Counts, error) {
	return run(ctx, func(ctx context.Context) (Counts, error) {
		s, err := c.sweep(ctx, in)
		if err != nil {
			return Counts{}, err
		}
		if err := s.keepExcepted(ctx); err != nil {
			return Counts{}, err
		}
		var left []remnant
		var still stopwatch
		before := ""
		err = c.Timing.until(ctx, func() (bool, error) {
			if left, err = s.remnants(ctx); err != nil || len(left) == 0 {
				return err == nil, err
			}
			// Progress is any change of what is left or of its state.
			if now := picture(left); now != before {
				before = now
				still.reset()
			}
			if still.running() > c.Timing.Stuck {
				return true, nil
			}
			note(ctx, "deleting: "+before)
			s.remove(ctx, left)
			return s.hopeless(left), ctx.Err()
		})
		if err != nil {
			return Counts{}, err
		}
		return s.counts(ctx, left)
	})
}

// CountResources counts what was made for a scope: from the ledger, and by looking
// whether what should not be there any more is.
func (c *Cloud) CountResources(ctx context.Context, scope Scope) (Counts, error) {
	return run(ctx, func(ctx context.Context) (Counts, error) {
		s, err := c.sweep(ctx, CleanUpInput{Scope: scope})
		if err != nil {
			return Counts{}, err
		}
		left, err := s.remnants(ctx)
		if err != nil {
			return Counts{}, err
		}
		return s.counts(ctx, slices.DeleteFunc(left, func(r remnant) bool { return r.state == unseen }))
	})
}

// KeepResources marks resources of a scope as handed over to the user, and gives them
// a new role when one is named. Those that no ledger knows are not Lifeboat's anyway.
func (c *Cloud) KeepResources(ctx context.Context, in KeepInput) error {
	return do(ctx, func(ctx context.Context) error {
		if len(in.IDs) == 0 {
			if err := narrow("KeepResources", in.Scope); err != nil {
				return err
			}
		}
		ledger, err := capability[cloud.Ledger](ctx, c, in.Scope.Site, "ledger")
		if err != nil {
			return err
		}
		entries, err := ledger.Entries(ctx, in.Scope.filter())
		if err != nil {
			return err
		}
		var tokens []string
		for _, e := range entries {
			if e.Deleted == nil && e.ID != "" && (len(in.IDs) == 0 || slices.Contains(in.IDs, e.ID)) {
				tokens = append(tokens, e.Token)
			}
		}
		if len(tokens) == 0 {
			return nil
		}
		return ledger.Keep(ctx, tokens, in.NewRole)
	})
}

// sweep is one look for the resources of a scope, and their removal.
type sweep struct {
	c       *Cloud
	p       cloud.Provider
	ledger  cloud.Ledger
	in      CleanUpInput
	problem map[string]error // identifier → why it could not be deleted
	begun   map[string]bool  // identifiers whose deletion was triggered
	extra   map[string]bool  // those of them that no ledger knew
}

// remnant is a resource that is still there, or may be.
type remnant struct {
	kind     cloud.Kind
	id       string // "" when it was announced a moment ago and may yet appear
	ledgered bool
	state    cloud.State
}

// unseen is the state of a resource that was made a moment ago and may be invisible yet.
const unseen cloud.State = "unseen"

func (c *Cloud) sweep(ctx context.Context, in CleanUpInput) (*sweep, error) {
	if err := narrow("CleanUp", in.Scope); err != nil {
		return nil, err
	}
	p, err := c.Open(ctx, in.Scope.Site)
	if err != nil {
		return nil, err
	}
	ledger, err := cloud.As[cloud.Ledger](p, "ledger")
	return &sweep{c: c, p: p, ledger: ledger, in: in, problem: map[string]error{}, begun: map[string]bool{}, extra: map[string]bool{}}, err
}

// narrow refuses a scope that would take in all that was ever made for a plan.
func narrow(op string, scope Scope) error {
	if scope.Operation == "" && scope.Role == "" {
		return cloud.E(cloud.InvalidInput, op, "site "+scope.Site.Name, "neither operation nor role is named", "name at least one", nil)
	}
	return nil
}

// filter selects the ledger entries of a scope.
func (s Scope) filter() cloud.LedgerFilter {
	return cloud.LedgerFilter{Plan: s.Plan, Server: s.Server, Operation: s.Operation, Role: s.Role}
}

// stays tells whether an entry's resource is not to be deleted.
func (s *sweep) stays(e cloud.Entry) bool {
	return e.Kept && !s.in.IncludeKept || e.ID != "" && slices.Contains(s.in.Except, e.ID)
}

// keepExcepted marks the resources that stay as handed over.
func (s *sweep) keepExcepted(ctx context.Context) error {
	if len(s.in.Except) == 0 {
		return nil
	}
	entries, err := s.ledger.Entries(ctx, s.in.Scope.filter())
	if err != nil {
		return err
	}
	var tokens []string
	for _, e := range entries {
		if e.Deleted == nil && slices.Contains(s.in.Except, e.ID) {
			tokens = append(tokens, e.Token)
		}
	}
	if len(tokens) == 0 {
		return nil
	}
	return s.ledger.Keep(ctx, tokens, "")
}
