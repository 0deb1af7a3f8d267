package aws

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat/activities/cloud"
)

// The ledger is one object for each entry in the bucket of the site. Its writes are conditional, so
// that two workers never overwrite each other; nothing but the bucket is needed in a disaster.

const (
	ledgerReaders = 16                  // entries that are read at once
	ledgerTries   = 20                  // of a change that others race with
	ledgerKeep    = 30 * 24 * time.Hour // entries of what is deleted; no token is used for so long
)

// ledgerRecord is an entry as it is stored. Written keeps the order in which resources were
// intended, as far as the clocks of the workers agree: they are deleted in the reverse order.
type ledgerRecord struct {
	cloud.Entry
	Written int64 `json:"written"` // ns since 1970
}

// ledgerCache remembers entries by key and version: a listing reads only those that changed.
type ledgerCache struct {
	mu      sync.Mutex
	records map[string]ledgerSeen
}

type ledgerSeen struct {
	version string
	record  ledgerRecord
}

// ledgerClock is strictly increasing within this process.
var ledgerClock atomic.Int64

func ledgerNow() int64 {
	for {
		last, now := ledgerClock.Load(), time.Now().UnixNano()
		now = max(now, last+1)
		if ledgerClock.CompareAndSwap(last, now) {
			return now
		}
	}
}

// Intend records that a resource is about to be made. It returns when the entry is durable.
func (p *Provider) Intend(ctx context.Context, e cloud.Entry) (cloud.Entry, error) {
	const op = "Intend"
	if err := cloud.CheckToken(op, e.Kind, e.Token); err != nil {
		return cloud.Entry{}, err
	}
	resource := "ledger entry " + e.Token
	if e.Kind == "" || e.Operation == "" {
		return cloud.Entry{}, cloud.E(cloud.InvalidInput, op, resource, "kind or operation is missing", "say what is made and for which operation", nil)
	}
	r := ledgerRecord{Entry: e, Written: ledgerNow()}
	r.ID, r.Created, r.Deleted, r.Kept = "", nil, nil, false
	if r.Intended.IsZero() {
		r.Intended = time.Now().UTC()
	}
	data, err := json.Marshal(r)
	if err != nil {
		return cloud.Entry{}, err
	}
	_, err = p.putObject(ctx, op, object{key: ledgerPrefix + keyOf(e.Token), data: data})
	if err == nil {
		return r.Entry, nil
	}
	if cloud.CodeOf(err) != cloud.Conflict {
		return cloud.Entry{}, err
	}
	there, _, err := p.ledgerEntry(ctx, op, e.Token)
	if err != nil {
		return cloud.Entry{}, err
	}
	if there.Kind != e.Kind || there.Plan != e.Plan || there.Server != e.Server || there.Operation != e.Operation {
		return cloud.Entry{}, cloud.E(cloud.TokenMismatch, op, resource,
			fmt.Sprintf("announces a %s of operation %s", there.Kind, there.Operation), "use another token", nil)
	}
	return there.Entry, nil
}

// Made records the identifier of the resource that was announced.
func (p *Provider) Made(ctx context.Context, token, id string) error {
	const op = "Made"
	resource := "ledger entry " + token
	if id == "" {
		return cloud.E(cloud.InvalidInput, op, resource, "the identifier is empty", "record what the creating call returned", nil)
	}
	return p.changeEntry(ctx, op, token, func(r *ledgerRecord) (bool, error) {
		if r.ID == id {
			return false, nil
		}
		if r.ID != "" {
			return false, cloud.E(cloud.TokenMismatch, op, resource, fmt.Sprintf("belongs to %s %s, not to %s", r.Kind, r.ID, id),
				"find out which of them is left over", nil)
		}
		now := time.Now().UTC()
		r.ID, r.Created = id, &now
		return true, nil
	})
}

// Gone records that the resource is deleted or was never made.
func (p *Provider) Gone(ctx context.Context, token string) error {
	return p.changeEntry(ctx, "Gone", token, func(r *ledgerRecord) (bool, error) {
		if r.Deleted != nil {
			return false, nil
		}
		now := time.Now().UTC()
		r.Deleted = &now
		return true, nil
	})
}

// Keep hands entries over to the user. None is changed when one is NotFound; a Keep that broke off
// in the middle is completed by saying it again.
func (p *Provider) Keep(ctx context.Context, tokens []string, role string) error {
	const op = "Keep"
	for _, token := range tokens {
		if _, _, err := p.ledgerEntry(ctx, op, token); err != nil {
			return err
		}
	}
	for _, token := range tokens {
		err := p.changeEntry(ctx, op, token, func(r *ledgerRecord) (bool, error) {
			to := cmp.Or(role, r.Role)
			changed := !r.Kept || r.Role != to
			r.Kept, r.Role = true, to
			return changed, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ledgerEntry reads an entry and the version of its object.
func (p *Provider) ledgerEntry(ctx context.Context, op, token string) (r ledgerRecord, version string, err error) {
	o, err := p.getObject(ctx, op, ledgerPrefix+keyOf(token))
	if cloud.IsNotFound(err) {
		return r, "", cloud.E(cloud.NotFound, op, "ledger entry "+token, "was never announced", "record the intention before the call that creates", err)
	}
	if err != nil {
		return r, "", err
	}
	r, err = parseEntry(o)
	return r, o.version, err
}

// parseEntry reads what Intend and the changes after it wrote.
func parseEntry(o object) (r ledgerRecord, err error) {
	if err = json.Unmarshal(o.data, &r); err == nil && (r.Token == "" || ledgerPrefix+keyOf(r.Token) != o.key) {
		err = fmt.Errorf("it is of token %q", r.Token)
	}
	if err != nil {
		return r, cloud.E(cloud.Corrupt, "Entries", "ledger entry "+o.key, "cannot be read: "+err.Error(),
			"look at the object, or restore an earlier version of it", err)
	}
	return r, nil
}

// changeEntry changes an entry; change tells whether it did. Others may change it at the same time:
// then it is read again.
func (p *Provider) changeEntry(ctx context.Context, op, token string, change func(*ledgerRecord) (bool, error)) error {
	for range ledgerTries {
		r, version, err := p.ledgerEntry(ctx, op, token)
		if err != nil {
			return err
		}
		if changed, err := change(&r); err != nil || !changed {
			return err
		}
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err = p.putObject(ctx, op, object{key: ledgerPrefix + keyOf(token), version: version, data: data}); cloud.CodeOf(err) != cloud.Conflict {
			return err
		}
	}
	return cloud.E(cloud.Conflict, op, "ledger entry "+token, "others change it all the time", "retry", nil)
}

// Entries lists entries in the order in which they were announced.
func (p *Provider) Entries(ctx context.Context, f cloud.LedgerFilter) ([]cloud.Entry, error) {
	const op = "Entries"
	list, err := p.listObjects(ctx, op, ledgerPrefix)
	if err != nil {
		return nil, err
	}
	records, err := p.readEntries(ctx, op, list)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(records, func(a, b ledgerRecord) int {
		return cmp.Or(cmp.Compare(a.Written, b.Written), strings.Compare(a.Token, b.Token))
	})
	entries := make([]cloud.Entry, 0, len(records))
	for _, r := range records {
		if f.Match(r.Entry) {
			entries = append(entries, r.Entry)
		}
	}
	return entries, nil
}

// readEntries reads listed entries, those that have not changed since the last time from memory. Entries
// of what was deleted long ago are dropped, or the ledger would grow for ever with every recovery point.
func (p *Provider) readEntries(ctx context.Context, op string, list []object) ([]ledgerRecord, error) {
	cache := &p.remembered.ledger
	records := make([]ledgerRecord, len(list))
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(ledgerReaders)
	for i, o := range list {
		cache.mu.Lock()
		seen, ok := cache.records[o.key]
		cache.mu.Unlock()
		if ok && seen.version == o.version {
			records[i] = seen.record
			continue
		}
		group.Go(func() error {
			read, err := p.getObject(reading, op, o.key)
			if err != nil {
				return cloud.IgnoreNotFound(err) // dropped meanwhile: its record stays empty
			}
			records[i], err = parseEntry(read)
			list[i].version = read.version
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	fresh := make(map[string]ledgerSeen, len(list))
	kept := records[:0]
	for i, r := range records {
		switch {
		case r.Token == "":
		case r.Deleted != nil && time.Since(*r.Deleted) > ledgerKeep:
			if err := p.deleteObject(ctx, op, list[i].key, list[i].version); err != nil && cloud.CodeOf(err) != cloud.Conflict {
				return nil, err
			}
		default:
			fresh[list[i].key] = ledgerSeen{list[i].version, r}
			kept = append(kept, r)
		}
	}
	cache.mu.Lock()
	cache.records = fresh
	cache.mu.Unlock()
	return kept, nil
}
