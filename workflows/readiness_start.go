package workflows

import (
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// handleReadiness lets people ask the plan for a readiness check.
func (p *planEntity) handleReadiness(ctx workflow.Context) error {
	return workflow.SetUpdateHandlerWithOptions(ctx, UpdateReadiness, p.startReadiness,
		workflow.UpdateHandlerOptions{Description: "Check what would fail in a disaster", Validator: p.checkReadiness})
}

func (p *planEntity) checkReadiness(req ReadinessRequest) error {
	for _, name := range req.Servers {
		if _, ok := p.Spec.Server(name); !ok {
			return invalid("plan %s has no server %q", p.Name, name)
		}
	}
	return nil
}

// startReadiness starts a check. It takes no lock and claims no server: it can run beside
// everything else, for it changes nothing.
func (p *planEntity) startReadiness(ctx workflow.Context, req ReadinessRequest) (OperationRef, error) {
	names := slices.Clone(req.Servers)
	if len(names) == 0 {
		for _, s := range p.Spec.Servers {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	p.Counters[string(OpReadiness)]++
	n := p.Counters[string(OpReadiness)]
	in := ReadinessInput{WorkflowID: OperationID(OpReadiness, p.Name, n), Number: n, Plan: p.Name, Servers: names, Protected: slices.Clone(p.Servers), Spec: p.Spec}
	cctx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: in.WorkflowID, TaskQueue: TaskQueue,
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON, Priority: priorityOf(OpDrill), WorkflowTaskTimeout: taskTimeout,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		StaticSummary:         "readiness of plan " + p.Name + ": " + strings.Join(firstFew(names), ", "),
		TypedSearchAttributes: temporal.NewSearchAttributes(KeyPlan.ValueSet(p.Name), KeyOperation.ValueSet(string(OpReadiness)))})
	err := workflow.ExecuteChildWorkflow(cctx, ReadinessWorkflow, in).GetChildWorkflowExecution().Get(ctx, nil)
	return OperationRef{Operation: OpReadiness, WorkflowID: in.WorkflowID, Number: n, Servers: names, Outcome: OutcomeRunning}, err
}
