package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/workflows"
)

// A plan that Lifeboat proposes itself protects a server; when a step of the
// failover fails, a person mends and tries again, or goes on without it.
func TestProposedPlanAndFailedSteps(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, b := h.createBox("db", 0, "data=8MiB")
	b.writeLine("data", 0, "production")
	path := filepath.Join(h.dir, "proposed.yaml")
	h.do("plan", "init", "-f", path, "--name", "shop")
	h.ends(usage, "plan", "init", "-f", path, "--name", "shop") // it must not be overwritten
	h.do("plan", "validate", "-f", path)
	h.do("plan", "apply", "-f", path, "--wait")
	h.do("replication", "start", "shop", "--wait")

	t.Log("a script fails until its cause is mended")
	mended := filepath.Join(h.dir, "mended")
	script := filepath.Join(h.dir, "check.sh")
	require.NoError(t, os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\necho \"this is a $LIFEBOAT_OPERATION\"\necho run >> %[1]s.log\ntest -e %[1]s\n", mended), 0o644))
	h.do("failover", "start", "shop", "--yes", "--script", script, "--detach")
	report := h.waitsFor("retry")
	assert.Contains(t, report.Reason, "this is a failover", "what the script said")
	assert.Equal(t, workflows.PhaseFailingOver, h.server("shop/db").Phase)
	h.do("failover", "retry", "shop")
	h.eventually("it has been tried again", func() error {
		log, err := os.ReadFile(mended + ".log")
		if runs := strings.Count(string(log), "run"); err == nil && runs < 2 {
			err = fmt.Errorf("%d runs", runs)
		}
		return err
	})
	h.waitsFor("retry")
	require.NoError(t, os.WriteFile(mended, nil, 0o600))
	report = ask[workflows.Report](h, "failover", "retry", "shop", "--wait")
	require.Equal(t, workflows.OutcomeDone, report.Outcome, report.Reason)
	assert.Contains(t, report.Servers[0].Script, "this is a failover")
	assert.Equal(t, "point", report.RPOSource, "no script tells the newest write, and the report says so")

	t.Log("a switch to another point that fails leaves the recovered server running")
	require.NoError(t, os.Remove(mended))
	points := h.points("shop/db")
	earlier := points[len(points)-1]
	switched := asked[workflows.Report](h, failed, "failover", "switch-point", "shop", "--point", earlier.ID, "--script", script, "--yes")
	assert.Equal(t, workflows.OutcomeFailed, switched.Outcome)
	assert.Equal(t, workflows.PhaseFailedOver, h.server("shop/db").Phase)
	running := h.server("shop/db").Recovered
	require.NotNil(t, running)
	p := h.open("recovery")
	server, err := p.Server(t.Context(), running.ID)
	require.NoError(t, err)
	assert.Equal(t, "production", boxInside(t, p, server.Network, server.IP).line("data", 0))
	assert.Zero(t, switched.Resources.Left, switched.Resources.LeftOver)

	t.Log("skip goes on without the step")
	h.do("failover", "cancel", "shop", "--yes", "--wait")
	h.eventually("the source server runs again", b.alive)
	h.do("failover", "start", "shop", "--yes", "--script", script, "--detach")
	h.waitsFor("skip")
	report = ask[workflows.Report](h, "failover", "skip", "shop", "--note", "the script is wrong", "--wait")
	require.Equal(t, workflows.OutcomeDone, report.Outcome, report.Reason)
	assert.True(t, slices.ContainsFunc(report.Steps, func(s workflows.StepReport) bool { return s.State == "skipped" }))
}

// waitsFor waits until the failover of the plan asks a person for a decision.
func (h *house) waitsFor(choice string) (report workflows.Report) {
	h.t.Helper()
	h.eventually("it waits for a person", func() error {
		report = ask[workflows.Report](h, "failover", "show", "shop")
		if report.Outcome != workflows.OutcomeWaiting {
			return errors.New("outcome " + string(report.Outcome) + ": " + report.Reason)
		}
		return nil
	})
	assert.Contains(h.t, report.Reason, "failover "+choice)
	return report
}
