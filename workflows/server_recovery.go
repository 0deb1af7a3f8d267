package workflows

import (
	"encoding/json"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
)

// commit: the recovered server has taken over; what replication needed goes.
func (s *server) commit(ctx workflow.Context) error {
	if err := s.dropProtection(ctx); err != nil {
		return err
	}
	err := workflow.ExecuteActivity(s.t.critical(ctx, CloudQueue(site(s.Spec.Recovery)), "hand the recovered server over"), cloudActs.KeepResources,
		activities.KeepInput{Scope: activities.Scope{Site: site(s.Spec.Recovery), Plan: s.Plan, Server: s.Spec.Name, Operation: s.RecoveredBy}}).Get(ctx, nil)
	if err != nil {
		return err
	}
	s.setPhase(ctx, PhaseFailoverComplete, "")
	return nil
}

// cancelFailover takes an uncommitted failover back: the source server starts
// again, traffic returns to it, the recovered server is deleted, replication goes
// on at a new epoch. Until traffic has returned a failure leaves all as it was.
func (s *server) cancelFailover(ctx workflow.Context) error {
	primary := site(s.Spec.Primary)
	started := activities.ServerInfo{}
	err := workflow.ExecuteActivity(s.t.within(ctx, CloudQueue(primary), "start the source server", s.t.Await), cloudActs.StartServer,
		activities.ServerInput{Site: primary, ServerID: s.Primary.ID}).Get(ctx, &started)
	if err != nil {
		return err
	}
	if err := checkHealth(ctx, s.t, primary, s.Spec.Launch.Health, &started); err != nil {
		return err
	}
	if err := s.stillRuns(ctx, started); err != nil {
		return err
	}
	epoch, err := s.activate(ctx, s.Spec.Primary.Name, 0)
	if err != nil {
		return err
	}
	s.Epoch = epoch
	if err := switchTraffic(ctx, s.t, &s.Spec, s.Spec.Primary, &started, s.Plan, epoch); err != nil {
		return err
	}
	s.Primary = &started
	s.Notes = slices.DeleteFunc(s.Notes, func(n string) bool { return n == fencingNote })
	if err := s.dropRecovered(ctx); err != nil {
		return err
	}
	s.Health, s.HealthReason = HealthResyncing, "failover cancelled; catching up"
	if err := s.startStream(ctx); err != nil {
		s.streamNotStarted("the failover was cancelled", err)
	}
	s.setPhase(ctx, PhaseRealTime, "failover cancelled")
	return nil
}

// stillRuns looks once more at a server that was just started: one without a health
// check may have ended again, and must not get the traffic.
func (s *server) stillRuns(ctx workflow.Context, started activities.ServerInfo) error {
	primary := site(s.Spec.Primary)
	var now activities.ServerInfo
	err := workflow.ExecuteActivity(s.t.read(ctx, CloudQueue(primary), "does it still run?"), cloudActs.InspectServer,
		activities.InspectServerInput{Site: primary, Server: started.ID}).Get(ctx, &now)
	if err == nil && now.State != started.State {
		err = temporal.NewNonRetryableApplicationError("server "+started.ID+" at "+primary.Name+" was started and is "+now.State+" again: "+now.Message+
			"; the recovered server goes on serving", activities.Failed, nil)
	}
	return err
}

// dropRecovered deletes the recovered server and its disks.
func (s *server) dropRecovered(ctx workflow.Context) error {
	_, err := s.clean(ctx, activities.CleanUpInput{IncludeKept: true,
		Scope: s.roleScope(s.Spec.Recovery, activities.RoleRecovered)}, "delete the recovered server")
	if err == nil {
		s.Recovered, s.RecoveredBy, s.RecoveredFrom = nil, "", nil
	}
	return err
}

// resumeProtection gives the recovered server up in favour of the one at the
// primary site, which must run: → starting.
func (s *server) resumeProtection(ctx workflow.Context) error {
	primary := site(s.Spec.Primary)
	var info activities.ServerInfo
	err := workflow.ExecuteActivity(s.t.within(ctx, CloudQueue(primary), "start the source server", s.t.Await), cloudActs.StartServer,
		activities.ServerInput{Site: primary, ServerID: s.Primary.ID}).Get(ctx, &info)
	if err != nil {
		return err
	}
	epoch, err := s.activate(ctx, s.Spec.Primary.Name, 0)
	if err != nil {
		return err
	}
	s.Epoch, s.Direction, s.Primary = epoch, Forward, &info
	s.Notes = slices.DeleteFunc(s.Notes, func(n string) bool { return n == fencingNote })
	if err := switchTraffic(ctx, s.t, &s.Spec, s.Spec.Primary, &info, s.Plan, epoch); err != nil {
		return err
	}
	if err := s.releaseRecovered(ctx, true); err != nil {
		return err
	}
	return s.startReplication(ctx)
}

// adoptReplicas turns the disks of the recovered server into replicas, so that
// replication starts with a delta, and deletes the server itself.
func (s *server) adoptReplicas(ctx workflow.Context) error {
	if s.Recovered == nil {
		return nil
	}
	recovery := site(s.Spec.Recovery)
	err := workflow.ExecuteActivity(s.t.critical(ctx, CloudQueue(recovery), "delete the recovered server, keep its disks"), cloudActs.TerminateServer,
		activities.ServerInput{Site: recovery, ServerID: s.Recovered.ID, Force: true, Epoch: s.Epoch}).Get(ctx, nil)
	if err != nil {
		return err
	}
	ids := make([]string, 0, len(s.Recovered.Disks))
	for _, d := range s.Recovered.Disks {
		ids = append(ids, d.DiskID)
	}
	err = workflow.ExecuteActivity(s.t.critical(ctx, CloudQueue(recovery), "keep the disks as replicas"), cloudActs.KeepResources,
		activities.KeepInput{Scope: s.roleScope(s.Spec.Recovery, ""), IDs: ids, NewRole: activities.RoleReplica}).Get(ctx, nil)
	if err != nil {
		return err
	}
	s.Replicas = s.Recovered.Disks
	s.Recovered, s.RecoveredBy, s.RecoveredFrom = nil, "", nil
	return nil
}

// reverseRegister makes sure that the way home can be taken: → reverse-registered.
func (s *server) reverseRegister(ctx workflow.Context) error {
	primary := site(s.Spec.Primary)
	err := workflow.ExecuteActivity(s.t.read(ctx, CloudQueue(primary), "is the primary site back?"), cloudActs.CheckSite, primary).Get(ctx, nil)
	if err != nil {
		return err
	}
	for _, agent := range s.agentsToward(s.Spec.Primary) {
		if _, err := s.identity(ctx, agent); err != nil {
			return err
		}
	}
	s.Direction = Reverse
	if err := s.refreshSource(ctx); err != nil {
		s.Direction = Forward
		return err
	}
	s.setPhase(ctx, PhaseReverseRegistered, "")
	return nil
}

// reverseUnregister takes reverse registration back: → failover-complete.
func (s *server) reverseUnregister(ctx workflow.Context) error {
	if err := s.dropProtection(ctx); err != nil {
		return err
	}
	s.Direction, s.Replicas, s.InPlace = Forward, nil, false
	s.setPhase(ctx, PhaseFailoverComplete, "")
	return nil
}

// register protects the server at the primary site again: → initialized.
func (s *server) register(ctx workflow.Context) error {
	if err := s.dropReverse(ctx); err != nil {
		return err
	}
	if s.Restored != nil {
		s.Primary = s.Restored
	}
	verified := s.FailedBackOK
	s.Restored, s.RestoredBy, s.FailedBackOK = nil, "", false
	if err := s.releaseRecovered(ctx, verified); err != nil {
		return err
	}
	s.setPhase(ctx, PhaseInitialized, "")
	return nil
}

// cleanUp deletes the recovered server and what reverse replication needed, after
// a verified failback; the way back over the recovery site is then a full copy.
func (s *server) cleanUp(ctx workflow.Context) error {
	if !s.FailedBackOK {
		return Refused(Refusal{Subject: s.Plan + "/" + s.Spec.Name, Phase: s.Phase, Allowed: s.Allowed(),
			Reason: "the failback skipped a check, so nothing is deleted: check the server, then register it"})
	}
	if err := s.dropReverse(ctx); err != nil {
		return err
	}
	return s.dropRecovered(ctx)
}

// dropReverse removes what reverse replication made at the primary site. Disks that
// were written in place belong to the original server and stay.
func (s *server) dropReverse(ctx workflow.Context) error {
	if s.Direction != Reverse {
		return nil
	}
	if err := s.dropProtection(ctx); err != nil {
		return err
	}
	if s.RestoredBy != "" {
		err := workflow.ExecuteActivity(s.t.critical(ctx, CloudQueue(site(s.Spec.Primary)), "hand the restored server over"), cloudActs.KeepResources,
			activities.KeepInput{Scope: activities.Scope{Site: site(s.Spec.Primary), Plan: s.Plan, Server: s.Spec.Name, Operation: s.RestoredBy},
				NewRole: activities.RoleProduction}).Get(ctx, nil)
		if err != nil {
			return err
		}
	}
	s.Direction, s.InPlace = Forward, false
	return nil
}

// activate asks the plan's entity, the one writer of who is active, to say that
// this server now serves at the given side; it returns the epoch in force.
func (s *server) activate(ctx workflow.Context, side string, epoch int64) (int64, error) {
	raw, err := call(ctx, s.t, PlanID(s.Plan), updateActivate, activateRequest{Servers: []string{s.Spec.Name}, Side: side, Epoch: epoch}, "the plan notes who is active")
	if err != nil {
		return 0, err
	}
	var next int64
	return next, json.Unmarshal(raw, &next)
}
