package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/workflows"
)

// passed tells which phases come by themselves after one: who waits for the
// first is also content with the others, since it may pass between two looks.
var passed = map[workflows.Phase][]workflows.Phase{
	workflows.PhaseInstalling:      {workflows.PhaseInitialized, workflows.PhaseInitFailed},
	workflows.PhaseStarting:        {workflows.PhaseFullReplication, workflows.PhaseRealTime},
	workflows.PhaseFullReplication: {workflows.PhaseRealTime},
	workflows.PhaseReverseStarting: {workflows.PhaseReverseFull, workflows.PhaseReverseRealTime},
	workflows.PhaseReverseFull:     {workflows.PhaseReverseRealTime},
}

// phases that can be waited for, in the order of the life cycle.
var phases = []workflows.Phase{
	workflows.PhaseInstalling, workflows.PhaseInitFailed, workflows.PhaseInitialized, workflows.PhaseStarting,
	workflows.PhaseFullReplication, workflows.PhaseRealTime, workflows.PhaseFailingOver, workflows.PhaseFailedOver,
	workflows.PhaseFailoverComplete, workflows.PhaseReverseRegistered, workflows.PhaseReverseStarting,
	workflows.PhaseReverseFull, workflows.PhaseReverseRealTime, workflows.PhaseFailingBack, workflows.PhaseFailedBack,
	workflows.PhaseRemoved,
}

// awaited is where a command leads, and whether the caller waits for it.
type awaited struct {
	flag  string // value of --wait; empty when it was not given
	phase workflows.Phase
}

// waitByDefault is the value of a bare --wait.
const waitByDefault = "default"

// addFlag adds --wait[=PHASE]; phase is what a bare --wait waits for.
func (w *awaited) addFlag(cmd *cobra.Command, phase workflows.Phase) {
	w.phase = phase
	cmd.Flags().StringVar(&w.flag, "wait", "", "wait until the servers are in this phase (bare: "+string(phase)+")")
	cmd.Flags().Lookup("wait").NoOptDefVal = waitByDefault
	var names []string
	for _, p := range phases {
		names = append(names, string(p))
	}
	completeValues(cmd, "wait", names...)
}

// target gives the phase to wait for; ok is false when nobody waits.
func (w *awaited) target() (phase workflows.Phase, ok bool, err error) {
	switch {
	case w.flag == "":
		return "", false, nil
	case w.flag == waitByDefault:
		return w.phase, true, nil
	case slices.Contains(phases, workflows.Phase(w.flag)):
		return workflows.Phase(w.flag), true, nil
	}
	var names []string
	for _, p := range phases {
		names = append(names, string(p))
	}
	return "", false, usagef("--wait=%s: no such phase; there are: %s", w.flag, strings.Join(names, ", "))
}

// waitFor shows the progress of servers until all are in a phase, and gives
// their last states. A server that ends up where the phase cannot come by
// itself is an error.
func (a *app) waitFor(ctx context.Context, h house, targets []target, phase workflows.Phase) ([]workflows.ServerView, error) {
	return a.watch(ctx, h, func(context.Context) ([]target, error) { return targets, nil }, func(states []workflows.ServerView) (bool, error) {
		there := 0
		for _, s := range states {
			if s.Phase == phase || slices.Contains(passed[phase], s.Phase) && s.Phase != workflows.PhaseInitFailed {
				there++
				continue
			}
			if err := stuck(s, phase); err != nil {
				return false, err
			}
		}
		return there == len(targets), nil
	})
}

// stuck says why a server will not reach the phase without a person.
func stuck(s workflows.ServerView, phase workflows.Phase) error {
	name := s.Plan + "/" + s.Name
	switch {
	case s.Phase == workflows.PhaseInitFailed:
		return failf("%s: joining failed: %s (mend it, then `lifeboat server initialize %s`)", name, s.LastError, name)
	case s.Phase == workflows.PhaseRemoved:
		return failf("%s: it was removed from protection while waiting for %s", name, phase)
	case s.Health == workflows.HealthPaused:
		return failf("%s: replication is paused, so it does not reach %s (`lifeboat replication resume %s`)", name, phase, name)
	}
	return nil
}

// pause waits for the next look at something: longer and longer, up to a second.
func (a *app) pause(ctx context.Context, looks int) error {
	wait := min(a.pace<<min(looks, 8), max(time.Second, a.pace))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
