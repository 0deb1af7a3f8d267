package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/workflows"
)

// withFailover is a house whose plan accepts failovers that go through the given states.
func withFailover(reports ...workflows.Report) *fakeHouse {
	h := fleetHouse().withReport(reports...)
	h.updates["plan/shop failover"] = workflows.OperationRef{Operation: workflows.OpFailover, WorkflowID: "failover/shop/2", Number: 2, Servers: []string{"db"}, Outcome: workflows.OutcomeRunning}
	return h
}

func TestAFailoverIsFollowedToItsReport(t *testing.T) {
	t.Parallel()
	h := withFailover(failoverReport(workflows.OutcomeRunning, ""), failoverReport(workflows.OutcomeRunning, ""), failoverReport(workflows.OutcomeDone, ""))
	r := run(t, h, "failover", "start", "shop", "--source-down", "--yes").done(t)
	require.Equal(t, `failover of db accepted as failover/shop/2
+ disks from point p-17 of db (3.0s): 2 disks
+ launch of db (2.0s)
next: look at the servers, then: lifeboat failover commit shop
`, r.err)
	golden(t, "failover-show", r.out)
	require.Equal(t, `{"source_down":true,"overrides":{}}`, h.calls[0].Argument)
}

func TestEveryFlagOfAStartReachesThePlan(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "check.sh")
	require.NoError(t, os.WriteFile(script, []byte("true\n"), 0o600))
	h := withFailover(failoverReport(workflows.OutcomeDone, ""))
	args := "failover start shop/db --point p-17 --network dr --ip 10.30.0.9 --cpu 2 --memory 4GiB --disk-type fast --public-ip shop --declared-at 2026-03-01T11:58:00Z --yes --script " + script
	run(t, h, strings.Fields(args)...).done(t)
	require.JSONEq(t, `{"servers":["db"],"point":"p-17","declared":"2026-03-01T11:58:00Z","overrides":{"network":"dr","ip":"10.30.0.9",
		"cpu":2,"memory":4294967296,"disk_type":"fast","public_ip":"shop","script":"true\n"}}`, h.calls[0].Argument)
}

func TestDetachPrintsTheReferenceAtOnce(t *testing.T) {
	t.Parallel()
	h := withFailover()
	r := run(t, h, "failover", "start", "shop", "--detach", "-o", "json").done(t)
	require.Contains(t, r.out, `"workflow_id": "failover/shop/2"`)
	require.Empty(t, r.err)
}

func TestAFailedOperationEndsWithReasonAndNextCommand(t *testing.T) {
	t.Parallel()
	r := run(t, withFailover(failoverReport(workflows.OutcomeFailed, "db: no room for 2 CPUs")), "failover", "start", "shop")
	require.Equal(t, statusFailed, r.status)
	require.Contains(t, r.out, "failed")
	require.Contains(t, r.err, "lifeboat: failover/shop/2: failed: db: no room for 2 CPUs (see `lifeboat report show failover/shop/2`; when the cause is mended: `lifeboat failover start shop`)")
}

func TestAnOperationThatWaitsForAPersonSaysOnceWhatToType(t *testing.T) {
	t.Parallel()
	waiting := failoverReport(workflows.OutcomeWaiting, "traffic is switched after approval")
	r := run(t, withFailover(waiting, waiting, waiting, failoverReport(workflows.OutcomeDone, "")), "failover", "start", "shop").done(t)
	require.Equal(t, 1, strings.Count(r.err, "? traffic is switched after approval\n    lifeboat failover approve shop\n"), r.err)

	// A reason that says it itself is not followed by a second list.
	waiting.Reason = "launch failed; waits for: lifeboat failover retry shop"
	r = run(t, withFailover(waiting, failoverReport(workflows.OutcomeDone, "")), "failover", "start", "shop").done(t)
	require.Equal(t, 1, strings.Count(r.err, "lifeboat failover retry shop"), r.err)
	require.NotContains(t, r.err, "approve")
}

func TestTheOperationGoesOnWhenTheWaitRunsOut(t *testing.T) {
	t.Parallel()
	r := run(t, withFailover(failoverReport(workflows.OutcomeRunning, "")), "failover", "start", "shop", "--timeout", "40ms")
	require.Equal(t, statusWaitOver, r.status)
}

func TestDecisionsGoToTheRunningOperation(t *testing.T) {
	t.Parallel()
	for verb, update := range map[string]string{"approve": "approve", "skip": "skip", "retry": "retry", "pause": "hold", "resume": "go-on", "abort": "abort"} {
		h := withFailover(failoverReport(workflows.OutcomeRunning, ""))
		runIn(t, h, map[string]string{"USER": "operator"}, "failover", verb, "shop", "--note", "ticket 1").done(t)
		require.Equal(t, call{"failover/shop/2", update, h.calls[0].ID, `{"by":"operator","note":"ticket 1"}`}, h.calls[0])
	}
	r := run(t, fleetHouse(), "failback", "approve", "shop")
	require.Equal(t, statusRefused, r.status)
	require.Contains(t, r.err, "no failback is running")
}

func TestAnAbortThatWasWaitedForSucceeds(t *testing.T) {
	t.Parallel()
	h := withFailover(failoverReport(workflows.OutcomeRunning, ""), failoverReport(workflows.OutcomeAborted, "undone"))
	run(t, h, "failover", "abort", "shop", "--wait").done(t)
}

func TestDrillCleanFailsWhenSomethingIsLeft(t *testing.T) {
	t.Parallel()
	report := workflows.Report{Operation: workflows.OpDrill, Plan: "shop", WorkflowID: "drill/shop/1", Outcome: workflows.OutcomeCleaned}
	h := fleetHouse()
	h.updates["plan/shop clean-drill"] = report
	r := run(t, h, "drill", "clean", "shop", "1").done(t)
	require.Contains(t, r.out, "created 0, deleted 0, left 0")
	require.Equal(t, `{"number":1}`, h.calls[0].Argument)

	report.Resources.Left, report.Resources.LeftOver = 1, []string{"server server-7"}
	h.updates["plan/shop clean-drill"] = report
	r = run(t, h, "drill", "clean", "shop")
	require.Equal(t, statusFailed, r.status)
	require.Contains(t, r.out, "server server-7")
}

func TestReverseStartWaitsForReverseRealTime(t *testing.T) {
	t.Parallel()
	server := dbServer()
	server.Phase, server.Direction = workflows.PhaseReverseRealTime, workflows.Reverse
	h := newFakeHouse().withPlan(shopPlan()).withServer(server).withReport(workflows.Report{
		Operation: workflows.OpReverse, Plan: "shop", WorkflowID: "reverse/shop/1", Outcome: workflows.OutcomeDone, Servers: []workflows.ServerReport{{Name: "db"}}})
	h.updates["plan/shop reverse"] = workflows.OperationRef{Operation: workflows.OpReverse, WorkflowID: "reverse/shop/1", Servers: []string{"db"}}
	r := run(t, h, "reverse", "start", "shop/db", "--in-place", "--confirm", "db", "--wait").done(t)
	require.Contains(t, r.out, "reverse-real-time")
	require.JSONEq(t, `{"servers":["db"],"in_place":true,"confirm":"db","overrides":{}}`, h.calls[0].Argument)
}

func TestOperationsOfLongAgoAreFoundByNumber(t *testing.T) {
	t.Parallel()
	old := failoverReport(workflows.OutcomeDone, "")
	old.WorkflowID = "failover/shop/1"
	r := run(t, fleetHouse().withReport(old), "failover", "show", "shop", "--operation", "1").done(t)
	require.Contains(t, r.out, "failover/shop/1")
}

func TestAnAbortIsOverWhenEverythingIsUndone(t *testing.T) {
	t.Parallel()
	undoing, undone := failoverReport(workflows.OutcomeAborted, "undone"), failoverReport(workflows.OutcomeAborted, "undone")
	undone.Resources.Deleted = 3
	h := withFailover(failoverReport(workflows.OutcomeRunning, ""), undoing, undoing, undone)
	h.undoing = 1
	r := run(t, h, "failover", "abort", "shop", "--wait").done(t)
	require.Contains(t, r.out, "created 3, deleted 3, left 0")
}
