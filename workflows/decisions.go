package workflows

import (
	"strings"

	"go.temporal.io/sdk/workflow"
)

// handleDecisions registers what a person may say to a running operation.
func (o *operation) handleDecisions(ctx workflow.Context) error {
	for _, d := range []struct {
		update, text string
		check        func() string
		do           func()
	}{
		{UpdateApprove, "Approve switching traffic", func() string { return unless(o.waits(true), "nothing waits for approval") },
			func() { o.answer(UpdateApprove, true) }},
		{UpdateRetry, "Try the failed step again", func() string { return unless(o.waits(false), "no step waits for a decision") },
			func() { o.answer(UpdateRetry, false) }},
		{UpdateSkip, "Go on without the failed step", o.checkSkip, func() { o.answer(UpdateSkip, false) }},
		{UpdateHold, "Pause before the next step", func() string { return unless(!o.held, "the operation is paused already") },
			func() { o.held = true }},
		{UpdateGoOn, "Go on after a pause", func() string { return unless(o.held, "the operation is not paused") },
			func() { o.held = false }},
		{UpdateAbort, "Abort and undo, until traffic is switched", o.checkAbort, func() { o.aborted = true; o.cancel() }},
	} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, d.update,
			func(ctx workflow.Context, req DecisionRequest) (Report, error) {
				d.do()
				o.report.Steps = append(o.report.Steps, decided(ctx, d.update, req))
				o.publish(ctx)
				return o.report, nil
			},
			workflow.UpdateHandlerOptions{Description: d.text, Validator: func(DecisionRequest) error { return o.refuse(d.update, d.check()) }})
		if err != nil {
			return err
		}
	}
	return nil
}

// decided records who said what, and when.
func decided(ctx workflow.Context, what string, req DecisionRequest) StepReport {
	now := workflow.Now(ctx)
	return StepReport{Name: "decision: " + what, State: "done", Started: now, Ended: &now, Detail: strings.TrimSpace(req.By + " " + req.Note)}
}

func (o *operation) refuse(command, reason string) error {
	if o.report.Outcome != OutcomeRunning && o.report.Outcome != OutcomeWaiting {
		reason = "the operation has ended: " + string(o.report.Outcome)
	}
	if reason == "" {
		return nil
	}
	allowed := []string{}
	for _, c := range []struct {
		name string
		ok   bool
	}{{UpdateApprove, o.waits(true)}, {UpdateRetry, o.waits(false)}, {UpdateSkip, o.checkSkip() == ""},
		{UpdateHold, !o.held}, {UpdateGoOn, o.held}, {UpdateAbort, o.checkAbort() == ""}} {
		if c.ok {
			allowed = append(allowed, c.name)
		}
	}
	return Refused(Refusal{Subject: o.in.WorkflowID, Reason: command + " is refused: " + reason, Allowed: allowed})
}

// waits tells whether a question of the kind is open.
func (o *operation) waits(approval bool) bool {
	for _, q := range o.questions {
		if q.approval == approval {
			return true
		}
	}
	return false
}

func (o *operation) checkSkip() string {
	if !o.waits(false) {
		return "no step waits for a decision"
	}
	for _, q := range o.questions {
		if !q.approval && !q.skippable {
			return "the step cannot be skipped: " + q.text
		}
	}
	return ""
}

func (o *operation) checkAbort() string {
	switch {
	case o.committed:
		return "traffic is switched already; `lifeboat failover cancel` undoes a failover that has ended"
	case o.aborted:
		return "it is being aborted already"
	}
	return ""
}

func (o *operation) answer(with string, approval bool) {
	for _, q := range o.questions {
		if q.approval == approval {
			q.answer = with
		}
	}
}
