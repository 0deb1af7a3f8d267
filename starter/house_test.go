package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"go.uber.org/zap/zaptest"

	"lifeboat/activities"
	"lifeboat/internal/dial"
	"lifeboat/internal/temporalserver"
	"lifeboat/workflows"
)

var followOptions = workflow.ActivityOptions{StartToCloseTimeout: time.Hour, HeartbeatTimeout: time.Minute}

func registerAs(name string) activity.RegisterOptions { return activity.RegisterOptions{Name: name} }

func planAttribute(plan string) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(workflows.KeyPlan.ValueSet(plan))
}

// follow heartbeats once, then waits to be cancelled.
func follow(ctx context.Context) error {
	activity.RecordHeartbeat(ctx, activities.FollowDetails{Status: activities.StreamStatus{Stream: "shop/db", Epoch: 1, Stage: "full", Percent: 42}})
	<-ctx.Done()
	return ctx.Err()
}

// useBuiltTemporal prefers the tool that `make temporal` built.
func useBuiltTemporal(t *testing.T) {
	t.Helper()
	if os.Getenv(temporalserver.EnvPath) != "" {
		return
	}
	path, err := filepath.Abs(filepath.Join("..", "bin", "temporal"))
	require.NoError(t, err)
	if _, err := os.Stat(path); err == nil {
		t.Setenv(temporalserver.EnvPath, path)
	}
}

func startServer(t *testing.T) string {
	t.Helper()
	useBuiltTemporal(t)
	server, err := temporalserver.Start(t.Context(), temporalserver.Options{DataDir: t.TempDir(), SearchAttributes: workflows.SearchAttributes()[1:], Log: zaptest.NewLogger(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.Background())) })
	return server.Address
}

// TestCommandsAgainstARealServer holds what a fake cannot: how rejections,
// missing workers, listings and heartbeats come out of Temporal.
func TestCommandsAgainstARealServer(t *testing.T) {
	address := startServer(t)
	on := func(args ...string) result { return run(t, nil, append(args, "--address", address)...) }

	r := on("init", "-o", "json").done(t)
	require.Contains(t, r.out, workflows.KeyPlan.GetName())
	r = on("init").done(t)
	require.Regexp(t, `registered\s+-`, r.out)

	r = on("plan", "apply", "-f", planText, "--no-add")
	require.Equal(t, statusUnreachable, r.status, "nobody polls: %s", r.err)
	require.Contains(t, r.err, "no worker is running")
	require.Equal(t, statusUnreachable, on("status").status)

	c, err := dial.Client(t.Context(), dial.Options{Address: address})
	require.NoError(t, err)
	defer c.Close()
	w := worker.New(c, workflows.TaskQueue, worker.Options{})
	registerStandIns(w)
	w.RegisterActivityWithOptions(follow, registerAs(followActivity))
	require.NoError(t, w.Start())
	defer w.Stop()

	resolved, err := loadPlan(planText)
	require.NoError(t, err)
	name := resolved.Name
	r = on("plan", "apply", "-f", planText, "--no-add").done(t)
	require.Contains(t, r.err, "warning: task queue cloud.local.")
	r = on("plan", "apply", "-f", planText, "--no-add").done(t)
	require.Contains(t, r.err, "unchanged")

	r = on("drill", "start", name)
	require.Equal(t, statusRefused, r.status, "a rejection comes out of Get: %s", r.err)
	require.Contains(t, r.err, "shop/db: there is no complete copy yet (legal now: pause)")

	r = on("plan", "show", "nosuch")
	require.Equal(t, statusUsage, r.status, r.err)
	r = on("replication", "pause", "shop/nosuch")
	require.Equal(t, statusUsage, r.status, r.err)
	r = on("plan", "list", "--namespace", "nosuch")
	require.Equal(t, statusUnreachable, r.status, r.err)
	require.Contains(t, r.err, "namespace nosuch")

	testListing(t, on, c, address, name)
	testSchedules(t, on, c, name)

	on("plan", "delete", name, "--yes").done(t)
	require.Eventually(t, func() bool { return on("plan", "list", "-o", "json").out == "[]\n" }, 20*time.Second, 50*time.Millisecond)
	// The plan of that name may be made again.
	r = on("plan", "apply", "-f", planText, "--no-add").done(t)
	require.Contains(t, r.err, "created")
}

func testListing(t *testing.T, on func(...string) result, c client.Client, address, plan string) {
	t.Helper()
	require.NoError(t, startStandIn(t.Context(), c, "db"))
	// Visibility and heartbeats come a little later.
	require.Eventually(t, func() bool {
		r := on("server", "list", "-o", "json")
		return r.status == statusDone && regexpPercent.MatchString(r.out)
	}, 20*time.Second, 50*time.Millisecond, "progress is the details of the last heartbeat")
	require.Eventually(t, func() bool { return len(on("plan", "list", "-o", "json").out) > 10 }, 20*time.Second, 50*time.Millisecond)
	complete := func(noun string) string {
		return run(t, nil, "__complete", noun, "show", "--address", address, "").out
	}
	require.Contains(t, complete("server"), "shop/db\n")
	require.Contains(t, complete("plan"), plan+"\n")
	require.Equal(t, "[]\n", on("server", "list", plan, "-o", "json").out, "the server is of another plan")
}

func testSchedules(t *testing.T, on func(...string) result, c client.Client, plan string) {
	t.Helper()
	_, err := c.ScheduleClient().Create(t.Context(), client.ScheduleOptions{
		ID:     workflows.ScheduleID(plan),
		Spec:   client.ScheduleSpec{CronExpressions: []string{"30 3 * * 6"}, TimeZoneName: "Europe/Berlin"},
		Action: &client.ScheduleWorkflowAction{ID: workflows.ScheduleID(plan), Workflow: workflows.ScheduledDrillWorkflow, TaskQueue: workflows.TaskQueue},
	})
	require.NoError(t, err)
	on("schedule", "pause", plan, "--note", "holidays").done(t)
	var r result
	require.Eventually(t, func() bool {
		r = on("schedule", "list")
		return regexpPaused.MatchString(r.out)
	}, 20*time.Second, 50*time.Millisecond, "%s", &r)
	require.Contains(t, r.out, "30 3 * * 6")
	require.Contains(t, r.out, "Europe/Berlin")
	on("schedule", "resume", plan).done(t)
	r = on("schedule", "trigger", "nosuch")
	require.Equal(t, statusUsage, r.status, r.err)
	require.Contains(t, r.err, "no drill schedule")
}
