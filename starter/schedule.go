package main

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newScheduleCommand(a *app) *cobra.Command {
	return noun("schedule", "Scheduled drills",
		"A plan with spec.drills.schedule is drilled by itself. A drill that is due while one\nruns is skipped; missed ones are caught up with for ten minutes; a failed one pauses\nthe schedule.",
		newScheduleListCommand(a),
		newScheduleActionCommand(a, schedulePause, "Pause scheduled drills", "Pause keeps a plan from being drilled by itself until it is resumed.", "paused"),
		newScheduleActionCommand(a, scheduleResume, "Resume scheduled drills", "Resume lets the drills of a plan start by themselves again.", "resumed"),
		newScheduleActionCommand(a, scheduleTrigger, "Start the scheduled drill now", "Trigger starts the drill of a schedule at once, as the schedule would.", "triggered"))
}

func newScheduleListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List schedules of drills",
		Long:    "List shows for every plan with scheduled drills when the next one is due, and\nwhether the schedule is paused, with the reason.",
		Example: "  lifeboat schedule list",
		Args:    cobra.NoArgs,
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, _ []string) error {
		schedules, err := h.Schedules(ctx)
		if err != nil {
			return err
		}
		return a.print(schedules, func(w io.Writer) {
			row(w, "PLAN", "SCHEDULE", "TIME ZONE", "NEXT", "LAST", "STATE")
			for _, s := range schedules {
				next, last, state := "", "", "active"
				if len(s.Next) > 0 {
					next = s.Next[0].UTC().Format(time.RFC3339)
				}
				if n := len(s.Recent); n > 0 {
					last = s.Recent[n-1].Time.UTC().Format(time.RFC3339)
				}
				if s.Paused {
					state = strings.TrimSuffix("paused: "+s.Note, ": ")
				}
				row(w, s.Plan, strings.Join(s.Calendars, "; "), s.TimeZone, next, last, state)
			}
		})
	})
}

func newScheduleActionCommand(a *app, action scheduleAction, short, long, done string) *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: string(action) + " PLAN", Short: short, Long: long,
		Example: "  lifeboat schedule " + string(action) + " shop",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completePlans(),
	}
	if action != scheduleTrigger {
		cmd.Flags().StringVar(&note, "note", "", "why, for the record")
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		plan, err := parsePlan(args[0])
		if err != nil {
			return err
		}
		if note == "" {
			note = done + " with lifeboat by " + orDash(a.env("USER"))
		}
		if err := h.Schedule(ctx, plan, action, note); err != nil {
			return err
		}
		a.say("plan %s: scheduled drills %s", plan, done)
		return nil
	})
}
