package workflows

import (
	"errors"
	"strconv"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// Drill starts copies of servers from a recovery point in a network of their own,
// without disturbing replication, and stays open until it is cleaned: then all that
// it made is deleted and counted.
func (w *Workflows) Drill(ctx workflow.Context, in OperationInput) (Report, error) {
	o, err := newOperation(ctx, w.Timing, in)
	if err != nil {
		return Report{}, err
	}
	d := &drill{operation: o}
	if err := d.handle(ctx); err != nil {
		return Report{}, err
	}
	return d.run(ctx)
}

type drill struct {
	*operation
	all      []*recovery
	finished bool // servers are up, or the drill failed
	clean    bool // somebody asked for clean-up
	cleaned  bool
}

// handle registers what the plan and the schedule ask of a drill.
func (d *drill) handle(ctx workflow.Context) error {
	err := workflow.SetUpdateHandler(ctx, updateClean, func(ctx workflow.Context) (Report, error) {
		d.clean = true
		if d.cancel != nil && !d.finished {
			d.cancel() // a drill that is still starting is given up
		}
		err := workflow.Await(ctx, func() bool { return d.cleaned })
		return d.report, err
	})
	if err != nil {
		return err
	}
	return workflow.SetUpdateHandler(ctx, updateAwaitGreen, func(ctx workflow.Context) (Report, error) {
		err := workflow.Await(ctx, func() bool { return d.finished })
		return d.report, err
	})
}

func (d *drill) run(ctx workflow.Context) (Report, error) {
	cctx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	d.cancel = cancel
	err := d.start(cctx)
	d.finished = true
	state := DrillRunning
	switch {
	case err == nil:
		d.report.Outcome, d.report.Reason = OutcomeDone, "the drill is up; when you have looked: lifeboat drill clean "+d.in.Plan
		d.measure()
	case d.aborted || d.clean || temporal.IsCanceledError(err):
		d.report.Outcome, d.report.Reason, d.clean = OutcomeAborted, "given up while starting", true
	default:
		state = DrillFailed
		d.report.Outcome, d.report.Reason = OutcomeFailed, words(err)+"; look, then: lifeboat drill clean "+d.in.Plan
	}
	dctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	d.tell(dctx, state)
	d.countNow(dctx)
	_ = workflow.Await(ctx, func() bool { return d.clean }) // a cancel cleans, too
	return d.cleanUp(dctx)
}

// start brings the servers up in the drill's network.
func (d *drill) start(ctx workflow.Context) error {
	d.all = make([]*recovery, len(d.in.Servers))
	for i := range d.all {
		d.all[i] = d.recovery(i, activities.RoleDrill)
	}
	return d.inWaves(ctx, func(ctx workflow.Context, i int) error {
		r := d.all[i]
		r.report.Fencing = "not-needed"
		if err := r.choosePoint(ctx, first(d.in.Request.Point, "latest"), nil); err != nil {
			return err
		}
		if err := d.network(ctx, r); err != nil {
			return err
		}
		if err := r.bringUp(ctx); err != nil {
			return err
		}
		if err := d.address(ctx, r); err != nil {
			return err
		}
		return r.tested(ctx)
	})
}

// network is the plan's drill network, or one made for this drill with the
// recovery network's addresses.
func (d *drill) network(ctx workflow.Context, r *recovery) error {
	if n := r.state.Spec.DrillNetwork; n.Name != "" && n.Site == r.where.Name {
		return r.findNetwork(ctx, n, activities.RolePlan, "drill-network")
	}
	home := r.state.Spec.RecoveryNetwork
	if r.state.Direction == Reverse {
		home = plan.Network{CIDR: r.state.Primary.CIDR}
	}
	if r.where.Provider != plan.ProviderLocal && d.in.Request.Overrides.Network == "" {
		return invalid("site %s makes no network with addresses that another one has: name a network for drills in the plan (drills.network) or with --network", r.where.Name)
	}
	own := plan.Network{Name: "drill-" + d.in.Plan + "-" + strconv.Itoa(d.in.Number), CIDR: home.CIDR, Zone: home.Zone}
	return r.findNetwork(ctx, own, activities.RoleDrill, "drill-network")
}

// address gives the drilled server a public address of its own, when asked for.
func (d *drill) address(ctx workflow.Context, r *recovery) error {
	name := d.in.Request.Overrides.PublicIP
	if name == "" {
		return nil
	}
	return r.step(ctx, "public address", true, func(ctx workflow.Context) (string, error) {
		err := workflow.ExecuteActivity(d.t.mutate(ctx, r.queue(), "reserve address "+name), cloudActs.EnsureAddress,
			activities.EnsureAddressInput{Scope: r.scope(), Step: "address", Name: name}).Get(ctx, nil)
		if err != nil {
			return "", err
		}
		var moved activities.AddressInfo
		err = workflow.ExecuteActivity(d.t.mutate(ctx, r.queue(), "address "+name+" to the drill"), cloudActs.MoveAddress,
			activities.MoveAddressInput{Site: r.where, Name: name, ServerID: r.server.ID, Epoch: d.in.Epoch}).Get(ctx, &moved)
		r.report.Public = moved.Public
		return moved.Public, err
	})
}

// tested notes at the point that a drill from it was green.
func (r *recovery) tested(ctx workflow.Context) error {
	return workflow.ExecuteActivity(r.o.t.mutate(ctx, HostQueue(r.agent()), "note that the point was tested"), hostActs.TestedPoint,
		activities.PointInput{Stream: r.state.streamID(), ID: r.point.ID, On: true}).Get(ctx, nil)
}

// cleanUp deletes all that the drill made; it does not give up.
func (d *drill) cleanUp(ctx workflow.Context) (Report, error) {
	d.tell(ctx, DrillClearing)
	err := d.together(ctx, d.names(), func(ctx workflow.Context, i int) error { return d.all[i].releasePoint(ctx) })
	for _, where := range d.sites() {
		var counts activities.Counts
		cerr := d.step(ctx, "clean drill", "", false, func(ctx workflow.Context) (string, error) {
			return where.Name, workflow.ExecuteActivity(d.t.critical(ctx, CloudQueue(where), "delete what the drill made"), cloudActs.CleanUp,
				activities.CleanUpInput{Scope: activities.Scope{Site: where, Plan: d.in.Plan, Operation: d.in.WorkflowID}}).Get(ctx, &counts)
		})
		if err == nil {
			err = cerr
		}
	}
	d.countNow(ctx)
	state := DrillNone
	if err != nil || d.report.Resources.Left > 0 {
		state = DrillClearFailed
		d.report.Reason = "not everything could be deleted: " + strings.Join(d.report.Resources.LeftOver, ", ")
	} else if d.report.Outcome == OutcomeDone {
		d.report.Outcome, d.report.Reason = OutcomeCleaned, ""
	}
	d.tell(ctx, state)
	d.cleaned = true
	d.publish(ctx)
	d.close(ctx, d.report.Outcome)
	if state == DrillClearFailed {
		return d.report, temporal.NewNonRetryableApplicationError(d.report.Reason, activities.LeftOver, err)
	}
	return d.report, nil
}

func (d *drill) countNow(ctx workflow.Context) {
	if err := d.count(ctx, d.report.Outcome); err != nil {
		d.report.Reason = "resources were not counted: " + words(err)
	}
	d.publish(ctx)
}

// tell reports to the servers' entities where the drill stands.
func (d *drill) tell(ctx workflow.Context, state DrillState) {
	err := d.together(ctx, d.names(), func(ctx workflow.Context, i int) error {
		_, err := call(ctx, d.t, ServerID(d.in.Plan, d.in.Servers[i].Spec.Name), updateDrillState,
			drillStateRequest{WorkflowID: d.in.WorkflowID, State: state}, "drill is "+string(state))
		return err
	})
	if err != nil {
		workflow.GetLogger(ctx).Error("a server was not told about the drill", "operation", d.in.WorkflowID, "error", err)
	}
}

// ScheduledDrill is what a schedule starts: it asks the plan for a drill, waits until
// it is green or failed, cleans it, and fails when the drill failed (which pauses
// the schedule, so that somebody looks). A drill that the plan refuses now, since one
// is open or a failover runs, is skipped.
func (w *Workflows) ScheduledDrill(ctx workflow.Context, in ScheduledDrillInput) (Report, error) {
	var ref OperationRef
	err := callInto(ctx, w.Timing, PlanID(in.Plan), UpdateDrill, OperationRequest{Point: "latest"}, "start the drill", &ref)
	var refused *temporal.ApplicationError
	if errors.As(err, &refused) && refused.Type() == ErrRefused {
		reason := refused.Message()
		workflow.SetCurrentDetails(ctx, "Skipped: "+reason)
		return Report{Operation: OpDrill, Plan: in.Plan, Outcome: OutcomeSkipped, Reason: reason}, nil
	}
	if err != nil {
		return Report{}, err
	}
	var report Report
	green := callInto(ctx, w.Timing, ref.WorkflowID, updateAwaitGreen, nil, "wait until the drill is green", &report)
	if green == nil && report.Outcome == OutcomeDone && in.CleanAfter > 0 {
		if err := workflow.NewTimerWithOptions(ctx, in.CleanAfter, workflow.TimerOptions{Summary: "leave the drill up"}).Get(ctx, nil); err != nil {
			return report, err
		}
	}
	up := report.Outcome == OutcomeDone
	reason := report.Reason
	if err := callInto(ctx, w.Timing, PlanID(in.Plan), UpdateCleanDrill, CleanDrillRequest{Number: ref.Number}, "clean the drill", &report); err != nil {
		return report, err
	}
	if !up {
		return report, temporal.NewNonRetryableApplicationError("the drill was not green: "+reason, string(OutcomeFailed), green)
	}
	return report, nil
}
