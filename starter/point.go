package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/activities"
	"lifeboat/workflows"
)

func newPointCommand(a *app) *cobra.Command {
	return noun("point", "Recovery points: list, mark, lock",
		"A recovery point is a state of all disks of a server, cut at one instant, that can\nbe started. Points are made by policy; a locked one is spared by retention.",
		newPointListCommand(a), newPointMarkCommand(a), newPointLockCommand(a, true), newPointLockCommand(a, false))
}

func newPointListCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list PLAN[/SERVER]", Short: "List recovery points, newest first",
		Long:    "List shows the recovery points of a server, or of all servers of a plan, newest\nfirst. `stream` in JSON tells the server.",
		Example: "  lifeboat point list shop/db\n  lifeboat point list shop -o json",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeTargets(),
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		t, err := parseTarget(args[0])
		if err != nil {
			return err
		}
		targets, err := servers(ctx, h, t)
		if err != nil {
			return err
		}
		lists, failed := forEach(ctx, targets, func(ctx context.Context, t target) ([]activities.Point, error) { return pointsOf(ctx, h, t) })
		points := []activities.Point{}
		for _, list := range lists {
			points = append(points, list...)
		}
		if err := a.print(points, func(w io.Writer) { pointTable(w, points) }); err != nil {
			return err
		}
		return failed
	})
}

func pointTable(w io.Writer, points []activities.Point) {
	row(w, "SERVER", "POINT", "TIME", "KIND", "LABEL", "SIZE", "VERIFIED", "TESTED", "STATE", "CUT")
	for _, p := range points {
		var bytes int64
		for _, d := range p.Disks {
			bytes += d.Bytes
		}
		tested := "-"
		if p.TestedAt != nil {
			tested = p.TestedAt.UTC().Format(time.RFC3339)
		}
		row(w, p.Stream, p.ID, p.Time.UTC().Format(time.RFC3339), p.Kind, p.Label, size(bytes), yesNo(p.Verified), tested, pointState(p), cutText(p))
	}
}

func pointState(p activities.Point) string {
	state := ""
	for _, mark := range []struct {
		on   bool
		name string
	}{{p.Locked, "locked"}, {p.InUse, "in use"}, {p.Consumed, "consumed"}} {
		if mark.on && state != "" {
			state += ", "
		}
		if mark.on {
			state += mark.name
		}
	}
	return state
}

func cutText(p activities.Point) string {
	if p.Pause == 0 {
		return p.CutMethod
	}
	return p.CutMethod + ", paused " + p.Pause.Round(time.Millisecond).String()
}

func newPointMarkCommand(a *app) *cobra.Command {
	var label string
	cmd := &cobra.Command{
		Use: "mark PLAN[/SERVER]", Short: "Make a recovery point now",
		Long:    "Mark makes an extra recovery point of a server, or of all servers of a plan, now,\nfor example before a risky change. It returns when the point is durable at the target.",
		Example: "  lifeboat point mark shop --label before-upgrade",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeTargets(),
	}
	a.addRequestFlag(cmd)
	cmd.Flags().StringVar(&label, "label", "", "what the point is for")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		t, err := parseTarget(args[0])
		if err != nil {
			return err
		}
		targets, err := servers(ctx, h, t)
		if err != nil {
			return err
		}
		points, failed := forEach(ctx, targets, func(ctx context.Context, t target) (activities.Point, error) {
			var point activities.Point
			id := a.request("mark/" + t.String())
			request := workflows.MarkRequest{Label: label, RequestID: id}
			return point, h.Update(ctx, workflows.ServerID(t.Plan, t.Server), workflows.UpdateMarkPoint, id, request, &point)
		})
		if len(points) > 0 {
			if err := a.print(points, func(w io.Writer) { pointTable(w, points) }); err != nil {
				return err
			}
		}
		return failed
	})
}

func newPointLockCommand(a *app, locked bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: "lock PLAN/SERVER POINT", Short: "Keep a recovery point from retention",
		Long:    "Lock keeps a recovery point until it is unlocked; it does not count as one of those\nthat the policy keeps.",
		Example: "  lifeboat point lock shop/db POINT",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.completePoints(),
	}
	if !locked {
		cmd.Use, cmd.Short = "unlock PLAN/SERVER POINT", "Let retention have a recovery point again"
		cmd.Long = "Unlock lets a locked recovery point be deleted when the policy says so."
		cmd.Example = "  lifeboat point unlock shop/db POINT"
	}
	a.addRequestFlag(cmd)
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		t, err := parseServer(args[0])
		if err != nil {
			return err
		}
		request := workflows.LockRequest{ID: args[1], Locked: locked}
		var view workflows.ServerView
		err = h.Update(ctx, workflows.ServerID(t.Plan, t.Server), workflows.UpdateLockPoint, a.request("lock/"+t.String()+"/"+args[1]), request, &view)
		if err != nil {
			return about(t.String(), err)
		}
		a.say("%s: point %s is %s", t, args[1], map[bool]string{true: "locked", false: "unlocked"}[locked])
		return nil
	})
}
