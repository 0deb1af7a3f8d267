package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// keepEvidence writes the history of every workflow as JSON, while Temporal still runs.
func (c *campaign) keepEvidence(ctx context.Context) error {
	if c.control == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dir := filepath.Join(c.Dir, "histories")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	list, err := c.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1000})
	if err != nil {
		return fmt.Errorf("keep the histories: %w", err)
	}
	var errs []error
	for _, e := range list.Executions {
		id, run := e.Execution.WorkflowId, e.Execution.RunId
		name := strings.ReplaceAll(id, "/", "_") + "." + run + ".json"
		errs = append(errs, saveHistory(ctx, c.client, id, run, filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

func saveHistory(ctx context.Context, t client.Client, id, run, path string) error {
	events := t.GetWorkflowHistory(ctx, id, run, false, 0)
	var h history.History
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			return fmt.Errorf("history of %s: %w", id, err)
		}
		h.Events = append(h.Events, event)
	}
	text, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(&h)
	if err != nil {
		return fmt.Errorf("history of %s: %w", id, err)
	}
	return os.WriteFile(path, text, 0o600)
}

// silent keeps the client's view of a killed Temporal out of the report.
type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
