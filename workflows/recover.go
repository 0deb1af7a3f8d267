package workflows

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// recovery is one server on its way up, at one site, by one operation.
type recovery struct {
	o       *operation
	i       int
	state   *ServerState
	report  *ServerReport
	where   activities.Site
	role    string
	network activities.NetworkInfo
	point   activities.Point
	disks   []activities.DiskInfo
	server  activities.ServerInfo
	known   bool // the worker without agents knows the points
}

// recovery prepares the recovery of server i.
func (o *operation) recovery(i int, role string) *recovery {
	return &recovery{o: o, i: i, state: &o.in.Servers[i], report: &o.report.Servers[i], where: o.target(i), role: role}
}

func (r *recovery) name() string { return r.state.Spec.Name }

func (r *recovery) scope() activities.Scope {
	return activities.Scope{Site: r.where, Plan: r.o.in.Plan, Server: r.name(), Operation: r.o.in.WorkflowID, Epoch: r.o.in.Epoch, Role: r.role}
}

func (r *recovery) queue() string { return CloudQueue(r.where) }

// step runs a step of this server.
func (r *recovery) step(ctx workflow.Context, name string, skippable bool, f func(workflow.Context) (string, error)) error {
	return r.o.step(ctx, name, r.name(), skippable, f)
}

// clean deletes what the operation made for this server; it is the undo of all that creates.
func (r *recovery) clean(ctx workflow.Context) error {
	var counts activities.Counts
	err := workflow.ExecuteActivity(r.o.t.critical(ctx, r.queue(), "undo: delete what was made for "+r.name()), cloudActs.CleanUp,
		activities.CleanUpInput{Scope: activities.Scope{Site: r.where, Plan: r.o.in.Plan, Server: r.name(), Operation: r.o.in.WorkflowID}, IncludeKept: true}).Get(ctx, &counts)
	if err == nil && counts.Left > 0 {
		err = temporal.NewNonRetryableApplicationError("could not be deleted: "+strings.Join(counts.LeftOver, ", "), activities.LeftOver, nil)
	}
	return err
}

// choosePoint resolves the selector and marks the point as in use.
func (r *recovery) choosePoint(ctx workflow.Context, selector string, before *time.Time) error {
	return r.step(ctx, "choose recovery point", false, func(ctx workflow.Context) (string, error) {
		if err := r.knowPoints(ctx); err != nil {
			return "", err
		}
		err := workflow.ExecuteActivity(r.o.t.read(ctx, HostQueue(r.agent()), "choose recovery point "+selector), hostActs.SelectPoint,
			activities.SelectPointInput{Stream: r.state.streamID(), Selector: selector, Operation: r.o.in.WorkflowID, Before: before}).Get(ctx, &r.point)
		if err != nil {
			return "", err
		}
		t := r.point.Time
		r.report.Point, r.report.PointTime, r.report.Roots = r.point.ID, &t, map[string]string{}
		for _, d := range r.point.Disks {
			r.report.Roots[d.Name] = d.Root
		}
		if r.o.report.Point == "" {
			r.o.report.Point = r.point.ID
		}
		return r.point.ID + ", cut " + t.UTC().Format(time.DateTime) + " UTC", nil
	})
}

// agent that keeps the points: the one next to the replica disks.
func (r *recovery) agent() string {
	for _, s := range []plan.Site{r.state.Spec.Primary, r.state.Spec.Recovery} {
		if s.Name == r.where.Name {
			return s.Agent
		}
	}
	return r.where.Name
}

// knowPoints makes sure that the points can be used, where no agent keeps them.
func (r *recovery) knowPoints(ctx workflow.Context) error {
	if r.known || !r.state.Spec.Agentless() {
		return nil
	}
	err := knowAgentless(ctx, r.o.t, r.state)
	r.known = err == nil
	return err
}

// sender is the agent that fetches the last state of the server at a side.
func (r *recovery) sender(side plan.Site) string {
	if r.state.Spec.Agentless() {
		return r.agent()
	}
	return side.Agent
}

// releasePoint lets retention have the point again.
func (r *recovery) releasePoint(ctx workflow.Context) error {
	if r.point.ID == "" {
		return nil
	}
	return workflow.ExecuteActivity(r.o.t.critical(ctx, HostQueue(r.agent()), "release recovery point"), hostActs.ReleasePoint,
		activities.PointInput{Stream: r.state.streamID(), ID: r.point.ID}).Get(ctx, nil)
}

// makeDisks makes the server's disks from the point.
func (r *recovery) makeDisks(ctx workflow.Context) error {
	return r.step(ctx, "make disks from the point", false, func(ctx workflow.Context) (string, error) {
		in := activities.CreateDisksInput{Scope: r.scope(), Step: "disks"}
		src := r.state.sourceServer()
		for _, d := range r.point.Disks {
			boot := slices.ContainsFunc(src.Disks, func(s activities.DiskInfo) bool { return s.Name == d.Name && s.Boot })
			in.Disks = append(in.Disks, activities.DiskInfo{Name: d.Name, Bytes: d.Bytes, Type: r.diskType(), Boot: boot, Snapshot: d.Snapshot})
		}
		err := workflow.ExecuteActivity(r.o.t.await(ctx, r.queue(), "make disks of "+r.name()+" from "+r.point.ID), cloudActs.CreateDisks, in).Get(ctx, &r.disks)
		if err != nil {
			return "", err
		}
		if disksToCome(r.disks) {
			return strconv.Itoa(len(r.disks)) + " disks come with the launch", nil
		}
		stamp(&r.o.report.Stamps.DisksReady, workflow.Now(ctx))
		r.reportDisks()
		return strconv.Itoa(len(r.disks)) + " disks", nil
	})
}

// disksToCome tells that the site makes disks when it launches their server.
func disksToCome(disks []activities.DiskInfo) bool {
	return slices.ContainsFunc(disks, func(d activities.DiskInfo) bool { return d.DiskID == "" })
}

// reportDisks notes the disks that are in service in the end.
func (r *recovery) reportDisks() {
	for _, d := range r.disks {
		r.report.disks = append(r.report.disks, d.DiskID)
	}
}

func (r *recovery) diskType() string {
	return first(r.o.in.Request.Overrides.DiskType, r.state.Spec.Launch.DiskType)
}

// findNetwork finds (or, with a CIDR, makes) the network that the server is launched in.
func (r *recovery) findNetwork(ctx workflow.Context, n plan.Network, role, step string) error {
	scope := r.scope()
	scope.Role, scope.Server = role, ""
	if role == activities.RolePlan {
		scope.Operation = PlanID(r.o.in.Plan)
	}
	if over := r.o.in.Request.Overrides.Network; over != "" {
		n = plan.Network{Name: over}
	}
	return workflow.ExecuteActivity(r.o.t.await(ctx, r.queue(), "network "+n.Name), cloudActs.EnsureNetwork,
		activities.EnsureNetworkInput{Scope: scope, Step: step, Name: n.Name, CIDR: n.CIDR, Zone: n.Zone}).Get(ctx, &r.network)
}

// launch starts the server on its disks and waits until it runs.
func (r *recovery) launch(ctx workflow.Context) error {
	return r.step(ctx, "launch server", false, func(ctx workflow.Context) (string, error) {
		r.o.launched = true
		in := r.launchInput()
		err := workflow.ExecuteActivity(r.o.t.await(ctx, r.queue(), "launch "+r.name()), cloudActs.LaunchServer, in).Get(ctx, &r.server)
		if err != nil {
			return "", err
		}
		now := workflow.Now(ctx)
		if disksToCome(r.disks) {
			stamp(&r.o.report.Stamps.DisksReady, now)
			r.disks = r.server.Disks
			r.reportDisks()
		}
		stamp(&r.o.report.Stamps.Running, now)
		r.report.ServerID, r.report.IP, r.report.Public = r.server.ID, r.server.IP, r.server.Public
		return r.server.ID + " at " + r.server.IP + " in " + r.network.Name + isolation(r.network), nil
	})
}

func isolation(n activities.NetworkInfo) string {
	if n.Isolated {
		return " (isolated)"
	}
	return ""
}

// launchInput puts the plan's launch settings and the operation's overrides together.
func (r *recovery) launchInput() activities.LaunchServerInput {
	l, over, src := r.state.Spec.Launch, r.o.in.Request.Overrides, r.state.sourceServer()
	in := activities.LaunchServerInput{Scope: r.scope(), Step: "launch", Name: r.name(), Disks: r.disks, NetworkID: r.network.ID,
		Type: first(over.Type, l.Type), CPU: l.CPU, Memory: int64(l.Memory), Ports: src.Ports, Launch: r.settings()}
	if over.CPU > 0 {
		in.Type, in.CPU, in.Memory = "", over.CPU, over.Memory
	}
	in.IP = over.IP
	if in.IP == "" && r.o.in.Operation != OpFailback {
		in.IP = l.IP
	}
	if in.IP == "" && r.o.in.Operation != OpFailback && contains(r.network.CIDR, src.IP) {
		in.IP = src.IP
	}
	return in
}

// settings of the provider: those of the plan for the recovery site over those of the
// source server, and at home again those of the server that was there.
func (r *recovery) settings() map[string]string {
	src := r.state.sourceServer().Launch
	if r.where.Provider == plan.ProviderLocal {
		return src
	}
	if r.where.Name == r.state.Spec.Primary.Name {
		return r.state.Primary.Launch
	}
	merged := maps.Clone(src)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, r.state.Spec.Launch.Settings)
	return merged
}

func contains(cidr, ip string) bool {
	prefix, err := netip.ParsePrefix(cidr)
	addr, err2 := netip.ParseAddr(ip)
	return err == nil && err2 == nil && prefix.Contains(addr)
}

// runScript runs the post-start script, when there is one.
func (r *recovery) runScript(ctx workflow.Context) error {
	content := first(r.o.in.Request.Overrides.Script, r.state.Spec.Script)
	if content == "" {
		return nil
	}
	return r.step(ctx, "post-start script", true, func(ctx workflow.Context) (string, error) {
		limit := r.state.Spec.Launch.ScriptTimeout.D()
		if limit == 0 {
			limit = r.o.t.ScriptDefault
		}
		var result activities.ScriptResult
		attempt := strconv.Itoa(len(r.o.report.Steps)) // a retry by a person runs it again
		err := workflow.ExecuteActivity(r.o.t.within(ctx, r.queue(), "post-start script on "+r.name(), limit), cloudActs.RunScript,
			activities.RunScriptInput{Scope: r.scope(), Step: "script-" + attempt, ServerID: r.server.ID, Content: content, Timeout: limit,
				Env: map[string]string{"LIFEBOAT_OPERATION": string(r.o.in.Operation), "LIFEBOAT_PLAN": r.o.in.Plan, "LIFEBOAT_SERVER": r.name(),
					"LIFEBOAT_POINT": r.point.ID, "LIFEBOAT_POINT_TIME": r.point.Time.UTC().Format(time.RFC3339Nano)}}).Get(ctx, &result)
		if err != nil {
			return "", err
		}
		r.report.Script, r.report.NewestWrite = tail(result.Output, 2000), result.NewestWrite
		if result.ExitCode != 0 {
			return "", temporal.NewNonRetryableApplicationError("the script ended with status "+strconv.Itoa(result.ExitCode)+": "+tail(result.Output, 300), activities.ScriptFailed, nil)
		}
		return "ended with status 0", nil
	})
}

// health waits until the server answers at its private address.
func (r *recovery) health(ctx workflow.Context) error {
	return r.step(ctx, "health check", true, func(ctx workflow.Context) (string, error) {
		if err := checkHealth(ctx, r.o.t, r.where, r.state.Spec.Launch.Health, &r.server); err != nil {
			return "", err
		}
		stamp(&r.o.report.Stamps.Healthy, workflow.Now(ctx))
		return "green", nil
	})
}

// checkHealth asks a server at its private address; without port there is nothing to ask.
func checkHealth(ctx workflow.Context, t Timing, where activities.Site, h plan.Health, srv *activities.ServerInfo) error {
	port := h.Port
	if port == 0 && len(srv.Ports) > 0 {
		port = srv.Ports[0]
	}
	if port == 0 {
		return nil
	}
	limit := h.Timeout.D()
	if limit == 0 {
		limit = t.HealthDefault
	}
	return workflow.ExecuteActivity(t.within(ctx, CloudQueue(where), "health of "+srv.Name+" at "+srv.IP, limit), cloudActs.CheckHealth,
		activities.CheckHealthInput{Site: where, NetworkID: srv.NetworkID, IP: srv.IP, Port: port, HTTP: h.HTTP, Timeout: limit}).Get(ctx, nil)
}

// bringUp is the part that drill, failover, switch and failback share: from the
// point to a server that answers.
func (r *recovery) bringUp(ctx workflow.Context) error {
	for _, step := range []func(workflow.Context) error{r.makeDisks, r.launch, r.runScript, r.health} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
