package workflows

import (
	"slices"
	"strconv"

	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// SwitchPoint replaces recovered servers by ones from an earlier recovery point,
// before the failover is committed. A failed switch starts the earlier recovered
// server again, on its own disks.
func (w *Workflows) SwitchPoint(ctx workflow.Context, in OperationInput) (Report, error) {
	o, err := newOperation(ctx, w.Timing, in)
	if err != nil {
		return Report{}, err
	}
	return o.run(ctx, o.switchPoint)
}

func (o *operation) switchPoint(ctx workflow.Context) error {
	all := make([]*recovery, len(o.in.Servers))
	for i := range all {
		all[i] = o.recovery(i, activities.RoleRecovered)
	}
	o.undo.push(func(ctx workflow.Context) error {
		return o.endServers(ctx, func(i int) endRequest { return all[i].endUndone() })
	})
	err := o.inWaves(ctx, func(ctx workflow.Context, i int) error { return all[i].replace(ctx) })
	if err != nil {
		return err
	}
	ctx, done := o.pointOfNoReturn(ctx)
	defer done()
	if err := o.takeTraffic(ctx, all, func(r *recovery) plan.Site { return r.state.Spec.Recovery }); err != nil {
		return err
	}
	err = o.together(ctx, o.names(), func(ctx workflow.Context, i int) error { return all[i].dropEarlier(ctx) })
	if err != nil {
		return err
	}
	o.measure()
	return o.endServers(ctx, func(i int) endRequest { return all[i].endDone() })
}

// endUndone reports the earlier server, which may have been launched again.
func (r *recovery) endUndone() endRequest {
	req := endRequest{Reason: r.o.report.Reason}
	if r.server.ID != "" {
		srv := r.server
		req.Server = &srv
	}
	return req
}

// replace stops the earlier recovered server and brings one up from the chosen point.
// The earlier one keeps its disks and its place until the new one serves.
func (r *recovery) replace(ctx workflow.Context) error {
	r.report.Fencing = "not-needed"
	before := r.state.RecoveredFrom.Time
	r.o.undo.push(r.releasePoint)
	if err := r.choosePoint(ctx, r.o.in.Request.Point, &before); err != nil {
		return err
	}
	earlier := activities.ServerInput{Site: r.where, ServerID: r.state.Recovered.ID, Force: true, Epoch: r.o.in.Epoch}
	r.o.undo.push(r.clean)
	if err := r.findNetwork(ctx, r.state.Spec.RecoveryNetwork, activities.RolePlan, "network"); err != nil {
		return err
	}
	if err := r.makeDisks(ctx); err != nil {
		return err
	}
	r.o.undo.entries = slices.Insert(r.o.undo.entries, len(r.o.undo.entries)-1, r.bringBack) // after the new server is gone
	err := r.step(ctx, "stop the earlier recovered server, keep its disks", false, func(ctx workflow.Context) (string, error) {
		return earlier.ServerID, workflow.ExecuteActivity(r.o.t.await(ctx, r.queue(), "stop "+earlier.ServerID), cloudActs.TerminateServer, earlier).Get(ctx, nil)
	})
	if err != nil {
		return err
	}
	for _, step := range []func(workflow.Context) error{r.launch, r.runScript, r.health} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// bringBack launches the earlier recovered server again, on its own disks and at its
// address, when the switch failed after it was stopped.
func (r *recovery) bringBack(ctx workflow.Context) error {
	old := r.state.Recovered
	in := activities.LaunchServerInput{Step: "bring-back-" + strconv.Itoa(r.o.in.Number), Name: r.name(), Disks: old.Disks, Type: old.Type, CPU: old.CPU,
		Memory: old.Memory, NetworkID: old.NetworkID, IP: old.IP, Ports: old.Ports, Launch: old.Launch, Scope: r.scope()}
	in.Scope.Operation = r.state.RecoveredBy
	var srv activities.ServerInfo
	err := workflow.ExecuteActivity(r.o.t.critical(ctx, r.queue(), "undo: bring the earlier server back"), cloudActs.LaunchServer, in).Get(ctx, &srv)
	if err != nil {
		return err
	}
	srv.Disks = old.Disks
	r.server = srv
	return switchTraffic(ctx, r.o.t, &r.state.Spec, r.state.Spec.Recovery, &r.server, r.o.in.Plan, r.o.in.Epoch)
}

// dropEarlier deletes the server that was replaced, and its disks.
func (r *recovery) dropEarlier(ctx workflow.Context) error {
	return r.step(ctx, "delete the earlier recovered server", false, func(ctx workflow.Context) (string, error) {
		var counts activities.Counts
		err := workflow.ExecuteActivity(r.o.t.critical(ctx, r.queue(), "delete "+r.state.Recovered.ID), cloudActs.CleanUp,
			activities.CleanUpInput{IncludeKept: true, Scope: activities.Scope{Site: r.where, Plan: r.o.in.Plan, Server: r.name(), Operation: r.state.RecoveredBy}}).Get(ctx, &counts)
		return "", err
	})
}
