package workflows

import (
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// switchTraffic moves the reserved public address and the DNS records of a server
// to srv, which runs at where; srv.Public is filled in. It may be repeated.
func switchTraffic(ctx workflow.Context, t Timing, spec *plan.ResolvedServer, where plan.Site, srv *activities.ServerInfo, planName string, epoch int64) error {
	here := site(where)
	if name := spec.Launch.PublicIP; name != "" {
		scope := activities.Scope{Site: here, Plan: planName, Operation: PlanID(planName), Epoch: epoch, Role: activities.RolePlan}
		err := workflow.ExecuteActivity(t.critical(ctx, CloudQueue(here), "reserve address "+name), cloudActs.EnsureAddress,
			activities.EnsureAddressInput{Scope: scope, Step: "address", Name: name}).Get(ctx, nil)
		if err != nil {
			return err
		}
		var moved activities.AddressInfo
		err = workflow.ExecuteActivity(t.critical(ctx, CloudQueue(here), "move address "+name+" to "+srv.ID), cloudActs.MoveAddress,
			activities.MoveAddressInput{Site: here, Name: name, ServerID: srv.ID, Epoch: epoch}).Get(ctx, &moved)
		if err != nil {
			return err
		}
		srv.Public = moved.Public
	}
	for i, rec := range spec.Records {
		if err := pointName(ctx, t, rec, site(spec.RecordSites[i]), reach(srv), epoch); err != nil {
			return err
		}
	}
	return nil
}

// pointName lets a DNS name lead to an address, and waits until every name server says so.
func pointName(ctx workflow.Context, t Timing, rec plan.Record, names activities.Site, address string, epoch int64) error {
	return workflow.ExecuteActivity(t.critical(ctx, CloudQueue(names), "point "+rec.Name+" to "+address), cloudActs.SetNames,
		activities.SetNamesInput{Site: names, Zone: rec.Zone, Step: callID(ctx, rec.Name+"="+address), Epoch: epoch,
			Records: []activities.Record{{Name: rec.Name, Type: "A", TTL: rec.TTL.D(), Values: []string{address}}}}).Get(ctx, nil)
}

// reach is the address under which users reach a server.
func reach(srv *activities.ServerInfo) string {
	if srv.Public != "" {
		return srv.Public
	}
	return srv.IP
}

// pointOfNoReturn drops the undo stack; from here on neither an abort nor a cancel
// of the workflow stops the operation, and steps that fail ask.
func (o *operation) pointOfNoReturn(ctx workflow.Context) (workflow.Context, workflow.CancelFunc) {
	o.committed = true
	o.undo.forget()
	return workflow.NewDisconnectedContext(ctx)
}

// takeTraffic sends users to the recovered servers: who is active is
// written down first, then addresses and names move, then the outside world is asked.
func (o *operation) takeTraffic(ctx workflow.Context, all []*recovery, side func(*recovery) plan.Site) error {
	err := o.step(ctx, "the plan notes who is active", "", false, func(ctx workflow.Context) (string, error) {
		for _, r := range all {
			_, err := call(ctx, o.t, PlanID(o.in.Plan), updateActivate,
				activateRequest{Servers: []string{r.name()}, Side: side(r).Name, Epoch: o.in.Epoch}, "active: "+side(r).Name)
			if err != nil {
				return "", err
			}
		}
		return strings.Join(o.names(), ", "), nil
	})
	if err != nil {
		return err
	}
	return o.together(ctx, o.names(), func(ctx workflow.Context, i int) error {
		k := slices.IndexFunc(all, func(r *recovery) bool { return r.i == i })
		return all[k].serve(ctx, side(all[k]))
	})
}

// serve switches traffic to this server and waits until it is served.
func (r *recovery) serve(ctx workflow.Context, side plan.Site) error {
	err := r.step(ctx, "switch traffic", false, func(ctx workflow.Context) (string, error) {
		err := switchTraffic(ctx, r.o.t, &r.state.Spec, side, &r.server, r.o.in.Plan, r.o.in.Epoch)
		r.report.Public = r.server.Public
		return "to " + reach(&r.server), err
	})
	if err != nil {
		return err
	}
	return r.step(ctx, "traffic served", true, func(ctx workflow.Context) (string, error) {
		for i, rec := range r.state.Spec.Records {
			if err := r.served(ctx, rec, site(r.state.Spec.RecordSites[i])); err != nil {
				return "", err
			}
		}
		stamp(&r.o.report.Stamps.Serving, workflow.Now(ctx))
		return "answers through " + recordNames(r.state.Spec.Records), nil
	})
}

// served asks through a DNS name until the recovered server answers.
func (r *recovery) served(ctx workflow.Context, rec plan.Record, names activities.Site) error {
	h := r.state.Spec.Launch.Health
	port := h.Port
	if port == 0 && len(r.server.Ports) > 0 {
		port = r.server.Ports[0]
	}
	if port == 0 {
		return nil
	}
	limit := h.Timeout.D()
	if limit == 0 {
		limit = r.o.t.HealthDefault
	}
	limit += rec.TTL.D()
	in := activities.CheckServingInput{Site: names, Zone: rec.Zone, Name: rec.Name, Expect: reach(&r.server), Port: port, HTTP: h.HTTP, Timeout: limit}
	if r.server.Public == "" {
		in.ServerSite, in.NetworkID = r.where, r.server.NetworkID // its users are in its network
	}
	return workflow.ExecuteActivity(r.o.t.within(ctx, CloudQueue(names), "traffic through "+rec.Name, limit), cloudActs.CheckServing, in).Get(ctx, nil)
}

func recordNames(records []plan.Record) string {
	names := make([]string, 0, len(records))
	for _, r := range records {
		names = append(names, r.Name)
	}
	if len(names) == 0 {
		return "its address"
	}
	return strings.Join(names, ", ")
}
