package main

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

func newReplicationCommand(a *app) *cobra.Command {
	return noun("replication", "Start, watch and control replication",
		"Replication copies the disks of protected servers to the other site, first in full,\nthen what changed, again and again. Every completed pass makes a recovery point.",
		serverCommand{update: workflows.UpdateStartReplication, use: "start PLAN[/SERVER]", leadsTo: workflows.PhaseRealTime,
			short:   "Start replication",
			long:    "Start begins with a full copy, or with a delta where an earlier copy is still\nthere, and goes on in real time. --wait shows the progress until real-time.",
			example: "  lifeboat replication start shop --wait\n  lifeboat replication start shop/db --wait=full-replication --timeout 10m"}.new(a),
		serverCommand{update: workflows.UpdatePause, use: "pause PLAN[/SERVER]", leadsTo: workflows.PhaseRealTime,
			short:   "Pause replication",
			long:    "Pause stops copying until replication is resumed. Recovery points stay, and grow old.",
			example: "  lifeboat replication pause shop/db"}.new(a),
		serverCommand{update: workflows.UpdateResume, use: "resume PLAN[/SERVER]", leadsTo: workflows.PhaseRealTime,
			short:   "Resume replication after a pause or an interruption",
			long:    "Resume lets replication go on where it was, after a pause, or after an interruption\nof a server whose policy does not resume by itself.",
			example: "  lifeboat replication resume shop --wait"}.new(a),
		serverCommand{update: workflows.UpdateStop, use: "stop PLAN[/SERVER]", leadsTo: workflows.PhaseInitialized,
			short:   "Stop replication, keeping the recovery points",
			long:    "Stop ends replication. Recovery points are kept; a later start copies what changed.",
			example: "  lifeboat replication stop shop/db"}.new(a),
		newReplicationSetCommand(a), newReplicationStatusCommand(a))
}

func newReplicationSetCommand(a *app) *cobra.Command {
	var bandwidth string
	var interval time.Duration
	var autoResume bool
	cmd := &cobra.Command{
		Use: "set PLAN[/SERVER]", Short: "Change bandwidth, interval or automatic resume",
		Long: "Set changes the settings of replication while it runs. They hold until the plan is\napplied again.",
		Example: "  lifeboat replication set shop --bandwidth 50MiB/s\n  lifeboat replication set shop/db --bandwidth unlimited --interval 30s --auto-resume=false\n" +
			"  lifeboat replication set shop --bandwidth \"mon-fri 08:00-18:00 20MiB/s, else unlimited\"",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeTargets(),
	}
	a.addRequestFlag(cmd)
	cmd.Flags().StringVar(&bandwidth, "bandwidth", "", "most that is sent a second, e.g. 50MiB/s, or unlimited, or by day and time of the source agent: \"mon-fri 08:00-18:00 20MiB/s, else unlimited\"")
	cmd.Flags().DurationVar(&interval, "interval", 0, "from one recovery point to the next, e.g. 30s")
	cmd.Flags().BoolVar(&autoResume, "auto-resume", true, "resume by itself after an interruption")
	cmd.MarkFlagsOneRequired("bandwidth", "interval", "auto-resume")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		t, err := parseTarget(args[0])
		if err != nil {
			return err
		}
		var request workflows.SetRequest
		if bandwidth != "" {
			limit, err := parseBandwidth(bandwidth)
			if err != nil {
				return err
			}
			if len(limit.Rules) > 0 {
				text := limit.String()
				request.Calendar = &text
			} else {
				request.BytesPerSecond = &limit.Else
			}
		}
		if cmd.Flags().Changed("interval") {
			if interval < time.Second {
				return usagef("--interval %s: less than a second; write for example 30s", interval)
			}
			request.Interval = &interval
		}
		if cmd.Flags().Changed("auto-resume") {
			request.AutoResume = &autoResume
		}
		return a.updateServers(ctx, h, t, workflows.UpdateSet, request, awaited{})
	})
}

func newReplicationStatusCommand(a *app) *cobra.Command {
	var watch bool
	var wait awaited
	cmd := &cobra.Command{
		Use: "status [PLAN[/SERVER]]", Short: "Show the progress of replication",
		Long:    "Status shows stage, percent, rate, time left and lag of every server, live. --watch\nkeeps showing it, as bars on a terminal and as lines elsewhere, until interrupted or,\nwith --wait, until all servers are in a phase.",
		Example: "  lifeboat replication status shop --watch\n  lifeboat replication status shop --watch --wait=real-time --timeout 1h",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: a.completeTargets(),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "keep showing the progress")
	wait.addFlag(cmd, workflows.PhaseRealTime)
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		phase, waits, err := wait.target()
		if err != nil {
			return err
		}
		find := func(ctx context.Context) ([]target, error) { return allServers(ctx, h, "") }
		if len(args) > 0 {
			t, err := parseTarget(args[0])
			if err != nil {
				return err
			}
			find = func(ctx context.Context) ([]target, error) { return servers(ctx, h, t) }
		}
		var states []workflows.ServerView
		switch {
		case waits:
			targets, err := find(ctx)
			if err != nil {
				return err
			}
			if states, err = a.waitFor(ctx, h, targets, phase); err != nil {
				return err
			}
		case watch:
			_, err := a.watch(ctx, h, find, func([]workflows.ServerView) (bool, error) { return false, nil })
			return err
		default:
			if states, err = look(ctx, h, find); err != nil && len(states) == 0 {
				return err
			}
		}
		if printed := a.printReplication(states); printed != nil {
			return printed
		}
		return err
	})
}

func (a *app) printReplication(states []workflows.ServerView) error {
	if states == nil {
		states = []workflows.ServerView{}
	}
	slices.SortFunc(states, func(a, b workflows.ServerView) int {
		if a.Plan != b.Plan {
			return compare(a.Plan, b.Plan)
		}
		return compare(a.Name, b.Name)
	})
	return a.print(states, func(w io.Writer) {
		row(w, "SERVER", "PHASE", "HEALTH", "PERCENT", "DONE", "RATE", "LEFT", "LAG", "LAST POINT", "LIMIT")
		for _, s := range states {
			r := s.Replication
			if r.Stage == "" {
				row(w, s.Plan+"/"+s.Name, s.Phase, healthText(s), "", "", "", "", "", lastPoint(s), s.Bandwidth)
				continue
			}
			left := ""
			if r.ETASeconds > 0 {
				left = seconds(r.ETASeconds)
			}
			row(w, s.Plan+"/"+s.Name, s.Phase, healthText(s), percentText(r.Percent), size(r.BytesDone)+" of "+size(r.BytesTotal),
				size(int64(r.RateBytesPerSecond))+"/s", left, seconds(r.LagSeconds), lastPoint(s), s.Bandwidth)
		}
	})
}

func lastPoint(s workflows.ServerView) string {
	if s.LastPoint == nil {
		return "-"
	}
	return s.LastPoint.Time.UTC().Format(time.RFC3339)
}
