package activities

import (
	"context"
	"encoding/json"
	"errors"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"lifeboat/activities/cloud"
)

// Control is how a workflow asks another one to do something and gets an answer;
// queue lifeboat.
type Control struct{ Client client.Client }

// Call sends an Update to an entity and returns its answer. The same update ID
// again gives the same answer; a refusal keeps its type and details.
func (c *Control) Call(ctx context.Context, in CallInput) (json.RawMessage, error) {
	return run(ctx, func(ctx context.Context) (json.RawMessage, error) { return c.call(ctx, in) })
}

func (c *Control) call(ctx context.Context, in CallInput) (json.RawMessage, error) {
	options := client.UpdateWorkflowOptions{WorkflowID: in.WorkflowID, UpdateName: in.Update, UpdateID: in.UpdateID,
		WaitForStage: client.WorkflowUpdateStageCompleted}
	if in.Argument != nil {
		options.Args = []any{in.Argument}
	}
	handle, err := c.Client.UpdateWorkflow(ctx, options)
	if err != nil {
		return nil, c.callError(ctx, in, err)
	}
	var answer json.RawMessage
	if err := handle.Get(ctx, &answer); err != nil {
		return nil, c.callError(ctx, in, err)
	}
	if len(answer) == 0 {
		answer = json.RawMessage("null")
	}
	return answer, nil
}

// callError keeps what the other workflow said. An entity that has ended does not
// answer any more; everything else is tried again.
func (c *Control) callError(ctx context.Context, in CallInput, err error) error {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		var details json.RawMessage
		options := temporal.ApplicationErrorOptions{NonRetryable: true}
		if app.HasDetails() && app.Details(&details) == nil {
			options.Details = []any{details}
		}
		return temporal.NewApplicationErrorWithOptions(app.Message(), app.Type(), options)
	}
	var gone *serviceerror.NotFound
	if !errors.As(err, &gone) {
		return err
	}
	d, derr := c.Client.DescribeWorkflowExecution(ctx, in.WorkflowID, "")
	ended := derr == nil && d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	if ended || errors.As(derr, &gone) {
		return cloud.E(cloud.NotFound, "Call", "workflow "+in.WorkflowID, "has ended or never was", "apply the plan again", err)
	}
	return err
}
