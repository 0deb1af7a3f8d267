package main

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"

	"lifeboat/activities"
	"lifeboat/workflows"
	"lifeboat/workflows/plan"
)

// call is one update that a command sent.
type call struct {
	Workflow, Update, ID string
	Argument             string // as JSON
}

// fakeHouse is a house with prepared answers, that notes what it is asked to do.
type fakeHouse struct {
	mu        sync.Mutex
	answers   map[string][]any // "workflow query": one after the other, the last stays
	updates   map[string]any   // "workflow update": answer or error
	following map[string]*activities.StreamStatus
	unpolled  map[string]bool
	schedules []scheduleView
	calls     []call
	actions   []string
	missing   []string // search attributes that are not registered
	onUpdate  func(call)
	undoing   int // looks at an operation that has its outcome but has not ended
}

func newFakeHouse() *fakeHouse {
	return &fakeHouse{answers: map[string][]any{}, updates: map[string]any{}, following: map[string]*activities.StreamStatus{}, unpolled: map[string]bool{}}
}

func (f *fakeHouse) Close()        {}
func (f *fakeHouse) Place() string { return "namespace default of 127.0.0.1:7233" }

// withServer adds a protected server to the fleet.
func (f *fakeHouse) withServer(views ...workflows.ServerView) *fakeHouse {
	for _, v := range views {
		key := workflows.ServerID(v.Plan, v.Name) + " " + workflows.QueryStatus
		f.answers[key] = append(f.answers[key], v)
	}
	return f
}

// withPlan adds a plan.
func (f *fakeHouse) withPlan(views ...workflows.PlanView) *fakeHouse {
	for _, v := range views {
		key := workflows.PlanID(v.Name) + " " + workflows.QueryStatus
		f.answers[key] = append(f.answers[key], v)
	}
	return f
}

// withReport adds the states of an operation, one look after the other.
func (f *fakeHouse) withReport(reports ...workflows.Report) *fakeHouse {
	for _, r := range reports {
		key := r.WorkflowID + " " + workflows.QueryStatus
		f.answers[key] = append(f.answers[key], r)
	}
	return f
}

func (f *fakeHouse) Update(_ context.Context, workflowID, name, id string, argument, result any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := ""
	if argument != nil {
		b, err := json.Marshal(argument)
		if err != nil {
			return err
		}
		text = string(b)
	}
	c := call{workflowID, name, id, text}
	f.calls = append(f.calls, c)
	if f.onUpdate != nil {
		f.onUpdate(c)
	}
	answer, known := f.updates[workflowID+" "+name]
	if !known {
		if queried := f.answers[workflowID+" "+workflows.QueryStatus]; len(queried) > 0 {
			return assign(queried[0], result)
		}
		return errNotThere(workflowID, f.Place(), nil)
	}
	if err, bad := answer.(error); bad {
		return err
	}
	return assign(answer, result)
}

func (f *fakeHouse) Apply(ctx context.Context, name, id string, request workflows.ApplyRequest) (workflows.PlanView, error) {
	key := workflows.PlanID(name) + " " + workflows.QueryStatus
	f.mu.Lock()
	if len(f.answers[key]) == 0 {
		f.answers[key] = []any{workflows.PlanView{Name: name, Spec: request.Plan}}
	}
	f.mu.Unlock()
	var view workflows.PlanView
	return view, f.Update(ctx, workflows.PlanID(name), workflows.UpdateApply, id, request.Plan.Name, &view)
}

func (f *fakeHouse) Query(_ context.Context, workflowID, query string, result any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := workflowID + " " + query
	answers := f.answers[key]
	if len(answers) == 0 {
		return errNotThere(workflowID, f.Place(), nil)
	}
	if len(answers) > 1 {
		f.answers[key] = answers[1:]
	}
	if err, bad := answers[0].(error); bad {
		return err
	}
	return assign(answers[0], result)
}

func (f *fakeHouse) Closed(context.Context, string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.undoing == 0 {
		return true, nil
	}
	f.undoing--
	return false, nil
}

func (f *fakeHouse) Workflows(_ context.Context, query string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := "plan/"
	if strings.Contains(query, "'"+workflows.ServerWorkflow+"'") {
		kind = "server/"
		if _, of, found := strings.Cut(query, workflows.KeyPlan.GetName()+" = '"); found {
			kind += strings.TrimSuffix(of, "'") + "/"
		}
	}
	var ids []string
	for key := range f.answers {
		if id, query, _ := strings.Cut(key, " "); query == workflows.QueryStatus && strings.HasPrefix(id, kind) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func (f *fakeHouse) Following(_ context.Context, workflowID string) (*activities.StreamStatus, error) {
	return f.following[workflowID], nil
}

func (f *fakeHouse) Polled(_ context.Context, queue string, _ bool) (bool, error) {
	return !f.unpolled[queue], nil
}

func (f *fakeHouse) RegisterSearchAttributes(context.Context, []string) ([]string, error) {
	return f.missing, nil
}

func (f *fakeHouse) Schedules(context.Context) ([]scheduleView, error) { return f.schedules, nil }

func (f *fakeHouse) Schedule(_ context.Context, plan string, action scheduleAction, note string) error {
	f.actions = append(f.actions, fmt.Sprintf("%s %s %q", action, plan, note))
	return nil
}

// assign puts an answer into a result by way of JSON, as Temporal does.
func assign(answer, result any) error {
	if result == nil || reflect.ValueOf(result).IsNil() {
		return nil
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, result)
}

// Values that many tests share.

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) *time.Time {
	t := noon.Add(d)
	return &t
}

// dbServer is a protected server in real time.
func dbServer() workflows.ServerView {
	return workflows.ServerView{
		Plan: "shop", Name: "db", Phase: workflows.PhaseRealTime, Health: workflows.HealthLagging,
		HealthReason: "writes 41 MB/s, link 28 MB/s", Drill: workflows.DrillNone, Direction: workflows.Forward, Epoch: 1,
		RPOSeconds: 3.2, LastPoint: &workflows.PointRef{ID: "p-17", Time: noon}, Stream: "shop/db",
		Bandwidth: "20MiB/s", Replication: workflows.ReplicationView{Stage: "real-time", BytesTotal: 1 << 30, BytesDone: 1 << 30, Percent: 100, RateBytesPerSecond: 28e6, LagSeconds: 3.2, CutMethod: "reflink"},
		Primary: &activities.ServerInfo{ID: "server-1", Name: "db", State: "running", IP: "10.20.0.10", Public: "127.77.0.1", Disks: []activities.DiskInfo{}},
		Allowed: []string{"drill", "failover", "pause"},
		Refused: map[string]string{"commit": "the phase is real-time: the server is protected and runs at the primary site"},
	}
}

// webServer is one that is still copied.
func webServer() workflows.ServerView {
	return workflows.ServerView{
		Plan: "shop", Name: "web", Phase: workflows.PhaseFullReplication, Health: workflows.HealthOK, Drill: workflows.DrillNone,
		Direction: workflows.Forward, Epoch: 1, RPOSeconds: -1, Stream: "shop/web",
		Replication: workflows.ReplicationView{Stage: "full", BytesTotal: 4 << 30, BytesDone: 1 << 30, Percent: 25, RateBytesPerSecond: 100 << 20, ETASeconds: 31},
		Allowed:     []string{"pause"}, Refused: map[string]string{},
	}
}

func shopPlan() workflows.PlanView {
	return workflows.PlanView{
		Name: "shop", Epoch: 1, Servers: []string{"db", "web"}, Active: map[string]string{"db": "primary", "web": "primary"},
		Running: []workflows.OperationRef{{Operation: workflows.OpFailover, WorkflowID: "failover/shop/2", Number: 2, Servers: []string{"db"}, Outcome: workflows.OutcomeRunning}},
		Operations: []workflows.OperationRef{
			{Operation: workflows.OpDrill, WorkflowID: "drill/shop/1", Number: 1, Servers: []string{"db", "web"}, Outcome: workflows.OutcomeCleaned},
			{Operation: workflows.OpFailover, WorkflowID: "failover/shop/2", Number: 2, Servers: []string{"db"}, Outcome: workflows.OutcomeRunning},
		},
		Spec: plan.Resolved{Name: "shop", Objectives: plan.Objectives{RPO: plan.Duration(30 * time.Second), RTO: plan.Duration(5 * time.Minute)},
			Servers: []plan.ResolvedServer{{Name: "db", Primary: plan.Site{Name: "primary"}, Recovery: plan.Site{Name: "recovery"}}, {Name: "web", Primary: plan.Site{Name: "primary"}, Recovery: plan.Site{Name: "recovery"}}},
			Waves:   [][]string{{"db"}, {"web"}}},
	}
}

func fleetHouse() *fakeHouse {
	return newFakeHouse().withPlan(shopPlan()).withServer(dbServer()).withServer(webServer())
}

// failoverReport is a failover in its several states.
func failoverReport(outcome workflows.Outcome, reason string) workflows.Report {
	rto, rpo := 12.5, 3.0
	r := workflows.Report{
		Operation: workflows.OpFailover, Plan: "shop", WorkflowID: "failover/shop/2", Point: "p-17", Outcome: outcome, Reason: reason,
		Stamps:  workflows.Stamps{Declared: at(0), Accepted: at(time.Second / 2), DisksReady: at(4 * time.Second)},
		Servers: []workflows.ServerReport{{Name: "db", Point: "p-17", PointTime: at(-3 * time.Second), ServerID: "server-9", IP: "10.30.0.10", Fencing: "unknown"}},
		Steps: []workflows.StepReport{
			{Name: "disks from point p-17", Server: "db", State: "done", Started: *at(time.Second), Ended: at(4 * time.Second), Detail: "2 disks"},
			{Name: "launch", Server: "db", State: "running", Started: *at(4 * time.Second)},
		},
		Resources: activities.Counts{Created: 3, Kept: 3},
	}
	if outcome == workflows.OutcomeDone {
		r.Stamps.Running, r.Stamps.Healthy, r.Stamps.Serving = at(6*time.Second), at(9*time.Second), at(12*time.Second+time.Second/2)
		r.RTOSeconds, r.RPOSeconds, r.RPOSource = &rto, &rpo, "application"
		r.Servers[0].NewestWrite = at(-3 * time.Second)
		r.Steps[1].State, r.Steps[1].Ended = "done", at(6*time.Second)
	}
	return r
}

// refused is what a validator answers.
func refused(subject, reason string, allowed ...string) error {
	r := workflows.Refusal{Subject: subject, Phase: workflows.PhaseStarting, Reason: reason, Allowed: allowed}
	return temporal.NewApplicationErrorWithOptions(subject+": "+reason, workflows.ErrRefused, temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{r}})
}
