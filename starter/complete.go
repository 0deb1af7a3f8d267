package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/activities"
	"lifeboat/workflows"
)

// completionTime is how long a person waits for a completion at most.
const completionTime = 2 * time.Second

type completion = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// completeValues completes a flag by fixed values.
func completeValues(cmd *cobra.Command, flag string, values ...string) {
	// The error says that the flag does not exist: a mistake that every test of the command line meets.
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// live completes the first argument by asking Temporal. A completion has no
// place for errors: whoever cannot ask completes nothing.
func (a *app) live(find func(ctx context.Context, h house, args []string) ([]string, error), last int) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > last {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		h, err := a.dial(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer h.Close()
		names, err := find(ctx, h, args)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completePlans completes PLAN.
func (a *app) completePlans() completion {
	return a.live(func(ctx context.Context, h house, _ []string) ([]string, error) { return allPlans(ctx, h) }, 0)
}

// completeServers completes PLAN/SERVER.
func (a *app) completeServers() completion {
	return a.live(func(ctx context.Context, h house, _ []string) ([]string, error) { return serverNames(ctx, h) }, 0)
}

// completeTargets completes PLAN and PLAN/SERVER.
func (a *app) completeTargets() completion {
	return a.live(func(ctx context.Context, h house, _ []string) ([]string, error) {
		plans, err := allPlans(ctx, h)
		if err != nil {
			return nil, err
		}
		names, err := serverNames(ctx, h)
		return append(plans, names...), err
	}, 0)
}

// completePoints completes PLAN/SERVER and then a recovery point of it.
func (a *app) completePoints() completion {
	return a.live(func(ctx context.Context, h house, args []string) ([]string, error) {
		if len(args) == 0 {
			return serverNames(ctx, h)
		}
		t, err := parseServer(args[0])
		if err != nil {
			return nil, err
		}
		return pointNames(ctx, h, t)
	}, 1)
}

// completePointFlag completes --point by the words for points and live ones.
func (a *app) completePointFlag(cmd *cobra.Command, words ...string) {
	err := cmd.RegisterFlagCompletionFunc("point", func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		names := append([]string{}, words...)
		if len(args) == 0 {
			return names, cobra.ShellCompDirectiveNoFileComp
		}
		found, directive := a.live(func(ctx context.Context, h house, _ []string) ([]string, error) {
			t, err := parseTarget(args[0])
			if err != nil {
				return nil, err
			}
			targets, err := servers(ctx, h, t)
			if err != nil || len(targets) != 1 {
				return nil, err
			}
			return pointNames(ctx, h, targets[0])
		}, len(args))(cmd, args, toComplete)
		return append(names, found...), directive
	})
	if err != nil {
		panic(err)
	}
}

func serverNames(ctx context.Context, h house) ([]string, error) {
	found, err := allServers(ctx, h, "")
	var names []string
	for _, t := range found {
		names = append(names, t.String())
	}
	return names, err
}

func pointNames(ctx context.Context, h house, t target) ([]string, error) {
	points, err := pointsOf(ctx, h, t)
	var names []string
	for _, p := range points {
		names = append(names, cobra.CompletionWithDesc(p.ID, p.Time.UTC().Format(time.RFC3339)+" "+string(p.Kind)))
	}
	return names, err
}

// pointsOf asks the entity of a server for its recovery points, newest first.
func pointsOf(ctx context.Context, h house, t target) ([]activities.Point, error) {
	var points []activities.Point
	return points, h.Query(ctx, workflows.ServerID(t.Plan, t.Server), workflows.QueryPoints, &points)
}
