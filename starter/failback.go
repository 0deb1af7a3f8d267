package main

import (
	"context"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

func newFailbackCommand(a *app) *cobra.Command {
	verbs := append([]*cobra.Command{newFailbackStartCommand(a), newShowCommand(a, workflows.OpFailback)},
		newDecisionCommands(a, workflows.OpFailback)...)
	return noun("failback", "Move production home again",
		"A failback stops the recovered servers, copies the last changes home, starts the\nservers at the primary site and switches traffic to them. When it fails,\nproduction stays at the recovery site.", verbs...)
}

func newFailbackStartCommand(a *app) *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use: "start PLAN[/SERVER]", Short: "Start a failback",
		Long:    "Start moves production back to the primary site; the servers must be in\nreverse-real-time. After it, `lifeboat server register` protects them again, by a\ndelta onto what is left at the recovery site; `lifeboat server cleanup` before that\ndeletes what is left there, once the failback is verified.",
		Example: "  lifeboat failback start shop\n  lifeboat failback start shop/db --yes --timeout 30m",
		Args:    cobra.ExactArgs(1),
	}
	f.add(a, cmd)
	f.addLaunch(a, cmd)
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	return a.withHouse(cmd, func(ctx context.Context, h house, args []string) error {
		if err := a.confirm(f.yes, "Move production of %s back to the primary site?", args[0]); err != nil {
			return err
		}
		return a.startOperation(ctx, h, args[0], workflows.UpdateFailback, &f, nil)
	})
}
