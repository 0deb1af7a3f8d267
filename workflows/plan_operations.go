package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// workflowOf an operation.
var workflowOf = map[Operation]string{OpDrill: DrillWorkflow, OpFailover: FailoverWorkflow, OpSwitch: SwitchPointWorkflow,
	OpReverse: ReverseWorkflow, OpFailback: FailbackWorkflow}

// checkStart refuses requests that can never be right.
func (p *planEntity) checkStart(op Operation, req OperationRequest) error {
	for _, name := range req.Servers {
		if !slices.Contains(p.Servers, name) {
			return invalid("plan %s protects no server %q; it protects %v", p.Name, name, p.Servers)
		}
	}
	if len(p.Servers) == 0 {
		return invalid("plan %s protects no server yet: `lifeboat server add %s`", p.Name, p.Name)
	}
	over := req.Overrides
	if (over.CPU > 0) != (over.Memory > 0) || over.CPU > 0 && over.Type != "" {
		return invalid("give an instance type, or CPU and memory together")
	}
	if (over.IP != "" || over.PublicIP != "") && len(p.chosen(req)) > 1 {
		return invalid("an IP address is for one server: name it with --server")
	}
	switch {
	case op == OpSwitch && (req.Point == "" || req.Point == "current-time"):
		return invalid("name an earlier point: current time is used up by the failover (`lifeboat point list` shows the points)")
	case op == OpReverse && req.InPlace:
		if s := p.chosen(req); len(s) != 1 || req.Confirm != s[0] {
			return invalid("reverse replication in place wipes the original disks: name one server and confirm it with --confirm %s", strings.Join(s, " or "))
		}
		if spec, _ := p.Spec.Server(req.Confirm); spec.Agentless() {
			return invalid("server %s is replicated by %s, and disks cannot be overwritten in place from those: reverse without --in-place, failback then makes new disks", req.Confirm, spec.Transfer)
		}
	}
	for _, name := range p.chosen(req) {
		spec, _ := p.Spec.Server(name)
		if (op == OpDrill || op == OpFailover) && over.Type == "" && over.CPU == 0 && spec.Launch.Type == "" && (spec.Launch.CPU == 0 || spec.Launch.Memory == 0) {
			return invalid("server %s has neither instance type nor CPU and memory: set them in the plan or with --type, --cpu and --memory", name)
		}
	}
	return nil
}

// chosen servers of a request, sorted.
func (p *planEntity) chosen(req OperationRequest) []string {
	if len(req.Servers) == 0 {
		return p.Servers
	}
	s := slices.Clone(req.Servers)
	slices.Sort(s)
	return slices.Compact(s)
}

// start claims the servers and starts the operation's workflow. When one server
// refuses, the others are given back and nothing has happened.
func (p *planEntity) start(ctx workflow.Context, op Operation, req OperationRequest) (OperationRef, error) {
	if err := p.mu.Lock(ctx); err != nil {
		return OperationRef{}, err
	}
	defer p.mu.Unlock()
	accepted := workflow.Now(ctx)
	declared := accepted
	if req.Declared != nil {
		declared = *req.Declared
	}
	p.Counters[string(op)]++
	n := p.Counters[string(op)]
	epoch := p.Epoch
	if op == OpFailover || op == OpFailback {
		p.Epoch++
		epoch = p.Epoch
	}
	ref := OperationRef{Operation: op, WorkflowID: OperationID(op, p.Name, n), Number: n, Servers: p.chosen(req), Outcome: OutcomeRunning}
	states, err := p.claim(ctx, ref, epoch, req)
	if err != nil {
		p.Counters[string(op)]--
		return OperationRef{}, err
	}
	in := OperationInput{Operation: op, WorkflowID: ref.WorkflowID, Number: n, Plan: p.Name, Epoch: epoch, Request: req, Servers: states,
		Waves: p.waves(ref.Servers), Spec: p.Spec, Declared: declared, Accepted: accepted}
	if err := p.launch(ctx, ref, in); err != nil {
		return OperationRef{}, p.giveBack(ctx, ref, epoch, ref.Servers, err)
	}
	p.Operations = append(p.Operations, ref)
	if extra := len(p.Operations) - keptOperations; extra > 0 {
		p.Operations = slices.Delete(p.Operations, 0, extra)
	}
	p.publish(ctx)
	return ref, nil
}

// claim begins the operation at every server's entity.
func (p *planEntity) claim(ctx workflow.Context, ref OperationRef, epoch int64, req OperationRequest) ([]ServerState, error) {
	var states []ServerState
	for i, name := range ref.Servers {
		var s ServerState
		err := callInto(ctx, p.t, ServerID(p.Name, name), updateBegin,
			beginRequest{Operation: ref.Operation, WorkflowID: ref.WorkflowID, Epoch: epoch, InPlace: req.InPlace}, "claim "+name, &s)
		if err != nil {
			return nil, p.giveBack(ctx, ref, epoch, ref.Servers[:i], err)
		}
		states = append(states, s)
	}
	return states, nil
}

// giveBack releases servers that were claimed for nothing.
func (p *planEntity) giveBack(ctx workflow.Context, ref OperationRef, epoch int64, names []string, cause error) error {
	for _, name := range names {
		var err error
		if ref.Operation == OpDrill {
			_, err = call(ctx, p.t, ServerID(p.Name, name), updateDrillState, drillStateRequest{WorkflowID: ref.WorkflowID, State: DrillNone}, "give "+name+" back")
		} else {
			_, err = call(ctx, p.t, ServerID(p.Name, name), updateEnd,
				endRequest{Operation: ref.Operation, WorkflowID: ref.WorkflowID, Epoch: epoch, Reason: words(cause)}, "give "+name+" back")
		}
		if err != nil {
			workflow.GetLogger(ctx).Error("a server was not given back", "plan", p.Name, "server", name, "error", err)
		}
	}
	return cause
}

// launch starts the operation's workflow; it outlives this run of the plan.
func (p *planEntity) launch(ctx workflow.Context, ref OperationRef, in OperationInput) error {
	cctx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: ref.WorkflowID, TaskQueue: TaskQueue,
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON, Priority: priorityOf(ref.Operation), WorkflowTaskTimeout: taskTimeout,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		StaticSummary:         fmt.Sprintf("%s of plan %s: %s", ref.Operation, p.Name, strings.Join(firstFew(ref.Servers), ", ")),
		TypedSearchAttributes: temporal.NewSearchAttributes(KeyPlan.ValueSet(p.Name), KeyOperation.ValueSet(string(ref.Operation)))})
	return workflow.ExecuteChildWorkflow(cctx, workflowOf[ref.Operation], in).GetChildWorkflowExecution().Get(ctx, nil)
}

// priorityOf orders backlogs: failover first, drills last.
func priorityOf(op Operation) temporal.Priority {
	key := map[Operation]int{OpFailover: 1, OpSwitch: 1, OpFailback: 2, OpReverse: 3, OpDrill: 5}[op]
	return temporal.Priority{PriorityKey: key}
}

func firstFew(names []string) []string {
	if len(names) <= 5 {
		return names
	}
	return append(slices.Clone(names[:5]), fmt.Sprintf("and %d more", len(names)-5))
}

// waves of the plan, restricted to the chosen servers.
func (p *planEntity) waves(names []string) [][]string {
	var waves [][]string
	for _, wave := range p.Spec.Waves {
		var w []string
		for _, name := range wave {
			if slices.Contains(names, name) {
				w = append(w, name)
			}
		}
		if len(w) > 0 {
			waves = append(waves, w)
		}
	}
	return waves
}

// cleanDrill cleans a drill and returns its last report.
func (p *planEntity) cleanDrill(ctx workflow.Context, req CleanDrillRequest) (Report, error) {
	var ref *OperationRef
	for i := range p.Operations {
		op := &p.Operations[i]
		open := op.Outcome == OutcomeRunning
		if op.Operation == OpDrill && (req.Number == op.Number || req.Number == 0 && open) {
			ref = op
		}
	}
	if ref == nil {
		return Report{}, Refused(Refusal{Subject: p.Name, Reason: "no drill is open", Allowed: []string{CmdDrill}})
	}
	var report Report
	err := callInto(ctx, p.t, ref.WorkflowID, updateClean, nil, "clean "+ref.WorkflowID, &report)
	return report, err
}

// publish shows the plan in the Web UI.
func (p *planEntity) publish(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "### Plan %s\n\nepoch %d\n\n| server | active side |\n|---|---|\n", p.Name, p.Epoch)
	for _, s := range p.Servers {
		fmt.Fprintf(&b, "| %s | %s |\n", s, p.Active[s])
	}
	b.WriteString("\n| operation | servers | outcome |\n|---|---|---|\n")
	for i := len(p.Operations) - 1; i >= 0 && i >= len(p.Operations)-10; i-- {
		op := p.Operations[i]
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", op.WorkflowID, strings.Join(firstFew(op.Servers), ", "), op.Outcome)
	}
	fmt.Fprintf(&b, "\nAs of %s UTC.\n", workflow.Now(ctx).UTC().Format(time.DateTime))
	workflow.SetCurrentDetails(ctx, b.String())
	if err := workflow.UpsertTypedSearchAttributes(ctx, KeyPlan.ValueSet(p.Name)); err != nil {
		workflow.GetLogger(ctx).Error("search attributes were not set", "plan", p.Name, "error", err)
	}
}
