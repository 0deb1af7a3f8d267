package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

// decision is a verb that answers what a running operation waits for.
type decision struct{ verb, update, short, long string }

var decisions = []decision{
	{"approve", workflows.UpdateApprove, "Approve what the %s waits for", "Approve lets the running %s go on, where the plan asks for approval before traffic\nis switched."},
	{"skip", workflows.UpdateSkip, "Go on without the step that failed", "Skip lets the running %s go on without the step that failed and waits for a person."},
	{"retry", workflows.UpdateRetry, "Try the step that failed again", "Retry tries the failed step of the running %s again, after its cause was mended."},
	{"pause", workflows.UpdateHold, "Hold the %s before its next step", "Pause holds the running %s before its next step, until it is resumed or aborted."},
	{"resume", workflows.UpdateGoOn, "Let a held %s go on", "Resume lets the running %s go on after a pause."},
	{"abort", workflows.UpdateAbort, "Undo the %s, until traffic is switched", "Abort undoes the running %s; it is refused once traffic is switched. Production\nstays where it was."},
}

// newDecisionCommands makes the six verbs for a noun.
func newDecisionCommands(a *app, op workflows.Operation) []*cobra.Command {
	var commands []*cobra.Command
	for _, d := range decisions {
		commands = append(commands, d.command(a, op))
	}
	return commands
}

func (d decision) command(a *app, op workflows.Operation) *cobra.Command {
	var request workflows.DecisionRequest
	var number int
	var wait bool
	cmd := &cobra.Command{
		Use: d.verb + " PLAN", Short: named(d.short, op), Long: named(d.long, op),
		Example: fmt.Sprintf("  lifeboat %s %s shop --note 'ticket 4711'\n  lifeboat %s %s shop --wait", op, d.verb, op, d.verb),
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completePlans(),
	}
	a.addRequestFlag(cmd)
	operationFlag(cmd, &number)
	cmd.Flags().StringVar(&request.By, "by", "", "who decides, for the record (default $USER)")
	cmd.Flags().StringVar(&request.Note, "note", "", "why, for the record")
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the operation to its end")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		plan, err := parsePlan(args[0])
		if err != nil {
			return err
		}
		id, err := findOperation(ctx, h, plan, number, true, op)
		if err != nil {
			return err
		}
		if request.By == "" {
			request.By = a.env("USER")
		}
		var report workflows.Report
		if err := h.Update(ctx, id, d.update, a.request(d.verb), request, &report); err != nil {
			return about(id, err)
		}
		if !wait {
			return a.printReport(report)
		}
		if report, err = a.follow(ctx, h, id); err != nil {
			return err
		}
		if d.update == workflows.UpdateAbort && report.Outcome == workflows.OutcomeAborted {
			return a.printReport(report)
		}
		return a.conclude(report)
	})
}

// named puts the operation into a text that has a place for it.
func named(text string, op workflows.Operation) string {
	for i := range len(text) - 1 {
		if text[i:i+2] == "%s" {
			return fmt.Sprintf(text, op)
		}
	}
	return text
}
