package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// patience bounds the wait for one goal of the campaign: a kill costs seconds,
// not minutes.
const patience = 2 * time.Minute

// control gives commands the way the command line does, and does not mind when
// Temporal or the workers are away for a moment.
type control struct {
	client client.Client
}

// update sends a command until it is answered: again and again under the same
// identifier, so that it is executed once. A refusal is returned at once.
func (c *control) update(ctx context.Context, workflowID, update string, arg, result any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id := "chaos-" + uuid.NewString()
	var last error
	for {
		last = c.try(ctx, workflowID, update, id, arg, result)
		var refused *temporal.ApplicationError
		if last == nil || errors.As(last, &refused) {
			return last
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s of %s was not answered within %s: %w", update, workflowID, patience, last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *control) try(ctx context.Context, workflowID, update, id string, arg, result any) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var args []any
	if arg != nil {
		args = []any{arg}
	}
	handle, err := c.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{UpdateID: id, WorkflowID: workflowID,
		UpdateName: update, Args: args, WaitForStage: client.WorkflowUpdateStageAccepted})
	if err != nil {
		return err
	}
	return handle.Get(ctx, result)
}

// query asks until it is answered.
func (c *control) query(ctx context.Context, workflowID, query string, result any) error {
	var last error
	err := stage.Poll(ctx, patience, func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		value, err := c.client.QueryWorkflow(ctx, workflowID, "", query)
		if err == nil {
			err = value.Get(result)
		}
		last = err
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%s of %s was not answered: %w", query, workflowID, errors.Join(err, last))
	}
	return nil
}

func (c *control) server(ctx context.Context) (v workflows.ServerView, err error) {
	return v, c.query(ctx, workflows.ServerID(stage.Plan, stage.Server), workflows.QueryStatus, &v)
}

// waitPhase waits until the server is in a phase and nothing works on it.
func (c *control) waitPhase(ctx context.Context, phase workflows.Phase) error {
	var last workflows.ServerView
	err := stage.Poll(ctx, patience, func() (bool, error) {
		v, err := c.server(ctx)
		last = v
		return v.Phase == phase && v.Operation == "", err
	})
	if err != nil {
		return fmt.Errorf("the phase is %s (health %s %s, operation %q, last error %q), not %s: %w",
			last.Phase, last.Health, last.HealthReason, last.Operation, last.LastError, phase, err)
	}
	return nil
}

// command sends an update to the server and waits for the phase that it leads to.
// A person who sees it fail tries again: twice, then it is a failure.
func (c *control) command(ctx context.Context, update string, phase workflows.Phase) error {
	var last error
	for range 3 {
		last = c.update(ctx, workflows.ServerID(stage.Plan, stage.Server), update, nil, nil)
		if last == nil || isRefused(last) { // refused: an earlier try was executed, the phase will tell
			break
		}
	}
	if err := c.waitPhase(ctx, phase); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", update, last), err)
	}
	return nil
}

func isRefused(err error) bool {
	var e *temporal.ApplicationError
	return errors.As(err, &e) && e.Type() == workflows.ErrRefused
}

// newest operation of a kind in the plan; number 0 when there was none.
func (c *control) newest(ctx context.Context, op workflows.Operation) (ref workflows.OperationRef, err error) {
	var v workflows.PlanView
	if err := c.query(ctx, workflows.PlanID(stage.Plan), workflows.QueryStatus, &v); err != nil {
		return ref, err
	}
	for _, o := range v.Operations {
		if o.Operation == op && o.Number > ref.Number {
			ref = o
		}
	}
	return ref, nil
}

// begin starts an operation of the plan and returns its reference, also when the
// answer was lost.
func (c *control) begin(ctx context.Context, op workflows.Operation, update string, req workflows.OperationRequest) (workflows.OperationRef, error) {
	before, err := c.newest(ctx, op)
	if err != nil {
		return before, err
	}
	var ref workflows.OperationRef
	if err = c.update(ctx, workflows.PlanID(stage.Plan), update, req, &ref); err == nil {
		return ref, nil
	}
	after, qerr := c.newest(ctx, op)
	if qerr == nil && after.Number > before.Number {
		return after, nil
	}
	return ref, errors.Join(err, qerr)
}

// follow waits until an operation has ended; asked is called when it waits for a
// person, and answers.
func (c *control) follow(ctx context.Context, workflowID string, asked func(workflows.Report) error) (report workflows.Report, err error) {
	deadline := time.Now().Add(patience)
	for {
		report = workflows.Report{}
		if err := c.query(ctx, workflowID, workflows.QueryStatus, &report); err != nil {
			return report, err
		}
		switch report.Outcome {
		case workflows.OutcomeRunning, "":
		case workflows.OutcomeWaiting:
			if err := asked(report); err != nil {
				return report, err
			}
		default:
			return report, nil
		}
		if time.Now().After(deadline) {
			return report, fmt.Errorf("%s has not ended within %s: %s", workflowID, patience, steps(report))
		}
		select {
		case <-ctx.Done():
			return report, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// steps says in words how far an operation came.
func steps(r workflows.Report) string {
	text := fmt.Sprintf("outcome %s %q", r.Outcome, r.Reason)
	for _, s := range r.Steps {
		text += fmt.Sprintf("; %s: %s %s", s.Name, s.State, s.Detail)
	}
	return text
}
