package main

import (
	"context"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

func newFailoverCommand(a *app) *cobra.Command {
	verbs := []*cobra.Command{newFailoverStartCommand(a), newShowCommand(a, workflows.OpFailover)}
	verbs = append(verbs, newDecisionCommands(a, workflows.OpFailover)...)
	verbs = append(verbs, newSwitchPointCommand(a),
		serverCommand{update: workflows.UpdateCommit, use: "commit PLAN[/SERVER]", leadsTo: workflows.PhaseFailoverComplete,
			short:   "Make a failover final",
			long:    "Commit ends a failover: the recovered servers stay, replication resources and\nrecovery points are removed. After it the point cannot be switched any more.",
			example: "  lifeboat failover commit shop"}.new(a),
		serverCommand{update: workflows.UpdateCancel, use: "cancel PLAN[/SERVER]", leadsTo: workflows.PhaseRealTime,
			short:    "Take a failover back that was not committed",
			long:     "Cancel deletes the recovered servers, sends traffic to the primary site again and\nresumes replication. What was written at the recovery site meanwhile is lost.",
			example:  "  lifeboat failover cancel shop --wait",
			question: "Cancel the failover of %s? What was written at the recovery site is lost."}.new(a),
		serverCommand{update: workflows.UpdateResumeProtection, use: "resume-protection PLAN[/SERVER]", leadsTo: workflows.PhaseRealTime,
			short:   "Protect the server at the primary site again after a committed failover",
			long:    "Resume protection starts replication from the primary site again; where the old\nreplica is still there, only what changed is copied.",
			example: "  lifeboat failover resume-protection shop --wait"}.new(a),
	)
	return noun("failover", "Move production to the recovery site",
		"A failover starts servers at the recovery site from a recovery point and switches\ntraffic to them. Until it is committed the point can be switched and the failover\ncancelled.", verbs...)
}

func newFailoverStartCommand(a *app) *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use: "start PLAN[/SERVER]", Short: "Start a failover",
		Long: "Start fails servers over to the recovery site. A planned failover (the default)\nstops the source servers and uses --point current-time, so that nothing is lost;\nwith --source-down no call to the failed site is made, and the newest point is used.",
		Example: `  lifeboat failover start shop --source-down
  lifeboat failover start shop --point current-time --yes
  lifeboat failover start shop/db --point 2026-01-31T12:00:00Z --script check.sh
  lifeboat failover start shop --source-down --declared-at 2026-01-31T11:58:00Z --detach`,
		Args: cobra.ExactArgs(1),
	}
	f.add(a, cmd)
	f.addLaunch(a, cmd)
	cmd.Flags().BoolVar(&f.sourceDown, "source-down", false, "the primary site is lost: do not call it")
	cmd.Flags().StringVar(&f.declared, "declared-at", "", "when the outage was declared, RFC 3339 (default: now); RTO and RPO are measured from it")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		if err := a.confirm(f.yes, "Fail %s over to the recovery site?", args[0]); err != nil {
			return err
		}
		return a.startOperation(ctx, h, args[0], workflows.UpdateFailover, &f, nil)
	})
}

func newSwitchPointCommand(a *app) *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use: "switch-point PLAN[/SERVER]", Short: "Start the recovered servers from an earlier point",
		Long:    "Switch point replaces the servers of a failover that is not committed by ones from\nan earlier recovery point. When it fails, the servers that run now stay.",
		Example: "  lifeboat point list shop/db\n  lifeboat failover switch-point shop --point 2026-01-31T12:00:00Z",
		Args:    cobra.ExactArgs(1),
	}
	f.add(a, cmd)
	f.addLaunch(a, cmd)
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		if f.point == "" {
			return usagef("failover switch-point: which point? Name an earlier one with --point (see `lifeboat point list %s`)", args[0])
		}
		if err := a.confirm(f.yes, "Replace the recovered servers of %s by ones from %s?", args[0], f.point); err != nil {
			return err
		}
		return a.startOperation(ctx, h, args[0], workflows.UpdateSwitchPoint, &f, nil)
	})
}
