package activities

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// Control is how a workflow asks another one to do something and gets an answer;
// queue lifeboat.
type Control struct{ Client client.Client }

// Call sends an Update to an entity and returns its answer. The same update ID
// again gives the same answer; a refusal keeps its type and details.
func (c *Control) Call(ctx context.Context, in CallInput) (json.RawMessage, error) {
	done := make(chan struct{})
	defer close(done)
	go beatWhileWaiting(ctx, done)
	options := client.UpdateWorkflowOptions{WorkflowID: in.WorkflowID, UpdateName: in.Update, UpdateID: in.UpdateID,
		WaitForStage: client.WorkflowUpdateStageCompleted}
	if in.Argument != nil {
		options.Args = []any{in.Argument}
	}
	handle, err := c.Client.UpdateWorkflow(ctx, options)
	if err != nil {
		return nil, callError(err)
	}
	var answer json.RawMessage
	if err := handle.Get(ctx, &answer); err != nil {
		return nil, callError(err)
	}
	if len(answer) == 0 {
		answer = json.RawMessage("null")
	}
	return answer, nil
}

// callError keeps what the other workflow said; everything else is tried again.
func callError(err error) error {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		var details json.RawMessage
		options := temporal.ApplicationErrorOptions{NonRetryable: true}
		if app.HasDetails() && app.Details(&details) == nil {
			options.Details = []any{details}
		}
		return temporal.NewApplicationErrorWithOptions(app.Message(), app.Type(), options)
	}
	return err
}

// beatWhileWaiting heartbeats until done: the wait itself is bounded by the update.
func beatWhileWaiting(ctx context.Context, done <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
			activity.RecordHeartbeat(ctx)
		}
	}
}
