package workflows

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
)

// report asks a workflow that has ended for its last report.
func report(t *testing.T, env *testsuite.TestWorkflowEnvironment) Report {
	t.Helper()
	v, err := env.QueryWorkflow(QueryStatus)
	require.NoError(t, err)
	var r Report
	require.NoError(t, v.Get(&r))
	return r
}

// decide sends an update to the workflow under test; a rejection goes to rejected, or
// fails the test when that is nil.
func decide(t *testing.T, env *testsuite.TestWorkflowEnvironment, rejected *error, update string, arg ...any) {
	t.Helper()
	env.UpdateWorkflow(update, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnComplete: func(any, error) {}, OnReject: func(err error) {
		if rejected == nil {
			t.Errorf("%s was rejected: %v", update, err)
			return
		}
		*rejected = err
	}}, arg...)
}

func TestFailoverStampsEveryInstantAndEndsWithNothingLeft(t *testing.T) {
	t.Parallel()
	w := newWorld()
	env := w.env()
	env.ExecuteWorkflow(FailoverWorkflow, input(OpFailover, w.realTime()))
	require.NoError(t, env.GetWorkflowError())
	r := report(t, env)
	require.Equal(t, OutcomeDone, r.Outcome)
	require.Equal(t, "p-final", r.Point, "the source was reachable, so its last state was fetched")
	for _, s := range []*time.Time{r.Stamps.DisksReady, r.Stamps.Running, r.Stamps.Healthy, r.Stamps.Serving} {
		require.NotNil(t, s)
	}
	require.Equal(t, 0, r.Resources.Left)
	require.Equal(t, 2, r.Resources.Kept, "server and disk are in service")
	require.Equal(t, "stopped", w.servers["srv-db"], "the source is fenced")
	require.Equal(t, "127.77.0.1", w.dns["db.shop.test"])
	var end endRequest
	require.True(t, w.lastUpdate(t, updateEnd, &end))
	require.True(t, end.Done)
	require.Equal(t, "done", end.Fencing)
}

func TestFailoverWithSourceDownNeverCallsTheFailedSite(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for _, name := range []string{"StopServer", "MarkPoint", "StopSource", "StartServer"} {
		w.breaks(name)
	}
	env := w.env()
	in := input(OpFailover, w.realTime())
	in.Request.SourceDown = true
	env.ExecuteWorkflow(FailoverWorkflow, in)
	require.NoError(t, env.GetWorkflowError())
	r := report(t, env)
	require.Equal(t, "p3", r.Point)
	require.Equal(t, "unknown", r.Servers[0].Fencing, "fencing is recorded as unknown, never as done")
	for _, name := range []string{"StopServer", "MarkPoint", "StopSource", "StartServer"} {
		require.Zero(t, w.count(name), name)
	}
}

// Each step of a failover that fails for good before a server was launched takes
// everything back; after a launch the operation stays and asks.
func TestFailoverStepThatFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		step string
		asks bool
	}{
		{"StopServer", false}, {"MarkPoint", false}, {"StopTarget", false}, {"SelectPoint", false}, {"EnsureNetwork", false}, {"CreateDisks", false},
		{"LaunchServer", true}, {"RunScript", true}, {"CheckHealth", true}, {"CheckServing", true},
	} {
		t.Run(c.step, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.breaks(c.step)
			env := w.env()
			var waiting Report
			env.RegisterDelayedCallback(func() {
				waiting = report(t, env)
				w.mends(c.step)
				if c.asks {
					decide(t, env, nil, UpdateRetry, DecisionRequest{By: "duty"})
				}
			}, time.Hour)
			env.ExecuteWorkflow(FailoverWorkflow, input(OpFailover, w.realTime()))
			var end endRequest
			require.True(t, w.lastUpdate(t, updateEnd, &end))
			if c.asks {
				require.Equal(t, OutcomeWaiting, waiting.Outcome)
				require.Contains(t, waiting.Reason, "lifeboat failover retry shop")
				require.NoError(t, env.GetWorkflowError())
				require.True(t, end.Done)
				return
			}
			require.Error(t, env.GetWorkflowError())
			require.False(t, end.Done)
			require.Equal(t, "running", w.servers["srv-db"], "the source server runs again")
			require.Empty(t, w.disks, "nothing is left")
			require.Equal(t, OutcomeFailed, report(t, env).Outcome)
		})
	}
}

// An abort is possible at every step until traffic is switched, and undoes all.
func TestFailoverAbortedAtEachStep(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"StopServer", "MarkPoint", "StopTarget", "SelectPoint", "CreateDisks", "LaunchServer", "RunScript"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.breaks("CheckHealth") // so that the abort never comes too late
			env := w.env()
			asked := false
			w.onCall = func(name string) {
				if name == step && !asked {
					asked = true
					env.RegisterDelayedCallback(func() {
						decide(t, env, nil, UpdateAbort, DecisionRequest{By: "duty"})
					}, 0)
				}
			}
			env.ExecuteWorkflow(FailoverWorkflow, input(OpFailover, w.realTime()))
			require.Error(t, env.GetWorkflowError())
			require.Equal(t, OutcomeAborted, report(t, env).Outcome)
			require.Equal(t, "running", w.servers["srv-db"])
			require.Empty(t, w.disks)
		})
	}
}

func TestFailoverAfterTheSwitchCannotBeAborted(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.breaks("CheckServing")
	env := w.env()
	var refused error
	env.RegisterDelayedCallback(func() {
		decide(t, env, &refused, UpdateAbort, DecisionRequest{})
		decide(t, env, nil, UpdateSkip, DecisionRequest{By: "duty"})
	}, time.Hour)
	env.ExecuteWorkflow(FailoverWorkflow, input(OpFailover, w.realTime()))
	require.NoError(t, env.GetWorkflowError())
	require.ErrorContains(t, refused, "traffic is switched already")
}

func TestApprovalHoldsTrafficUntilAPersonAgrees(t *testing.T) {
	t.Parallel()
	w := newWorld()
	env := w.env()
	in := input(OpFailover, w.realTime())
	in.Spec.Failover.Approval = "required"
	env.RegisterDelayedCallback(func() {
		r := report(t, env)
		require.Equal(t, OutcomeWaiting, r.Outcome)
		require.True(t, strings.Contains(r.Reason, "lifeboat failover approve shop"), r.Reason)
		require.Zero(t, w.count("SetNames"))
		decide(t, env, nil, UpdateApprove, DecisionRequest{By: "duty"})
	}, 24*time.Hour)
	env.ExecuteWorkflow(FailoverWorkflow, in)
	require.NoError(t, env.GetWorkflowError())
}

func TestDrillLeavesNothingBehindAndTouchesNoTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld()
	env := w.env()
	env.RegisterDelayedCallback(func() {
		r := report(t, env)
		require.Equal(t, OutcomeDone, r.Outcome)
		require.Positive(t, r.Resources.Left, "the drill is up")
		decide(t, env, nil, updateClean)
	}, time.Hour)
	env.ExecuteWorkflow(DrillWorkflow, input(OpDrill, w.realTime()))
	require.NoError(t, env.GetWorkflowError())
	r := report(t, env)
	require.Equal(t, OutcomeCleaned, r.Outcome)
	require.Equal(t, 0, r.Resources.Left)
	require.Empty(t, w.disks)
	for _, name := range []string{"SetNames", "MoveAddress", "StopServer", "StopSource", "StopTarget", "PauseStream"} {
		require.Zero(t, w.count(name), "%s disturbs production", name)
	}
	require.Equal(t, 1, w.count("TestedPoint"))
}

func TestDrillThatFailsStaysForALookAndIsCleaned(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.breaks("CheckHealth")
	env := w.env()
	env.RegisterDelayedCallback(func() {
		r := report(t, env)
		require.Equal(t, OutcomeFailed, r.Outcome)
		require.Contains(t, r.Reason, "lifeboat drill clean shop")
		decide(t, env, nil, updateClean)
	}, time.Hour)
	env.ExecuteWorkflow(DrillWorkflow, input(OpDrill, w.realTime()))
	require.NoError(t, env.GetWorkflowError())
	require.Empty(t, w.disks)
	var st drillStateRequest
	require.True(t, w.lastUpdate(t, updateDrillState, &st))
	require.Equal(t, DrillNone, st.State)
}

func TestCancelledDrillIsCleaned(t *testing.T) {
	t.Parallel()
	w := newWorld()
	env := w.env()
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour)
	env.ExecuteWorkflow(DrillWorkflow, input(OpDrill, w.realTime()))
	require.Empty(t, w.disks)
	require.Equal(t, 0, report(t, env).Resources.Left)
}

// failedOver is the state after a failover from p3.
func (w *world) failedOver() ServerState {
	s := w.realTime()
	srv := w.info("srv-rec")
	srv.ID = "srv-rec"
	w.servers["srv-rec"] = "running"
	w.disks["srv-rec"] = "failover/shop/1"
	w.disks["disk-srv-rec"] = "failover/shop/1"
	s.Phase, s.Stream, s.Recovered, s.RecoveredBy, s.Epoch = PhaseFailedOver, nil, &srv, "failover/shop/1", 2
	s.RecoveredFrom = &PointRef{ID: "p3", Time: w.points[0].Time}
	return s
}

func TestSwitchPointReplacesTheRecoveredServer(t *testing.T) {
	t.Parallel()
	w := newWorld()
	env := w.env()
	in := input(OpSwitch, w.failedOver())
	in.Request.Point = "p1"
	env.ExecuteWorkflow(SwitchPointWorkflow, in)
	require.NoError(t, env.GetWorkflowError())
	require.NotContains(t, w.servers, "srv-rec")
	require.NotContains(t, w.disks, "disk-srv-rec")
	var end endRequest
	require.True(t, w.lastUpdate(t, updateEnd, &end))
	require.Equal(t, "p1", end.Point.ID)
	require.Equal(t, "10.20.0.10", end.Server.IP)
}

func TestFailedSwitchBringsTheEarlierServerBack(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"SelectPoint", "CreateDisks", "TerminateServer", "CheckHealth"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.breaks(step)
			env := w.env()
			in := input(OpSwitch, w.failedOver())
			in.Request.Point = "p1"
			env.ExecuteWorkflow(SwitchPointWorkflow, in)
			require.Error(t, env.GetWorkflowError())
			var end endRequest
			require.True(t, w.lastUpdate(t, updateEnd, &end))
			require.False(t, end.Done)
			id := "srv-rec"
			if end.Server != nil {
				id = end.Server.ID
				require.Equal(t, "10.20.0.10", end.Server.IP)
			}
			require.Equal(t, "running", w.servers[id], "the earlier recovered server runs")
			require.Contains(t, w.disks, "disk-srv-rec", "on its own disks")
		})
	}
}

// reversed is the state of a server that runs at the recovery site, replicated home.
func (w *world) reversed() ServerState {
	s := w.failedOver()
	s.Phase, s.Direction = PhaseReverseRealTime, Reverse
	s.Stream = &Stream{ID: s.streamID(), Epoch: 2, Source: "recovery", Target: "primary"}
	return s
}

func TestFailbackFailingBeforeTheSwitchLeavesProductionAtTheRecoverySite(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"StopServer", "MarkPoint", "CreateDisks"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.breaks(step)
			env := w.env()
			in := input(OpFailback, w.reversed())
			in.Epoch = 3
			env.ExecuteWorkflow(FailbackWorkflow, in)
			require.Error(t, env.GetWorkflowError())
			require.Equal(t, "running", w.servers["srv-rec"])
			require.Empty(t, w.dns)
			var end endRequest
			require.True(t, w.lastUpdate(t, updateEnd, &end))
			require.False(t, end.Done)
		})
	}
}

// What was not checked is remembered over every later question, so that clean-up refuses.
func TestSkippedCheckIsNotForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.breaks("RunScript")
	env := w.env()
	in := input(OpFailback, w.reversed())
	in.Epoch = 3
	in.Spec.Failback.Approval = "required"
	env.RegisterDelayedCallback(func() { decide(t, env, nil, UpdateSkip, DecisionRequest{By: "duty"}) }, time.Hour)
	env.RegisterDelayedCallback(func() { decide(t, env, nil, UpdateApprove, DecisionRequest{By: "duty"}) }, 2*time.Hour)
	env.ExecuteWorkflow(FailbackWorkflow, in)
	require.NoError(t, env.GetWorkflowError())
	var end endRequest
	require.True(t, w.lastUpdate(t, updateEnd, &end))
	require.True(t, end.Done)
	require.Equal(t, "skipped: post-start script of db", end.Reason)
	require.Equal(t, end.Reason, report(t, env).Reason)
}

func TestAbortThatCannotBeUndoneSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.breaks("CheckHealth")
	w.breaks("CleanUp")
	env := w.env()
	env.RegisterDelayedCallback(func() { decide(t, env, nil, UpdateAbort, DecisionRequest{By: "duty"}) }, time.Hour)
	env.ExecuteWorkflow(FailoverWorkflow, input(OpFailover, w.realTime()))
	reason := report(t, env).Reason
	require.Contains(t, reason, "not everything could be undone: CleanUp is broken")
	require.NotContains(t, reason, "everything was undone")
}

func TestFailbackInPlaceStartsTheOriginalServer(t *testing.T) {
	t.Parallel()
	w := newWorld()
	env := w.env()
	s := w.reversed()
	s.InPlace = true
	w.servers["srv-db"] = "stopped"
	in := input(OpFailback, s)
	in.Epoch = 3
	env.ExecuteWorkflow(FailbackWorkflow, in)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, "running", w.servers["srv-db"])
	require.Equal(t, "stopped", w.servers["srv-rec"])
	require.Zero(t, w.count("LaunchServer"))
}
