package activities

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"lifeboat/activities/cloud"
)

// CheckStatus is the verdict of one readiness check.
type CheckStatus string

// The verdicts. Unknown is what nobody could tell: it is never taken for ok.
const (
	CheckOK      CheckStatus = "ok"
	CheckWarn    CheckStatus = "warn"
	CheckFail    CheckStatus = "fail"
	CheckUnknown CheckStatus = "unknown"
)

// Check is one line of a readiness check: what a disaster would meet.
type Check struct {
	Check   string      `json:"check"` // what kind of check, e.g. "private address"
	Site    string      `json:"site,omitempty"`
	Server  string      `json:"server,omitempty"` // empty = the site as a whole
	Subject string      `json:"subject"`          // what was looked at, e.g. "10.20.0.10 in refuge"
	Status  CheckStatus `json:"status"`
	Cause   string      `json:"cause"`          // what was found, in words
	Mend    string      `json:"mend,omitempty"` // what a person can do; empty where nothing is to be done
}

// Kinds of checks, as in [Check.Check].
const (
	CheckKindSite        = "site"
	CheckKindPermissions = "permissions"
	CheckKindQuota       = "quota"
	CheckKindLedger      = "ledger"
	CheckKindAgent       = "agent"
	CheckKindLaunch      = "launch"
	CheckKindNetwork     = "network"
	CheckKindAddress     = "private address"
	CheckKindPublic      = "public address"
	CheckKindKey         = "key"
	CheckKindProtection  = "protection"
	CheckKindPoint       = "recovery point"
	CheckKindSnapshot    = "snapshots"
	CheckKindImage       = "image"
	CheckKindRecord      = "dns record"
	CheckKindTTL         = "dns ttl"
	CheckKindNameServer  = "name server"
)

// How patient a readiness check is with a site that does not answer.
const (
	questionTime  = 30 * time.Second // one question, with what the provider tries by itself
	questionTries = 3                // of what may pass; one after the site was silent once
)

// Finding is the verdict of a question that was answered.
type Finding struct {
	Status CheckStatus
	Cause  string
	Mend   string
}

// looking collects the lines of one activity.
type looking struct {
	c     *Cloud
	site  Site
	lines []Check
	tries int
}

func (c *Cloud) look(site Site) *looking {
	return &looking{c: c, site: site, lines: []Check{}, tries: questionTries}
}

// ask puts one question and notes its answer. Errors are answers, too: those of a question
// that was not answered make it unknown, the others are what a recovery would fail with.
func (l *looking) ask(ctx context.Context, line Check, question func(ctx context.Context) (Finding, error)) CheckStatus {
	note(ctx, line.Check+": "+cmp.Or(line.Subject, line.Server))
	var found Finding
	err := l.try(ctx, func(ctx context.Context) (err error) {
		found, err = question(ctx)
		return err
	})
	return l.add(line, found, err)
}

// add notes an answer.
func (l *looking) add(line Check, found Finding, err error) CheckStatus {
	if err != nil {
		found = findingOf(err)
	}
	line.Site, line.Status, line.Cause, line.Mend = l.site.Name, found.Status, found.Cause, found.Mend
	l.lines = append(l.lines, line)
	return line.Status
}

// try asks again where the trouble may pass, each time with a limit. Once the site was
// silent to all tries, later questions are put once.
func (l *looking) try(ctx context.Context, question func(ctx context.Context) error) (err error) {
	for n := 1; ctx.Err() == nil; n++ {
		err = bounded(ctx, question)
		if !passes(err) {
			return err
		}
		if n >= l.tries || sleep(ctx, max(l.c.Timing.Poll, retryAfter(err))) != nil {
			break
		}
	}
	l.tries = 1
	return err
}

func bounded(ctx context.Context, question func(ctx context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	err := question(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = cloud.E(cloud.Unavailable, "", "", fmt.Sprintf("there was no answer within %s", questionTime), "see whether the site can be reached from this worker", err)
	}
	return err
}

// findingOf is what an error says of a recovery. An error that passes by itself, or that
// is not of the contract, says nothing about the disaster.
func findingOf(err error) Finding {
	e := asContract(err)
	status := CheckFail
	if e.Code == cloud.Unsupported || e.Class == cloud.Retry || e.Class == cloud.Wait {
		status = CheckUnknown
	}
	return Finding{Status: status, Cause: sentence(e.Resource, e.Message), Mend: e.Mend}
}

// result ends the activity: one that was cut short is tried again as a whole.
func (l *looking) result(ctx context.Context) ([]Check, error) { return l.lines, ctx.Err() }

// fine is the finding that nothing is wrong.
func fine(format string, args ...any) (Finding, error) {
	return Finding{Status: CheckOK, Cause: fmt.Sprintf(format, args...)}, nil
}

// lateAfter is how many intervals may pass without a new recovery point before it is late,
// and with lateMore when the plan names no RPO, before that is a failure.
const (
	lateAfter = 2
	lateMore  = 5
)

// JudgeAge compares the age of recovery data with the plan: older than the RPO is a
// failure, and so is more than 5 intervals without an RPO; more than 2 intervals is late.
// Half a minute is always granted, for a cut takes its time. Zero is an objective or an
// interval that the plan does not name.
func JudgeAge(age, rpo, interval time.Duration) Finding {
	const grace = 30 * time.Second
	const mend = "see why none is made: lifeboat replication status"
	words := "is " + age.Round(time.Second).String() + " old"
	switch {
	case rpo > 0 && age > rpo:
		return Finding{CheckFail, words + ", older than the plan's RPO of " + rpo.String(), mend}
	case rpo <= 0 && interval > 0 && age > lateMore*interval+grace:
		return Finding{CheckFail, fmt.Sprintf("%s: no new one for more than %d intervals of %s", words, lateMore, interval), mend}
	case interval > 0 && age > lateAfter*interval+grace:
		return Finding{CheckWarn, fmt.Sprintf("%s: no new one for more than %d intervals of %s", words, lateAfter, interval), mend}
	case rpo > 0 && interval > rpo:
		return Finding{CheckWarn, fmt.Sprintf("%s, and within the plan's RPO of %s now, but one is made every %s only", words, rpo, interval),
			"make points more often (pointPolicies.every), or promise less (objectives.rpo)"}
	}
	return Finding{Status: CheckOK, Cause: words}
}
