package workflows

import (
	"fmt"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// PlanState is all that a plan's entity knows; it is the argument of its next run.
type PlanState struct {
	Format     int               `json:"format"`
	Name       string            `json:"name"`
	Spec       plan.Resolved     `json:"spec"`
	Epoch      int64             `json:"epoch"`
	Active     map[string]string `json:"active"` // server → site that serves
	Epochs     map[string]int64  `json:"epochs"` // server → epoch at which Active was set
	Servers    []string          `json:"servers"`
	Counters   map[string]int    `json:"counters"` // operation → last number
	Operations []OperationRef    `json:"operations"`
	Deleted    bool              `json:"deleted,omitempty"`
}

// keptOperations bounds the list of past operations.
const keptOperations = 50

type planEntity struct {
	PlanState
	t  Timing
	mu workflow.Mutex
}

// Plan is the entity of a plan: the one writer of which side is active and of the
// epoch. It starts operations, one at a time for each server.
func (w *Workflows) Plan(ctx workflow.Context, state PlanState) error {
	p := &planEntity{PlanState: state, t: w.Timing, mu: workflow.NewMutex(ctx)}
	if p.Format == 0 { // the first run
		p.Format, p.Epoch = 1, 1
		p.Active, p.Counters, p.Epochs = map[string]string{}, map[string]int{}, map[string]int64{}
	}
	if err := p.handle(ctx); err != nil {
		return err
	}
	p.publish(ctx)
	ended, removed := workflow.GetSignalChannel(ctx, signalEnded), workflow.GetSignalChannel(ctx, signalRemoved)
	for {
		var again bool
		err := workflow.Await(ctx, func() bool {
			again = workflow.GetInfo(ctx).GetContinueAsNewSuggested() && workflow.AllHandlersFinished(ctx)
			return ended.Len() > 0 || removed.Len() > 0 || (p.Deleted && workflow.AllHandlersFinished(ctx)) || again
		})
		if err != nil {
			return err
		}
		p.takeSignals(ended, removed)
		p.publish(ctx)
		switch {
		case p.Deleted && workflow.AllHandlersFinished(ctx):
			return nil
		case again && workflow.AllHandlersFinished(ctx) && ended.Len()+removed.Len() == 0:
			return workflow.NewContinueAsNewError(ctx, PlanWorkflow, p.PlanState)
		}
	}
}

// takeSignals notes how operations ended and which servers are gone.
func (p *planEntity) takeSignals(ended, removed workflow.ReceiveChannel) {
	var e endedSignal
	for ended.ReceiveAsync(&e) {
		for i := range p.Operations {
			if p.Operations[i].WorkflowID == e.WorkflowID {
				p.Operations[i].Outcome = e.Outcome
			}
		}
	}
	var name string
	for removed.ReceiveAsync(&name) {
		p.Servers = slices.DeleteFunc(p.Servers, func(s string) bool { return s == name })
		delete(p.Active, name)
	}
}

func (p *planEntity) view() PlanView {
	v := PlanView{Name: p.Name, Epoch: p.Epoch, Active: p.Active, Servers: p.Servers, Running: []OperationRef{}, Operations: p.Operations, Spec: p.Spec, Deleted: p.Deleted}
	for _, op := range p.Operations {
		if op.Outcome == OutcomeRunning {
			v.Running = append(v.Running, op)
		}
	}
	return v
}

// handle registers query and updates, before the first blocking call.
func (p *planEntity) handle(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, QueryStatus, func() (PlanView, error) { return p.view(), nil }); err != nil {
		return err
	}
	update := func(name, text string, handler, validator any) error {
		return workflow.SetUpdateHandlerWithOptions(ctx, name, handler, workflow.UpdateHandlerOptions{Description: text, Validator: validator})
	}
	steps := []func() error{
		func() error { return update(UpdateApply, "Create or change the plan", p.apply, p.checkApply) },
		func() error {
			return update(UpdateAddServers, "Protect 1 to 10 servers of the plan", p.addServers, p.checkAdd)
		},
		func() error {
			return update(UpdateCleanDrill, "Delete what a drill made", p.cleanDrill, func(CleanDrillRequest) error { return nil })
		},
		func() error { return update(UpdateDelete, "Delete the plan", p.remove, p.checkDelete) },
		func() error { return update(updateActivate, "Note who is active", p.activate, p.checkActivate) },
		func() error { return p.handleReadiness(ctx) },
	}
	for _, op := range []Operation{OpDrill, OpFailover, OpSwitch, OpReverse, OpFailback} {
		steps = append(steps, func() error {
			return update(string(op), "Start "+string(op), func(ctx workflow.Context, req OperationRequest) (OperationRef, error) { return p.start(ctx, op, req) },
				func(req OperationRequest) error { return p.checkStart(op, req) })
		})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (p *planEntity) checkApply(req ApplyRequest) error {
	if req.Plan.Name != p.Name {
		return invalid("plan %s cannot take over a plan named %s", p.Name, req.Plan.Name)
	}
	for _, name := range p.Servers {
		if _, ok := req.Plan.Server(name); !ok {
			return Refused(Refusal{Subject: p.Name, Allowed: []string{CmdRemove},
				Reason: "server " + name + " is protected but not in the plan any more: `lifeboat server remove " + p.Name + "/" + name + "` first"})
		}
	}
	return nil
}

// apply takes over the plan, tells the servers and sets the schedule of drills.
func (p *planEntity) apply(ctx workflow.Context, req ApplyRequest) (PlanView, error) {
	if err := p.mu.Lock(ctx); err != nil {
		return PlanView{}, err
	}
	defer p.mu.Unlock()
	for _, name := range p.Servers {
		spec, _ := req.Plan.Server(name)
		old, _ := p.Spec.Server(name)
		if same(spec, old) {
			continue
		}
		if _, err := call(ctx, p.t, ServerID(p.Name, name), updateEdit, editRequest{Spec: spec}, "change "+name); err != nil {
			return PlanView{}, err
		}
	}
	if req.Plan.Drills != p.Spec.Drills {
		d := req.Plan.Drills
		err := workflow.ExecuteActivity(p.t.mutate(ctx, TaskQueue, "schedule of drills"), controlActs.SyncSchedule,
			activities.ScheduleInput{ScheduleID: ScheduleID(p.Name), Workflow: ScheduledDrillWorkflow, TaskQueue: TaskQueue, Plan: p.Name, Cron: d.Schedule, TimeZone: d.TimeZone, CleanAfter: d.CleanAfter.D()}).Get(ctx, nil)
		if err != nil {
			return PlanView{}, err
		}
	}
	p.Spec = req.Plan
	p.publish(ctx)
	return p.view(), nil
}

func (p *planEntity) checkAdd(req AddServersRequest) error {
	if n := len(req.Servers); n < 1 || n > 10 {
		return invalid("one request adds 1 to 10 servers, not %d", n)
	}
	for _, name := range req.Servers {
		if _, ok := p.Spec.Server(name); !ok {
			return invalid("plan %s has no server %q: add it to the plan file and apply that first", p.Name, name)
		}
	}
	return nil
}

// addServers starts the entities of servers that are not protected yet.
func (p *planEntity) addServers(ctx workflow.Context, req AddServersRequest) (PlanView, error) {
	if err := p.mu.Lock(ctx); err != nil {
		return PlanView{}, err
	}
	defer p.mu.Unlock()
	for _, name := range req.Servers {
		if slices.Contains(p.Servers, name) {
			continue
		}
		spec, _ := p.Spec.Server(name)
		cctx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: ServerID(p.Name, name), TaskQueue: TaskQueue, WorkflowTaskTimeout: taskTimeout,
			ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON, StaticSummary: "protected server " + p.Name + "/" + name,
			TypedSearchAttributes: temporal.NewSearchAttributes(KeyPlan.ValueSet(p.Name), KeyServer.ValueSet(name), KeySite.ValueSet(spec.Primary.Name))})
		err := workflow.ExecuteChildWorkflow(cctx, ServerWorkflow, newServerState(p.Name, spec, p.Epoch)).GetChildWorkflowExecution().Get(ctx, nil)
		if err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return PlanView{}, err
		}
		p.Servers = append(p.Servers, name)
		slices.Sort(p.Servers)
		p.Active[name] = spec.Primary.Name
	}
	p.publish(ctx)
	return p.view(), nil
}

func (p *planEntity) checkActivate(req activateRequest) error {
	for _, name := range req.Servers {
		if req.Epoch != 0 && req.Epoch < p.Epochs[name] {
			return temporal.NewNonRetryableApplicationError(fmt.Sprintf("epoch %d of %s has passed: %d is in force", req.Epoch, name, p.Epochs[name]), activities.StaleEpoch, nil)
		}
	}
	return nil
}

// activate notes on which side servers serve, and at which epoch. It takes no lock:
// it never blocks, and operations that hold servers wait for it.
func (p *planEntity) activate(_ workflow.Context, req activateRequest) (int64, error) {
	epoch := req.Epoch
	if epoch == 0 {
		p.Epoch++
		epoch = p.Epoch
	}
	for _, name := range req.Servers {
		p.Active[name], p.Epochs[name] = req.Side, epoch
	}
	return epoch, nil
}

func (p *planEntity) checkDelete(req DeleteRequest) error {
	if len(p.Servers) == 0 {
		return nil
	}
	return Refused(Refusal{Subject: p.Name, Allowed: []string{CmdRemove},
		Reason: fmt.Sprintf("servers %v are protected: remove them first (`lifeboat server remove %s`)", p.Servers, p.Name)})
}

// remove deletes what the plan prepared in advance, and ends the entity.
func (p *planEntity) remove(ctx workflow.Context, _ DeleteRequest) error {
	if err := p.mu.Lock(ctx); err != nil {
		return err
	}
	defer p.mu.Unlock()
	err := workflow.ExecuteActivity(p.t.mutate(ctx, TaskQueue, "remove the schedule of drills"), controlActs.SyncSchedule, activities.ScheduleInput{ScheduleID: ScheduleID(p.Name), Plan: p.Name}).Get(ctx, nil)
	if err != nil {
		return err
	}
	for _, name := range workflow.DeterministicKeys(p.Spec.Sites) {
		where := site(p.Spec.Sites[name])
		var counts activities.Counts
		err := workflow.ExecuteActivity(p.t.critical(ctx, CloudQueue(where), "delete what the plan prepared at "+name), cloudActs.CleanUp,
			activities.CleanUpInput{Scope: activities.Scope{Site: where, Plan: p.Name, Operation: PlanID(p.Name)}}).Get(ctx, &counts)
		if err != nil {
			return err
		}
	}
	p.Deleted = true
	return nil
}
