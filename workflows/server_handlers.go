package workflows

import (
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
)

// handle registers every query and update, before the first blocking call.
func (s *server) handle(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, QueryStatus, func() (ServerView, error) { return s.view(workflow.Now(ctx)), nil }); err != nil {
		return err
	}
	if err := workflow.SetQueryHandler(ctx, QueryPoints, func() ([]activities.Point, error) { return s.Points, nil }); err != nil {
		return err
	}
	commands := []struct {
		update, command, text string
		do                    func(workflow.Context) error
	}{
		{UpdateInitialize, CmdInitialize, "Examine the server and the recovery site again", s.initialize},
		{UpdateStartReplication, CmdStartReplication, "Start replication to the recovery site", s.startReplication},
		{UpdatePause, CmdPause, "Pause replication", s.pause},
		{UpdateResume, CmdResume, "Resume replication", s.resume},
		{UpdateStop, CmdStop, "Stop replication; recovery points are kept", s.stop},
		{UpdateCommit, CmdCommit, "Commit the failover: replication resources are removed", s.commit},
		{UpdateCancel, CmdCancel, "Cancel the failover: production goes back to the primary site", s.cancelFailover},
		{UpdateResumeProtection, CmdResumeProtection, "Protect the server at the primary site again", s.resumeProtection},
		{UpdateReverseRegister, CmdReverseRegister, "Register the recovered server for reverse replication", s.reverseRegister},
		{UpdateReverseUnregister, CmdUnregister, "Take reverse registration back", s.reverseUnregister},
		{UpdateRegister, CmdRegister, "Register the server at the primary site again", s.register},
		{UpdateCleanUp, CmdCleanUp, "Delete what failover and reverse replication left", s.cleanUp},
		{UpdateRemove, CmdRemove, "Remove the server from protection", s.remove},
	}
	for _, c := range commands {
		err := workflow.SetUpdateHandlerWithOptions(ctx, c.update,
			func(ctx workflow.Context) (ServerView, error) { return s.run(ctx, c.command, c.do) },
			workflow.UpdateHandlerOptions{Description: c.text, Validator: func() error { return s.refusal(c.command) }})
		if err != nil {
			return err
		}
	}
	return s.handleWithArguments(ctx)
}

// handleWithArguments registers the updates that take an argument.
func (s *server) handleWithArguments(ctx workflow.Context) error {
	update := func(name, text string, handler, validator any) error {
		return workflow.SetUpdateHandlerWithOptions(ctx, name, handler, workflow.UpdateHandlerOptions{Description: text, Validator: validator})
	}
	steps := []func() error{
		func() error {
			return update(UpdateSet, "Change bandwidth, interval or automatic resume", s.set, func(SetRequest) error { return s.refusal(CmdSet) })
		},
		func() error {
			return update(UpdateMarkPoint, "Make a recovery point now", s.markPoint, func(MarkRequest) error { return s.refusal(CmdMarkPoint) })
		},
		func() error {
			return update(UpdateLockPoint, "Keep a recovery point, or let retention have it", s.lockPoint, s.checkLock)
		},
		func() error {
			return update(updateEdit, "Take over a changed plan", s.edit, s.checkEdit)
		},
		func() error {
			return update(updateBegin, "Claim the server for an operation", s.begin, s.checkBegin)
		},
		func() error { return update(updateEnd, "Give the server back after an operation", s.end, nil) },
		func() error {
			return update(updateDrillState, "Report where a drill stands", s.drillState, nil)
		},
		func() error {
			return update(updateAttachStream, "Start reverse replication onto the given disks", s.attachStream, nil)
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
