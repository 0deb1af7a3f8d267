package workflows

import (
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// Fencing of the server that was active, as reported.
const (
	fencingDone    = "done"
	fencingUnknown = "unknown"
)

// Failover brings servers up at the recovery site. Until traffic is switched it can
// be aborted, and a failure before any server was launched undoes everything; after
// a launch it stays and asks; after the switch the only way is forward.
func (w *Workflows) Failover(ctx workflow.Context, in OperationInput) (Report, error) {
	o, err := newOperation(ctx, w.Timing, in)
	if err != nil {
		return Report{}, err
	}
	return o.run(ctx, o.failover)
}

func (o *operation) failover(ctx workflow.Context) error {
	o.undo.push(func(ctx workflow.Context) error {
		return o.endServers(ctx, func(int) endRequest { return endRequest{Reason: o.report.Reason} })
	})
	all := make([]*recovery, len(o.in.Servers))
	for i := range all {
		all[i] = o.recovery(i, activities.RoleRecovered)
	}
	// 1. Wave after wave: stop the source where it can be reached, fetch its last
	// state, bring the copy up. (Production is down from the first stop on.)
	err := o.inWaves(ctx, func(ctx workflow.Context, i int) error { return all[i].failOver(ctx) })
	if err != nil {
		return err
	}
	// 2. A person may have to agree before users are sent over.
	if err := o.approval(ctx, o.in.Spec.Failover); err != nil {
		return err
	}
	ctx, done := o.pointOfNoReturn(ctx)
	defer done()
	// 3. Point of no return: the recovered servers serve.
	if err := o.takeTraffic(ctx, all, func(r *recovery) plan.Site { return r.state.Spec.Recovery }); err != nil {
		return err
	}
	o.measure()
	return o.endServers(ctx, func(i int) endRequest { return all[i].endDone() })
}

// endDone hands the server that runs now to its entity.
func (r *recovery) endDone() endRequest {
	srv := r.server
	srv.Disks = r.disks
	return endRequest{Done: true, Server: &srv, Point: &PointRef{ID: r.point.ID, Time: r.point.Time}, Fencing: r.report.Fencing, Reason: r.o.unverified()}
}

// failOver brings one server up at the recovery site.
func (r *recovery) failOver(ctx workflow.Context) error {
	selector := first(r.o.in.Request.Point, "current-time")
	if r.o.in.Request.SourceDown {
		r.report.Fencing = fencingUnknown // nobody can say what the failed site does
		if selector == "current-time" {
			selector = "latest" // the last state that could still be fetched has been fetched
		}
	} else if err := r.leaveSource(ctx, r.state.Spec.Primary, r.state.Primary, selector == "current-time" || selector == "latest"); err != nil {
		return err
	}
	if err := r.stopReceiver(ctx); err != nil {
		return err
	}
	r.o.undo.push(r.releasePoint)
	if err := r.choosePoint(ctx, selector, nil); err != nil {
		return err
	}
	r.o.undo.push(r.clean)
	if err := r.findNetwork(ctx, r.state.Spec.RecoveryNetwork, activities.RolePlan, "network"); err != nil {
		return err
	}
	return r.bringUp(ctx)
}

// leaveSource stops the server that is active and fetches its last state.
func (r *recovery) leaveSource(ctx workflow.Context, side plan.Site, srv *activities.ServerInfo, fetch bool) error {
	where := site(side)
	r.o.undo.push(func(ctx workflow.Context) error {
		return workflow.ExecuteActivity(r.o.t.bounded(ctx, CloudQueue(where), "undo: start "+srv.Name+" again", 2*r.o.t.Fence), cloudActs.StartServer,
			activities.ServerInput{Site: where, ServerID: srv.ID}).Get(ctx, nil)
	})
	err := r.step(ctx, "stop the server at "+side.Name, false, func(ctx workflow.Context) (string, error) {
		err := workflow.ExecuteActivity(r.o.t.bounded(ctx, CloudQueue(where), "stop "+srv.Name+" at "+side.Name, r.o.t.Fence), cloudActs.StopServer,
			activities.ServerInput{Site: where, ServerID: srv.ID}).Get(ctx, nil)
		if temporal.IsTimeoutError(err) {
			err = temporal.NewNonRetryableApplicationError("site "+side.Name+" does not answer; when it is lost, fail over with --source-down", activities.SourceUnreachable, err)
		}
		return "fenced", err
	})
	if err != nil {
		return err
	}
	r.report.Fencing = fencingDone
	if !fetch {
		return nil
	}
	return r.step(ctx, "fetch the last state", false, func(ctx workflow.Context) (string, error) {
		var p activities.Point
		if r.state.Spec.Agentless() {
			if err := runAgentless(ctx, r.o.t, r.state); err != nil {
				return "", err
			}
		}
		err := workflow.ExecuteActivity(r.o.t.await(ctx, HostQueue(r.sender(side)), "last pass: current-time of "+r.name()), hostActs.MarkPoint,
			activities.MarkPointInput{Stream: r.state.streamID(), Epoch: r.state.Epoch, RequestID: r.o.in.WorkflowID, Label: "current-time", Final: true}).Get(ctx, &p)
		return p.ID, err
	})
}

// stopReceiver makes the receiver refuse whatever a sender of the old epoch still has.
func (r *recovery) stopReceiver(ctx workflow.Context) error {
	return r.step(ctx, "stop replication", false, func(ctx workflow.Context) (string, error) {
		if err := r.knowPoints(ctx); err != nil {
			return "", err
		}
		return "", workflow.ExecuteActivity(r.o.t.mutate(ctx, HostQueue(r.agent()), "stop receiver at "+r.agent()), hostActs.StopTarget,
			activities.StreamInput{Stream: r.state.streamID(), Epoch: r.state.Epoch}).Get(ctx, nil)
	})
}

// approval waits for a person where the plan asks for one.
func (o *operation) approval(ctx workflow.Context, settings plan.Recovery) error {
	if settings.Approval != "required" {
		return nil
	}
	return o.step(ctx, "approval", "", false, func(ctx workflow.Context) (string, error) {
		_, err := o.ask(ctx, &question{text: "all servers are up and checked; approve to switch traffic", approval: true})
		return "approved", err
	})
}
