package workflows

import (
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
)

// operation is what drill, failover, switch of the point, reverse replication and
// failback have in common: steps that are reported, decisions of a person, undo.
type operation struct {
	in     OperationInput
	t      Timing
	report Report
	undo   undoStack

	launched  bool // a server was launched: from here on a failure asks
	committed bool // traffic is being switched: no way back
	held      bool
	aborted   bool
	questions []*question
	skipped   []string // steps that a person went on without
	cancel    workflow.CancelFunc
}

// question is a step that waits for a person.
type question struct {
	text      string
	approval  bool // approve answers it, else retry or skip
	skippable bool
	answer    string
}

func newOperation(ctx workflow.Context, t Timing, in OperationInput) (*operation, error) {
	o := &operation{in: in, t: t}
	o.report = Report{Operation: in.Operation, Plan: in.Plan, WorkflowID: in.WorkflowID, Outcome: OutcomeRunning,
		Stamps: Stamps{Declared: &in.Declared, Accepted: &in.Accepted}}
	for i := range in.Servers {
		o.report.Servers = append(o.report.Servers, ServerReport{Name: in.Servers[i].Spec.Name})
	}
	if err := workflow.SetQueryHandler(ctx, QueryStatus, func() (Report, error) { return o.report, nil }); err != nil {
		return nil, err
	}
	return o, o.handleDecisions(ctx)
}

// run tells the story, and takes it back when it fails or is aborted. The outcome is
// said when all is over: undone, counted.
func (o *operation) run(ctx workflow.Context, story func(workflow.Context) error) (Report, error) {
	cctx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	o.cancel = cancel
	err := story(cctx)
	outcome := OutcomeDone
	if err != nil {
		outcome = o.takeBack(ctx, err)
	}
	dctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	o.close(dctx, outcome)
	if err != nil {
		return o.report, temporal.NewNonRetryableApplicationError(o.report.Reason, string(outcome), err)
	}
	return o.report, nil
}

// takeBack undoes everything and records why.
func (o *operation) takeBack(ctx workflow.Context, cause error) Outcome {
	outcome := OutcomeFailed
	o.report.Reason = words(cause)
	if o.aborted || temporal.IsCanceledError(cause) {
		outcome, o.report.Reason = OutcomeAborted, "aborted"
	}
	o.publish(ctx)
	if err := o.undo.run(ctx); err != nil {
		o.report.Reason += "; not everything could be undone: " + words(err)
	} else if outcome == OutcomeAborted {
		o.report.Reason += "; everything was undone"
	}
	return outcome
}

// close counts resources, says the outcome and tells the plan.
func (o *operation) close(ctx workflow.Context, outcome Outcome) {
	if outcome == OutcomeDone {
		o.report.Reason = o.unverified()
	}
	if err := o.count(ctx, outcome); err != nil {
		o.report.Reason = strings.TrimPrefix(o.report.Reason+"; resources were not counted: "+words(err), "; ")
	}
	o.report.Outcome = outcome
	o.publish(ctx)
	err := workflow.SignalExternalWorkflow(ctx, PlanID(o.in.Plan), "", signalEnded,
		endedSignal{WorkflowID: o.in.WorkflowID, Outcome: outcome}).Get(ctx, nil)
	if err != nil {
		workflow.GetLogger(ctx).Warn("the plan was not told of the end", "operation", o.in.WorkflowID, "error", err)
	}
	_ = workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// step runs one named step. Held operations wait before it; a step that fails after
// a server was launched asks for retry, skip or abort.
func (o *operation) step(ctx workflow.Context, name, server string, skippable bool, f func(workflow.Context) (string, error)) error {
	if err := workflow.Await(ctx, func() bool { return !o.held }); err != nil {
		return err
	}
	i := len(o.report.Steps)
	o.report.Steps = append(o.report.Steps, StepReport{Name: name, Server: server, State: "running", Started: workflow.Now(ctx)})
	o.publish(ctx)
	for {
		detail, err := f(ctx)
		if err == nil {
			o.ended(ctx, i, "done", detail)
			return nil
		}
		if ctx.Err() != nil || !o.asks() {
			o.ended(ctx, i, "failed", words(err))
			return err
		}
		answer, aerr := o.ask(ctx, &question{text: name + " of " + server + " failed: " + words(err), skippable: skippable})
		switch {
		case aerr != nil:
			o.ended(ctx, i, "failed", words(err))
			return aerr
		case answer == UpdateSkip:
			o.ended(ctx, i, "skipped", words(err))
			o.skipped = append(o.skipped, name+" of "+server)
			return nil
		}
	}
}

// unverified says which steps were skipped; empty when none was. It outlives every
// later question: what was not checked must not be cleaned up after.
func (o *operation) unverified() string {
	if len(o.skipped) == 0 {
		return ""
	}
	return "skipped: " + strings.Join(o.skipped, ", ")
}

func (o *operation) ended(ctx workflow.Context, i int, state, detail string) {
	now := workflow.Now(ctx)
	o.report.Steps[i].State, o.report.Steps[i].Detail, o.report.Steps[i].Ended = state, detail, &now
	o.publish(ctx)
}

// asks tells whether a failing step waits for a person instead of being undone.
func (o *operation) asks() bool {
	if o.in.Operation == OpReverse || o.in.Operation == OpDrill {
		return false
	}
	return o.committed || o.launched && o.in.Operation != OpSwitch
}

// ask waits for a decision and returns the update that gave it.
func (o *operation) ask(ctx workflow.Context, q *question) (string, error) {
	o.questions = append(o.questions, q)
	o.report.Outcome, o.report.Reason = OutcomeWaiting, q.text+"; "+q.choices(o)
	o.publish(ctx)
	err := workflow.Await(ctx, func() bool { return q.answer != "" })
	o.questions = slices.DeleteFunc(o.questions, func(other *question) bool { return other == q })
	if len(o.questions) == 0 {
		o.report.Outcome, o.report.Reason = OutcomeRunning, ""
	}
	o.publish(ctx)
	return q.answer, err
}

// choices says what to type.
func (q *question) choices(o *operation) string {
	var c []string
	noun := "failover"
	if o.in.Operation == OpFailback {
		noun = "failback"
	}
	if q.approval {
		c = append(c, "lifeboat "+noun+" approve "+o.in.Plan)
	} else {
		c = append(c, "lifeboat "+noun+" retry "+o.in.Plan)
		if q.skippable {
			c = append(c, "lifeboat "+noun+" skip "+o.in.Plan)
		}
	}
	if !o.committed {
		c = append(c, "lifeboat "+noun+" abort "+o.in.Plan)
	}
	return "waits for: " + strings.Join(c, " | ")
}

// inWaves runs f for every server, wave after wave, the servers of a wave together.
func (o *operation) inWaves(ctx workflow.Context, f func(workflow.Context, int) error) error {
	waves := o.in.Waves
	for _, wave := range waves {
		if err := o.together(ctx, wave, f); err != nil {
			return err
		}
	}
	return nil
}

// together runs f for the named servers at once, and waits for all.
func (o *operation) together(ctx workflow.Context, names []string, f func(workflow.Context, int) error) error {
	var errs []error
	wg := workflow.NewWaitGroup(ctx)
	for _, name := range names {
		i := slices.IndexFunc(o.in.Servers, func(s ServerState) bool { return s.Spec.Name == name })
		if i < 0 {
			continue
		}
		wg.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer wg.Done()
			if err := f(ctx, i); err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait(ctx)
	if len(errs) == 0 {
		return nil
	}
	return errs[0]
}

func (o *operation) names() []string {
	names := make([]string, 0, len(o.in.Servers))
	for i := range o.in.Servers {
		names = append(names, o.in.Servers[i].Spec.Name)
	}
	return names
}

// endServers gives all servers back to their entities.
func (o *operation) endServers(ctx workflow.Context, req func(i int) endRequest) error {
	return o.together(ctx, o.names(), func(ctx workflow.Context, i int) error {
		r := req(i)
		r.Operation, r.WorkflowID, r.Epoch = o.in.Operation, o.in.WorkflowID, o.in.Epoch
		_, err := call(ctx, o.t, ServerID(o.in.Plan, o.in.Servers[i].Spec.Name), updateEnd, r, "give "+o.in.Servers[i].Spec.Name+" back")
		return err
	})
}

// publish shows the report in the Web UI.
func (o *operation) publish(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, o.report.markdown())
}

// measure computes RTO and RPO from the stamps. A drill is over when it is healthy.
func (o *operation) measure() {
	st := &o.report.Stamps
	end := st.Serving
	if o.in.Operation == OpDrill {
		end = st.Healthy
	}
	if end != nil {
		rto := end.Sub(*st.Declared).Seconds()
		o.report.RTOSeconds = &rto
	}
	var worst *float64
	for _, s := range o.report.Servers {
		newest, source := s.NewestWrite, "application"
		if newest == nil {
			newest, source = s.PointTime, "point"
		}
		if newest == nil {
			continue
		}
		rpo := max(0, st.Declared.Sub(*newest).Seconds())
		if worst == nil || rpo > *worst {
			worst, o.report.RPOSource = &rpo, source
		}
	}
	o.report.RPOSeconds = worst
	goals := o.in.Spec.Objectives
	o.report.RTOObjective, o.report.RTOKept = kept(o.report.RTOSeconds, goals.RTO.D())
	o.report.RPOObjective, o.report.RPOKept = kept(worst, goals.RPO.D())
}

// kept compares a measurement with an objective; without either there is nothing to say.
func kept(seconds *float64, objective time.Duration) (float64, *bool) {
	if objective <= 0 || seconds == nil {
		return objective.Seconds(), nil
	}
	ok := *seconds <= objective.Seconds()
	return objective.Seconds(), &ok
}

// count asks the ledgers what the operation created and deleted, and what is left
// beside the servers that are in service.
func (o *operation) count(ctx workflow.Context, outcome Outcome) error {
	total := activities.Counts{}
	serving := o.inService(outcome)
	for _, where := range o.sites() {
		var c activities.Counts
		err := workflow.ExecuteActivity(o.t.critical(ctx, CloudQueue(where), "count resources at "+where.Name), cloudActs.CountResources,
			activities.Scope{Site: where, Plan: o.in.Plan, Operation: o.in.WorkflowID}).Get(ctx, &c)
		if err != nil {
			return err
		}
		total.Created += c.Created
		total.Deleted += c.Deleted
		total.Kept += c.Kept
		for _, id := range c.LeftOver {
			if slices.ContainsFunc(serving, func(s string) bool { return s != "" && strings.Contains(id, s) }) {
				total.Kept++
				continue
			}
			total.Left++
			total.LeftOver = append(total.LeftOver, id)
		}
	}
	o.report.Resources = total
	return nil
}

// sites where the operation makes resources.
func (o *operation) sites() []activities.Site {
	var sites []activities.Site
	for i := range o.in.Servers {
		s := o.target(i)
		if !slices.Contains(sites, s) {
			sites = append(sites, s)
		}
	}
	return sites
}

// target is the site where server i is (to be) recovered.
func (o *operation) target(i int) activities.Site {
	spec := &o.in.Servers[i].Spec
	if o.in.Operation == OpFailback || o.in.Operation == OpReverse ||
		(o.in.Operation == OpDrill && o.in.Servers[i].Direction == Reverse) {
		return site(spec.Primary)
	}
	return site(spec.Recovery)
}

// inService lists identifiers of resources that the operation leaves on purpose.
func (o *operation) inService(outcome Outcome) []string {
	if outcome != OutcomeDone || o.in.Operation == OpDrill {
		return nil
	}
	var ids []string
	for _, s := range o.report.Servers {
		ids = append(ids, s.ServerID)
		ids = append(ids, s.disks...)
	}
	return ids
}

func stamp(to **time.Time, at time.Time) {
	if *to == nil || (*to).Before(at) {
		*to = &at
	}
}
