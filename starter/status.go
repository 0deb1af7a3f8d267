package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

// fleet is what `status -o json` prints.
type fleet struct {
	Temporal string                   `json:"temporal"`
	Workers  bool                     `json:"workers"` // somebody takes workflow tasks
	Plans    []fleetPlan              `json:"plans"`
	Running  []workflows.OperationRef `json:"running"`
}

// fleetPlan is one plan in the overview.
type fleetPlan struct {
	Plan            string         `json:"plan"`
	Servers         int            `json:"servers"`
	Phases          map[string]int `json:"phases"`
	Unhealthy       []string       `json:"unhealthy"`         // server and reason
	WorstRPOSeconds float64        `json:"worst_rpo_seconds"` // −1 when a server has no recovery point
	RPOObjective    float64        `json:"rpo_objective_seconds,omitempty"`
}

func newStatusCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Overview of everything that is protected",
		Long:    "Status shows in a few lines whether Temporal and workers answer, in which phases the\nservers of every plan are, what is unhealthy and why, and which operations run.",
		Example: "  lifeboat status\n  lifeboat status -o json",
		Args:    cobra.NoArgs,
	}
	return a.withHouse(cmd, func(ctx context.Context, h house, _ []string) error {
		f, err := overview(ctx, h)
		if err != nil {
			return err
		}
		if err := a.print(f, func(w io.Writer) { fleetTable(w, f) }); err != nil {
			return err
		}
		if !f.Workers {
			return unreachablef(nil, "task queue %s: no worker is running (start `lifeboat dev`, or lifeboat-worker with --roles control)", workflows.TaskQueue)
		}
		return nil
	})
}

func overview(ctx context.Context, h house) (fleet, error) {
	f := fleet{Temporal: h.Place(), Plans: []fleetPlan{}, Running: []workflows.OperationRef{}}
	var err error
	if f.Workers, err = h.Polled(ctx, workflows.TaskQueue, false); err != nil || !f.Workers {
		return f, err
	}
	plans, err := planViews(ctx, h)
	if err != nil {
		return f, err
	}
	for _, view := range plans {
		var targets []target
		for _, name := range view.Servers {
			targets = append(targets, target{view.Name, name})
		}
		states, err := views(ctx, h, targets)
		if err != nil {
			return f, err
		}
		f.Plans = append(f.Plans, summarise(view, states))
		f.Running = append(f.Running, view.Running...)
	}
	return f, nil
}

func summarise(view workflows.PlanView, states []workflows.ServerView) fleetPlan {
	p := fleetPlan{Plan: view.Name, Servers: len(states), Phases: map[string]int{}, Unhealthy: []string{}, RPOObjective: view.Spec.Objectives.RPO.D().Seconds()}
	for _, s := range states {
		p.Phases[string(s.Phase)]++
		if s.Health != workflows.HealthOK {
			p.Unhealthy = append(p.Unhealthy, s.Name+" "+healthText(s))
		}
		if s.RPOSeconds < 0 || p.WorstRPOSeconds < 0 {
			p.WorstRPOSeconds = -1
		} else {
			p.WorstRPOSeconds = max(p.WorstRPOSeconds, s.RPOSeconds)
		}
	}
	if len(states) == 0 {
		p.WorstRPOSeconds = -1
	}
	return p
}

func fleetTable(w io.Writer, f fleet) {
	fmt.Fprintf(w, "Temporal: %s, workers: %s\n", f.Temporal, yesNo(f.Workers))
	if len(f.Plans) == 0 {
		fmt.Fprintln(w, "no plan is applied (see `lifeboat plan init` and `lifeboat plan apply`)")
		return
	}
	row(w, "PLAN", "SERVERS", "PHASES", "WORST RPO", "OBJECTIVE", "UNHEALTHY")
	for _, p := range f.Plans {
		var phases []string
		for _, name := range sortedKeys(p.Phases) {
			phases = append(phases, fmt.Sprintf("%d %s", p.Phases[name], name))
		}
		objective := "-"
		if p.RPOObjective > 0 {
			objective = seconds(p.RPOObjective)
		}
		row(w, p.Plan, p.Servers, strings.Join(phases, ", "), seconds(p.WorstRPOSeconds), objective, strings.Join(p.Unhealthy, "; "))
	}
	for _, ref := range f.Running {
		fmt.Fprintf(w, "running: %s of %s\n", ref.WorkflowID, joined(ref.Servers))
	}
}
