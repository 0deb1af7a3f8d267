package activities

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"lifeboat/activities/cloud"
)

// catchUp is how late a scheduled drill may still start after an outage.
const catchUp = 10 * time.Minute

// SyncSchedule makes the schedule of a plan's drills what the plan says; without
// Cron it is deleted. Doing it again changes nothing.
func (c *Control) SyncSchedule(ctx context.Context, in ScheduleInput) error {
	return scheduleError(in, c.syncSchedule(ctx, in))
}

func (c *Control) syncSchedule(ctx context.Context, in ScheduleInput) error {
	schedules := c.Client.ScheduleClient()
	handle := schedules.GetHandle(ctx, in.ScheduleID)
	if in.Cron == "" {
		err := handle.Delete(ctx)
		var gone *serviceerror.NotFound
		if errors.As(err, &gone) {
			return nil
		}
		return err
	}
	spec := client.ScheduleSpec{CronExpressions: []string{in.Cron}, TimeZoneName: in.TimeZone}
	action := &client.ScheduleWorkflowAction{ID: in.ScheduleID, Workflow: in.Workflow, TaskQueue: in.TaskQueue,
		Args: []any{ScheduledDrill{Plan: in.Plan, CleanAfter: in.CleanAfter}}, StaticSummary: "scheduled drill of plan " + in.Plan}
	_, err := schedules.Create(ctx, client.ScheduleOptions{ID: in.ScheduleID, Spec: spec, Action: action, CatchupWindow: catchUp,
		Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, PauseOnFailure: true, Note: "from plan " + in.Plan})
	if err == nil {
		return nil
	}
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return err
	}
	return handle.Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(u client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		s := u.Description.Schedule
		s.Spec, s.Action = &spec, action
		return &client.ScheduleUpdate{Schedule: &s}, nil
	}})
}

// scheduleError tells a schedule that can never be right from a server that is away.
func scheduleError(in ScheduleInput, err error) error {
	var invalid *serviceerror.InvalidArgument
	if errors.As(err, &invalid) {
		return Err(cloud.E(cloud.InvalidInput, "SyncSchedule", "schedule "+in.ScheduleID, invalid.Error(), "correct the plan's drill schedule", err))
	}
	return Err(err)
}
