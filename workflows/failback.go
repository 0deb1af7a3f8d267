package workflows

import (
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// Failback brings servers home to the primary site. An abort or a failure before
// traffic is switched leaves production where it is: at the recovery site.
func (w *Workflows) Failback(ctx workflow.Context, in OperationInput) (Report, error) {
	o, err := newOperation(ctx, w.Timing, in)
	if err != nil {
		return Report{}, err
	}
	return o.run(ctx, o.failback)
}

func (o *operation) failback(ctx workflow.Context) error {
	o.undo.push(func(ctx workflow.Context) error {
		return o.endServers(ctx, func(int) endRequest { return endRequest{Reason: o.report.Reason} })
	})
	all := make([]*recovery, len(o.in.Servers))
	for i := range all {
		all[i] = o.recovery(i, activities.RoleRecovered)
	}
	// 1. Wave after wave: stop the server at the recovery site, fetch its last state,
	// bring it up at home. (Production is down from the first stop on.)
	err := o.inWaves(ctx, func(ctx workflow.Context, i int) error { return all[i].failBack(ctx) })
	if err != nil {
		return err
	}
	// 2. A person may have to agree before users are sent home.
	if err := o.approval(ctx, o.in.Spec.Failback); err != nil {
		return err
	}
	ctx, done := o.pointOfNoReturn(ctx)
	defer done()
	// 3. Point of no return: the servers at the primary site serve.
	if err := o.takeTraffic(ctx, all, func(r *recovery) plan.Site { return r.state.Spec.Primary }); err != nil {
		return err
	}
	o.measure()
	return o.endServers(ctx, func(i int) endRequest { return all[i].endDone() })
}

// failBack brings one server up at the primary site.
func (r *recovery) failBack(ctx workflow.Context) error {
	if err := r.leaveSource(ctx, r.state.Spec.Recovery, r.state.Recovered, true); err != nil {
		return err
	}
	if err := r.stopReceiver(ctx); err != nil {
		return err
	}
	r.o.undo.push(r.releasePoint)
	if err := r.choosePoint(ctx, "current-time", nil); err != nil {
		return err
	}
	if r.state.InPlace {
		return r.startOriginal(ctx)
	}
	r.o.undo.push(r.clean)
	home := r.state.Spec.PrimaryNetwork
	if home.Name == "" {
		home = plan.Network{Name: first(r.state.Primary.Network, r.state.Primary.NetworkID)}
	}
	if err := r.findNetwork(ctx, home, activities.RolePlan, "network"); err != nil {
		return err
	}
	return r.bringUp(ctx)
}

// startOriginal starts the original server on its own disks, which were replicated
// in place. Undoing stops it again: its disks go on as replicas.
func (r *recovery) startOriginal(ctx workflow.Context) error {
	original := activities.ServerInput{Site: r.where, ServerID: r.state.Primary.ID, Epoch: r.o.in.Epoch}
	r.o.undo.push(func(ctx workflow.Context) error {
		return workflow.ExecuteActivity(r.o.t.critical(ctx, r.queue(), "undo: stop the original server"), cloudActs.StopServer, original).Get(ctx, nil)
	})
	err := r.step(ctx, "start the original server", false, func(ctx workflow.Context) (string, error) {
		r.o.launched = true
		err := workflow.ExecuteActivity(r.o.t.await(ctx, r.queue(), "start "+r.name()), cloudActs.StartServer, original).Get(ctx, &r.server)
		if err != nil {
			return "", err
		}
		now := workflow.Now(ctx)
		stamp(&r.o.report.Stamps.DisksReady, now)
		stamp(&r.o.report.Stamps.Running, now)
		r.disks = r.server.Disks
		r.report.ServerID, r.report.IP, r.report.Public = r.server.ID, r.server.IP, r.server.Public
		return r.server.ID + " at " + r.server.IP, nil
	})
	if err != nil {
		return err
	}
	if err := r.runScript(ctx); err != nil {
		return err
	}
	return r.health(ctx)
}
