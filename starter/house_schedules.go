package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"lifeboat/workflows"
)

func (h *temporalHouse) Schedules(ctx context.Context) ([]scheduleView, error) {
	asking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	list, err := h.client.ScheduleClient().List(asking, client.ScheduleListOptions{PageSize: 500})
	if err != nil {
		return nil, h.settled(ctx, "", err)
	}
	views := []scheduleView{}
	for list.HasNext() {
		entry, err := list.Next()
		if err != nil {
			return nil, h.settled(ctx, "", err)
		}
		plan, ok := strings.CutPrefix(entry.ID, workflows.ScheduleID(""))
		if !ok {
			continue // of somebody else
		}
		view := scheduleView{Plan: plan, Schedule: entry.ID, Paused: entry.Paused, Note: entry.Note,
			Next: entry.NextActionTimes, Recent: []pastAction{}, Calendars: []string{}}
		if entry.Spec != nil {
			view.TimeZone = entry.Spec.TimeZoneName
			for _, calendar := range entry.Spec.Calendars {
				view.Calendars = append(view.Calendars, calendarText(calendar))
			}
		}
		for _, action := range entry.RecentActions {
			past := pastAction{Time: action.ActualTime}
			if action.StartWorkflowResult != nil {
				past.WorkflowID = action.StartWorkflowResult.WorkflowID
			}
			view.Recent = append(view.Recent, past)
		}
		views = append(views, view)
	}
	return views, nil
}

func (h *temporalHouse) Schedule(ctx context.Context, plan string, action scheduleAction, note string) error {
	asking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	handle := h.client.ScheduleClient().GetHandle(asking, workflows.ScheduleID(plan))
	var err error
	switch action {
	case schedulePause:
		err = handle.Pause(asking, client.SchedulePauseOptions{Note: note})
	case scheduleResume:
		err = handle.Unpause(asking, client.ScheduleUnpauseOptions{Note: note})
	case scheduleTrigger:
		err = handle.Trigger(asking, client.ScheduleTriggerOptions{})
	default:
		err = fmt.Errorf("schedule action %q is unknown", action)
	}
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return usagef("plan %s: it has no drill schedule (set spec.drills.schedule and apply the plan)", plan)
	}
	return h.settled(ctx, "", err)
}

// calendarText writes a calendar in the five fields of cron.
func calendarText(c client.ScheduleCalendarSpec) string {
	return strings.Join([]string{
		rangesText(c.Minute, 0, 59), rangesText(c.Hour, 0, 23), rangesText(c.DayOfMonth, 1, 31),
		rangesText(c.Month, 1, 12), rangesText(c.DayOfWeek, 0, 6),
	}, " ")
}

func rangesText(ranges []client.ScheduleRange, from, to int) string {
	var parts []string
	for _, r := range ranges {
		end := max(r.Start, r.End)
		text := strconv.Itoa(r.Start)
		switch {
		case r.Start == from && end == to:
			text = "*"
		case end > r.Start:
			text += "-" + strconv.Itoa(end)
		}
		if r.Step > 1 {
			text += "/" + strconv.Itoa(r.Step)
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "*"
	}
	return strings.Join(parts, ",")
}
