package workflows

import (
	"errors"

	"go.temporal.io/sdk/workflow"
)

// undoStack holds what takes an operation back. Each entry is registered before
// the step that it undoes and does nothing when the step never happened.
type undoStack struct {
	entries []func(workflow.Context) error
}

// push registers an undo, to run before all that were registered earlier.
func (u *undoStack) push(f func(workflow.Context) error) { u.entries = append(u.entries, f) }

// forget drops everything: the point of no return has passed.
func (u *undoStack) forget() { u.entries = nil }

// run undoes, newest first, on a context that a cancel of the workflow does not reach.
func (u *undoStack) run(ctx workflow.Context) error {
	dctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	var errs []error
	for i := len(u.entries) - 1; i >= 0; i-- {
		errs = append(errs, u.entries[i](dctx))
	}
	u.entries = nil
	return errors.Join(errs...)
}
