package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"lifeboat/workflows"
)

// follow tells the steps of an operation as they end, on standard error, until
// the operation has ended, and gives its report.
func (a *app) follow(ctx context.Context, h house, workflowID string) (workflows.Report, error) {
	teller := storyteller{app: a, ended: map[int]bool{}}
	calm := patience{app: a}
	var report workflows.Report
	for looks := 0; ; looks++ {
		now, over, err := lookAt(ctx, h, workflowID)
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
		if forgiven := calm.forgives(err); err != nil && !forgiven {
			return report, err
		}
		if err == nil {
			report = now
			teller.tell(report)
			if over {
				return report, nil
			}
		}
		if err := a.pause(ctx, looks); err != nil {
			return report, err
		}
	}
}

// lookAt asks for the report of an operation, and whether it will not change any
// more. An operation has its outcome before it has undone what it must and has
// counted its resources: then it is over when its workflow is. A drill goes on
// until it is cleaned: it is over for who started it when it has its outcome.
func lookAt(ctx context.Context, h house, workflowID string) (report workflows.Report, over bool, err error) {
	err = h.Query(ctx, workflowID, workflows.QueryStatus, &report)
	if err != nil || !ended(report.Outcome) || report.Operation == workflows.OpDrill {
		return report, err == nil && ended(report.Outcome), err
	}
	if over, err = h.Closed(ctx, workflowID); err != nil || !over {
		return report, false, err
	}
	// What it did between the query and its end.
	var last workflows.Report
	err = h.Query(ctx, workflowID, workflows.QueryStatus, &last)
	return last, err == nil, err
}

// ended tells whether an operation needs no more waiting.
func ended(o workflows.Outcome) bool {
	return o != workflows.OutcomeRunning && o != workflows.OutcomeWaiting && o != ""
}

// storyteller says once what is new in a report.
type storyteller struct {
	app   *app
	ended map[int]bool // steps already told
	asked string       // question already put
}

func (s *storyteller) tell(r workflows.Report) {
	for i, step := range r.Steps {
		if step.Ended == nil || s.ended[i] {
			continue
		}
		s.ended[i] = true
		s.app.say("%s", stepText(step))
	}
	if r.Outcome != workflows.OutcomeWaiting || r.Reason == s.asked {
		if r.Outcome != workflows.OutcomeWaiting {
			s.asked = ""
		}
		return
	}
	s.asked = r.Reason
	s.app.say("? %s", r.Reason)
	for _, command := range decisionCommands(r) {
		s.app.say("    %s", command)
	}
}

// stepText is one step that ended, in one line.
func stepText(step workflows.StepReport) string {
	mark := map[string]string{"done": "+", "failed": "!", "skipped": "-", "undone": "<"}[step.State]
	took := ""
	if step.Ended != nil {
		took = " (" + length(step.Ended.Sub(step.Started)) + ")"
	}
	text := strings.TrimSpace(mark + " " + step.Name)
	if step.Server != "" {
		text += " of " + step.Server
	}
	text += took
	if step.State != "done" {
		text += ": " + step.State
	}
	if step.Detail != "" {
		text += ": " + step.Detail
	}
	return text
}

// decisionCommands are what can be typed while an operation waits. A reason
// that names commands itself needs none.
func decisionCommands(r workflows.Report) []string {
	noun := string(r.Operation)
	if r.Outcome != workflows.OutcomeWaiting || strings.Contains(r.Reason, "lifeboat "+noun) {
		return nil
	}
	var commands []string
	for _, verb := range []string{"approve", "retry", "skip", "abort"} {
		commands = append(commands, fmt.Sprintf("lifeboat %s %s %s", noun, verb, r.Plan))
	}
	return commands
}

// conclude prints a report and turns a bad outcome into an error with the next command.
func (a *app) conclude(report workflows.Report) error {
	if err := a.printReport(report); err != nil {
		return err
	}
	noun := nounOf(report.Operation)
	switch report.Outcome {
	case workflows.OutcomeFailed:
		return failf("%s: failed: %s (see `lifeboat report show %s`; when the cause is mended: `lifeboat %s %s`)",
			report.WorkflowID, orDash(report.Reason), report.WorkflowID, noun, report.Plan)
	case workflows.OutcomeAborted:
		return failf("%s: aborted: %s", report.WorkflowID, orDash(report.Reason))
	}
	if next := nextCommand(report); next != "" && !strings.Contains(report.Reason, "lifeboat ") {
		a.say("next: %s", next)
	}
	return nil
}

// nounOf is noun and verb that start an operation.
func nounOf(op workflows.Operation) string {
	switch op {
	case workflows.OpSwitch:
		return "failover switch-point"
	default:
		return string(op) + " start"
	}
}

// nextCommand is what usually follows an operation that went well.
func nextCommand(r workflows.Report) string {
	if r.Outcome != workflows.OutcomeDone {
		return ""
	}
	switch r.Operation {
	case workflows.OpDrill:
		return "lifeboat drill clean " + r.Plan
	case workflows.OpFailover, workflows.OpSwitch:
		return "look at the servers, then: lifeboat failover commit " + r.Plan
	case workflows.OpReverse:
		return "lifeboat replication status " + r.Plan + " --watch, then: lifeboat failback start " + r.Plan
	case workflows.OpFailback:
		return "look at the servers, then: lifeboat server register " + r.Plan
	}
	return ""
}

// printReport prints the report of an operation.
func (a *app) printReport(r workflows.Report) error {
	return a.print(r, func(w io.Writer) { reportTable(w, r) })
}

func reportTable(w io.Writer, r workflows.Report) {
	row(w, "operation", r.WorkflowID)
	row(w, "outcome", string(r.Outcome))
	if r.Reason != "" {
		row(w, reasonLabel(r.Outcome), r.Reason)
	}
	row(w, "point", r.Point)
	row(w, "RTO", secondsOf(r.RTOSeconds)+verdict(r.RTOKept, r.RTOObjective))
	rpo := secondsOf(r.RPOSeconds)
	if r.RPOSource != "" {
		rpo += " by " + r.RPOSource
	}
	row(w, "RPO", rpo+verdict(r.RPOKept, r.RPOObjective))
	resources := fmt.Sprintf("created %d, deleted %d, left %d", r.Resources.Created, r.Resources.Deleted, r.Resources.Left)
	if r.Resources.Kept > 0 {
		resources += fmt.Sprintf(", in service %d", r.Resources.Kept)
	}
	row(w, "resources", resources)
	if r.Resources.Left > 0 {
		row(w, "left", joined(r.Resources.LeftOver))
	}
	stampsTable(w, r.Stamps)
	for _, s := range r.Servers {
		where := strings.TrimSpace(s.IP + " " + s.Public)
		text := fmt.Sprintf("%s at %s, from %s of %s", orDash(s.ServerID), orDash(where), orDash(s.Point), clock(s.PointTime))
		if s.Fencing != "" {
			text += ", fencing " + s.Fencing
		}
		if s.NewestWrite != nil {
			text += ", newest write " + clock(s.NewestWrite)
		}
		row(w, "server "+s.Name, text)
	}
	for _, step := range r.Steps {
		row(w, "step", stepText(step))
	}
}

// verdict compares a measurement with the plan's objective.
func verdict(kept *bool, objective float64) string {
	switch {
	case kept == nil:
		return ""
	case *kept:
		return ", objective " + secondsOf(&objective) + " kept"
	default:
		return ", objective " + secondsOf(&objective) + " MISSED"
	}
}

// reasonLabel is what the reason of a report is: of a failure or a wait, or a remark.
func reasonLabel(o workflows.Outcome) string {
	if o == workflows.OutcomeDone || o == workflows.OutcomeCleaned {
		return "note"
	}
	return "reason"
}

func stampsTable(w io.Writer, s workflows.Stamps) {
	for _, stamp := range []struct {
		name string
		at   *time.Time
	}{
		{"declared", s.Declared}, {"accepted", s.Accepted}, {"disks ready", s.DisksReady},
		{"running", s.Running}, {"healthy", s.Healthy}, {"serving", s.Serving},
	} {
		if stamp.at == nil {
			continue
		}
		text := clock(stamp.at)
		if s.Declared != nil && stamp.at != s.Declared {
			text += " (+" + length(stamp.at.Sub(*s.Declared)) + ")"
		}
		row(w, stamp.name, text)
	}
}
