package workflows

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"lifeboat/internal/temporalserver"
)

// realServer starts Temporal with a history limit so small that entities continue as
// new again and again, and workers whose activities are the world's.
func realServer(t *testing.T, w *world) client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // a first build of Temporal takes minutes
	defer cancel()
	path, err := temporalserver.Find(ctx, t.TempDir(), zap.NewNop())
	require.NoError(t, err)
	args := []string{"--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=40"}
	for _, name := range SearchAttributes() {
		args = append(args, "--search-attribute", name+"=Keyword")
	}
	server, err := testsuite.StartDevServer(ctx, testsuite.DevServerOptions{ExistingPath: path, LogLevel: "error", ExtraArgs: args})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop() })
	for _, queue := range []string{TaskQueue, HostQueue("primary"), HostQueue("recovery"), CloudQueue(site(dbSpec().Primary)), CloudQueue(site(dbSpec().Recovery))} {
		wk := worker.New(server.Client(), queue, worker.Options{})
		if queue == TaskQueue {
			Register(wk, Fast())
		}
		wk.RegisterActivity(w)
		require.NoError(t, wk.Start())
		t.Cleanup(wk.Stop)
	}
	return server.Client()
}

// The history of an entity is kept short by continuing as new, and no command that is
// on its way then is lost or carried out twice.
func TestContinueAsNewLosesNoCommand(t *testing.T) {
	t.Parallel()
	w := newWorld()
	c := realServer(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	id := ServerID("shop", "db")
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: TaskQueue}, ServerWorkflow, w.realTime())
	require.NoError(t, err)

	const commands = 120
	var group errgroup.Group
	group.SetLimit(5)
	for i := range commands {
		group.Go(func() error {
			locked := LockRequest{ID: "p1", Locked: i%2 == 0}
			options := client.UpdateWorkflowOptions{WorkflowID: id, UpdateName: UpdateLockPoint, UpdateID: fmt.Sprint("command-", i),
				Args: []any{locked}, WaitForStage: client.WorkflowUpdateStageCompleted}
			handle, err := c.UpdateWorkflow(ctx, options)
			if err != nil {
				return err
			}
			var v ServerView
			return handle.Get(ctx, &v)
		})
	}
	require.NoError(t, group.Wait())
	require.Equal(t, commands, w.count("LockPoint"))
	now, err := c.DescribeWorkflowExecution(ctx, id, "")
	require.NoError(t, err)
	require.NotEqual(t, run.GetRunID(), now.GetWorkflowExecutionInfo().GetExecution().GetRunId(), "the entity has continued as new")
}
