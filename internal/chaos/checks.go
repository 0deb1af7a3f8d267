package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/internal/demo/inventory"
	"lifeboat/internal/demo/numbers"
	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// audit holds both sites against their ledgers. Replication makes and deletes
// points all the time, so only what stays wrong over several looks is a fault.
func (r *round) audit(ctx context.Context) error {
	open := func(e cloud.Entry) bool { return e.Role == activities.RolePoint || e.Role == activities.RoleBase }
	var lasting []string
	for look := range 4 {
		var now []string
		for _, p := range r.bothSites() {
			faults, err := inventory.Audit(ctx, p, open)
			if err != nil {
				return err
			}
			now = append(now, faults...)
		}
		if look == 0 {
			lasting = now
		}
		lasting = slices.DeleteFunc(lasting, func(f string) bool { return !slices.Contains(now, f) })
		if len(lasting) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
	return fmt.Errorf("ledger: %s", strings.Join(lasting, "; "))
}

// nothingLeft makes sure that the plan has nothing at a site but what was handed
// over and what has one of the roles that stay.
func (r *round) nothingLeft(ctx context.Context, p site, staying ...string) error {
	left, err := inventory.Left(ctx, p, stage.Plan, append(staying, activities.RolePlan)...)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left over: %s", strings.Join(left, ", "))
	}
	return nil
}

// checkReplicating: the client is answered, points are made, nothing is there twice.
func (r *round) checkReplicating(ctx context.Context) error {
	if _, err := r.world.WaitAcks(ctx, 5); err != nil {
		return err
	}
	return r.audit(ctx)
}

// checkDrill: the drilled disks are the point, bit for bit, and so is what the
// database says.
func (r *round) checkDrill(ctx context.Context) error {
	server := r.report.Servers[0]
	if err := r.theatre.start(ctx, r.theatre.recovery(), server.ServerID); err != nil { // it may be the last victim
		return err
	}
	machine, err := r.theatre.recovery().Server(ctx, server.ServerID)
	if err != nil {
		return err
	}
	client := r.theatre.inside(r.theatre.recovery(), machine.Network)
	err = r.measure(ctx, "http://"+net.JoinHostPort(machine.IP, strconv.Itoa(stage.Port)), client, true)
	return errors.Join(err, r.checkRoots(ctx, r.theatre.recovery()), r.audit(ctx))
}

// checkClean: nothing that the drill made is left.
func (r *round) checkClean(ctx context.Context) error {
	if left := r.report.Resources.Left; left != 0 {
		return fmt.Errorf("the report says %d left: %v", left, r.report.Resources.LeftOver)
	}
	for _, p := range r.bothSites() {
		items, err := inventory.List(ctx, p, map[string]string{cloud.TagOperation: r.nowStandby().operation})
		if err != nil {
			return err
		}
		if len(items) > 0 {
			return fmt.Errorf("the drill is clean, but there is %v", items)
		}
	}
	return r.audit(ctx)
}

// checkRecovered: the recovered disks are the point, bit for bit, the database
// passes its check, nothing acknowledged before the point is missing, and nothing
// at all when the way was planned. Then the client may write again.
func (r *round) checkRecovered(ctx context.Context) error {
	site := r.nowServing().site
	err := r.checkRoots(ctx, site)
	where, uerr := r.world.URL(ctx)
	err = errors.Join(err, uerr)
	if err == nil {
		err = r.measure(ctx, where, nil, false)
	}
	r.release()
	if err != nil {
		return err
	}
	if _, err := r.world.WaitAcks(ctx, 5); err != nil {
		return err
	}
	return r.audit(ctx)
}

// checkCommitted: what replication needed is gone, but for what a site that is down keeps until it is back.
func (r *round) checkCommitted(ctx context.Context) error {
	var kept []string
	if !r.planned {
		kept = r.theatre.keptBySource()
	}
	return errors.Join(r.nothingLeft(ctx, r.theatre.recovery()), r.nothingLeft(ctx, r.theatre.primary(), kept...), r.audit(ctx))
}

// checkRegistered: only the replicas for the next delta are left.
func (r *round) checkRegistered(ctx context.Context) error {
	err := errors.Join(r.nothingLeft(ctx, r.theatre.primary()), r.nothingLeft(ctx, r.theatre.recovery(), activities.RoleReplica))
	if err != nil {
		return err
	}
	if err := r.clearOrigin(ctx); err != nil {
		return err
	}
	return r.audit(ctx)
}

// measure looks into a recovered database.
func (r *round) measure(ctx context.Context, url string, client *http.Client, branch bool) error {
	report := r.report
	m, err := r.world.History.Measure(ctx, numbers.Recovery{URL: url, Client: client, Declared: *report.Stamps.Declared,
		PointTime: *report.Servers[0].PointTime, Branch: branch})
	if err != nil {
		return err
	}
	r.Log("  %s: %d of %d acknowledged writes found, %d lost after the point, RPO %s", report.WorkflowID, m.Found, m.Acked, m.LostAfter, m.RPO.Round(time.Millisecond))
	if !m.OK() {
		return fmt.Errorf("%s: database: %s", report.WorkflowID, strings.Join(m.Problems, "; "))
	}
	if lossless := r.planned && report.Operation != workflows.OpSwitch; lossless && !branch && m.LostAfter > 0 {
		return fmt.Errorf("%s: %d acknowledged writes were lost on a planned way", report.WorkflowID, m.LostAfter)
	}
	return nil
}

// checkRoots compares the recovered disks, which nobody has written to yet, with their point.
func (r *round) checkRoots(ctx context.Context, p site) error {
	server := r.report.Servers[0]
	machine, err := p.Server(ctx, server.ServerID)
	if err != nil {
		return err
	}
	var points []activities.Point
	if err := r.query(ctx, workflows.ServerID(stage.Plan, stage.Server), workflows.QueryPoints, &points); err != nil {
		return err
	}
	var point *activities.Point
	if i := slices.IndexFunc(points, func(p activities.Point) bool { return p.ID == server.Point }); i >= 0 {
		point = &points[i] // else the entity does not list it (any more)
	}
	return r.theatre.checkDisks(ctx, p, machine, server, point)
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
