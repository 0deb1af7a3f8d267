package activities

import (
	"context"
	"fmt"
	"strings"

	"lifeboat/activities/cloud"
)

// ReadySiteInput asks whether a site answers, lets us work, and keeps the ledger.
type ReadySiteInput struct {
	Site      Site     `json:"site"`
	Plan      string   `json:"plan"`
	Operation string   `json:"operation"`       // workflow ID of the check
	Calls     []string `json:"calls,omitempty"` // methods of the provider contract that are needed there
	Launches  bool     `json:"launches"`        // servers are launched there: quotas matter
}

// nearly is the part of a limit from which a person is told.
const nearly = 0.9

// limitedKinds are the kinds of which a recovery makes more.
var limitedKinds = []cloud.Kind{cloud.KindServer, cloud.KindDisk, cloud.KindSnapshot, cloud.KindImage, cloud.KindNetwork, cloud.KindAddress}

// CheckReadySite looks at a site as a whole: answers, permissions, quotas, ledger.
func (c *Cloud) CheckReadySite(ctx context.Context, in ReadySiteInput) ([]Check, error) {
	return run(ctx, func(ctx context.Context) ([]Check, error) {
		l := c.look(in.Site)
		l.ask(ctx, Check{Check: CheckKindSite, Subject: "its provider"}, func(ctx context.Context) (Finding, error) {
			servers, err := capability[cloud.Servers](ctx, c, in.Site, "servers")
			if err != nil {
				return Finding{}, err
			}
			if _, err := servers.Servers(ctx, cloud.Filter{Tags: map[string]string{cloud.TagToken: "is-anybody-there"}}); err != nil {
				return Finding{}, err
			}
			return fine("answers")
		})
		if len(in.Calls) > 0 {
			l.ask(ctx, Check{Check: CheckKindPermissions, Subject: fmt.Sprintf("%d calls of the provider contract", len(in.Calls))}, func(ctx context.Context) (Finding, error) {
				quotas, err := capability[cloud.Quotas](ctx, c, in.Site, "check of permissions")
				if err != nil {
					return Finding{}, err
				}
				if err := quotas.CheckPermission(ctx, in.Calls); err != nil {
					return Finding{}, err
				}
				return fine("all that can be asked without effect are permitted")
			})
		}
		if in.Launches {
			l.quotas(ctx)
		}
		l.ledger(ctx, in)
		return l.result(ctx)
	})
}

// quotas makes a line of each limit that the provider tells, and one of those that it does not.
func (l *looking) quotas(ctx context.Context) {
	quotas, err := capability[cloud.Quotas](ctx, l.c, l.site, "quotas")
	if err != nil {
		l.add(Check{Check: CheckKindQuota, Subject: "limits of the account"}, Finding{}, err)
		return
	}
	var silent []string
	for _, kind := range limitedKinds {
		var limits []cloud.Limit
		err := l.try(ctx, func(ctx context.Context) (err error) {
			limits, err = quotas.Limits(ctx, kind)
			return err
		})
		switch {
		case err != nil:
			l.add(Check{Check: CheckKindQuota, Subject: "limits of each " + string(kind)}, Finding{}, err)
		case len(limits) == 0:
			silent = append(silent, string(kind))
		}
		for _, limit := range limits {
			l.add(Check{Check: CheckKindQuota, Subject: limit.Name}, judgeLimit(limit), nil)
		}
	}
	if len(silent) > 0 {
		l.add(Check{Check: CheckKindQuota, Subject: "limits of each " + strings.Join(silent, ", ")},
			Finding{CheckUnknown, "the provider does not tell them", "compare them in the account's console with what the plan needs at once"}, nil)
	}
}

// judgeLimit says whether there is room below a limit.
func judgeLimit(limit cloud.Limit) Finding {
	f := Finding{Status: CheckOK, Cause: fmt.Sprintf("%g of %g in use", limit.Used, limit.Value)}
	if limit.Unit != "" {
		f.Cause = fmt.Sprintf("%g of %g %s in use", limit.Used, limit.Value, limit.Unit)
	}
	switch {
	case limit.Used >= limit.Value:
		f.Status = CheckFail
	case limit.Used >= nearly*limit.Value:
		f.Status = CheckWarn
	default:
		return f
	}
	f.Mend = "free some that are not needed"
	if limit.Adjustable {
		f.Mend += ", or ask the provider for a higher limit"
	}
	return f
}

// ledger reads the entries of the plan, and tries writing beside them: with a document, in the
// same store, that is removed again. An entry would stay as one that is deleted.
func (l *looking) ledger(ctx context.Context, in ReadySiteInput) {
	l.ask(ctx, Check{Check: CheckKindLedger, Subject: "reading"}, func(ctx context.Context) (Finding, error) {
		ledger, err := capability[cloud.Ledger](ctx, l.c, l.site, "ledger")
		if err != nil {
			return Finding{}, err
		}
		entries, err := ledger.Entries(ctx, cloud.LedgerFilter{Plan: in.Plan})
		if err != nil {
			return Finding{}, err
		}
		return fine("%d entries of the plan", len(entries))
	})
	l.ask(ctx, Check{Check: CheckKindLedger, Subject: "writing"}, func(ctx context.Context) (Finding, error) {
		documents, err := capability[cloud.Documents](ctx, l.c, l.site, "documents")
		if err != nil {
			return Finding{}, err
		}
		// Of this check at this site alone. It is there already when an earlier attempt was killed.
		name := in.Operation + "/" + l.site.Name
		_, err = documents.PutDocument(ctx, cloud.Document{Name: name, Data: []byte("readiness check\n")})
		if err != nil && cloud.CodeOf(err) != cloud.Conflict {
			return Finding{}, err
		}
		if err := cloud.IgnoreNotFound(documents.DeleteDocument(ctx, name)); err != nil {
			return Finding{}, err
		}
		return fine("a document beside it was written and removed")
	})
}
