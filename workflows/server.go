package workflows

import (
	"errors"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
)

// These receivers name activities for the compiler; they are never called.
var (
	cloudActs   *activities.Cloud
	hostActs    = activities.NewHost(nil)
	controlActs *activities.Control
)

// Workflows is the receiver of every workflow; it holds the worker's settings.
type Workflows struct{ Timing Timing }

// server is one run of a protected server's entity.
type server struct {
	ServerState
	t        Timing
	mu       workflow.Mutex // one command at a time
	leaving  bool           // the run is about to continue as new
	removed  bool
	loops    int                 // goroutines that must end before the run may
	unfollow workflow.CancelFunc // detaches from the stream
	shown    string              // by search attributes
}

// Server is the entity of a protected server: it owns the life cycle of contract
// section 2. Commands are Updates that are refused where the phase forbids them.
func (w *Workflows) Server(ctx workflow.Context, state ServerState) error {
	s := &server{ServerState: state, t: w.Timing, mu: workflow.NewMutex(ctx)}
	if err := s.handle(ctx); err != nil {
		return err
	}
	s.publish(ctx)
	workflow.Go(ctx, s.followLoop)
	if s.Phase == PhaseInstalling && s.Primary == nil {
		workflow.Go(ctx, s.join)
	}
	err := workflow.Await(ctx, func() bool {
		return (s.removed || workflow.GetInfo(ctx).GetContinueAsNewSuggested()) &&
			workflow.AllHandlersFinished(ctx) && s.Busy == ""
	})
	if err != nil {
		return err
	}
	s.leaving = true
	s.detach()
	if err := workflow.Await(ctx, func() bool { return s.loops == 0 && workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	if s.removed {
		return workflow.SignalExternalWorkflow(ctx, PlanID(s.Plan), "", signalRemoved, s.Spec.Name).Get(ctx, nil)
	}
	return workflow.NewContinueAsNewError(ctx, ServerWorkflow, s.ServerState)
}

// join runs the first initialization by itself.
func (s *server) join(ctx workflow.Context) {
	s.loops++
	defer func() { s.loops-- }()
	_, _ = s.run(ctx, CmdInitialize, s.initialize) // the outcome is in phase and LastError
}

// run executes a command under the mutex, after checking again that it is legal.
func (s *server) run(ctx workflow.Context, command string, f func(workflow.Context) error) (ServerView, error) {
	if err := s.mu.Lock(ctx); err != nil {
		return ServerView{}, err
	}
	defer s.mu.Unlock()
	if err := s.refusal(command); err != nil {
		return ServerView{}, err
	}
	s.Busy = command
	err := f(ctx)
	s.Busy = ""
	if err != nil {
		s.LastError = words(err)
	} else {
		s.LastError = ""
	}
	s.publish(ctx)
	return s.view(workflow.Now(ctx)), err
}

// setPhase moves on in the life cycle and tells whoever watches.
func (s *server) setPhase(ctx workflow.Context, p Phase, reason string) {
	if s.Phase == p {
		return
	}
	s.Phase = p
	s.publish(ctx)
	if s.Watcher != "" {
		watcher := s.Watcher
		workflow.Go(ctx, func(ctx workflow.Context) {
			s.loops++
			defer func() { s.loops-- }()
			// The watcher may have ended meanwhile: nobody is left to tell.
			_ = workflow.SignalExternalWorkflow(ctx, watcher, "", signalPhase, phaseSignal{Server: s.Spec.Name, Phase: p, Reason: reason}).Get(ctx, nil)
		})
	}
}

// publish shows the state in the Web UI.
func (s *server) publish(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, s.markdown(workflow.Now(ctx)))
	shown := string(s.Phase) + " at " + s.sourceSite().Name
	if shown == s.shown {
		return // each upsert is an event in the history
	}
	s.shown = shown
	err := workflow.UpsertTypedSearchAttributes(ctx, KeyPlan.ValueSet(s.Plan), KeyServer.ValueSet(s.Spec.Name),
		KeyPhase.ValueSet(string(s.Phase)), KeySite.ValueSet(s.sourceSite().Name))
	if err != nil {
		workflow.GetLogger(ctx).Error("search attributes were not set", "plan", s.Plan, "server", s.Spec.Name, "error", err)
	}
}

// followLoop supervises the stream: it reports, it never drives.
func (s *server) followLoop(ctx workflow.Context) {
	s.loops++
	defer func() { s.loops-- }()
	for {
		_ = workflow.Await(ctx, func() bool { return s.leaving || s.following() })
		if s.leaving || ctx.Err() != nil {
			return
		}
		stream := s.Stream
		fctx, cancel := workflow.WithCancel(ctx)
		s.unfollow = cancel
		var status activities.StreamStatus
		err := workflow.ExecuteActivity(s.t.follow(fctx, HostQueue(stream.Source), "follow replication of "+s.Spec.Name), hostActs.Follow,
			activities.FollowInput{Stream: stream.ID, Epoch: stream.Epoch, After: stream.Status.Version, For: s.t.Follow}).Get(fctx, &status)
		cancel()
		s.unfollow = nil
		if s.Stream != stream || stream.Detached || s.leaving {
			continue
		}
		if err != nil {
			s.sourceSilent(ctx, err)
			continue
		}
		s.observe(ctx, status)
	}
}

func (s *server) following() bool { return s.Stream != nil && !s.Stream.Detached }

// detach stops following; the stream itself goes on.
func (s *server) detach() {
	if s.unfollow != nil {
		s.unfollow()
	}
}

// sourceSilent notes that the source agent does not answer, and waits a moment.
func (s *server) sourceSilent(ctx workflow.Context, err error) {
	if temporal.IsCanceledError(err) {
		return
	}
	s.Health, s.HealthReason = HealthSourceUnreachable, "agent "+s.Stream.Source+" does not answer: "+words(err)
	var timeout *temporal.TimeoutError
	silent := errors.As(err, &timeout)
	if silent {
		s.HealthReason = "agent " + s.Stream.Source + " does not answer; is lifeboat-worker running next to the disks?"
	}
	if s.Spec.Agentless() {
		s.Health, s.HealthReason = s.workerSilent(ctx, err, silent)
	}
	s.publish(ctx)
	stream := s.Stream
	_, _ = workflow.AwaitWithTimeout(ctx, s.t.RetryMax, func() bool { return s.leaving || s.Stream != stream || stream.Detached })
}

// observe takes over what the stream reports.
func (s *server) observe(ctx workflow.Context, status activities.StreamStatus) {
	before := s.Stream.Status.LastPoint
	s.Stream.Status = status
	s.Health, s.HealthReason = Health(status.Health), status.HealthReason
	switch p, ok := phaseOf(s.Direction, string(status.Stage)); {
	case !ok || s.Operation != "":
	case s.Phase != PhaseRealTime && s.Phase != PhaseReverseRealTime:
		s.setPhase(ctx, p, status.HealthReason)
	case p != s.Phase && s.Health == HealthOK:
		// A stream that begins anew after an abort or a cancel finds a complete copy
		// and its points: the server stays protected while it catches up.
		s.Health, s.HealthReason = HealthResyncing, "replication catches up with what has changed since the newest point"
	}
	if status.LastPoint != nil && (before == nil || before.ID != status.LastPoint.ID || len(s.Points) == 0) {
		s.refreshPoints(ctx)
	}
	s.publish(ctx)
}

// phaseOf maps the stage of a stream to the phase of its server.
func phaseOf(d Direction, stage string) (Phase, bool) {
	forward := map[string]Phase{"starting": PhaseStarting, "full": PhaseFullReplication, "real-time": PhaseRealTime}
	reverse := map[string]Phase{"starting": PhaseReverseStarting, "full": PhaseReverseFull, "real-time": PhaseReverseRealTime}
	m := forward
	if d == Reverse {
		m = reverse
	}
	p, ok := m[stage]
	return p, ok
}

// refreshPoints fetches the catalogue from the agent that keeps it. When the
// agent is away the list stays as it was: a later point refreshes it.
func (s *server) refreshPoints(ctx workflow.Context) {
	direction, agent := s.Direction, s.targetAgent()
	var points []activities.Point
	err := workflow.ExecuteActivity(s.t.bestEffort(ctx, HostQueue(agent), "list recovery points of "+s.Spec.Name), hostActs.ListPoints,
		activities.StreamInput{Stream: s.streamID(), Epoch: s.Epoch}).Get(ctx, &points)
	if err != nil {
		workflow.GetLogger(ctx).Warn("recovery points were not listed", "plan", s.Plan, "server", s.Spec.Name, "error", err)
		return
	}
	if s.Direction == direction {
		s.Points = points
	}
}
