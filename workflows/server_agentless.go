package workflows

import (
	"errors"
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/workflows/plan"
)

// startAgentless lets the cloud worker of the target site make recovery points by
// snapshots of the source server, at the entity's epoch. There are no replica disks and
// no second agent: the points are all there is. The call may be repeated.
func (s *server) startAgentless(ctx workflow.Context) error {
	if err := s.callAgentless(ctx); err != nil {
		return err
	}
	s.Stream = &Stream{ID: s.streamID(), Epoch: s.Epoch, Source: s.sourceAgent(), Target: s.targetAgent()}
	s.Health, s.HealthReason = HealthOK, ""
	return nil
}

func (s *server) callAgentless(ctx workflow.Context) error {
	return runAgentless(ctx, s.t, &s.ServerState)
}

// runAgentless makes sure that somebody runs a server's stream.
func runAgentless(ctx workflow.Context, t Timing, s *ServerState) error {
	agent, src, keep := s.targetAgent(), s.sourceServer(), s.Spec.Policy.Keep
	return workflow.ExecuteActivity(t.mutate(ctx, HostQueue(agent), "start "+s.Spec.Transfer+" of "+src.Name+" at "+agent), hostActs.StartSource,
		activities.StartSourceInput{Stream: s.streamID(), Scope: s.scope(s.targetSite(), activities.RolePoint), Epoch: s.Epoch, ServerID: src.ID,
			Disks: s.protectedDisks(src), Settings: s.Settings, Transfer: s.Spec.Transfer, Source: site(s.sourceSite()),
			Keep: keep.Count, Within: keep.Within.D(), Key: s.copyKey()}).Get(ctx, nil)
}

// copyKey is what copies are encrypted with at the recovery site; empty = the site's default,
// as always at home.
func (s *ServerState) copyKey() string {
	if s.Direction == Reverse {
		return ""
	}
	return s.Spec.Launch.Settings["kms-key"]
}

// knowAgentless makes sure that the worker knows a server's recovery points, and asks the
// source for nothing: it may be a new worker, in the disaster that took the other one.
func knowAgentless(ctx workflow.Context, t Timing, s *ServerState) error {
	agent := s.targetAgent()
	return workflow.ExecuteActivity(t.mutate(ctx, HostQueue(agent), "find the recovery points at "+agent), hostActs.PrepareTarget,
		activities.PrepareTargetInput{Stream: s.streamID(), Scope: s.scope(s.targetSite(), activities.RolePoint), Epoch: s.Epoch}).Get(ctx, nil)
}

// isUnknown tells that an agent or worker has no such stream.
func isUnknown(err error) bool {
	var app *temporal.ApplicationError
	return errors.As(err, &app) && app.Type() == activities.NotFound
}

// workerSilent says why following failed. A worker that answers, but does not know the
// stream, has lost its directory or is a new one: it is told again, and goes on from
// what is written at the target site.
func (s *server) workerSilent(ctx workflow.Context, err error, silent bool) (Health, string) {
	queue := HostQueue(s.Stream.Source)
	switch {
	case silent:
		return HealthStalled, "no worker takes tasks of " + queue + "; is lifeboat-worker running with role cloud for site " + s.targetSite().Name + "?"
	case !isUnknown(err):
		return HealthStalled, "the worker of " + queue + " says: " + words(err)
	}
	stream := s.Stream
	if lerr := s.mu.Lock(ctx); lerr != nil {
		return s.Health, s.HealthReason
	}
	defer s.mu.Unlock()
	if s.Stream != stream || stream.Detached || s.leaving {
		return s.Health, s.HealthReason
	}
	if err := s.callAgentless(ctx); err != nil {
		return HealthStalled, "the worker of " + queue + " does not know the stream and could not take it over: " + words(err)
	}
	stream.Status.Version = 0
	return HealthResyncing, "another worker of " + queue + " goes on with the stream"
}

// checkBoot refuses a selection of disks that could not be started: a cloud makes an image
// of the points' disks, which needs the one that the server boots from.
func (s *server) checkBoot(info activities.ServerInfo) error {
	if s.Spec.Recovery.Provider == plan.ProviderLocal {
		return nil
	}
	boots := func(d activities.DiskInfo) bool { return d.Boot }
	if i := slices.IndexFunc(info.Disks, boots); i >= 0 && !slices.ContainsFunc(s.protectedDisks(&info), boots) {
		return invalid("server %s boots from disk %q, which is not among `disks` of the plan: add it, for site %s starts servers from images of all their disks",
			s.Spec.Source, info.Disks[i].Name, s.Spec.Recovery.Name)
	}
	return nil
}

// sourceGivenUp tells that the source site was given up in a disaster: nothing asks it.
func (s *ServerState) sourceGivenUp() bool {
	return s.Direction == Forward && slices.Contains(s.Notes, fencingNote)
}

// dropBases deletes the snapshots that copies were made from, and that the next ones would
// have built upon. A site that does not answer holds nothing up.
func (s *server) dropBases(ctx workflow.Context) {
	for _, where := range []plan.Site{s.sourceSite(), s.targetSite()} {
		note := fmt.Sprintf("snapshots of server %s may be left at site %s: they go when replication home ends, or by hand (tag %s=%s)",
			s.Spec.Name, where.Name, cloud.TagRole, activities.RoleBase)
		var counts activities.Counts
		err := errors.New("not asked")
		if where != s.sourceSite() || !s.sourceGivenUp() {
			err = workflow.ExecuteActivity(s.t.bestEffort(ctx, CloudQueue(site(where)), "delete what copies were made from at "+where.Name), cloudActs.CleanUp,
				activities.CleanUpInput{Scope: s.roleScope(where, activities.RoleBase), IncludeKept: true}).Get(ctx, &counts)
		}
		s.Notes = slices.DeleteFunc(s.Notes, func(n string) bool { return n == note })
		if err != nil || counts.Left > 0 {
			s.Notes = append(s.Notes, note)
		}
	}
}

// releaseRecovered gives up the recovered server, once the one at the primary site
// serves. With agents its disks become replicas, so that replication starts as a delta.
// Without, nothing could use them: they go with it, unless the way home was not verified.
func (s *server) releaseRecovered(ctx workflow.Context, verified bool) error {
	switch {
	case !s.Spec.Agentless():
		return s.adoptReplicas(ctx)
	case s.Recovered == nil:
		return nil
	case verified:
		return s.dropRecovered(ctx)
	}
	err := workflow.ExecuteActivity(s.t.critical(ctx, CloudQueue(site(s.Spec.Recovery)), "keep the recovered server for a look"), cloudActs.KeepResources,
		activities.KeepInput{Scope: s.roleScope(s.Spec.Recovery, activities.RoleRecovered), NewRole: activities.RoleKept}).Get(ctx, nil)
	if err != nil {
		return err
	}
	s.Notes = append(s.Notes, fmt.Sprintf("server %s at site %s is kept, stopped, because the failback skipped a check: when all is well at home, delete it with its disks",
		s.Recovered.ID, s.Spec.Recovery.Name))
	s.Recovered, s.RecoveredBy, s.RecoveredFrom = nil, "", nil
	return nil
}
