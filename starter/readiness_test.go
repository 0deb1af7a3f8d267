package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/workflows"
)

// readinessReport is a check that has run, or runs.
func readinessReport(outcome workflows.Outcome, worst activities.CheckStatus) workflows.ReadinessReport {
	r := workflows.ReadinessReport{Operation: workflows.OpReadiness, Plan: "shop", WorkflowID: "readiness/shop/3", Outcome: outcome,
		Servers: []string{"db"}, Started: noon, Checks: []activities.Check{}}
	if outcome == workflows.OutcomeRunning {
		return r
	}
	r.Ended = at(2 * time.Second)
	r.Checks = []activities.Check{
		{Check: activities.CheckKindSite, Site: "recovery", Subject: "its provider", Status: activities.CheckOK, Cause: "answers"},
		{Check: activities.CheckKindQuota, Site: "recovery", Subject: "limits of each server", Status: activities.CheckUnknown, Cause: "the provider does not tell them", Mend: "look"},
	}
	r.Counts = workflows.ReadinessCounts{OK: 1, Unknown: 1}
	if worst == activities.CheckFail {
		r.Checks = append(r.Checks, activities.Check{Check: activities.CheckKindAddress, Site: "recovery", Server: "db", Subject: "10.30.0.10 in refuge",
			Status: activities.CheckFail, Cause: "belongs to server-9", Mend: "choose another address"})
		r.Counts.Fail = 1
	}
	r.Ready = r.Counts.Fail == 0
	return r
}

func withReadiness(reports ...workflows.ReadinessReport) *fakeHouse {
	h := fleetHouse()
	h.updates["plan/shop "+workflows.UpdateReadiness] = workflows.OperationRef{Operation: workflows.OpReadiness, WorkflowID: "readiness/shop/3", Number: 3, Servers: []string{"db"}, Outcome: workflows.OutcomeRunning}
	for _, r := range reports {
		h.answers["readiness/shop/3 status"] = append(h.answers["readiness/shop/3 status"], r)
	}
	h.undoing = 5
	return h
}

func TestReadinessWaitsForAnswersAndIsFineWithWhatIsUnknown(t *testing.T) {
	t.Parallel()
	h := withReadiness(readinessReport(workflows.OutcomeRunning, ""), readinessReport(workflows.OutcomeDone, activities.CheckUnknown))
	r := run(t, h, "readiness", "check", "shop/db", "--server", "db").done(t)
	require.Equal(t, `{"servers":["db"]}`, h.calls[0].Argument)
	lines := strings.Split(r.out, "\n")
	require.Contains(t, lines[1], "unknown", "the worst first")
	require.Contains(t, lines[2], "→ look")
	require.Contains(t, r.err, "ready as far as it is known: 0 failed, 1 unknown, 0 warnings, 1 fine")
	r = run(t, withReadiness(readinessReport(workflows.OutcomeDone, "")), "readiness", "check", "shop", "--detach", "-o", "json").done(t)
	require.Contains(t, r.out, `"workflow_id": "readiness/shop/3"`)
}

func TestReadinessFailsWhenALineDoes(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"readiness check shop", "readiness show shop 3"} {
		r := run(t, withReadiness(readinessReport(workflows.OutcomeDone, activities.CheckFail)), strings.Fields(args)...)
		require.Equal(t, statusFailed, r.status, args)
		require.Contains(t, r.out, "choose another address")
		require.Contains(t, r.err, "lifeboat: readiness/shop/3: NOT ready: 1 failed, 1 unknown, 0 warnings, 1 fine (mend what failed, then `lifeboat readiness check shop` again)")
	}
	r := run(t, withReadiness(readinessReport(workflows.OutcomeDone, activities.CheckFail)), "readiness", "check", "shop", "-o", "json")
	require.Equal(t, statusFailed, r.status)
	golden(t, "readiness-json", r.out)
}

func TestReadinessThatNobodyFinishesEndsTheWait(t *testing.T) {
	t.Parallel()
	h := withReadiness(readinessReport(workflows.OutcomeRunning, ""))
	h.undoing = 1000
	require.Equal(t, statusWaitOver, run(t, h, "readiness", "check", "shop", "--timeout", "40ms").status)
	h = withReadiness(readinessReport(workflows.OutcomeRunning, ""))
	h.undoing = 0
	r := run(t, h, "readiness", "check", "shop")
	require.Equal(t, statusFailed, r.status)
	require.Contains(t, r.err, "ended from outside")
	require.Equal(t, statusUsage, run(t, h, "readiness", "show", "shop", "zero").status)
}
