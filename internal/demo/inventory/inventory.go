// Package inventory looks at a site from outside: what is there, and whether it
// is what the site's ledger says. It is how the demo and the fault campaign
// know that nothing was made twice and nothing is left over.
package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"lifeboat/activities/cloud"
)

// Item is one resource that carries Lifeboat's tags.
type Item struct {
	Kind cloud.Kind
	cloud.Resource
}

func (i Item) String() string {
	return fmt.Sprintf("%s %s (%s, made by %s)", i.Kind, i.ID, i.Tags[cloud.TagRole], i.Tags[cloud.TagOperation])
}

// List returns every resource of a site that carries the given tags.
func List(ctx context.Context, p cloud.Provider, tags map[string]string) ([]Item, error) {
	var items []Item
	f := cloud.Filter{Tags: tags}
	errs := []error{
		list(p, cloud.KindServer, &items, func(c cloud.Servers) ([]cloud.Server, error) { return c.Servers(ctx, f) }, func(r cloud.Server) cloud.Resource { return r.Resource }),
		list(p, cloud.KindDisk, &items, func(c cloud.Disks) ([]cloud.Disk, error) { return c.Disks(ctx, f) }, func(r cloud.Disk) cloud.Resource { return r.Resource }),
		list(p, cloud.KindSnapshot, &items, func(c cloud.Snapshots) ([]cloud.Snapshot, error) { return c.Snapshots(ctx, f) }, func(r cloud.Snapshot) cloud.Resource { return r.Resource }),
		list(p, cloud.KindImage, &items, func(c cloud.Images) ([]cloud.Image, error) { return c.Images(ctx, f) }, func(r cloud.Image) cloud.Resource { return r.Resource }),
		list(p, cloud.KindNetwork, &items, func(c cloud.Networks) ([]cloud.Network, error) { return c.Networks(ctx, f) }, func(r cloud.Network) cloud.Resource { return r.Resource }),
		list(p, cloud.KindAddress, &items, func(c cloud.Addresses) ([]cloud.Address, error) { return c.Addresses(ctx, f) }, func(r cloud.Address) cloud.Resource { return r.Resource }),
	}
	return items, errors.Join(errs...)
}

func list[C, R any](p cloud.Provider, kind cloud.Kind, into *[]Item, ask func(C) ([]R, error), of func(R) cloud.Resource) error {
	c, err := cloud.As[C](p, string(kind)+"s")
	if err != nil {
		return err
	}
	found, err := ask(c)
	if err != nil {
		return fmt.Errorf("list the %ss of site %s: %w", kind, p.Site().Name, err)
	}
	for _, r := range found {
		*into = append(*into, Item{Kind: kind, Resource: of(r)})
	}
	return nil
}

// Audit holds a site against its ledger and returns in words what does not fit:
// a resource that the ledger does not know, one that was made twice, one that is
// there though it was deleted, one that is not there though it was made.
// open tells which entries may be announced and not made yet; nil = none.
func Audit(ctx context.Context, p cloud.Provider, open func(cloud.Entry) bool) ([]string, error) {
	items, err := List(ctx, p, nil)
	if err != nil {
		return nil, err
	}
	entries, err := entries(ctx, p, "")
	if err != nil {
		return nil, err
	}
	return audit(p.Site().Name, items, entries, open), nil
}

func audit(site string, items []Item, entries []cloud.Entry, open func(cloud.Entry) bool) []string {
	token := map[string]string{} // of the entry of an identifier
	for _, e := range entries {
		if e.ID != "" {
			token[e.ID] = e.Token
		}
	}
	byToken := map[string][]Item{}
	for _, item := range items {
		// Snapshots that one call made have one token in their tags, and an entry each.
		if t := cmp.Or(token[item.ID], item.Tags[cloud.TagToken]); item.Tags[cloud.TagToken] != "" {
			byToken[t] = append(byToken[t], item)
		}
	}
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, site+": "+fmt.Sprintf(format, args...)) }
	for _, e := range entries {
		found, parts := split(byToken[e.Token], e.Kind)
		delete(byToken, e.Token)
		if e.Deleted != nil { // clouds show for a while what is being deleted
			found = slices.DeleteFunc(found, func(i Item) bool { return i.State == cloud.Deleting })
			for _, part := range parts {
				if part.State == cloud.Available { // and no other server has it now
					fault("%s is left of %s %s", part, e.Kind, e.ID)
				}
			}
		}
		if e.Kind == cloud.KindRecord {
			continue // names are not listed by tag
		}
		name := fmt.Sprintf("%s %s of %s", e.Kind, e.ID, e.Operation)
		switch {
		case len(found) > 1:
			fault("%s was made %d times: %s", name, len(found), words(found))
		case len(found) == 1 && e.Deleted != nil:
			fault("%s is there though the ledger says it was deleted", name)
		case len(found) == 1 && e.ID != "" && found[0].ID != e.ID:
			fault("%s: %s is there instead", name, found[0].ID)
		case len(found) == 0 && e.Created != nil && e.Deleted == nil:
			fault("%s is gone though the ledger says it is there", name)
		case e.Created == nil && e.Deleted == nil && (open == nil || !open(e)):
			fault("%s was announced and never made", name)
		}
	}
	for _, unknown := range byToken {
		fault("the ledger does not know %s", words(unknown))
	}
	sort.Strings(faults)
	return faults
}

// split separates resources of a kind from others with the same token: the disks that
// came with a server.
func split(items []Item, kind cloud.Kind) (found, parts []Item) {
	for _, i := range items {
		if i.Kind == kind {
			found = append(found, i)
		} else {
			parts = append(parts, i)
		}
	}
	return found, parts
}

func words(items []Item) string {
	var names []string
	for _, i := range items {
		names = append(names, i.String())
	}
	return strings.Join(names, ", ")
}

// Totals counts what a plan has ever made at a site.
type Totals struct {
	Created, Deleted, Kept int
}

// Count reads the totals of a plan from the ledger of a site.
func Count(ctx context.Context, p cloud.Provider, plan string) (t Totals, err error) {
	entries, err := entries(ctx, p, plan)
	for _, e := range entries {
		switch {
		case e.Created == nil:
			continue
		case e.Deleted != nil:
			t.Deleted++
		case e.Kept:
			t.Kept++
		}
		t.Created++
	}
	return t, err
}

// Left lists what a plan has at a site that was not handed over, beside what has
// one of the roles that may stay.
func Left(ctx context.Context, p cloud.Provider, plan string, staying ...string) ([]string, error) {
	entries, err := entries(ctx, p, plan)
	if err != nil {
		return nil, err
	}
	stays := map[string]bool{}
	for _, e := range entries {
		stays[e.Token] = e.Kept || slices.Contains(staying, e.Role)
	}
	items, err := List(ctx, p, map[string]string{cloud.TagPlan: plan})
	if err != nil {
		return nil, err
	}
	var left []string
	for _, i := range items {
		if !stays[i.Tags[cloud.TagToken]] && i.State != cloud.Deleting {
			left = append(left, p.Site().Name+": "+i.String())
		}
	}
	return left, nil
}

func entries(ctx context.Context, p cloud.Provider, plan string) ([]cloud.Entry, error) {
	ledger, err := cloud.As[cloud.Ledger](p, "ledger")
	if err != nil {
		return nil, err
	}
	return ledger.Entries(ctx, cloud.LedgerFilter{Plan: plan})
}
