package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

func (s *server) streamInput() activities.StreamInput {
	return activities.StreamInput{Stream: s.Stream.ID, Epoch: s.Stream.Epoch}
}

// pause holds replication until resume; the lag grows meanwhile.
func (s *server) pause(ctx workflow.Context) error {
	err := workflow.ExecuteActivity(s.t.mutate(ctx, HostQueue(s.Stream.Source), "pause replication"), hostActs.PauseStream, s.streamInput()).Get(ctx, nil)
	if err == nil {
		s.Health, s.HealthReason = HealthPaused, "paused by a person; `lifeboat replication resume` goes on"
	}
	return err
}

// resume lets a paused or interrupted replication go on.
func (s *server) resume(ctx workflow.Context) error {
	err := workflow.ExecuteActivity(s.t.mutate(ctx, HostQueue(s.Stream.Source), "resume replication"), hostActs.ResumeStream, s.streamInput()).Get(ctx, nil)
	if err == nil {
		s.Health, s.HealthReason = HealthResyncing, "resumed"
	}
	return err
}

// stop ends replication: → initialized (or reverse-registered); points and replica disks stay.
func (s *server) stop(ctx workflow.Context) error {
	if err := s.stopStream(ctx); err != nil {
		return err
	}
	if s.Direction == Reverse {
		s.setPhase(ctx, PhaseReverseRegistered, "")
	} else {
		s.setPhase(ctx, PhaseInitialized, "")
	}
	return nil
}

// set changes bandwidth, interval or automatic resume while replication runs.
func (s *server) set(ctx workflow.Context, req SetRequest) (ServerView, error) {
	return s.run(ctx, CmdSet, func(ctx workflow.Context) error {
		least := plan.MinimumInterval(s.Spec.Transfer, s.sourceSite())
		next := s.Settings
		if req.BytesPerSecond != nil {
			next.BytesPerSecond, next.Calendar = *req.BytesPerSecond, ""
		}
		if req.Calendar != nil {
			next.Calendar = *req.Calendar
		}
		if req.Interval != nil {
			next.Interval = *req.Interval
		}
		if req.AutoResume != nil {
			next.AutoResume = *req.AutoResume
		}
		if next.BytesPerSecond < 0 || next.Interval < least {
			return invalid("bandwidth must not be negative and the interval at least %s", plan.Duration(least))
		}
		return s.applySettings(ctx, next)
	})
}

func (s *server) applySettings(ctx workflow.Context, next activities.StreamSettings) error {
	if s.Stream != nil {
		err := workflow.ExecuteActivity(s.t.mutate(ctx, HostQueue(s.Stream.Source), "change settings"), hostActs.SetStream,
			activities.SetStreamInput{Stream: s.Stream.ID, Settings: next}).Get(ctx, nil)
		if err != nil {
			return err
		}
	}
	s.Settings = next
	return nil
}

// markPoint makes a recovery point now.
func (s *server) markPoint(ctx workflow.Context, req MarkRequest) (activities.Point, error) {
	var point activities.Point
	_, err := s.run(ctx, CmdMarkPoint, func(ctx workflow.Context) error {
		err := workflow.ExecuteActivity(s.t.await(ctx, HostQueue(s.Stream.Source), "mark a recovery point"), hostActs.MarkPoint,
			activities.MarkPointInput{Stream: s.Stream.ID, Epoch: s.Stream.Epoch, RequestID: req.RequestID, Label: req.Label}).Get(ctx, &point)
		if err == nil {
			s.refreshPoints(ctx)
		}
		return err
	})
	return point, err
}

func (s *server) checkLock(req LockRequest) error {
	if !slices.ContainsFunc(s.Points, func(p activities.Point) bool { return p.ID == req.ID }) {
		return invalid("%s/%s has no recovery point %q; `lifeboat point list` shows them", s.Plan, s.Spec.Name, req.ID)
	}
	return nil
}

// lockPoint keeps a point from retention, or lets it go.
func (s *server) lockPoint(ctx workflow.Context, req LockRequest) (ServerView, error) {
	if err := s.mu.Lock(ctx); err != nil {
		return ServerView{}, err
	}
	defer s.mu.Unlock()
	err := workflow.ExecuteActivity(s.t.mutate(ctx, HostQueue(s.targetAgent()), "lock point "+req.ID), hostActs.LockPoint,
		activities.PointInput{Stream: s.streamID(), ID: req.ID, On: req.Locked}).Get(ctx, nil)
	for i := range s.Points {
		if err == nil && s.Points[i].ID == req.ID {
			s.Points[i].Locked = req.Locked
		}
	}
	return s.view(workflow.Now(ctx)), err
}

// checkEdit refuses what cannot change while a server is protected.
func (s *server) checkEdit(req editRequest) error {
	a, b := s.Spec, req.Spec
	if a.Transfer != b.Transfer && (s.Stream != nil || len(s.Replicas)+len(s.Points) > 0) {
		return Refused(Refusal{Subject: s.Plan + "/" + s.Spec.Name, Phase: s.Phase, Allowed: s.Allowed(),
			Reason: "the transfer cannot change while there are recovery points: remove the server, then add it again"})
	}
	moved := a.Source != b.Source || a.Primary != b.Primary || a.Recovery != b.Recovery || !slices.Equal(a.Disks, b.Disks)
	if moved && !slices.Contains([]Phase{PhaseInstalling, PhaseInitFailed, PhaseInitialized}, s.Phase) {
		return Refused(Refusal{Subject: s.Plan + "/" + s.Spec.Name, Phase: s.Phase, Allowed: s.Allowed(),
			Reason: "source, sites and disks cannot change in phase " + string(s.Phase) + ": stop replication first"})
	}
	return nil
}

// edit takes over a changed plan; a new policy reaches a running stream.
func (s *server) edit(ctx workflow.Context, req editRequest) (ServerView, error) {
	if err := s.mu.Lock(ctx); err != nil {
		return ServerView{}, err
	}
	defer s.mu.Unlock()
	before := settingsOf(s.Spec)
	s.Spec = req.Spec
	var err error
	if next := settingsOf(req.Spec); next != before {
		err = s.applySettings(ctx, next)
	}
	s.publish(ctx)
	return s.view(workflow.Now(ctx)), err
}

// remove ends protection: replication resources go, servers stay.
func (s *server) remove(ctx workflow.Context) error {
	if err := s.dropProtection(ctx); err != nil {
		return err
	}
	s.setPhase(ctx, PhaseRemoved, "")
	s.removed = true
	return nil
}

// dropProtection removes stream, points and replica disks of the current direction.
func (s *server) dropProtection(ctx workflow.Context) error {
	if err := s.stopStream(ctx); err != nil {
		return err
	}
	target := s.targetSite()
	err := workflow.ExecuteActivity(s.t.critical(ctx, HostQueue(s.targetAgent()), "forget replication at "+s.targetAgent()), hostActs.ForgetTarget,
		activities.StreamInput{Stream: s.streamID(), Epoch: s.Epoch}).Get(ctx, nil)
	if err != nil {
		return err
	}
	s.Points = nil
	_, err = s.clean(ctx, activities.CleanUpInput{Scope: s.roleScope(target, activities.RolePoint), IncludeKept: true}, "delete recovery points")
	if err != nil {
		return err
	}
	if s.Spec.Agentless() {
		s.dropBases(ctx)
		return nil
	}
	return s.dropReplicas(ctx)
}
