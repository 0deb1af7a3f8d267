package main

import (
	"context"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

func newDrillCommand(a *app) *cobra.Command {
	return noun("drill", "Prove that recovery works, without touching production",
		"A drill starts copies of servers from a recovery point in an isolated network and\nchecks them. Replication and production go on untouched. `drill clean` deletes\nexactly what the drill made.",
		newDrillStartCommand(a), newShowCommand(a, workflows.OpDrill), newDrillListCommand(a), newDrillCleanCommand(a))
}

func newDrillStartCommand(a *app) *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use: "start PLAN[/SERVER]", Short: "Start a drill",
		Long:    "Start launches the servers of a plan from a recovery point in the drill network,\nwaits until they are healthy and reports how long it took and how old the data is.\nDefaults come from the plan.",
		Example: "  lifeboat drill start shop\n  lifeboat drill start shop/db --point newest-tested\n  lifeboat drill start shop --server db --cpu 2 --memory 4GiB --detach",
		Args:    cobra.ExactArgs(1),
	}
	f.add(a, cmd)
	f.addLaunch(a, cmd)
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		return a.startOperation(ctx, h, args[0], workflows.UpdateDrill, &f, nil)
	})
}

func newDrillListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [PLAN]", Short: "List drills",
		Long:    "List shows the drills of a plan, or of all plans, newest first.",
		Example: "  lifeboat drill list shop",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: a.completePlans(),
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		return a.listOperations(ctx, h, args, workflows.OpDrill)
	})
}

func newDrillCleanCommand(a *app) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "clean PLAN [NUMBER]", Short: "Delete what a drill made",
		Long:    "Clean deletes exactly what a drill made, verifies by listing that nothing is left,\nand prints the report. Without a number it cleans the newest drill that is not clean.",
		Example: "  lifeboat drill clean shop\n  lifeboat drill clean shop 3",
		Args:    cobra.RangeArgs(1, 2), ValidArgsFunction: a.completePlans(),
	}
	a.addRequestFlag(cmd)
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until everything is deleted (it always does)")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		plan, err := parsePlan(args[0])
		if err != nil {
			return err
		}
		var request workflows.CleanDrillRequest
		if len(args) > 1 {
			if request.Number, err = strconv.Atoi(args[1]); err != nil || request.Number < 1 {
				return usagef("%q: not the number of a drill (see `lifeboat drill list %s`)", args[1], plan)
			}
		}
		var report workflows.Report
		if err := h.Update(ctx, workflows.PlanID(plan), workflows.UpdateCleanDrill, a.request("clean/"+plan), request, &report); err != nil {
			return about("plan "+plan, err)
		}
		if err := a.printReport(report); err != nil {
			return err
		}
		if report.Resources.Left > 0 {
			return failf("%s: %d resources are left (see the report, mend the cause, then `lifeboat drill clean %s` again)", report.WorkflowID, report.Resources.Left, plan)
		}
		return nil
	})
}

// listOperations prints the operations of a plan, or of all, newest first.
func (a *app) listOperations(ctx context.Context, h house, args []string, kinds ...workflows.Operation) error {
	var names []string
	var err error
	if len(args) > 0 {
		name, err := parsePlan(args[0])
		if err != nil {
			return err
		}
		names = []string{name}
	} else if names, err = allPlans(ctx, h); err != nil {
		return err
	}
	refs := []workflows.OperationRef{}
	for _, name := range names {
		view, err := planView(ctx, h, name)
		if err != nil {
			return err
		}
		for _, ref := range slices.Backward(view.Operations) {
			if len(kinds) == 0 || slices.Contains(kinds, ref.Operation) {
				refs = append(refs, ref)
			}
		}
	}
	return a.print(refs, func(w io.Writer) {
		row(w, "OPERATION", "OUTCOME", "SERVERS")
		for _, ref := range refs {
			row(w, ref.WorkflowID, string(ref.Outcome), joined(ref.Servers))
		}
	})
}
