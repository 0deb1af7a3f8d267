package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// initialize examines the source server and prepares the recovery site:
// installing → initialized, or init-failed with the reason.
func (s *server) initialize(ctx workflow.Context) error {
	s.setPhase(ctx, PhaseInstalling, "")
	err := s.examine(ctx)
	if err == nil {
		err = s.prepareSite(ctx)
	}
	if err != nil {
		s.setPhase(ctx, PhaseInitFailed, words(err))
		return err
	}
	s.setPhase(ctx, PhaseInitialized, "")
	return nil
}

// examine looks at the source server and asks both agents who they are.
func (s *server) examine(ctx workflow.Context) error {
	primary := site(s.Spec.Primary)
	var info activities.ServerInfo
	err := workflow.ExecuteActivity(s.t.read(ctx, CloudQueue(primary), "examine "+s.Spec.Source), cloudActs.InspectServer,
		activities.InspectServerInput{Site: primary, Server: s.Spec.Source}).Get(ctx, &info)
	if err != nil {
		return err
	}
	for _, name := range s.Spec.Disks {
		if !slices.ContainsFunc(info.Disks, func(d activities.DiskInfo) bool { return d.Name == name }) {
			return invalid("server %s has no disk %q; it has %v: correct `disks` in the plan", s.Spec.Source, name, diskNames(info.Disks))
		}
	}
	if len(info.Disks) == 0 {
		return invalid("server %s has no disk to protect", s.Spec.Source)
	}
	if err := s.checkBoot(info); err != nil {
		return err
	}
	for _, agent := range s.agentsToward(s.Spec.Recovery) {
		if _, err := s.identity(ctx, agent); err != nil {
			return err
		}
	}
	s.Primary = &info
	return nil
}

// prepareSite makes sure of what the recovery site must have before the disaster.
func (s *server) prepareSite(ctx workflow.Context) error {
	recovery := site(s.Spec.Recovery)
	scope := activities.Scope{Site: recovery, Plan: s.Plan, Operation: PlanID(s.Plan), Epoch: s.Epoch, Role: activities.RolePlan}
	s.Notes = nil
	if s.Spec.ZoneNote != "" {
		s.Notes = append(s.Notes, s.Spec.ZoneNote)
	}
	var network activities.NetworkInfo
	n := s.Spec.RecoveryNetwork
	err := workflow.ExecuteActivity(s.t.await(ctx, CloudQueue(recovery), "recovery network "+n.Name), cloudActs.EnsureNetwork,
		activities.EnsureNetworkInput{Scope: scope, Step: "network", Name: n.Name, CIDR: n.CIDR, Zone: n.Zone}).Get(ctx, &network)
	if err != nil {
		return err
	}
	if network.Note != "" {
		s.Notes = append(s.Notes, network.Note)
	}
	if name := s.Spec.Launch.PublicIP; name != "" {
		err := workflow.ExecuteActivity(s.t.mutate(ctx, CloudQueue(recovery), "reserve address "+name), cloudActs.EnsureAddress,
			activities.EnsureAddressInput{Scope: scope, Step: "address", Name: name}).Get(ctx, nil)
		if err != nil {
			return err
		}
	}
	if err := s.firstNames(ctx); err != nil {
		return err
	}
	if ip := s.Spec.Launch.IP; ip != "" {
		return workflow.ExecuteActivity(s.t.read(ctx, CloudQueue(recovery), "check address "+ip), cloudActs.CheckAddress,
			activities.CheckAddressInput{Site: recovery, Network: network.ID, IP: ip}).Get(ctx, nil)
	}
	return nil
}

// firstNames points names that do not exist yet to the source server; a name that is
// there is left alone until traffic is switched.
func (s *server) firstNames(ctx workflow.Context) error {
	for i, rec := range s.Spec.Records {
		names := site(s.Spec.RecordSites[i])
		var there []activities.Record
		err := workflow.ExecuteActivity(s.t.read(ctx, CloudQueue(names), "where does "+rec.Name+" lead?"), cloudActs.GetNames,
			activities.NamesInput{Site: names, Zone: rec.Zone, Name: rec.Name}).Get(ctx, &there)
		if err != nil {
			return err
		}
		if len(there) > 0 {
			continue
		}
		if err := pointName(ctx, s.t, rec, names, reach(s.Primary), s.Epoch); err != nil {
			return err
		}
	}
	return nil
}

// startReplication makes replica disks and lets the agents begin; the phases that
// follow come from what the stream reports.
func (s *server) startReplication(ctx workflow.Context) error {
	var undo undoStack
	s.setPhase(ctx, PhaseStarting, "")
	undo.push(func(workflow.Context) error { s.setPhase(ctx, PhaseInitialized, ""); return nil })
	err := s.refreshSource(ctx)
	if err == nil && len(s.Replicas) == 0 && !s.Spec.Agentless() {
		undo.push(func(ctx workflow.Context) error { return s.dropReplicas(ctx) })
		s.Replicas, err = s.createReplicas(ctx, s.Primary)
	}
	if err == nil {
		undo.push(s.stopStream)
		err = s.startStream(ctx)
	}
	if err != nil {
		if uerr := undo.run(ctx); uerr != nil {
			workflow.GetLogger(ctx).Error("replication could not be taken back", "plan", s.Plan, "server", s.Spec.Name, "error", uerr)
		}
	}
	return err
}

// refreshSource looks at the source server again: its disks may have grown.
func (s *server) refreshSource(ctx workflow.Context) error {
	where, src := site(s.sourceSite()), s.sourceServer()
	var info activities.ServerInfo
	err := workflow.ExecuteActivity(s.t.read(ctx, CloudQueue(where), "examine "+src.Name), cloudActs.InspectServer,
		activities.InspectServerInput{Site: where, Server: src.ID}).Get(ctx, &info)
	if err != nil {
		return err
	}
	*src = info
	return nil
}

// createReplicas makes one empty disk at the target for each protected disk of src.
func (s *server) createReplicas(ctx workflow.Context, src *activities.ServerInfo) ([]activities.DiskInfo, error) {
	target := s.targetSite()
	s.Rounds++ // a new round never finds the disks of an earlier one by their token
	in := activities.CreateDisksInput{Scope: s.scope(target, activities.RoleReplica), Step: fmt.Sprintf("replica-%d", s.Rounds)}
	for _, d := range s.protectedDisks(src) {
		in.Disks = append(in.Disks, activities.DiskInfo{Name: d.Name, Bytes: d.Bytes, Type: s.Spec.Launch.DiskType, Boot: d.Boot})
	}
	var disks []activities.DiskInfo
	err := workflow.ExecuteActivity(s.t.await(ctx, CloudQueue(site(target)), "make replica disks"), cloudActs.CreateDisks, in).Get(ctx, &disks)
	return disks, err
}

// dropReplicas deletes the replica disks of this server at the target.
func (s *server) dropReplicas(ctx workflow.Context) error {
	s.Replicas = nil
	target := s.targetSite()
	_, err := s.clean(ctx, activities.CleanUpInput{Scope: s.roleScope(target, activities.RoleReplica), IncludeKept: true}, "delete replica disks")
	return err
}

// startStream lets the target agent receive and the source agent send, at the
// entity's epoch. Both calls may be repeated.
func (s *server) startStream(ctx workflow.Context) error {
	if s.Spec.Agentless() {
		return s.startAgentless(ctx)
	}
	source, target := s.sourceAgent(), s.targetAgent()
	sender, err := s.identity(ctx, source)
	if err != nil {
		return err
	}
	keep := s.Spec.Policy.Keep
	var prepared activities.PrepareTargetResult
	err = workflow.ExecuteActivity(s.t.mutate(ctx, HostQueue(target), "prepare receiver at "+target), hostActs.PrepareTarget,
		activities.PrepareTargetInput{Stream: s.streamID(), Scope: s.scope(s.targetSite(), activities.RolePoint), Epoch: s.Epoch,
			Disks: s.Replicas, Peer: sender.Fingerprint, Keep: keep.Count, Within: keep.Within.D()}).Get(ctx, &prepared)
	if err != nil {
		return err
	}
	src := s.sourceServer()
	err = workflow.ExecuteActivity(s.t.mutate(ctx, HostQueue(source), "start sender at "+source), hostActs.StartSource,
		activities.StartSourceInput{Stream: s.streamID(), Scope: s.scope(s.sourceSite(), ""), Epoch: s.Epoch, ServerID: src.ID,
			Disks: s.protectedDisks(src), Target: prepared, Settings: s.Settings}).Get(ctx, nil)
	if err != nil {
		return err
	}
	s.Stream = &Stream{ID: s.streamID(), Epoch: s.Epoch, Source: source, Target: target}
	s.Health, s.HealthReason = HealthOK, ""
	return nil
}

// stopStream ends sender and receiver; replica disks and points stay. A source
// that does not answer is left behind: the receiver refuses it from now on.
func (s *server) stopStream(ctx workflow.Context) error {
	in := activities.StreamInput{Stream: s.streamID(), Epoch: s.Epoch}
	source, target := s.sourceAgent(), s.targetAgent()
	if s.Stream != nil {
		in.Epoch = s.Stream.Epoch
	}
	s.Stream = nil
	s.detach()
	if s.Spec.Agentless() {
		if err := knowAgentless(ctx, s.t, &s.ServerState); err != nil && !isUnknown(err) {
			return err
		}
	}
	err := workflow.ExecuteActivity(s.t.critical(ctx, HostQueue(target), "stop receiver at "+target), hostActs.StopTarget, in).Get(ctx, nil)
	if err != nil {
		return err
	}
	if s.Spec.Agentless() && s.sourceGivenUp() {
		s.Health, s.HealthReason = HealthOK, ""
		return nil
	}
	err = workflow.ExecuteActivity(s.t.bestEffort(ctx, HostQueue(source), "stop sender at "+source), hostActs.StopSource, in).Get(ctx, nil)
	if err != nil && !s.Spec.Agentless() { // what is left at a source that does not answer is dropBases'

		s.Notes = append(s.Notes, "agent "+source+" did not answer when replication was stopped; the receiver refuses it")
	}
	s.Health, s.HealthReason = HealthOK, ""
	return nil
}

func (s *server) identity(ctx workflow.Context, agent string) (activities.IdentityResult, error) {
	var id activities.IdentityResult
	err := workflow.ExecuteActivity(s.t.read(ctx, HostQueue(agent), "identity of agent "+agent), hostActs.Identity).Get(ctx, &id)
	if temporal.IsTimeoutError(err) {
		return id, temporal.NewNonRetryableApplicationError("agent "+agent+" does not answer; start lifeboat-worker with role agent and name "+agent, activities.HostLost, err)
	}
	return id, err
}

// clean runs a clean-up to its end.
func (s *server) clean(ctx workflow.Context, in activities.CleanUpInput, summary string) (activities.Counts, error) {
	var counts activities.Counts
	err := workflow.ExecuteActivity(s.t.critical(ctx, CloudQueue(in.Scope.Site), summary), cloudActs.CleanUp, in).Get(ctx, &counts)
	if err == nil && counts.Left > 0 {
		err = temporal.NewNonRetryableApplicationError(fmt.Sprintf("%d resources could not be deleted: %v", counts.Left, counts.LeftOver), activities.LeftOver, nil)
	}
	return counts, err
}

// roleScope selects all of this server in a role, whatever operation made it.
func (s *server) roleScope(where plan.Site, role string) activities.Scope {
	return activities.Scope{Site: site(where), Plan: s.Plan, Server: s.Spec.Name, Role: role, Epoch: s.Epoch}
}

func diskNames(disks []activities.DiskInfo) []string {
	names := make([]string, 0, len(disks))
	for _, d := range disks {
		names = append(names, d.Name)
	}
	return names
}
