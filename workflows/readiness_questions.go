package workflows

import (
	"slices"
	"strconv"

	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// Calls of the provider contract that each part of a site needs. Writing to the ledger is
// tried by itself.
var (
	recoverCalls = []string{"Disk", "Entries", "Image", "Network", "RegisterImage", "Server", "Servers", "Snapshot", "StartCreateDisk", "StartLaunch", "TerminateServer"}
	copyCalls    = []string{"Snapshots", "StartCopySnapshot"}                     // points are copied to the site
	sourceCalls  = []string{"Disk", "Entries", "Server", "Servers", "StopServer"} // servers are described there, and fenced
	cutCalls     = []string{"Snapshot", "Snapshots", "StartSnapshots"}            // points are cut there
	addressCalls = []string{"Address", "AllocateAddress", "AssociateAddress"}
	fixedCalls   = []string{"CheckAddress"}
	scriptCalls  = []string{"ScriptRun", "StartScript"}
	nameCalls    = []string{"Change", "Records", "StartSetRecords"}
)

// readySite is a site with all that the servers want of it.
type readySite struct {
	where    activities.Site
	calls    []string
	launches []*readyServer
	records  []activities.ReadyRecord
}

func (s *readySite) needs(calls ...string) { s.calls = append(s.calls, calls...) }

// sites puts together what the servers want of each site, in the order of names.
func (r *readiness) sites() []*readySite {
	all := map[string]*readySite{}
	at := func(s plan.Site) *readySite {
		if all[s.Name] == nil {
			all[s.Name] = &readySite{where: site(s)}
		}
		return all[s.Name]
	}
	for _, s := range r.servers {
		from, to := at(s.source()), at(s.target())
		from.needs(sourceCalls...)
		to.needs(recoverCalls...)
		if s.spec.Agentless() {
			from.needs(cutCalls...)
			to.needs(copyCalls...)
		}
		if s.spec.Script != "" {
			to.needs(scriptCalls...)
		}
		if s.spec.Launch.PublicIP != "" {
			to.needs(addressCalls...)
		}
		if s.recoverable() {
			to.launches = append(to.launches, s)
			if s.launch().IP != "" {
				to.needs(fixedCalls...)
			}
		}
		for i, rec := range s.spec.Records {
			names := at(s.spec.RecordSites[i])
			names.needs(nameCalls...)
			names.records = append(names.records, activities.ReadyRecord{Server: s.spec.Name, Name: rec.Name, Zone: rec.Zone, TTL: rec.TTL.D(), Active: s.reached()})
		}
	}
	sites := make([]*readySite, 0, len(all))
	for _, name := range workflow.DeterministicKeys(all) {
		s := all[name]
		slices.Sort(s.calls)
		s.calls = slices.Compact(s.calls)
		sites = append(sites, s)
	}
	return sites
}

// questions are all that is asked of sites and agents: first of the sites as a whole, then
// of the agents, launches, points and names.
func (r *readiness) questions() []readyQuestion {
	sites := r.sites()
	var all []readyQuestion
	for _, s := range sites {
		all = append(all, func(ctx workflow.Context) []activities.Check { return r.askSite(ctx, s) })
	}
	all = append(all, r.askAgents()...)
	for _, s := range sites {
		if len(s.launches) > 0 {
			all = append(all, func(ctx workflow.Context) []activities.Check { return r.askLaunch(ctx, s) })
		}
	}
	for _, s := range r.servers {
		if s.point != nil {
			all = append(all, func(ctx workflow.Context) []activities.Check { return r.askPoint(ctx, s) })
		}
	}
	for _, s := range sites {
		if len(s.records) > 0 {
			all = append(all, func(ctx workflow.Context) []activities.Check { return r.askNames(ctx, s) })
		}
	}
	return all
}

// askSite: a site of which nobody takes tasks is lost to a recovery, too.
func (r *readiness) askSite(ctx workflow.Context, s *readySite) []activities.Check {
	return r.lines(ctx, s.where, "readiness of "+s.where.Name,
		activities.Check{Check: activities.CheckKindSite, Subject: "its worker, queue " + CloudQueue(s.where), Status: activities.CheckFail}, cloudActs.CheckReadySite,
		activities.ReadySiteInput{Site: s.where, Plan: r.in.Plan, Operation: r.in.WorkflowID, Calls: s.calls, Launches: len(s.launches) > 0})
}

func (r *readiness) askLaunch(ctx workflow.Context, s *readySite) []activities.Check {
	in := activities.ReadyLaunchInput{Site: s.where, Plan: r.in.Plan}
	for _, server := range s.launches {
		in.Servers = append(in.Servers, server.launch())
	}
	n := strconv.Itoa(len(in.Servers))
	return r.lines(ctx, s.where, "launch of "+n+" servers at "+s.where.Name,
		activities.Check{Check: activities.CheckKindLaunch, Subject: n + " servers at once"}, cloudActs.CheckReadyLaunch, in)
}

func (r *readiness) askPoint(ctx workflow.Context, s *readyServer) []activities.Check {
	where := site(s.target())
	return r.lines(ctx, where, "recovery point of "+s.spec.Name,
		activities.Check{Check: activities.CheckKindSnapshot, Server: s.spec.Name, Subject: "those of recovery point " + s.point.ID}, cloudActs.CheckReadyPoint,
		activities.ReadyPointInput{Site: where, Plan: r.in.Plan, Server: s.spec.Name, Point: *s.point, RPO: r.in.Spec.Objectives.RPO.D(), Interval: s.spec.Policy.Every.D()})
}

func (r *readiness) askNames(ctx workflow.Context, s *readySite) []activities.Check {
	return r.lines(ctx, s.where, "DNS at "+s.where.Name,
		activities.Check{Check: activities.CheckKindRecord, Subject: strconv.Itoa(len(s.records)) + " records"}, cloudActs.CheckReadyNames,
		activities.ReadyNamesInput{Site: s.where, Plan: r.in.Plan, Records: s.records})
}

// askAgents asks each agent once whether it is there.
func (r *readiness) askAgents() []readyQuestion {
	var agents []string
	for _, s := range r.servers {
		agents = append(agents, s.agents()...)
	}
	slices.Sort(agents)
	var all []readyQuestion
	for _, agent := range slices.Compact(agents) {
		all = append(all, func(ctx workflow.Context) []activities.Check {
			line := activities.Check{Check: activities.CheckKindAgent, Subject: agent, Status: activities.CheckOK, Cause: "answers"}
			err := workflow.ExecuteActivity(r.t.look(ctx, HostQueue(agent), "does "+agent+" answer?"), hostActs.Identity).Get(ctx, nil)
			if err != nil {
				line.Status = activities.CheckFail
				_, line.Cause, line.Mend = activities.Explain(err)
			}
			return []activities.Check{line}
		})
	}
	return all
}
