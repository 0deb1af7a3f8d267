package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"lifeboat/activities"
	"lifeboat/workflows"
)

func newReadinessCommand(a *app) *cobra.Command {
	return noun("readiness", "What would fail in a disaster, before it",
		"A readiness check asks the sites, the agents and the protected servers of a plan what\na recovery needs, and changes nothing. It can run beside everything else.",
		newReadinessCheckCommand(a), newReadinessShowCommand(a))
}

func newReadinessCheckCommand(a *app) *cobra.Command {
	var servers []string
	var detach, wait bool
	cmd := &cobra.Command{
		Use: "check PLAN[/SERVER]", Short: "Check what would fail in a disaster",
		Long: `Check looks for what a recovery would fail with: permissions, quotas, room for all
servers at once, free addresses, encryption keys, the age of the newest recovery point
and whether its snapshots are there, reserved public addresses, DNS records and their
TTL, name servers, agents, and the ledger of each site. One line for each: what was
looked at, ok, warn, fail or unknown, what was found, and what to do about it. Unknown
is what a provider cannot tell; it is never taken for ok. Nothing is changed.

The exit status is 0 when nothing failed, and 1 when something did.`,
		Example: "  lifeboat readiness check shop\n  lifeboat readiness check shop --server db -o json\n  lifeboat readiness check shop --detach",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeTargets(),
	}
	a.addRequestFlag(cmd)
	cmd.Flags().StringSliceVar(&servers, "server", nil, "only this server of the plan (repeatable)")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for the answers, print the reference of the check at once")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the answers (the default)")
	cmd.MarkFlagsMutuallyExclusive("detach", "wait")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		t, err := parseTarget(args[0])
		if err != nil {
			return err
		}
		request := workflows.ReadinessRequest{Servers: slices.Clone(servers)}
		if t.Server != "" && !slices.Contains(request.Servers, t.Server) {
			request.Servers = append(request.Servers, t.Server)
		}
		var ref workflows.OperationRef
		if err := h.Update(ctx, workflows.PlanID(t.Plan), workflows.UpdateReadiness, a.request("readiness/"+t.Plan), request, &ref); err != nil {
			return about("plan "+t.Plan, err)
		}
		if detach {
			return a.print(ref, func(w io.Writer) { row(w, ref.WorkflowID, string(ref.Outcome)) })
		}
		a.say("readiness of %s is asked for by %s", joined(ref.Servers), ref.WorkflowID)
		report, err := a.awaitReadiness(ctx, h, ref.WorkflowID)
		if err != nil {
			return err
		}
		return a.concludeReadiness(report)
	})
}

func newReadinessShowCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show PLAN NUMBER", Short: "Show what a readiness check found",
		Long:    "Show prints what a readiness check has found, by the number that `readiness check` gave\nit. The exit status is that of the check; a check that still runs is 0.",
		Example: "  lifeboat readiness show shop 3",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.completePlans(),
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		plan, err := parsePlan(args[0])
		if err != nil {
			return err
		}
		number, err := strconv.Atoi(args[1])
		if err != nil || number < 1 {
			return usagef("%q: not the number of a readiness check; they are numbered from 1", args[1])
		}
		var report workflows.ReadinessReport
		if err := h.Query(ctx, workflows.OperationID(workflows.OpReadiness, plan, number), workflows.QueryStatus, &report); err != nil {
			return err
		}
		return a.concludeReadiness(report)
	})
}

// awaitReadiness looks at a check until all questions are answered.
func (a *app) awaitReadiness(ctx context.Context, h house, workflowID string) (workflows.ReadinessReport, error) {
	calm := patience{app: a}
	for looks := 0; ; looks++ {
		report, over, err := lookAtReadiness(ctx, h, workflowID)
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
		if forgiven := calm.forgives(err); err != nil && !forgiven {
			return report, err
		}
		if err == nil && over {
			return report, nil
		}
		if err := a.pause(ctx, looks); err != nil {
			return report, err
		}
	}
}

// lookAtReadiness asks for the report of a check, and whether it will not change any more:
// one whose workflow was ended from outside has no outcome.
func lookAtReadiness(ctx context.Context, h house, workflowID string) (report workflows.ReadinessReport, over bool, err error) {
	err = h.Query(ctx, workflowID, workflows.QueryStatus, &report)
	if err != nil || ended(report.Outcome) {
		return report, err == nil, err
	}
	closed, err := h.Closed(ctx, workflowID)
	if err != nil || !closed {
		return report, false, err
	}
	report = workflows.ReadinessReport{}
	if err = h.Query(ctx, workflowID, workflows.QueryStatus, &report); err == nil && !ended(report.Outcome) {
		err = failf("%s: ended from outside before all was answered (`lifeboat readiness check %s` again)", workflowID, report.Plan)
	}
	return report, err == nil, err
}

// concludeReadiness prints a report, and is an error when something failed.
func (a *app) concludeReadiness(report workflows.ReadinessReport) error {
	if err := a.print(report, func(w io.Writer) { readinessTable(w, report) }); err != nil {
		return err
	}
	switch {
	case report.Counts.Fail > 0:
		return failf("%s: %s (mend what failed, then `lifeboat readiness check %s` again)", report.WorkflowID, report.Verdict(), report.Plan)
	case report.Outcome == workflows.OutcomeAborted:
		return failf("%s: aborted before all was answered (`lifeboat readiness check %s` again)", report.WorkflowID, report.Plan)
	}
	a.say("%s: %s", report.WorkflowID, report.Verdict())
	return nil
}

// readinessTable has one line a check, the worst first, and below it what to do.
func readinessTable(w io.Writer, report workflows.ReadinessReport) {
	row(w, "STATUS", "SITE", "SERVER", "CHECK", "OF", "FOUND")
	for _, c := range report.WorstFirst() {
		row(w, string(c.Status), c.Site, c.Server, c.Check, c.Subject, c.Cause)
		if c.Mend != "" && c.Status != activities.CheckOK {
			fmt.Fprintf(w, "\t\t\t\t\t→ %s\n", c.Mend)
		}
	}
}
