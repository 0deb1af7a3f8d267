package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// step is one operation of the life cycle.
type step struct {
	name    string
	usual   time.Duration // kills come within this time
	victims []victim
	// leaves: the server that serves now is left behind, so nobody starts it again.
	leaves bool
	// mayStop: the campaign may end before this step.
	mayStop bool
	do      func(ctx context.Context) error
	check   func(ctx context.Context) error
}

// lifeCycle draws the way that this cycle takes.
func (c *campaign) lifeCycle() []step {
	planned, inPlace := c.rng.Float64() < 0.5, c.rng.Float64() < 0.4
	inPlace = inPlace && c.theatre.inPlace()
	_, programs := c.theatre.cast()
	with := func(servers ...victim) []victim { return append(servers, programs...) }
	withServing, withStandby, everybody := with(killServing), with(killStandby), with(killServing, killStandby)
	over := step{name: "failover, source down", usual: 2 * time.Second, victims: withStandby, leaves: true}
	if planned {
		over = step{name: "failover, planned", usual: 2 * time.Second, victims: everybody, leaves: true}
	}
	r := &round{campaign: c, inPlace: inPlace, planned: planned}
	over.do, over.check = r.failover, r.checkRecovered
	back := "reverse"
	if inPlace {
		back = "reverse, in place"
	}
	return []step{
		{name: "replicate", usual: 2 * time.Second, victims: withServing, mayStop: true, do: r.replicate, check: r.checkReplicating},
		{name: "drill", usual: 2 * time.Second, victims: everybody, do: r.drill, check: r.checkDrill},
		{name: "clean drill", usual: 600 * time.Millisecond, victims: withStandby, do: r.cleanDrill, check: r.checkClean},
		over,
		{name: "switch point", usual: 2 * time.Second, victims: withStandby, leaves: true, do: r.switchPoint, check: r.checkRecovered},
		{name: "commit", usual: 600 * time.Millisecond, victims: withServing, do: r.commit, check: r.checkCommitted},
		{name: back, usual: 2 * time.Second, victims: withServing, do: r.reverse, check: r.checkReplicating},
		{name: "failback", usual: 2 * time.Second, victims: everybody, leaves: true, do: r.failback, check: r.checkRecovered},
		{name: "register", usual: 800 * time.Millisecond, victims: withServing, do: r.register, check: r.checkRegistered},
	}
}

// round is one way through the life cycle.
type round struct {
	*campaign
	planned, inPlace bool
	origin           machine          // the server at the primary site before the failover
	report           workflows.Report // of the last operation
	began            time.Time        // of the last operation, as its caller saw it
}

func (r *round) replicate(ctx context.Context) error {
	began := time.Now()
	if err := r.command(ctx, workflows.UpdateStartReplication, workflows.PhaseRealTime); err != nil {
		return err
	}
	return r.waitPoints(ctx, began, 2)
}

// waitPoints waits for so many recovery points that were cut after an instant.
func (r *round) waitPoints(ctx context.Context, after time.Time, n int) error {
	if r.theatre.marks() {
		for range n {
			if err := r.mark(ctx); err != nil {
				return err
			}
		}
	}
	var points []activities.Point
	err := stage.Poll(ctx, patience, func() (bool, error) {
		if err := r.query(ctx, workflows.ServerID(stage.Plan, stage.Server), workflows.QueryPoints, &points); err != nil {
			return false, err
		}
		newer := 0
		for _, p := range points {
			if p.Time.After(after) {
				newer++
			}
		}
		return newer >= n, nil
	})
	if err != nil {
		view, verr := r.server(ctx)
		return fmt.Errorf("no %d new recovery points (phase %s, health %s %s, query %v): %w", n, view.Phase, view.Health, view.HealthReason, verr, err)
	}
	return nil
}

// mark asks for a recovery point.
func (r *round) mark(ctx context.Context) error {
	var last error
	for range 3 { // as a person does who sees it fail
		request := workflows.MarkRequest{Label: "chaos", RequestID: uuid.NewString()}
		if last = r.update(ctx, workflows.ServerID(stage.Plan, stage.Server), workflows.UpdateMarkPoint, request, nil); last == nil {
			return nil
		}
	}
	return fmt.Errorf("make a recovery point: %w", last)
}

// operate starts an operation and follows it to its end. One that failed or was
// given up is started again, as a person does: at most twice.
func (r *round) operate(ctx context.Context, op workflows.Operation, update string, site site, req workflows.OperationRequest) error {
	for try := 0; ; try++ {
		r.began = time.Now()
		ref, err := r.begin(ctx, op, update, req)
		if err != nil {
			return err
		}
		r.setStandby(upcoming{site, ref.WorkflowID})
		r.report, err = r.follow(ctx, ref.WorkflowID, func(report workflows.Report) error { return r.answer(ctx, report) })
		if err != nil {
			return err
		}
		if r.report.Outcome == workflows.OutcomeDone {
			return nil
		}
		if try == 2 {
			return fmt.Errorf("%s was tried three times: %s", op, steps(r.report))
		}
		r.summary.Repeats++
		r.Log("  %s is started again: %s %s", op, r.report.Outcome, r.report.Reason)
		if op == workflows.OpDrill {
			if err := r.cleanDrill(ctx); err != nil {
				return err
			}
		}
		if err := r.waitIdle(ctx); err != nil {
			return err
		}
	}
}

// waitIdle waits until no operation holds the server.
func (r *round) waitIdle(ctx context.Context) error {
	return stage.Poll(ctx, patience, func() (bool, error) {
		v, err := r.server(ctx)
		return v.Operation == "" && v.Phase != workflows.PhaseFailingOver && v.Phase != workflows.PhaseFailingBack, err
	})
}

func (r *round) drill(ctx context.Context) error {
	return r.operate(ctx, workflows.OpDrill, workflows.UpdateDrill, r.theatre.recovery(), workflows.OperationRequest{Point: "latest"})
}

func (r *round) cleanDrill(ctx context.Context) error {
	var last error
	for range 3 {
		last = r.update(ctx, workflows.PlanID(stage.Plan), workflows.UpdateCleanDrill, workflows.CleanDrillRequest{}, &r.report)
		if last == nil || isRefused(last) {
			break
		}
	}
	err := stage.Poll(ctx, patience, func() (bool, error) {
		v, err := r.server(ctx)
		return v.Drill == workflows.DrillNone, err
	})
	if err != nil {
		return fmt.Errorf("clean drill: %w (%v)", err, last)
	}
	return nil
}

// failover leaves the primary site: planned, or because its server was killed.
func (r *round) failover(ctx context.Context) error {
	r.origin = r.nowServing()
	old, err := r.world.URL(ctx)
	if err != nil {
		return err
	}
	r.hold(hostOf(old)) // until it is checked
	req := workflows.OperationRequest{Point: "current-time"}
	if !r.planned {
		if _, err := r.theatre.kill(ctx, r.origin.id); err != nil {
			return err
		}
		r.killed(killServing)
		now := time.Now().UTC()
		req = workflows.OperationRequest{Point: "latest", SourceDown: true, Declared: &now}
	}
	if err := r.operate(ctx, workflows.OpFailover, workflows.UpdateFailover, r.theatre.recovery(), req); err != nil {
		return err
	}
	r.setServing(machine{r.theatre.recovery(), r.report.Servers[0].ServerID})
	return r.waitPhase(ctx, workflows.PhaseFailedOver)
}

// switchPoint goes to the point before the one that the failover took.
func (r *round) switchPoint(ctx context.Context) error {
	r.hold("")
	used := *r.report.Servers[0].PointTime
	var points []activities.Point
	if err := r.query(ctx, workflows.ServerID(stage.Plan, stage.Server), workflows.QueryPoints, &points); err != nil {
		return err
	}
	for _, p := range points { // newest first
		if p.Time.Before(used) {
			return r.switchTo(ctx, p.ID)
		}
	}
	return fmt.Errorf("there is no point before %s among %d", used, len(points))
}

func (r *round) switchTo(ctx context.Context, point string) error {
	err := r.operate(ctx, workflows.OpSwitch, workflows.UpdateSwitchPoint, r.theatre.recovery(), workflows.OperationRequest{Point: point})
	if err != nil {
		return err
	}
	r.setServing(machine{r.theatre.recovery(), r.report.Servers[0].ServerID})
	return r.waitPhase(ctx, workflows.PhaseFailedOver)
}

func (r *round) commit(ctx context.Context) error {
	return r.command(ctx, workflows.UpdateCommit, workflows.PhaseFailoverComplete)
}

func (r *round) reverse(ctx context.Context) error {
	if err := r.command(ctx, workflows.UpdateReverseRegister, workflows.PhaseReverseRegistered); err != nil {
		return err
	}
	req := workflows.OperationRequest{}
	if r.inPlace {
		req.InPlace, req.Confirm, req.Servers = true, stage.Server, []string{stage.Server}
	}
	began := time.Now()
	if err := r.operate(ctx, workflows.OpReverse, workflows.UpdateReverse, r.theatre.primary(), req); err != nil {
		return err
	}
	if err := r.waitPhase(ctx, workflows.PhaseReverseRealTime); err != nil {
		return err
	}
	return r.waitPoints(ctx, began, 1)
}

func (r *round) failback(ctx context.Context) error {
	r.planned = true
	old, err := r.world.URL(ctx)
	if err != nil {
		return err
	}
	r.hold(hostOf(old))
	if err := r.operate(ctx, workflows.OpFailback, workflows.UpdateFailback, r.theatre.primary(), workflows.OperationRequest{}); err != nil {
		return err
	}
	r.setServing(machine{r.theatre.primary(), r.report.Servers[0].ServerID})
	return r.waitPhase(ctx, workflows.PhaseFailedBack)
}

func (r *round) register(ctx context.Context) error {
	return r.command(ctx, workflows.UpdateRegister, workflows.PhaseInitialized)
}

// clearOrigin deletes the server that was at the primary site before the failover,
// as its owner does when the new one has proved itself. Lifeboat never does.
func (r *round) clearOrigin(ctx context.Context) error {
	if r.nowServing().id == r.origin.id {
		return nil // the failback was in place
	}
	old, err := r.origin.site.Server(ctx, r.origin.id)
	if err != nil {
		return err
	}
	if err := r.origin.site.TerminateServer(ctx, old.ID); err != nil {
		return err
	}
	err = stage.Poll(ctx, 20*time.Second, func() (bool, error) {
		_, err := r.origin.site.Server(ctx, old.ID)
		return cloud.IsNotFound(err), cloud.IgnoreNotFound(err)
	})
	if err != nil {
		return fmt.Errorf("delete the server that was left behind: %w", err)
	}
	gone := []string{old.Tags[cloud.TagToken]}
	for _, d := range old.Disks {
		disk, err := r.origin.site.Disk(ctx, d.DiskID)
		if err != nil {
			return err
		}
		if err := r.origin.site.DeleteDisk(ctx, disk.ID); err != nil {
			return err
		}
		gone = append(gone, disk.Tags[cloud.TagToken])
	}
	for _, token := range gone {
		if token == "" {
			continue // of before Lifeboat
		}
		if err := r.origin.site.Gone(ctx, token); err != nil {
			return err
		}
	}
	return nil
}
