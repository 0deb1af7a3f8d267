package workflows

import (
	"slices"
	"strconv"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// OpReadiness is the kind of a readiness check in workflow IDs and search attributes. It
// claims no server, and no list of operations has it: nothing is done.
const OpReadiness Operation = "readiness"

// ReadinessRequest asks a plan for a readiness check of some servers (empty = all).
type ReadinessRequest struct {
	Servers []string `json:"servers,omitempty"`
}

// ReadinessInput is the argument of a readiness check.
type ReadinessInput struct {
	WorkflowID string        `json:"workflow_id"`
	Number     int           `json:"number"`
	Plan       string        `json:"plan"`
	Servers    []string      `json:"servers"`   // that are looked at, sorted
	Protected  []string      `json:"protected"` // of the plan
	Spec       plan.Resolved `json:"spec"`
}

// ReadinessReport is what `readiness check -o json` prints.
type ReadinessReport struct {
	Operation  Operation `json:"operation"`
	Plan       string    `json:"plan"`
	WorkflowID string    `json:"workflow_id"`
	Outcome    Outcome   `json:"outcome"` // running, done, or aborted when the workflow was cancelled
	// Ready: every question was put, and nothing failed. What is unknown is not known to work.
	Ready   bool               `json:"ready"`
	Counts  ReadinessCounts    `json:"counts"`
	Servers []string           `json:"servers"`
	Started time.Time          `json:"started"`
	Ended   *time.Time         `json:"ended"`
	Checks  []activities.Check `json:"checks"`
}

// ReadinessCounts of lines by their verdict.
type ReadinessCounts struct {
	OK      int `json:"ok"`
	Warn    int `json:"warn"`
	Fail    int `json:"fail"`
	Unknown int `json:"unknown"`
}

// readiness is one check on its way.
type readiness struct {
	in      ReadinessInput
	t       Timing
	report  ReadinessReport
	servers []*readyServer
	asked   int // questions that were put together into one activity
	done    int
}

// readyTogether: at most so many activities run at once: a check must not use up the rate
// limits that replication lives on.
const readyTogether = 8

// readyTries bounds the attempts of one activity; inside, each question has its own.
const readyTries = 3

// Readiness tells before the disaster what would fail in it. It asks both sites, the agents and
// the servers' entities, and changes nothing.
func (w *Workflows) Readiness(ctx workflow.Context, in ReadinessInput) (ReadinessReport, error) {
	r := &readiness{in: in, t: w.Timing}
	r.report = ReadinessReport{Operation: OpReadiness, Plan: in.Plan, WorkflowID: in.WorkflowID, Outcome: OutcomeRunning,
		Servers: in.Servers, Started: workflow.Now(ctx), Checks: []activities.Check{}}
	if err := workflow.SetQueryHandler(ctx, QueryStatus, func() (ReadinessReport, error) { return r.report, nil }); err != nil {
		return ReadinessReport{}, err
	}
	for _, name := range in.Servers {
		spec, _ := in.Spec.Server(name)
		r.servers = append(r.servers, &readyServer{spec: spec, protected: slices.Contains(in.Protected, name)})
	}
	var views []readyQuestion
	for _, s := range r.servers {
		views = append(views, func(ctx workflow.Context) []activities.Check { return r.readServer(ctx, s) })
	}
	ofServers := r.gather(ctx, views)
	checks := r.gather(ctx, r.questions())
	r.report.Checks = append(checks, ofServers...)
	r.report.Outcome = OutcomeDone
	if ctx.Err() != nil {
		r.report.Outcome = OutcomeAborted
	}
	now := workflow.Now(ctx)
	r.report.Ended = &now
	r.count()
	r.publish(ctx)
	if r.report.Outcome == OutcomeAborted {
		return r.report, temporal.NewCanceledError("the readiness check was cancelled")
	}
	return r.report, nil
}

// readyQuestion is put by one activity or more, and answered by lines.
type readyQuestion func(ctx workflow.Context) []activities.Check

// gather puts questions, a few at a time, and gives the lines in the order of the questions.
func (r *readiness) gather(ctx workflow.Context, questions []readyQuestion) []activities.Check {
	r.asked += len(questions)
	r.publish(ctx)
	answers := make([][]activities.Check, len(questions))
	room := workflow.NewSemaphore(ctx, readyTogether)
	wg := workflow.NewWaitGroup(ctx)
	for i, ask := range questions {
		wg.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer wg.Done()
			if room.Acquire(ctx, 1) != nil {
				return // cancelled
			}
			defer room.Release(1)
			answers[i] = ask(ctx)
			r.done++
			r.publish(ctx)
		})
	}
	wg.Wait(ctx)
	return slices.Concat(answers...)
}

// look is for activities that ask questions: each answers in lines, also about what is
// wrong, and none is tried for long, since a person waits.
func (t Timing) look(ctx workflow.Context, queue, summary string) workflow.Context {
	retry := t.retry()
	retry.MaximumAttempts = readyTries
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue, Summary: summary,
		StartToCloseTimeout: t.Await, ScheduleToStartTimeout: t.HostStart, HeartbeatTimeout: t.Heartbeat, WaitForCancellation: true, RetryPolicy: retry})
}

// lines runs an activity that answers in lines. When it could not, the one line says so.
func (r *readiness) lines(ctx workflow.Context, where activities.Site, summary string, unanswered activities.Check, activity, in any) []activities.Check {
	var lines []activities.Check
	err := workflow.ExecuteActivity(r.t.look(ctx, CloudQueue(where), summary), activity, in).Get(ctx, &lines)
	if err == nil {
		return lines
	}
	unanswered.Site = where.Name
	_, unanswered.Cause, unanswered.Mend = activities.Explain(err)
	if unanswered.Status == "" {
		unanswered.Status = activities.CheckUnknown
	}
	return []activities.Check{unanswered}
}

func (r *readiness) count() {
	c := ReadinessCounts{}
	for _, line := range r.report.Checks {
		switch line.Status {
		case activities.CheckOK:
			c.OK++
		case activities.CheckWarn:
			c.Warn++
		case activities.CheckFail:
			c.Fail++
		default:
			c.Unknown++
		}
	}
	r.report.Counts, r.report.Ready = c, c.Fail == 0 && r.report.Outcome == OutcomeDone
}

// publish shows the report in the Web UI.
func (r *readiness) publish(ctx workflow.Context) {
	text := r.report.markdown()
	if r.report.Outcome == OutcomeRunning {
		text += "\n" + strconv.Itoa(r.done) + " of " + strconv.Itoa(r.asked) + " questions are answered.\n"
	}
	workflow.SetCurrentDetails(ctx, text)
}
