package activities

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"lifeboat/activities/cloud"
)

// remnants finds what is still there, in the order in which it can be deleted, and
// notes in the ledger what is gone.
func (s *sweep) remnants(ctx context.Context) ([]remnant, error) {
	entries, err := s.ledger.Entries(ctx, s.in.Scope.filter())
	if err != nil {
		return nil, err
	}
	var left []remnant
	seen := map[string]bool{}
	for _, e := range entries {
		if e.Deleted != nil || s.stays(e) {
			continue
		}
		r, there, err := s.look(ctx, e)
		if err != nil {
			return nil, err
		}
		if there {
			left = append(left, r)
			seen[r.id] = true
		}
	}
	tagged, err := s.tagged(ctx, seen)
	if err != nil {
		return nil, err
	}
	left = append(left, tagged...)
	slices.SortStableFunc(left, func(a, b remnant) int {
		return cmp.Compare(slices.Index(removalOrder, a.kind), slices.Index(removalOrder, b.kind))
	})
	return left, nil
}

// look finds the resource of a ledger entry. An entry whose resource is gone, or was
// never made, is closed.
func (s *sweep) look(ctx context.Context, e cloud.Entry) (r remnant, there bool, err error) {
	r = remnant{kind: e.Kind, id: e.ID, ledgered: true, state: unseen}
	o, err := opsOf(s.p, e.Kind)
	if err != nil {
		s.problem[e.ID], r.state = err, cloud.Available
		return r, true, nil
	}
	if e.ID == "" {
		found, err := o.list(ctx, cloud.Filter{Tags: map[string]string{cloud.TagToken: e.Token}})
		if err != nil {
			return r, false, err
		}
		if len(found) > 0 {
			r.id, r.state = found[0].ID, found[0].State
			return r, true, s.ledger.Made(ctx, e.Token, r.id)
		}
		return s.perhaps(ctx, r, e.Token, e.Intended)
	}
	res, err := o.get(ctx, e.ID)
	if err == nil {
		r.state = res.State
		return r, true, nil
	}
	if !cloud.IsNotFound(err) {
		return r, false, err
	}
	since := e.Intended
	if e.Created != nil {
		since = *e.Created
	}
	return s.perhaps(ctx, r, e.Token, since)
}

// perhaps decides about a resource that is not found: one that was made a moment ago
// may be invisible yet, unless its deletion was triggered.
func (s *sweep) perhaps(ctx context.Context, r remnant, token string, since time.Time) (remnant, bool, error) {
	if !s.begun[r.id] && time.Since(since) < s.c.Timing.Visible {
		return r, true, nil
	}
	return r, false, s.ledger.Gone(ctx, token)
}

// tagged finds, beside those seen already, what carries the tags of the scope.
func (s *sweep) tagged(ctx context.Context, seen map[string]bool) ([]remnant, error) {
	tags := map[string]string{}
	for tag, value := range map[string]string{cloud.TagPlan: s.in.Scope.Plan, cloud.TagServer: s.in.Scope.Server,
		cloud.TagOperation: s.in.Scope.Operation, cloud.TagRole: s.in.Scope.Role} {
		if value != "" {
			tags[tag] = value
		}
	}
	var left []remnant
	var others *governing
	for _, kind := range removalOrder {
		o, err := opsOf(s.p, kind)
		if cloud.CodeOf(err) == cloud.Unsupported {
			continue
		} else if err != nil {
			return nil, err
		}
		found, err := o.list(ctx, cloud.Filter{Tags: tags})
		if err != nil {
			return nil, err
		}
		for _, res := range found {
			if seen[res.ID] {
				continue
			}
			if others == nil {
				if others, err = s.governing(ctx); err != nil {
					return nil, err
				}
			}
			there, ledgered, err := s.mine(ctx, o, others, res)
			if err != nil {
				return nil, err
			}
			if there {
				left = append(left, remnant{kind: kind, id: res.ID, ledgered: ledgered, state: res.State})
			}
		}
	}
	return left, nil
}

// governing holds the ledger entries of a plan, which overrule tags.
type governing struct {
	byID, byToken map[string]cloud.Entry
}

func (s *sweep) governing(ctx context.Context) (*governing, error) {
	entries, err := s.ledger.Entries(ctx, cloud.LedgerFilter{Plan: s.in.Scope.Plan})
	if err != nil {
		return nil, err
	}
	g := &governing{byID: map[string]cloud.Entry{}, byToken: map[string]cloud.Entry{}}
	for _, e := range entries {
		g.byToken[e.Token] = e
		if e.ID != "" {
			g.byID[e.ID] = e
		}
	}
	return g, nil
}

// mine tells whether a resource that carries the tags is to be deleted. Its ledger
// entry, when there is one, may say that it was handed over or has another role
// now; a listing may also show what is gone already.
func (s *sweep) mine(ctx context.Context, o kindOps, others *governing, res cloud.Resource) (there, ledgered bool, err error) {
	e, ledgered := others.byID[res.ID]
	if !ledgered {
		e, ledgered = others.byToken[res.Tags[cloud.TagToken]]
	}
	if slices.Contains(s.in.Except, res.ID) || ledgered && (s.stays(e) || s.in.Scope.Role != "" && e.Role != s.in.Scope.Role) {
		return false, ledgered, nil
	}
	_, err = o.get(ctx, res.ID)
	if cloud.IsNotFound(err) {
		return false, ledgered, nil
	}
	return err == nil, ledgered, err
}

// remove triggers the deletion of what is left, what uses others first. Where
// deletions are on their way, the kinds behind wait for them.
func (s *sweep) remove(ctx context.Context, left []remnant) {
	moving, kind := false, cloud.Kind("")
	for _, r := range left {
		if moving && r.kind != kind {
			return
		}
		kind = r.kind
		if r.state == cloud.Deleting {
			moving = true
			continue
		}
		o, err := opsOf(s.p, r.kind)
		if err != nil || r.id == "" {
			continue
		}
		err = o.remove(ctx, r.id)
		switch {
		case err == nil:
			moving = true
			s.begun[r.id] = true
			delete(s.problem, r.id)
			if !r.ledgered {
				s.extra[r.id] = true
			}
		case !cloud.IsNotFound(err):
			s.problem[r.id] = err
		}
	}
}

// hopeless tells whether nothing that is left can be deleted without a person.
func (s *sweep) hopeless(left []remnant) bool {
	for _, r := range left {
		err := s.problem[r.id]
		if class := cloud.ClassOf(err); err == nil || class != cloud.GiveUp && class != cloud.AskPerson {
			return false
		}
	}
	return true
}

// picture describes what is left, for people and to see whether it changes.
func picture(left []remnant) string {
	var b strings.Builder
	for i, r := range left {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(r.kind) + " " + r.id + " " + string(r.state))
	}
	return b.String()
}

// counts sums the scope up.
func (s *sweep) counts(ctx context.Context, left []remnant) (Counts, error) {
	entries, err := s.ledger.Entries(ctx, s.in.Scope.filter())
	if err != nil {
		return Counts{}, err
	}
	n := Counts{Created: len(s.extra), Deleted: len(s.extra)}
	for _, e := range entries {
		if e.ID == "" {
			continue
		}
		n.Created++
		switch {
		case e.Deleted != nil:
			n.Deleted++
		case s.stays(e):
			n.Kept++
		}
	}
	for _, r := range left {
		if !r.ledgered && !s.extra[r.id] {
			n.Created++
		} else if s.extra[r.id] {
			n.Deleted--
		}
		n.Left++
		text := string(r.kind) + " " + cmp.Or(r.id, "that was about to be made")
		if err := s.problem[r.id]; err != nil {
			text += ": " + err.Error()
		}
		n.LeftOver = append(n.LeftOver, text)
	}
	return n, nil
}
