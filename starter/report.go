package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

func newReportCommand(a *app) *cobra.Command {
	return noun("report", "Reports of operations",
		"Every drill, failover, switch of the point, reverse replication and failback leaves a\nreport: steps, the six stamps, achieved RTO and RPO, resources created, deleted, left.",
		newReportListCommand(a), newReportShowCommand(a))
}

func newReportListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [PLAN]", Short: "List operations, newest first",
		Long:    "List shows the operations of a plan, or of all plans, newest first.",
		Example: "  lifeboat report list shop",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: a.completePlans(),
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		return a.listOperations(ctx, h, args)
	})
}

func newReportShowCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show OPERATION", Short: "Show the report of an operation",
		Long:    "Show prints the report of an operation by its identifier, as `report list` gives it.",
		Example: "  lifeboat report show failover/shop/2 -o json",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeOperations(),
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		if parts := strings.Split(args[0], "/"); len(parts) != 3 {
			return usagef("%q: not an operation; write KIND/PLAN/NUMBER, for example drill/shop/1 (see `lifeboat report list`)", args[0])
		}
		var report workflows.Report
		if err := h.Query(ctx, args[0], workflows.QueryStatus, &report); err != nil {
			return err
		}
		return a.printReport(report)
	})
}

// completeOperations completes the identifier of an operation.
func (a *app) completeOperations() completion {
	return a.live(func(ctx context.Context, h house, _ []string) ([]string, error) {
		plans, err := planViews(ctx, h)
		var ids []string
		for _, p := range plans {
			ids = append(ids, operationIDs(p.Operations)...)
		}
		return ids, err
	}, 0)
}
