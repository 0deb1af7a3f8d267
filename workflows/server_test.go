package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
)

// view asks a server's entity for its state.
func view(t *testing.T, env *testsuite.TestWorkflowEnvironment) ServerView {
	t.Helper()
	v, err := env.QueryWorkflow(QueryStatus)
	require.NoError(t, err)
	var s ServerView
	require.NoError(t, v.Get(&s))
	return s
}

// script runs functions one simulated minute after another against a server's
// entity, then lets the entity continue as new, and returns the state it passes on.
func script(t *testing.T, w *world, start ServerState, steps ...func(env *testsuite.TestWorkflowEnvironment)) ServerState {
	t.Helper()
	env := w.env()
	for i, step := range steps {
		env.RegisterDelayedCallback(func() { step(env) }, time.Duration(i+1)*time.Minute)
	}
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, time.Duration(len(steps)+1)*time.Minute)
	// The entity looks at its state again when something happens.
	env.RegisterDelayedCallback(func() { decide(t, env, nil, UpdateLockPoint, LockRequest{ID: "p3"}) }, time.Duration(len(steps)+2)*time.Minute)
	env.ExecuteWorkflow(ServerWorkflow, start)
	var can *workflow.ContinueAsNewError
	require.True(t, errors.As(env.GetWorkflowError(), &can), "%v", env.GetWorkflowError())
	var next ServerState
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &next))
	return next
}

func TestServerJoinsAndIsProtected(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var joined, protected ServerView
	end := script(t, w, newServerState("shop", dbSpec(), 1),
		func(env *testsuite.TestWorkflowEnvironment) {
			joined = view(t, env)
			decide(t, env, nil, UpdateStartReplication)
		},
		func(env *testsuite.TestWorkflowEnvironment) { protected = view(t, env) })
	require.Equal(t, PhaseInitialized, joined.Phase)
	require.Contains(t, joined.Allowed, CmdStartReplication)
	require.Contains(t, joined.Refused[CmdFailover], "start replication first")
	require.Equal(t, PhaseRealTime, protected.Phase)
	require.Equal(t, "p3", protected.LastPoint.ID)
	require.Equal(t, PhaseRealTime, end.Phase, "a new run goes on where this one stood")
	require.NotNil(t, end.Stream)
	require.NotEmpty(t, w.streams, "detaching did not stop the stream")
}

func TestServerThatCannotJoinSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.breaks("InspectServer")
	var v ServerView
	script(t, w, newServerState("shop", dbSpec(), 1), func(env *testsuite.TestWorkflowEnvironment) {
		v = view(t, env)
		w.mends("InspectServer")
		decide(t, env, nil, UpdateInitialize)
	}, func(env *testsuite.TestWorkflowEnvironment) {
		require.Equal(t, PhaseInitialized, view(t, env).Phase)
	})
	require.Equal(t, PhaseInitFailed, v.Phase)
	require.Contains(t, v.LastError, "InspectServer is broken")
}

func TestFailedStartOfReplicationIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"CreateDisks", "PrepareTarget", "StartSource"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.breaks(step)
			end := script(t, w, newServerState("shop", dbSpec(), 1),
				func(env *testsuite.TestWorkflowEnvironment) { decide(t, env, nil, UpdateStartReplication) },
				func(*testsuite.TestWorkflowEnvironment) {})
			require.Equal(t, PhaseInitialized, end.Phase)
			require.Nil(t, end.Stream)
			require.Empty(t, end.Replicas)
			require.Empty(t, w.streams)
		})
	}
}

func TestRefusalNamesPhaseReasonAndLegalCommands(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var rejected error
	script(t, w, newServerState("shop", dbSpec(), 1),
		func(env *testsuite.TestWorkflowEnvironment) { decide(t, env, &rejected, UpdateCommit) },
		func(*testsuite.TestWorkflowEnvironment) {})
	var app *temporal.ApplicationError
	require.True(t, errors.As(rejected, &app))
	require.Equal(t, ErrRefused, app.Type())
	var r Refusal
	require.NoError(t, app.Details(&r))
	require.Equal(t, PhaseInitialized, r.Phase)
	require.Equal(t, []string{CmdEdit, CmdRemove, CmdStartReplication}, r.Allowed)
}

func TestUndoneFailoverGoesOnReplicatingAtTheNewEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld()
	end := script(t, w, w.realTime(),
		func(env *testsuite.TestWorkflowEnvironment) {
			decide(t, env, nil, updateBegin, beginRequest{Operation: OpFailover, WorkflowID: "failover/shop/1", Epoch: 2})
		},
		func(env *testsuite.TestWorkflowEnvironment) {
			require.Equal(t, PhaseFailingOver, view(t, env).Phase)
			decide(t, env, nil, updateEnd, endRequest{Operation: OpFailover, WorkflowID: "failover/shop/1", Epoch: 2, Reason: "aborted"})
		},
		func(*testsuite.TestWorkflowEnvironment) {})
	require.Equal(t, PhaseRealTime, end.Phase)
	require.Equal(t, int64(2), w.streams["shop/db"])
	require.Empty(t, end.Operation)
}

func TestCommitRemovesReplicationAndKeepsTheRecoveredServer(t *testing.T) {
	t.Parallel()
	w := newWorld()
	end := script(t, w, w.failedOver(), func(env *testsuite.TestWorkflowEnvironment) {
		decide(t, env, nil, UpdateCommit)
	}, func(env *testsuite.TestWorkflowEnvironment) {
		require.Equal(t, PhaseFailoverComplete, view(t, env).Phase)
		decide(t, env, nil, UpdateReverseRegister)
	}, func(env *testsuite.TestWorkflowEnvironment) {
		env.SetContinueAsNewSuggested(true)
	})
	require.Equal(t, PhaseReverseRegistered, end.Phase)
	require.Equal(t, Reverse, end.Direction)
	require.Equal(t, 1, w.count("ForgetTarget"))
	require.Equal(t, "running", w.servers["srv-rec"])
}

// Contract section 2: each phase publishes its legal operations, and a reason for
// every other one.
func TestEveryPhasePublishesAllowedAndRefused(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for phase := range legal {
		s := w.realTime()
		s.Phase = phase
		v := s.view(time.Now())
		require.Len(t, v.Refused, len(allCommands)-len(v.Allowed), phase)
		for _, c := range v.Allowed {
			require.NotContains(t, v.Refused, c)
		}
		for c, reason := range v.Refused {
			require.NotEmpty(t, reason, "%s in %s", c, phase)
		}
	}
}

func TestABandwidthLimitIsARateOrACalendar(t *testing.T) {
	t.Parallel()
	const office = "mon-fri 08:00-18:00 20MiB/s, else unlimited"
	calendar, rate := office, int64(50<<20)
	var byDay, broken, always ServerView
	w := newWorld()
	script(t, w, newServerState("shop", dbSpec(), 1),
		func(env *testsuite.TestWorkflowEnvironment) { decide(t, env, nil, UpdateStartReplication) },
		func(env *testsuite.TestWorkflowEnvironment) {
			decide(t, env, nil, UpdateSet, SetRequest{Calendar: &calendar})
		},
		func(env *testsuite.TestWorkflowEnvironment) {
			byDay = view(t, env)
			w.breaks("SetStream")
			decide(t, env, nil, UpdateSet, SetRequest{BytesPerSecond: &rate})
		},
		func(env *testsuite.TestWorkflowEnvironment) {
			broken = view(t, env)
			w.mends("SetStream")
			decide(t, env, nil, UpdateSet, SetRequest{BytesPerSecond: &rate})
		},
		func(env *testsuite.TestWorkflowEnvironment) { always = view(t, env) })
	require.Equal(t, office, byDay.Bandwidth)
	require.Equal(t, office, broken.Bandwidth, "what the agent refused does not hold")
	require.Equal(t, "50MiB/s", always.Bandwidth, "a rate ends the calendar")
}
