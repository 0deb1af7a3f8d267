package workflows

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// cloudSpec is the one server of the tests' plan, between two regions and without agents.
func cloudSpec() plan.ResolvedServer {
	s := dbSpec()
	s.Transfer = plan.TransferSnapshots
	s.Primary = plan.Site{Name: "primary", Provider: plan.ProviderAWS, Account: "123456789012", Region: "eu-central-1", Zone: "eu-central-1a", Bucket: "here"}
	s.Recovery = plan.Site{Name: "recovery", Provider: plan.ProviderAWS, Account: "123456789012", Region: "eu-west-1", Zone: "eu-west-1a", Bucket: "there"}
	s.Primary.Agent, s.Recovery.Agent = plan.AgentlessName(s.Primary), plan.AgentlessName(s.Recovery)
	return s
}

func (w *world) agentless(s ServerState) ServerState {
	s.Spec, s.Replicas = cloudSpec(), nil
	if s.Stream != nil {
		s.Stream.Source, s.Stream.Target = s.sourceAgent(), s.targetAgent()
	}
	return s
}

// never requires that none of the named was called.
func (w *world) never(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		require.Zero(t, w.count(name), name)
	}
}

func TestWithoutAgentsAServerIsProtectedFromTheTargetsQueueAlone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var joined, protected ServerView
	script(t, w, newServerState("shop", cloudSpec(), 1),
		func(env *testsuite.TestWorkflowEnvironment) {
			joined = view(t, env)
			decide(t, env, nil, UpdateStartReplication)
		},
		func(env *testsuite.TestWorkflowEnvironment) { protected = view(t, env) })
	require.Equal(t, PhaseInitialized, joined.Phase)
	require.Equal(t, 1, w.count("Identity"), "one queue has to answer")
	require.Equal(t, PhaseRealTime, protected.Phase)
	require.Equal(t, "aws.123456789012.eu-west-1", protected.SourceAgent)
	require.Equal(t, protected.TargetAgent, protected.SourceAgent)
	require.Equal(t, plan.TransferSnapshots, protected.Transfer)
	w.never(t, "CreateDisks", "PrepareTarget")
	require.Equal(t, "primary", w.starts[0].Source.Name)
	require.Equal(t, "there", w.starts[0].Scope.Site.Bucket)
}

func TestRemovedWithoutAgentsNothingIsLeftAtEitherSite(t *testing.T) {
	t.Parallel()
	w := newWorld()
	env := w.env()
	s := w.agentless(w.realTime())
	s.Phase, s.Stream = PhaseInitialized, nil
	env.RegisterDelayedCallback(func() { decide(t, env, nil, UpdateRemove) }, time.Minute)
	env.ExecuteWorkflow(ServerWorkflow, s)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{"point", "base", "base"}, w.cleanedRoles(), "points, and what is left of cuts at both ends; no replicas")
	require.Less(t, slices.Index(w.called, "PrepareTarget"), slices.Index(w.called, "ForgetTarget"), "a new worker finds the stream before it forgets it")
}

func TestAWorkerThatDoesNotKnowTheStreamIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld()
	unknown := temporal.NewNonRetryableApplicationError("unknown stream", activities.NotFound, nil)
	start := w.agentless(w.realTime())
	w.fail["Follow"] = unknown
	var told ServerView
	script(t, w, start, func(env *testsuite.TestWorkflowEnvironment) {
		told = view(t, env)
	})
	require.Positive(t, w.count("StartSource"))
	require.Equal(t, int64(1), w.starts[0].Epoch, "the same stream goes on")
	require.Equal(t, HealthResyncing, told.Health)
	require.Contains(t, told.HealthReason, "host.aws.123456789012.eu-west-1")
}

func TestFailoverWithoutAgentsNeverCallsTheFailedSite(t *testing.T) {
	t.Parallel()
	w := newWorld()
	forbidden := []string{"StopServer", "MarkPoint", "StopSource", "StartServer", "StartSource", "InspectServer", "CheckSite"}
	for _, name := range forbidden {
		w.breaks(name)
	}
	env := w.env()
	in := input(OpFailover, w.agentless(w.realTime()))
	in.Request.SourceDown = true
	env.ExecuteWorkflow(FailoverWorkflow, in)
	require.NoError(t, env.GetWorkflowError())
	r := report(t, env)
	require.Equal(t, "p3", r.Point)
	w.never(t, forbidden...)
	require.Equal(t, 1, w.count("PrepareTarget"), "a new worker finds the points first")
}

func TestFailoverWithoutAgentsFetchesTheLastStateFromTheTargetsQueue(t *testing.T) {
	t.Parallel()
	w := newWorld()
	env := w.env()
	env.ExecuteWorkflow(FailoverWorkflow, input(OpFailover, w.agentless(w.realTime())))
	require.NoError(t, env.GetWorkflowError())
	r := report(t, env)
	require.Equal(t, "p-final", r.Point)
	require.Equal(t, "done", r.Servers[0].Fencing)
	require.Less(t, slices.Index(w.called, "StartSource"), slices.Index(w.called, "MarkPoint"), "somebody runs the stream")
}

// A site that starts servers from images makes their disks with them.
func TestDisksThatComeWithTheLaunchAreHandedOver(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.fromImage = true
	env := w.env()
	env.ExecuteWorkflow(FailoverWorkflow, input(OpFailover, w.agentless(w.realTime())))
	require.NoError(t, env.GetWorkflowError())
	r := report(t, env)
	require.Equal(t, r.Stamps.Running, r.Stamps.DisksReady, "the disks were ready with the server")
	require.Zero(t, r.Resources.Left, r.Resources.LeftOver)
	var end endRequest
	require.True(t, w.lastUpdate(t, updateEnd, &end))
	require.Len(t, end.Server.Disks, 1)
	require.NotEmpty(t, end.Server.Disks[0].DiskID)
}

func TestCommitOfALostSourceLeavesItAlone(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{true, false} {
		w := newWorld()
		s := w.agentless(w.failedOver())
		if lost {
			s.Notes = append(s.Notes, fencingNote)
		}
		end := script(t, w, s, func(env *testsuite.TestWorkflowEnvironment) { decide(t, env, nil, UpdateCommit) },
			func(*testsuite.TestWorkflowEnvironment) {})
		require.Equal(t, PhaseFailoverComplete, end.Phase)
		if lost {
			w.never(t, "StopSource")
			require.Equal(t, []string{"recovery", "recovery"}, w.cleanedSites())
			require.Contains(t, end.Notes[1], "may be left at site primary")
			continue
		}
		require.Equal(t, 1, w.count("StopSource"))
		require.Equal(t, []string{"recovery", "primary", "recovery"}, w.cleanedSites())
		require.Empty(t, end.Notes)
	}
}

func TestReverseWithoutAgentsMakesNoDisks(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := w.agentless(w.failedOver())
	s.Phase, s.Direction = PhaseReverseRegistered, Reverse
	env := w.env()
	env.RegisterDelayedCallback(func() {
		env.SignalWorkflow(signalPhase, phaseSignal{Server: "db", Phase: PhaseReverseRealTime})
	}, time.Minute)
	env.ExecuteWorkflow(ReverseWorkflow, input(OpReverse, s))
	require.NoError(t, env.GetWorkflowError())
	w.never(t, "CreateDisks", "StopServer")
	var attach attachRequest
	require.True(t, w.lastUpdate(t, updateAttachStream, &attach))
	require.Empty(t, attach.Replicas)
}

// After the way home was verified nothing could use the recovered server's disks; when a
// check was skipped a person decides.
func TestRegisteringWithoutAgentsDeletesOnlyWhatWasVerified(t *testing.T) {
	t.Parallel()
	for _, verified := range []bool{true, false} {
		w := newWorld()
		s := w.agentless(w.reversed())
		home := w.info("srv-home")
		s.Phase, s.Stream, s.Restored, s.RestoredBy, s.FailedBackOK = PhaseFailedBack, nil, &home, "failback/shop/1", verified
		end := script(t, w, s, func(env *testsuite.TestWorkflowEnvironment) { decide(t, env, nil, UpdateRegister) },
			func(*testsuite.TestWorkflowEnvironment) {})
		require.Equal(t, PhaseInitialized, end.Phase)
		require.Equal(t, "srv-home", end.Primary.ID)
		require.Nil(t, end.Recovered)
		w.never(t, "TerminateServer")
		require.Equal(t, verified, slices.Contains(w.cleanedRoles(), activities.RoleRecovered))
		require.Equal(t, !verified, slices.ContainsFunc(end.Notes, func(n string) bool {
			return n == "server srv-rec at site recovery is kept, stopped, because the failback skipped a check: when all is well at home, delete it with its disks"
		}))
		require.Equal(t, activities.RoleProduction, w.kept[0].NewRole, "the restored server is nobody's to clean up")
	}
}

func TestTheBootDiskHasToBeAmongThoseOfAnImage(t *testing.T) {
	t.Parallel()
	info := activities.ServerInfo{Disks: []activities.DiskInfo{{Name: "root", Boot: true}, {Name: "data"}}}
	s := &server{ServerState: newServerState("shop", cloudSpec(), 1)}
	require.NoError(t, s.checkBoot(info))
	s.Spec.Disks = []string{"data"}
	require.ErrorContains(t, s.checkBoot(info), `boots from disk "root"`)
	s.Spec.Recovery.Provider = plan.ProviderLocal
	require.NoError(t, s.checkBoot(info))
}

func TestTheTransferStaysWhileThereArePoints(t *testing.T) {
	t.Parallel()
	w := newWorld()
	changed := cloudSpec()
	changed.Transfer = plan.TransferBlocks
	s := &server{ServerState: w.agentless(w.realTime())}
	require.ErrorContains(t, s.checkEdit(editRequest{Spec: changed}), "remove the server, then add it again")
	s.Stream, s.Points, s.Phase = nil, nil, PhaseInitialized
	require.NoError(t, s.checkEdit(editRequest{Spec: changed}))
}

func TestInPlaceIsRefusedWithoutAgents(t *testing.T) {
	t.Parallel()
	p := &planEntity{PlanState: PlanState{Name: "shop", Servers: []string{"db"}, Spec: plan.Resolved{Servers: []plan.ResolvedServer{cloudSpec()}}}}
	req := OperationRequest{Servers: []string{"db"}, InPlace: true, Confirm: "db"}
	require.ErrorContains(t, p.checkStart(OpReverse, req), "snapshots")
	p.Spec.Servers[0] = dbSpec()
	require.NoError(t, p.checkStart(OpReverse, req))
}

func TestSnapshotsOfACloudNeedTheirTime(t *testing.T) {
	t.Parallel()
	w := newWorld()
	short, long := 10*time.Second, 2*time.Minute
	s := w.agentless(w.realTime())
	end := script(t, w, s,
		func(env *testsuite.TestWorkflowEnvironment) {
			decide(t, env, nil, UpdateSet, SetRequest{Interval: &short})
		},
		func(env *testsuite.TestWorkflowEnvironment) {
			require.Contains(t, view(t, env).LastError, "at least 1m")
			decide(t, env, nil, UpdateSet, SetRequest{Interval: &long})
		},
		func(*testsuite.TestWorkflowEnvironment) {})
	require.Equal(t, long, end.Settings.Interval)
}

func TestADrillInACloudNeedsANetworkOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld()
	env := w.env()
	env.RegisterDelayedCallback(func() { decide(t, env, nil, updateClean) }, time.Hour)
	env.ExecuteWorkflow(DrillWorkflow, input(OpDrill, w.agentless(w.realTime())))
	require.NoError(t, env.GetWorkflowError())
	r := report(t, env)
	require.Contains(t, r.Steps[len(r.Steps)-1].Detail+r.Reason, "drill clean shop")

	w = newWorld()
	env = w.env()
	in := input(OpDrill, w.agentless(w.realTime()))
	in.Request.Overrides.Network = "trial"
	env.RegisterDelayedCallback(func() {
		require.Equal(t, OutcomeDone, report(t, env).Outcome)
		decide(t, env, nil, updateClean)
	}, time.Hour)
	env.ExecuteWorkflow(DrillWorkflow, in)
	require.NoError(t, env.GetWorkflowError())
}

// The plan's settings are those of the recovery site; at home the original's hold again.
func TestSettingsOfTheProviderAreTheSitesOwn(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := w.agentless(w.failedOver())
	s.Spec.Launch.Settings = map[string]string{"security-groups": "dr", "key-pair": "ops"}
	s.Primary.Launch = map[string]string{"security-groups": "web", "instance-profile": "shop"}
	s.Recovered.Launch = map[string]string{"security-groups": "dr"}
	of := func(op Operation, s ServerState) map[string]string {
		o := &operation{in: input(op, s)}
		o.report.Servers = make([]ServerReport, 1)
		return o.recovery(0, activities.RoleRecovered).settings()
	}
	require.Equal(t, map[string]string{"security-groups": "dr", "instance-profile": "shop", "key-pair": "ops"}, of(OpFailover, s))
	s.Direction = Reverse
	require.Equal(t, s.Primary.Launch, of(OpFailback, s))
	require.Equal(t, "web", s.Primary.Launch["security-groups"], "nothing was changed in place")
}
