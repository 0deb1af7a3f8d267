package chaos

import (
	"context"
	"encoding/json"
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

	"lifeboat/activities/cloud"
	"lifeboat/internal/demo/inventory"
)

// keepEvidence writes what is at the sites, and the history of every workflow as
// JSON, while they and Temporal are still there.
func (c *campaign) keepEvidence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if c.world != nil {
		if err := c.saveSites(ctx); err != nil {
			return err
		}
	}
	if c.control == nil {
		return nil
	}
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

// saveSites writes what the sites and their ledgers hold, and what their servers have said.
func (c *campaign) saveSites(ctx context.Context) error {
	for _, p := range append(c.bothSites(), c.world.Names) {
		if err := c.saveSite(ctx, p); err != nil {
			return err
		}
	}
	outputs, err := c.theatre.outputs()
	if err != nil {
		return err
	}
	for _, path := range outputs {
		said, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(c.Dir, "logs", "server-"+filepath.Base(filepath.Dir(path))+".log")
		if err := os.WriteFile(to, said, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *campaign) saveSite(ctx context.Context, p site) error {
	servers, err := p.Servers(ctx, cloud.Filter{})
	if err != nil {
		return err
	}
	entries, err := p.Entries(ctx, cloud.LedgerFilter{})
	if err != nil {
		return err
	}
	items, err := inventory.List(ctx, p, nil)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(map[string]any{"servers": servers, "ledger": entries, "resources": items}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Dir, "logs", "site-"+p.Site().Name+".json"), text, 0o600)
}

// silent keeps the client's view of a killed Temporal out of the report.
type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
