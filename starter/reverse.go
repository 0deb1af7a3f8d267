package main

import (
	"context"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

func newReverseCommand(a *app) *cobra.Command {
	return noun("reverse", "Protect the recovered servers back to the primary site",
		"Reverse replication copies what the recovered servers write back to the primary\nsite, so that a failback loses nothing: register, start, wait for\nreverse-real-time, then `lifeboat failback start`.",
		serverCommand{update: workflows.UpdateReverseRegister, use: "register PLAN[/SERVER]", leadsTo: workflows.PhaseReverseRegistered,
			short:   "Register recovered servers for reverse replication",
			long:    "Register makes the recovered servers the ones that are protected, from the\nrecovery site to the primary site. The failover must be committed.",
			example: "  lifeboat reverse register shop"}.new(a),
		newReverseStartCommand(a),
		serverCommand{update: workflows.UpdateStop, use: "stop PLAN[/SERVER]", leadsTo: workflows.PhaseReverseRegistered,
			short:   "Stop reverse replication",
			long:    "Stop ends reverse replication; it can be started again.",
			example: "  lifeboat reverse stop shop"}.new(a),
		serverCommand{update: workflows.UpdateReverseUnregister, use: "unregister PLAN[/SERVER]", leadsTo: workflows.PhaseFailoverComplete,
			short:   "Take a reverse registration back",
			long:    "Unregister leads back to where the servers run at the recovery site, unprotected.",
			example: "  lifeboat reverse unregister shop"}.new(a),
	)
}

func newReverseStartCommand(a *app) *cobra.Command {
	var f startFlags
	var inPlace bool
	var confirm string
	var wait awaited
	cmd := &cobra.Command{
		Use: "start PLAN[/SERVER]", Short: "Start reverse replication",
		Long: "Start copies the recovered servers back to the primary site: onto new disks, or with\n--in-place onto the disks of the original server, which must then be named with\n--confirm because what they hold is overwritten. --wait waits for reverse-real-time.",
		Example: `  lifeboat reverse start shop --wait
  lifeboat reverse start shop/db --in-place --confirm db`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeTargets(),
	}
	a.addRequestFlag(cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&f.servers, "server", nil, "only this server of the plan (repeatable)")
	flags.BoolVar(&f.detach, "detach", false, "do not follow the operation, print its reference at once")
	flags.StringVar(&f.network, "network", "", "network of the primary site")
	flags.BoolVar(&inPlace, "in-place", false, "overwrite the disks of the original server")
	flags.StringVar(&confirm, "confirm", "", "name of the server whose disks may be overwritten")
	wait.addFlag(cmd, workflows.PhaseReverseRealTime)
	cmd.MarkFlagsMutuallyExclusive("detach", "wait")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		phase, waits, err := wait.target()
		if err != nil {
			return err
		}
		if f.detach || !waits {
			return a.startOperation(ctx, h, args[0], workflows.UpdateReverse, &f, inPlaceOf(inPlace, confirm))
		}
		return a.startAndWait(ctx, h, args[0], &f, inPlaceOf(inPlace, confirm), phase)
	})
}

// inPlaceOf checks that overwriting the original was meant, for one server by its name.
func inPlaceOf(inPlace bool, confirm string) func(*workflows.OperationRequest) error {
	return func(r *workflows.OperationRequest) error {
		r.InPlace, r.Confirm = inPlace, confirm
		if !inPlace {
			if confirm != "" {
				return usagef("--confirm %s: nothing to confirm without --in-place", confirm)
			}
			return nil
		}
		if len(r.Servers) != 1 {
			return usagef("--in-place: one server at a time; write PLAN/SERVER")
		}
		if confirm != r.Servers[0] {
			return usagef("--in-place overwrites the disks of %s: say so with --confirm %s", r.Servers[0], r.Servers[0])
		}
		return nil
	}
}

// startAndWait starts reverse replication, then waits until its servers are in a phase.
func (a *app) startAndWait(ctx context.Context, h house, arg string, f *startFlags, mend func(*workflows.OperationRequest) error, phase workflows.Phase) error {
	ref, err := a.beginOperation(ctx, h, arg, workflows.UpdateReverse, f, mend)
	if err != nil {
		return err
	}
	report, err := a.follow(ctx, h, ref.WorkflowID)
	if err != nil {
		return err
	}
	if report.Outcome != workflows.OutcomeDone {
		return a.conclude(report)
	}
	var targets []target
	for _, s := range report.Servers {
		targets = append(targets, target{report.Plan, s.Name})
	}
	states, err := a.waitFor(ctx, h, targets, phase)
	if err != nil {
		return err
	}
	return a.printServers(states)
}
