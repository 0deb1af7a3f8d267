package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"lifeboat/activities/cloud"
)

// making says how to make one resource, so that however often it is begun, by
// whomever, and whichever answer is lost, there is one of it in the end.
type making[R any] struct {
	p     cloud.Provider
	t     Timing
	scope Scope
	kind  cloud.Kind
	step  string            // of the operation
	name  string            // of the resource
	tags  map[string]string // beside those of the scope
	start func(ctx context.Context, in cloud.Create) (R, error)
	get   func(ctx context.Context, id string) (R, error)
	list  func(ctx context.Context, f cloud.Filter) ([]R, error)
	of    func(R) cloud.Resource
}

// made is a resource that was begun, and its ledger entry.
type made[R any] struct {
	token string
	id    string
	first R // as the creating call or the listing returned it
}

// generations bounds how often one step may make its resource anew.
const generations = 100

// clientToken derives the token of a creating call: the same step of the same
// operation always has the same one. A resource that was deleted since (a server
// that vanished, an attempt that was undone) is made under the next generation.
func clientToken(kind cloud.Kind, s Scope, step, name string, generation int) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{string(kind), s.Operation, s.Server, step, name, strconv.Itoa(generation)}, "\x00")))
	return "lb-" + hex.EncodeToString(sum[:20])
}

// tags of everything that is made for a scope.
func (s Scope) tags(token string) map[string]string {
	tags := map[string]string{cloud.TagPlan: s.Plan, cloud.TagOperation: s.Operation, cloud.TagToken: token}
	if s.Server != "" {
		tags[cloud.TagServer] = s.Server
	}
	if s.Role != "" {
		tags[cloud.TagRole] = s.Role
	}
	return tags
}

func (m making[R]) allTags(token string) map[string]string {
	tags := m.scope.tags(token)
	maps.Copy(tags, m.tags)
	return tags
}

// entry announces a resource of a scope.
func (s Scope) entry(kind cloud.Kind, token string) cloud.Entry {
	return cloud.Entry{Token: token, Kind: kind, Plan: s.Plan, Server: s.Server, Operation: s.Operation, Role: s.Role}
}

// begin announces the resource in the ledger, looks for it, and makes it when it is
// not there. It does not wait for a state.
func (m making[R]) begin(ctx context.Context) (made[R], error) {
	ledger, err := cloud.As[cloud.Ledger](m.p, "ledger")
	if err != nil {
		return made[R]{}, err
	}
	for generation := range generations {
		token := clientToken(m.kind, m.scope, m.step, m.name, generation)
		mine := m.scope.entry(m.kind, token)
		mine.Intended = time.Now().UTC()
		entry, err := ledger.Intend(ctx, mine)
		if err != nil {
			return made[R]{}, err
		}
		if entry.Deleted != nil {
			continue
		}
		r, usable, err := m.find(ctx, ledger, entry, !entry.Intended.Equal(mine.Intended))
		if err != nil || usable {
			return r, err
		}
	}
	return made[R]{}, cloud.E(cloud.Failed, "Create", string(m.kind)+" "+m.name,
		"was made "+strconv.Itoa(generations)+" times and never stayed", "look at the site for the reason", nil)
}

// find returns the resource of a ledger entry, made when need be. It is not usable
// when it had to be discarded: the caller goes on with the next generation. repeat
// says that an earlier attempt announced it.
func (m making[R]) find(ctx context.Context, ledger cloud.Ledger, entry cloud.Entry, repeat bool) (r made[R], usable bool, err error) {
	r = made[R]{token: entry.Token, id: entry.ID}
	if entry.ID != "" {
		if r.first, err = m.get(ctx, entry.ID); err != nil {
			// Not found may mean new; whoever waits for the state decides.
			return r, true, cloud.IgnoreNotFound(err)
		}
		// Only what an earlier attempt left failed is made anew: not in a circle.
		if m.of(r.first).State == cloud.Failing {
			return r, false, m.discard(ctx, ledger, r)
		}
		return r, true, nil
	}
	r, err = m.create(ctx, ledger, entry.Token, repeat)
	return r, true, err
}

// create makes the resource of a token, unless an earlier call did whose answer was lost.
func (m making[R]) create(ctx context.Context, ledger cloud.Ledger, token string, repeat bool) (made[R], error) {
	note(ctx, "making "+string(m.kind)+" "+m.name)
	found, err := m.list(ctx, cloud.Filter{Tags: map[string]string{cloud.TagToken: token}})
	if err != nil {
		return made[R]{}, err
	}
	var r R
	if len(found) > 0 {
		r = found[0]
	} else if r, err = m.start(ctx, cloud.Create{Token: token, Name: m.name, Tags: m.allTags(token), Repeat: repeat}); err != nil {
		if cloud.IsNotFound(err) {
			// The token is used up, or something that the resource needs is missing:
			// either way nothing was made under it.
			err = errors.Join(err, ledger.Gone(ctx, token))
		}
		return made[R]{}, err
	}
	id := m.of(r).ID
	return made[R]{token: token, id: id, first: r}, ledger.Made(ctx, token, id)
}

// discard deletes a resource that is of no use and notes that it is gone.
func (m making[R]) discard(ctx context.Context, ledger cloud.Ledger, r made[R]) error {
	o, err := opsOf(m.p, m.kind)
	if err != nil {
		return err
	}
	if err := m.t.removeAndWait(ctx, o, m.kind, r.id); err != nil {
		return err
	}
	return ledger.Gone(ctx, r.token)
}

// await waits until a resource that was begun is in a wanted state. One that
// vanished is noted as gone, so that the next attempt makes another.
func (m making[R]) await(ctx context.Context, r made[R], want ...cloud.State) (R, error) {
	what := string(m.kind) + " " + m.name
	got, err := settle(ctx, m.t, what, func() (R, error) { return m.get(ctx, r.id) }, m.of, want...)
	if !cloud.IsNotFound(err) {
		return got, err
	}
	ledger, lerr := cloud.As[cloud.Ledger](m.p, "ledger")
	if lerr != nil {
		return got, lerr
	}
	if err := ledger.Gone(ctx, r.token); err != nil {
		return got, err
	}
	if m.kind == cloud.KindServer {
		return got, cloud.E(cloud.Capacity, "Create", what, "vanished while it was starting: the site has no room for it at the moment",
			"try again later, or with another type or zone", err)
	}
	return got, cloud.E(cloud.Unavailable, "Create", what, "vanished while it was being made", "", err)
}
