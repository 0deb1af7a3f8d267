package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/internal/dial"
	"lifeboat/workflows"
	"lifeboat/workflows/plan"
)

// standInWorker takes the flags of lifeboat-worker and polls the same queues,
// so that dev is tested without what workers do.
func standInWorker(args []string) int {
	flags := pflag.NewFlagSet("lifeboat-worker", pflag.ContinueOnError)
	roles := flags.StringSlice("roles", nil, "")
	address := flags.String("address", "", "")
	namespace := flags.String("namespace", "", "")
	sites := flags.StringArray("site", nil, "")
	agent := flags.String("agent", "", "")
	flags.String("data", "", "")
	flags.String("timeouts", "", "")
	flags.String("log-level", "", "")
	if err := flags.Parse(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := dial.Client(ctx, dial.Options{Address: *address, Namespace: *namespace})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	var workers []worker.Worker
	add := func(queue string, options worker.Options) {
		w := worker.New(c, queue, options)
		w.RegisterActivityWithOptions(func(context.Context) error { return nil }, registerAs("nothing"))
		workers = append(workers, w)
	}
	for _, role := range *roles {
		switch role {
		case "control":
			add(workflows.TaskQueue, worker.Options{})
			registerStandIns(workers[0])
		case "cloud":
			for _, site := range *sites {
				name, _, _ := strings.Cut(site, "=")
				add(workflows.CloudQueue(activities.Site{Name: name, Provider: "local"}), worker.Options{DisableWorkflowWorker: true})
				add(workflows.HostQueue(plan.AgentlessName(plan.Site{Name: name, Provider: "local"})), worker.Options{DisableWorkflowWorker: true})
			}
		case "agent":
			add(workflows.HostQueue(*agent), worker.Options{DisableWorkflowWorker: true})
		}
	}
	for _, w := range workers {
		if err := w.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	<-ctx.Done()
	for _, w := range workers {
		w.Stop()
	}
	return 0
}

// registerStandIns registers workflows that answer as entities do.
func registerStandIns(w worker.Registry) {
	w.RegisterWorkflowWithOptions(standInPlan, workflow.RegisterOptions{Name: workflows.PlanWorkflow})
	w.RegisterWorkflowWithOptions(standInServer, workflow.RegisterOptions{Name: workflows.ServerWorkflow})
}

// standInPlan takes plans, and refuses drills.
func standInPlan(ctx workflow.Context, in workflows.PlanState) error {
	view := workflows.PlanView{Name: in.Name}
	err := workflow.SetQueryHandler(ctx, workflows.QueryStatus, func() (workflows.PlanView, error) { return view, nil })
	if err != nil {
		return err
	}
	err = workflow.SetUpdateHandler(ctx, workflows.UpdateApply, func(_ workflow.Context, r workflows.ApplyRequest) (workflows.PlanView, error) {
		view.Epoch++
		view.Spec = r.Plan
		return view, nil
	})
	if err != nil {
		return err
	}
	err = workflow.SetUpdateHandlerWithOptions(ctx, workflows.UpdateDrill, func(workflow.Context, workflows.OperationRequest) (workflows.OperationRef, error) {
		return workflows.OperationRef{}, nil
	}, workflow.UpdateHandlerOptions{Validator: func(workflows.OperationRequest) error {
		return refused("shop/db", "there is no complete copy yet", "pause")
	}})
	if err != nil {
		return err
	}
	err = workflow.SetUpdateHandler(ctx, workflows.UpdateDelete, func(workflow.Context, workflows.DeleteRequest) error {
		view.Deleted = true
		return nil
	})
	if err != nil {
		return err
	}
	return workflow.Await(ctx, func() bool { return view.Deleted })
}

// standInServer follows a stream that heartbeats its progress.
func standInServer(ctx workflow.Context, name string) error {
	err := workflow.SetQueryHandler(ctx, workflows.QueryStatus, func() (workflows.ServerView, error) {
		return workflows.ServerView{Plan: "shop", Name: name, Phase: workflows.PhaseFullReplication, Stream: "shop/" + name, Epoch: 1}, nil
	})
	if err != nil {
		return err
	}
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, followOptions), followActivity).Get(ctx, nil)
}

// startStandIn starts the entity of a server under its workflow ID.
func startStandIn(ctx context.Context, c client.Client, name string) error {
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.ServerID("shop", name), TaskQueue: workflows.TaskQueue, TypedSearchAttributes: planAttribute("shop"),
	}, workflows.ServerWorkflow, name)
	return err
}
