package activities

import (
	"context"
	"encoding/json"
	"errors"

	"go.temporal.io/api/serviceerror"

	"lifeboat/activities/cloud"
)

// AskInput asks an entity workflow for its state, by Query; queue lifeboat, struct [Control].
type AskInput struct {
	WorkflowID string `json:"workflow_id"`
	Query      string `json:"query"`
}

// Ask reads the state of a workflow. Unlike [Control.Call] it leaves no trace there.
func (c *Control) Ask(ctx context.Context, in AskInput) (json.RawMessage, error) {
	return run(ctx, func(ctx context.Context) (json.RawMessage, error) {
		value, err := c.Client.QueryWorkflow(ctx, in.WorkflowID, "", in.Query)
		var gone *serviceerror.NotFound
		if errors.As(err, &gone) {
			return nil, cloud.E(cloud.NotFound, "Ask", "workflow "+in.WorkflowID, "has ended or never was", "apply the plan again", err)
		}
		if err != nil {
			return nil, err
		}
		var answer json.RawMessage
		return answer, value.Get(&answer)
	})
}
