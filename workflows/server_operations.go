package workflows

import (
	"encoding/json"
	"slices"

	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
)

// commandOf an operation, as the rules know it.
func commandOf(op Operation) string {
	switch op {
	case OpDrill:
		return CmdDrill
	case OpFailover:
		return CmdFailover
	case OpSwitch:
		return CmdSwitchPoint
	case OpReverse:
		return CmdReverseStart
	default:
		return CmdFailback
	}
}

// checkBegin refuses an operation that the phase forbids. The same operation again
// is fine: the plan may ask twice.
func (s *server) checkBegin(req beginRequest) error {
	if s.Operation == req.WorkflowID || s.DrillID == req.WorkflowID {
		return nil
	}
	return s.refusal(commandOf(req.Operation))
}

// begin claims the server for an operation and returns what the operation must know.
func (s *server) begin(ctx workflow.Context, req beginRequest) (ServerState, error) {
	if err := s.mu.Lock(ctx); err != nil {
		return ServerState{}, err
	}
	defer s.mu.Unlock()
	if s.Operation == req.WorkflowID || s.DrillID == req.WorkflowID {
		return s.ServerState, nil
	}
	if err := s.refusal(commandOf(req.Operation)); err != nil {
		return ServerState{}, err
	}
	if req.Operation == OpDrill {
		s.Drill, s.DrillID = DrillStarting, req.WorkflowID
		s.publish(ctx)
		return s.ServerState, nil
	}
	s.Operation, s.LastError = req.WorkflowID, ""
	switch req.Operation {
	case OpFailover:
		s.holdStream()
		s.setPhase(ctx, PhaseFailingOver, "")
	case OpFailback:
		s.holdStream()
		s.setPhase(ctx, PhaseFailingBack, "")
	case OpReverse:
		s.Watcher = req.WorkflowID
	}
	s.publish(ctx)
	return s.ServerState, nil
}

// fencingNote stays until the server is home again.
const fencingNote = "fencing of the source server is unknown: make sure that it does not run"

// holdStream leaves the stream to an operation.
func (s *server) holdStream() {
	if s.Stream != nil {
		s.Stream.Detached = true
	}
	s.detach()
}

// end gives the server back. An operation that was undone leaves it as it was
// before, with replication started again at the operation's epoch.
func (s *server) end(ctx workflow.Context, req endRequest) (ServerView, error) {
	if err := s.mu.Lock(ctx); err != nil {
		return ServerView{}, err
	}
	defer s.mu.Unlock()
	if s.Operation != req.WorkflowID {
		return s.view(workflow.Now(ctx)), nil // ended already
	}
	s.LastError = req.Reason
	var err error
	if req.Done {
		s.finished(ctx, req)
	} else {
		err = s.undone(ctx, req)
	}
	if err != nil {
		return ServerView{}, err
	}
	s.Operation, s.Watcher = "", ""
	s.publish(ctx)
	return s.view(workflow.Now(ctx)), nil
}

// finished takes over the outcome of an operation that ran to its end.
func (s *server) finished(ctx workflow.Context, req endRequest) {
	s.refreshPoints(ctx) // current-time is among them, and used up
	switch req.Operation {
	case OpFailover:
		s.Epoch, s.Stream = req.Epoch, nil
		s.Recovered, s.RecoveredBy, s.RecoveredFrom = req.Server, req.WorkflowID, req.Point
		s.Health, s.HealthReason = HealthOK, "runs at the recovery site, not replicated"
		if req.Fencing == fencingUnknown {
			s.Notes = append(s.Notes, fencingNote)
		}
		s.setPhase(ctx, PhaseFailedOver, "")
	case OpSwitch:
		s.Recovered, s.RecoveredBy, s.RecoveredFrom = req.Server, req.WorkflowID, req.Point
	case OpFailback:
		s.Epoch, s.Stream = req.Epoch, nil
		s.Notes = slices.DeleteFunc(s.Notes, func(n string) bool { return n == fencingNote })
		s.Restored, s.RestoredBy, s.FailedBackOK = req.Server, req.WorkflowID, req.Reason == ""
		s.Health, s.HealthReason = HealthOK, "runs at the primary site, not replicated"
		s.setPhase(ctx, PhaseFailedBack, "")
	}
}

// undone brings replication back after an operation that was taken back.
func (s *server) undone(ctx workflow.Context, req endRequest) error {
	switch req.Operation {
	case OpFailover, OpFailback:
		s.Epoch = req.Epoch
		if err := s.startStream(ctx); err != nil {
			s.streamNotStarted(req.WorkflowID+" was undone", err)
		}
		if req.Operation == OpFailover {
			s.setPhase(ctx, PhaseRealTime, req.Reason)
		} else {
			s.setPhase(ctx, PhaseReverseRealTime, req.Reason)
		}
	case OpSwitch:
		if req.Server != nil {
			s.Recovered = req.Server
		}
	case OpReverse:
		if s.Stream == nil {
			s.setPhase(ctx, PhaseReverseRegistered, req.Reason)
		}
	}
	return nil
}

// streamNotStarted keeps the server in real-time with its points when replication
// could not be started again: the source is gone, and following will tell.
func (s *server) streamNotStarted(after string, err error) {
	s.Stream = &Stream{ID: s.streamID(), Epoch: s.Epoch, Source: s.sourceAgent(), Target: s.targetAgent()}
	s.Health, s.HealthReason = HealthSourceUnreachable, "after "+after+" replication could not be started again: "+words(err)+
		"; when the source is back, stop and start replication: it goes on as a delta"
}

// drillState takes over where a drill stands.
func (s *server) drillState(ctx workflow.Context, req drillStateRequest) error {
	if s.DrillID != req.WorkflowID {
		return nil
	}
	s.Drill = req.State
	if req.State == DrillNone {
		s.DrillID = ""
	}
	if len(s.Points) > 0 {
		s.refreshPoints(ctx) // a tested point shows when
	}
	s.publish(ctx)
	return nil
}

// attachStream starts reverse replication onto disks that the operation made or found.
func (s *server) attachStream(ctx workflow.Context, req attachRequest) (ServerView, error) {
	if err := s.mu.Lock(ctx); err != nil {
		return ServerView{}, err
	}
	defer s.mu.Unlock()
	if s.Watcher == req.WorkflowID && s.Stream != nil {
		return s.view(workflow.Now(ctx)), nil // asked twice
	}
	if s.Operation != req.WorkflowID {
		return ServerView{}, invalid("operation %s does not hold %s/%s any more", req.WorkflowID, s.Plan, s.Spec.Name)
	}
	s.Replicas, s.InPlace, s.Points = req.Replicas, req.InPlace, nil
	if err := s.startStream(ctx); err != nil {
		return ServerView{}, err
	}
	s.setPhase(ctx, PhaseReverseStarting, "")
	s.Operation = "" // from now on the stream's reports lead on; the operation only watches
	s.publish(ctx)
	return s.view(workflow.Now(ctx)), nil
}

// call asks another entity to do something and returns its raw answer.
func call(ctx workflow.Context, t Timing, workflowID, update string, arg any, summary string) (json.RawMessage, error) {
	var raw json.RawMessage
	in := activities.CallInput{WorkflowID: workflowID, Update: update, Argument: arg, UpdateID: callID(ctx, update)}
	err := workflow.ExecuteActivity(t.control(ctx, summary), controlActs.Call, in).Get(ctx, &raw)
	return raw, err
}

// callInto is call with the answer decoded.
func callInto(ctx workflow.Context, t Timing, workflowID, update string, arg any, summary string, result any) error {
	raw, err := call(ctx, t, workflowID, update, arg, summary)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, result)
}
