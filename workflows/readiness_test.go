package workflows

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// readyWorld is a world that answers the questions of a readiness check.
type readyWorld struct {
	*world
	view   ServerView
	sites  map[string]activities.ReadySiteInput
	launch map[string]activities.ReadyLaunchInput
	point  *activities.ReadyPointInput
	names  *activities.ReadyNamesInput
}

func newReadyWorld(s ServerState) *readyWorld {
	w := &readyWorld{world: newWorld(), sites: map[string]activities.ReadySiteInput{}, launch: map[string]activities.ReadyLaunchInput{}}
	w.points[0].Time = time.Now().Add(-time.Second)
	w.view = s.view(time.Now())
	return w
}

func ok(check, site, server string) []activities.Check {
	return []activities.Check{{Check: check, Site: site, Server: server, Status: activities.CheckOK, Cause: "fine"}}
}

func (w *readyWorld) CheckReadySite(_ context.Context, in activities.ReadySiteInput) ([]activities.Check, error) {
	w.mu.Lock()
	w.sites[in.Site.Name] = in
	w.mu.Unlock()
	return ok(activities.CheckKindSite, in.Site.Name, ""), w.enter("CheckReadySite:" + in.Site.Name)
}

func (w *readyWorld) CheckReadyLaunch(_ context.Context, in activities.ReadyLaunchInput) ([]activities.Check, error) {
	w.mu.Lock()
	w.launch[in.Site.Name] = in
	w.mu.Unlock()
	return ok(activities.CheckKindLaunch, in.Site.Name, in.Servers[0].Name), w.enter("CheckReadyLaunch")
}

func (w *readyWorld) CheckReadyPoint(_ context.Context, in activities.ReadyPointInput) ([]activities.Check, error) {
	w.point = &in
	return ok(activities.CheckKindSnapshot, in.Site.Name, in.Server), w.enter("CheckReadyPoint")
}

func (w *readyWorld) CheckReadyNames(_ context.Context, in activities.ReadyNamesInput) ([]activities.Check, error) {
	w.names = &in
	return ok(activities.CheckKindRecord, in.Site.Name, in.Records[0].Server), w.enter("CheckReadyNames")
}

func (w *readyWorld) Ask(_ context.Context, in activities.AskInput) (json.RawMessage, error) {
	if err := w.enter("Ask:" + in.Query); err != nil {
		return nil, err
	}
	if in.Query == QueryPoints {
		return json.Marshal(w.points)
	}
	return json.Marshal(w.view)
}

// readiness runs a check of the one server.
func (w *readyWorld) readiness(t *testing.T, spec plan.ResolvedServer, change ...func(*ReadinessInput)) ReadinessReport {
	t.Helper()
	env := w.env()
	env.RegisterActivity(w)
	in := ReadinessInput{WorkflowID: "readiness/shop/1", Number: 1, Plan: "shop", Servers: []string{spec.Name}, Protected: []string{spec.Name},
		Spec: plan.Resolved{Name: "shop", Servers: []plan.ResolvedServer{spec}, Objectives: plan.Objectives{RPO: plan.Duration(time.Minute)}}}
	for _, f := range change {
		f(&in)
	}
	env.ExecuteWorkflow(ReadinessWorkflow, in)
	require.NoError(t, env.GetWorkflowError())
	value, err := env.QueryWorkflow(QueryStatus)
	require.NoError(t, err)
	var queried, r ReadinessReport
	require.NoError(t, value.Get(&queried))
	require.NoError(t, env.GetWorkflowResult(&r))
	require.Equal(t, r, queried)
	require.Equal(t, OutcomeDone, r.Outcome)
	require.NotNil(t, r.Ended)
	return r
}

// status of the first line of a kind; empty when there is none.
func statusOf(r ReadinessReport, kind string) activities.CheckStatus {
	for _, c := range r.Checks {
		if c.Check == kind {
			return c.Status
		}
	}
	return ""
}

func TestReadinessAsksBothSitesAgentsAndServers(t *testing.T) {
	t.Parallel()
	w := newReadyWorld(newWorld().realTime())
	r := w.readiness(t, dbSpec())
	require.True(t, r.Ready)
	require.Equal(t, ReadinessCounts{OK: 10}, r.Counts, "%+v", r.Checks)
	require.Contains(t, w.sites["primary"].Calls, "StopServer")
	require.False(t, w.sites["primary"].Launches)
	require.Contains(t, w.sites["recovery"].Calls, "StartLaunch")
	require.True(t, w.sites["recovery"].Launches)
	require.Equal(t, []string{"Change", "Records", "StartSetRecords"}, w.sites["names"].Calls)
	require.Equal(t, []activities.ReadyServer{{Name: "db", Type: "small", Network: "dr", CIDR: "10.20.0.0/24", IP: "10.20.0.10", PublicIP: "shop"}}, w.launch["recovery"].Servers,
		"the source's address, for it fits")
	require.Equal(t, "p3", w.point.Point.ID)
	require.Equal(t, time.Minute, w.point.RPO)
	require.Equal(t, []string{"10.20.0.10"}, w.names.Records[0].Active)
	require.Equal(t, 2, w.count("Identity"))
	w.never(t, "EnsureNetwork", "EnsureAddress", "SelectPoint", "SetNames", "CreateDisks")
	require.Empty(t, w.updates, "no entity is asked to do anything")
	require.Contains(t, r.markdown(), "| **ok** | primary")
}

func TestReadinessOfAServerBetweenCloudsWithoutAgents(t *testing.T) {
	t.Parallel()
	base := newWorld()
	w := newReadyWorld(base.agentless(base.realTime()))
	spec := cloudSpec()
	spec.Launch.Settings = map[string]string{"kms-key": "alias/dr", "substitutes": "t3.small, t3.large"}
	r := w.readiness(t, spec)
	require.True(t, r.Ready)
	require.Equal(t, 1, w.count("Identity"), "one worker stands for both agents")
	require.Contains(t, w.sites["primary"].Calls, "StartSnapshots")
	require.Contains(t, w.sites["recovery"].Calls, "StartCopySnapshot")
	s := w.launch["recovery"].Servers[0]
	require.Equal(t, "alias/dr", s.Key)
	require.Equal(t, []string{"t3.small", "t3.large"}, s.Substitutes)
}

func TestReadinessOfTheWayHome(t *testing.T) {
	t.Parallel()
	s := newWorld().reversed()
	w := newReadyWorld(s)
	r := w.readiness(t, s.Spec)
	require.Equal(t, activities.CheckOK, statusOf(r, activities.CheckKindProtection))
	require.Empty(t, w.launch["recovery"].Servers)
	home := w.launch["primary"].Servers[0]
	require.Equal(t, "prod", home.Network)
	require.Empty(t, home.IP, "at home any address will do")
	require.Equal(t, "primary", w.point.Site.Name)
	require.Contains(t, w.names.Records[0].Active, s.Recovered.IP)
}

func TestReadinessLinesThatFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*readyWorld)
		input  func(*ReadinessInput)
		kind   string
		want   activities.CheckStatus
		cause  string
	}{
		"an old point":     {func(w *readyWorld) { w.points[0].Time = time.Now().Add(-time.Hour) }, nil, activities.CheckKindPoint, activities.CheckFail, "older than the plan's RPO"},
		"no point":         {func(w *readyWorld) { w.points = nil }, nil, activities.CheckKindPoint, activities.CheckFail, "there is none"},
		"a silent agent":   {func(w *readyWorld) { w.breaks("Identity") }, nil, activities.CheckKindAgent, activities.CheckFail, "Identity is broken"},
		"no answer":        {func(w *readyWorld) { w.breaks("CheckReadyLaunch") }, nil, activities.CheckKindLaunch, activities.CheckUnknown, "is broken"},
		"a silent entity":  {func(w *readyWorld) { w.breaks("Ask:" + QueryStatus) }, nil, activities.CheckKindProtection, activities.CheckUnknown, "is broken"},
		"no complete copy": {func(w *readyWorld) { w.view.Phase = PhaseFullReplication }, nil, activities.CheckKindProtection, activities.CheckFail, "there is no complete copy yet"},
		"interrupted":      {func(w *readyWorld) { w.view.Health = HealthInterrupted }, nil, activities.CheckKindProtection, activities.CheckWarn, "interrupted"},
		"a failover":       {func(w *readyWorld) { w.view.Phase = PhaseFailingOver }, nil, activities.CheckKindProtection, activities.CheckUnknown, "a failover is running"},
		"not protected":    {nil, func(in *ReadinessInput) { in.Protected = nil }, activities.CheckKindProtection, activities.CheckFail, "not protected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newReadyWorld(newWorld().realTime())
			var changes []func(*ReadinessInput)
			if c.change != nil {
				c.change(w)
			}
			if c.input != nil {
				changes = append(changes, c.input)
			}
			r := w.readiness(t, dbSpec(), changes...)
			require.Equal(t, c.want, statusOf(r, c.kind), "%+v", r.Checks)
			cause := ""
			for _, line := range r.Checks {
				if line.Check == c.kind && line.Status == c.want && cause == "" {
					cause = line.Cause
				}
			}
			require.Contains(t, cause, c.cause)
			require.Equal(t, r.Counts.Fail == 0, r.Ready)
		})
	}
}

func TestASiteThatNobodyServesFailsAndTheRestIsUnknown(t *testing.T) {
	t.Parallel()
	w := newReadyWorld(newWorld().realTime())
	for _, name := range []string{"CheckReadySite:recovery", "CheckReadyLaunch", "CheckReadyPoint"} {
		w.breaks(name)
	}
	r := w.readiness(t, dbSpec())
	require.False(t, r.Ready)
	require.Equal(t, 1, r.Counts.Fail)
	require.Equal(t, 2, r.Counts.Unknown)
	require.Equal(t, activities.Check{Check: activities.CheckKindSite, Site: "recovery", Subject: "its worker, queue cloud.local.recovery",
		Status: activities.CheckFail, Cause: "CheckReadySite:recovery is broken"}, r.WorstFirst()[0])
}

func TestWhileAFailedOverServerWaitsItsAddressIsNotAskedFor(t *testing.T) {
	t.Parallel()
	s := newWorld().failedOver()
	w := newReadyWorld(s)
	r := w.readiness(t, s.Spec)
	require.False(t, r.Ready)
	require.Empty(t, w.launch)
	require.Nil(t, w.point)
	require.Equal(t, activities.CheckFail, statusOf(r, activities.CheckKindProtection))
}

func TestThePlanNumbersReadinessChecksAndClaimsNothing(t *testing.T) {
	t.Parallel()
	w := newReadyWorld(newWorld().realTime())
	env := w.env()
	env.RegisterActivity(w)
	state := PlanState{Format: 1, Name: "shop", Spec: plan.Resolved{Name: "shop", Servers: []plan.ResolvedServer{dbSpec()}}, Epoch: 1,
		Active: map[string]string{}, Epochs: map[string]int64{}, Counters: map[string]int{}, Servers: []string{"db"}}
	var refs []OperationRef
	var rejected error
	ask := func(req ReadinessRequest) {
		env.UpdateWorkflow(UpdateReadiness, "", &testsuite.TestUpdateCallback{OnAccept: func() {}, OnReject: func(err error) { rejected = err },
			OnComplete: func(result any, err error) {
				require.NoError(t, err)
				refs = append(refs, result.(OperationRef))
			}}, req)
	}
	env.RegisterDelayedCallback(func() { ask(ReadinessRequest{}) }, time.Second)
	env.RegisterDelayedCallback(func() { ask(ReadinessRequest{Servers: []string{"db", "db"}}) }, time.Minute)
	env.RegisterDelayedCallback(func() { ask(ReadinessRequest{Servers: []string{"web"}}) }, 2*time.Minute)
	env.RegisterDelayedCallback(func() { env.CancelWorkflow() }, 3*time.Minute)
	env.ExecuteWorkflow(PlanWorkflow, state)
	require.Len(t, refs, 2)
	require.Equal(t, OperationRef{Operation: OpReadiness, WorkflowID: "readiness/shop/2", Number: 2, Servers: []string{"db"}, Outcome: OutcomeRunning}, refs[1])
	var app *temporal.ApplicationError
	require.ErrorAs(t, rejected, &app)
	require.Equal(t, ErrInvalid, app.Type())
	require.Empty(t, w.updates, "no server was claimed")
}
