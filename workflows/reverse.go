package workflows

import (
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
)

// ReverseReplication starts replication from the recovery site to the primary site,
// into new disks or in place onto the original disks, and ends when every server
// has reached reverse-real-time.
func (w *Workflows) ReverseReplication(ctx workflow.Context, in OperationInput) (Report, error) {
	o, err := newOperation(ctx, w.Timing, in)
	if err != nil {
		return Report{}, err
	}
	return o.run(ctx, o.reverse)
}

func (o *operation) reverse(ctx workflow.Context) error {
	phases := map[string]phaseSignal{}
	workflow.Go(ctx, func(ctx workflow.Context) {
		ch := workflow.GetSignalChannel(ctx, signalPhase)
		for ctx.Err() == nil {
			var s phaseSignal
			if !ch.Receive(ctx, &s) {
				return
			}
			phases[s.Server] = s
		}
	})
	o.undo.push(func(ctx workflow.Context) error {
		return o.endServers(ctx, func(int) endRequest { return endRequest{Reason: o.report.Reason} })
	})
	err := o.together(ctx, o.names(), func(ctx workflow.Context, i int) error {
		return o.recovery(i, activities.RoleReplica).startReverse(ctx)
	})
	if err != nil {
		return err
	}
	// From here on each server's entity leads: an abort stops only the watching.
	o.committed = true
	o.undo.forget()
	for _, name := range o.names() {
		err := o.step(ctx, "reverse-real-time", name, false, func(ctx workflow.Context) (string, error) {
			err := workflow.Await(ctx, func() bool { p := phases[name].Phase; return p == PhaseReverseRealTime || p == PhaseReverseRegistered })
			if err == nil && phases[name].Phase == PhaseReverseRegistered {
				err = temporal.NewNonRetryableApplicationError("reverse replication was stopped", ErrAborted, nil)
			}
			return "caught up", err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// startReverse makes or wipes the disks at the primary site and starts the stream.
func (r *recovery) startReverse(ctx workflow.Context) error {
	var replicas []activities.DiskInfo
	var err error
	switch {
	case r.state.Spec.Agentless(): // the points are all there is at the primary site
	case r.o.in.Request.InPlace:
		replicas, err = r.originalDisks(ctx)
	default:
		replicas, err = r.newReplicas(ctx)
	}
	if err != nil {
		return err
	}
	return r.step(ctx, "start reverse replication", false, func(ctx workflow.Context) (string, error) {
		_, err := call(ctx, r.o.t, ServerID(r.o.in.Plan, r.name()), updateAttachStream,
			attachRequest{WorkflowID: r.o.in.WorkflowID, Replicas: replicas, InPlace: r.o.in.Request.InPlace}, "start reverse replication of "+r.name())
		return "", err
	})
}

// newReplicas makes empty disks at the primary site.
func (r *recovery) newReplicas(ctx workflow.Context) ([]activities.DiskInfo, error) {
	var disks []activities.DiskInfo
	r.o.undo.push(r.clean)
	err := r.step(ctx, "make disks at the primary site", false, func(ctx workflow.Context) (string, error) {
		in := activities.CreateDisksInput{Scope: r.scope(), Step: "replica"}
		for _, d := range r.state.Recovered.Disks {
			in.Disks = append(in.Disks, activities.DiskInfo{Name: d.Name, Bytes: d.Bytes, Type: d.Type, Boot: d.Boot})
		}
		err := workflow.ExecuteActivity(r.o.t.await(ctx, r.queue(), "make disks of "+r.name()), cloudActs.CreateDisks, in).Get(ctx, &disks)
		return fmt.Sprint(len(disks), " disks"), err
	})
	for _, d := range disks {
		r.report.disks = append(r.report.disks, d.DiskID)
	}
	return disks, err
}

// originalDisks stops the original server and hands out its disks, which the reverse
// replication overwrites. The person has confirmed that by the server's name.
func (r *recovery) originalDisks(ctx workflow.Context) ([]activities.DiskInfo, error) {
	var original activities.ServerInfo
	err := r.step(ctx, "stop the original server", false, func(ctx workflow.Context) (string, error) {
		in := activities.ServerInput{Site: r.where, ServerID: r.state.Primary.ID, Epoch: r.o.in.Epoch}
		return in.ServerID, workflow.ExecuteActivity(r.o.t.await(ctx, r.queue(), "stop "+in.ServerID), cloudActs.StopServer, in).Get(ctx, &original)
	})
	if err != nil {
		return nil, err
	}
	byName := map[string]activities.DiskInfo{}
	for _, d := range original.Disks {
		byName[d.Name] = d
	}
	var disks []activities.DiskInfo
	for _, d := range r.state.Recovered.Disks {
		own, ok := byName[d.Name]
		if !ok || own.Bytes < d.Bytes {
			return nil, invalid("disk %s of the original server %s is missing or smaller than %d bytes: reverse into new disks instead", d.Name, original.ID, d.Bytes)
		}
		disks = append(disks, own)
	}
	return disks, nil
}
