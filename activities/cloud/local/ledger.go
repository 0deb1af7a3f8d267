package local

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"lifeboat/activities/cloud"
)

const ledgerBucket = "ledger"

// ledgerRecord is an entry as it is stored. Number keeps the order in which
// resources were intended: they are deleted in the reverse order.
type ledgerRecord struct {
	cloud.Entry
	Number uint64 `json:"number"`
}

// Intend records that a resource is about to be made. It returns when the entry
// is on stable storage.
func (p *Provider) Intend(ctx context.Context, e cloud.Entry) (cloud.Entry, error) {
	const op = "Intend"
	if err := cloud.CheckToken(op, e.Kind, e.Token); err != nil {
		return cloud.Entry{}, err
	}
	if e.Kind == "" || e.Operation == "" {
		return cloud.Entry{}, invalid(op, "ledger entry "+e.Token, "kind or operation is missing", "say what is made and for which operation")
	}
	var r ledgerRecord
	err := p.store.update(ctx, func(t *tx) (err error) {
		found, err := t.get(ledgerBucket, e.Token, &r)
		if err != nil {
			return err
		}
		if found {
			if r.Kind != e.Kind || r.Plan != e.Plan || r.Server != e.Server || r.Operation != e.Operation {
				return cloud.E(cloud.TokenMismatch, op, "ledger entry "+e.Token,
					fmt.Sprintf("announces a %s of operation %s", r.Kind, r.Operation), "use another token", nil)
			}
			return nil
		}
		r = ledgerRecord{Entry: e}
		r.ID, r.Created, r.Deleted, r.Kept = "", nil, nil, false
		if r.Intended.IsZero() {
			r.Intended = time.Now().UTC()
		}
		if r.Number, err = t.next(ledgerBucket); err != nil {
			return err
		}
		return t.put(ledgerBucket, e.Token, r)
	})
	return r.Entry, err
}

// Made records the identifier of the resource that was announced.
func (p *Provider) Made(ctx context.Context, token, id string) error {
	const op = "Made"
	if id == "" {
		return invalid(op, "ledger entry "+token, "the identifier is empty", "record what the creating call returned")
	}
	return p.changeEntry(ctx, op, token, func(r *ledgerRecord) error {
		if r.ID != "" && r.ID != id {
			return cloud.E(cloud.TokenMismatch, op, "ledger entry "+token, fmt.Sprintf("belongs to %s %s, not to %s", r.Kind, r.ID, id), "find out which of them is left over", nil)
		}
		if r.ID == "" {
			now := time.Now().UTC()
			r.ID, r.Created = id, &now
		}
		return nil
	})
}

// Gone records that the resource is deleted or was never made.
func (p *Provider) Gone(ctx context.Context, token string) error {
	return p.changeEntry(ctx, "Gone", token, func(r *ledgerRecord) error {
		if r.Deleted == nil {
			now := time.Now().UTC()
			r.Deleted = &now
		}
		return nil
	})
}

// Keep hands entries over to the user: all of them or none.
func (p *Provider) Keep(ctx context.Context, tokens []string, role string) error {
	return p.store.update(ctx, func(t *tx) error {
		for _, token := range tokens {
			err := t.changeEntry("Keep", token, func(r *ledgerRecord) error {
				r.Kept, r.Role = true, cmp.Or(role, r.Role)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *Provider) changeEntry(ctx context.Context, op, token string, change func(*ledgerRecord) error) error {
	return p.store.update(ctx, func(t *tx) error { return t.changeEntry(op, token, change) })
}

func (t *tx) changeEntry(op, token string, change func(*ledgerRecord) error) error {
	var r ledgerRecord
	found, err := t.get(ledgerBucket, token, &r)
	if err != nil {
		return err
	}
	if !found {
		return cloud.E(cloud.NotFound, op, "ledger entry "+token, "was never announced", "record the intention before the call that creates", nil)
	}
	if err := change(&r); err != nil {
		return err
	}
	return t.put(ledgerBucket, token, r)
}

// Entries lists entries in the order in which they were announced.
func (p *Provider) Entries(ctx context.Context, f cloud.LedgerFilter) ([]cloud.Entry, error) {
	var records []ledgerRecord
	err := p.store.view(ctx, func(t *tx) error {
		records = nil
		return t.each(ledgerBucket, func(token string, raw []byte) error {
			var r ledgerRecord
			if err := t.decode(ledgerBucket, token, raw, &r); err != nil {
				return err
			}
			if f.Match(r.Entry) {
				records = append(records, r)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(records, func(a, b ledgerRecord) int { return cmp.Compare(a.Number, b.Number) })
	entries := make([]cloud.Entry, 0, len(records))
	for _, r := range records {
		entries = append(entries, r.Entry)
	}
	return entries, nil
}

// forgetEntry drops the entry of a resource that is long gone; the ledger would grow
// for ever with the snapshots behind recovery points.
func (t *tx) forgetEntry(token string) error {
	var r ledgerRecord
	found, err := t.get(ledgerBucket, token, &r)
	if err != nil || !found || r.Deleted == nil {
		return err
	}
	return t.del(ledgerBucket, token)
}
