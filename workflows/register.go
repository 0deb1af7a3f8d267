package workflows

import (
	"encoding/json"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Register adds every workflow to a worker, by the names that clients use.
func Register(r worker.WorkflowRegistry, t Timing) {
	w := &Workflows{Timing: t}
	for name, f := range map[string]any{
		PlanWorkflow: w.Plan, ServerWorkflow: w.Server, DrillWorkflow: w.Drill, FailoverWorkflow: w.Failover,
		SwitchPointWorkflow: w.SwitchPoint, ReverseWorkflow: w.ReverseReplication, FailbackWorkflow: w.Failback,
		ScheduledDrillWorkflow: w.ScheduledDrill, ReadinessWorkflow: w.Readiness,
	} {
		r.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
}

// same compares two values by their JSON.
func same(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}
