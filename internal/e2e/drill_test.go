package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/workflows"
)

const threeSteps = `  steps:
    - {name: store, servers: [db]}
    - {name: logic, servers: [app], after: [store]}
    - {name: front, servers: [web], after: [logic]}
  drills: {schedule: "0 3 1 1 *"}`

// Three servers are drilled in order, beside production and out of its reach.
func TestDrillOfThreeServers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	servers := []string{"web", "app", "db"}
	boxes := map[string]box{}
	for i, name := range servers {
		_, boxes[name] = h.createBox(name, i, "data=4MiB")
		boxes[name].writeLine("data", 0, "of "+name)
	}
	h.protect(planFile{servers: servers, spec: threeSteps})

	report := ask[workflows.Report](h, "drill", "start", "shop")
	require.Equal(t, workflows.OutcomeDone, report.Outcome, report.Reason)
	assert.Equal(t, []string{"db", "app", "web"}, launchOrder(t, report), "step after step")
	for _, name := range servers {
		boxes[name].writeLine("data", 0, "production of "+name)
	}

	p := h.open("recovery")
	for i, name := range servers {
		drilled := drilledServer(t, p, report, name)
		inside := boxInside(t, p, drilled.Network, drilled.IP)
		assert.Equal(t, "of "+name, inside.line("data", 0))
		if h.isRoot() {
			assert.Equal(t, h.ip(i), drilled.IP, "the address of production")
		}
		inside.writeLine("data", 0, "drill of "+name)
		assert.Equal(t, "production of "+name, boxes[name].line("data", 0), "production does not notice")
		assert.Equal(t, workflows.DrillRunning, h.server("shop/"+name).Drill)
	}
	h.isolated(drilledServer(t, p, report, "web"))
	assert.Contains(t, h.ends(refused, "drill", "start", "shop"), "clean it first")

	t.Log("a scheduled drill that is due now is skipped")
	h.do("schedule", "trigger", "shop")
	h.scheduled(1)
	assert.Equal(t, report.WorkflowID, ask[workflows.Report](h, "drill", "show", "shop").WorkflowID, "there is no other drill")
	assert.Equal(t, workflows.DrillRunning, h.server("shop/db").Drill)

	before := time.Now()
	report = ask[workflows.Report](h, "drill", "clean", "shop")
	assert.Equal(t, workflows.OutcomeCleaned, report.Outcome)
	assert.Zero(t, report.Resources.Left)
	assert.Equal(t, report.Resources.Created, report.Resources.Deleted)
	for _, name := range servers {
		assert.Equal(t, workflows.DrillNone, h.server("shop/"+name).Drill)
		h.awaitPointSince("shop/"+name, before)
	}
	assert.Contains(t, h.ends(refused, "drill", "clean", "shop"), "no drill is open")

	t.Log("when none is open, the scheduled drill runs and cleans up")
	h.do("schedule", "trigger", "shop")
	h.eventually("the scheduled drill is cleaned", func() error {
		r := ask[workflows.Report](h, "drill", "show", "shop")
		if r.WorkflowID == report.WorkflowID || r.Outcome != workflows.OutcomeCleaned {
			return fmt.Errorf("%s: %s %s", r.WorkflowID, r.Outcome, r.Reason)
		}
		assert.Zero(t, r.Resources.Left)
		return nil
	})
	h.scheduled(2)
	assert.True(t, slices.ContainsFunc(h.points("shop/db"), func(p activities.Point) bool { return p.TestedAt != nil }), "a point was noted as tested")
}

// launchOrder gives the servers in the order in which their launch began.
func launchOrder(t *testing.T, report workflows.Report) (order []string) {
	t.Helper()
	steps := slices.Clone(report.Steps)
	slices.SortStableFunc(steps, func(a, b workflows.StepReport) int { return a.Started.Compare(b.Started) })
	ended := time.Time{}
	for _, s := range steps {
		if !strings.HasPrefix(s.Name, "launch") {
			continue
		}
		require.NotNil(t, s.Ended)
		assert.False(t, s.Started.Before(ended), "%s began before the step before had ended", s.Server)
		ended = *s.Ended
		order = append(order, s.Server)
	}
	return order
}

type sites interface {
	Server(ctx context.Context, id string) (cloud.Server, error)
}

func drilledServer(t *testing.T, p sites, report workflows.Report, name string) cloud.Server {
	t.Helper()
	i := slices.IndexFunc(report.Servers, func(s workflows.ServerReport) bool { return s.Name == name })
	require.GreaterOrEqual(t, i, 0, "server %s in the report", name)
	server, err := p.Server(t.Context(), report.Servers[i].ServerID)
	require.NoError(t, err)
	return server
}

// isolated asserts that production's network does not reach a drilled server:
// at the same address it finds its own.
func (h *house) isolated(drilled cloud.Server) {
	h.t.Helper()
	if !h.isRoot() {
		return // the report says that such a network is not isolated
	}
	primary := h.open("primary")
	own := boxInside(h.t, primary, "main", drilled.IP)
	assert.Equal(h.t, "production of web", own.line("data", 0), "production finds itself at the drill's address")
	require.Empty(h.t, drilled.Public, "a drill has no public address unless one is asked for")
	// A second address of the drill's network that production does not use.
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Second)
	defer cancel()
	conn, err := primary.Dial(ctx, "main", h.ip(100)+":8080")
	if err == nil {
		err = errors.Join(conn.Close())
		h.t.Fatalf("somebody answers at %s (%v)", h.ip(100), err)
	}
}

// scheduled waits until the plan's schedule has run so many times; being skipped or
// done, no run has paused it.
func (h *house) scheduled(times int) {
	h.t.Helper()
	type schedule struct {
		Plan   string `json:"plan"`
		Paused bool   `json:"paused"`
		Note   string `json:"note"`
		Recent []any  `json:"recent"`
	}
	h.eventually("the schedule has run", func() error {
		all := ask[[]schedule](h, "schedule", "list")
		require.Len(h.t, all, 1)
		assert.False(h.t, all[0].Paused, all[0].Note)
		if n := len(all[0].Recent); n < times {
			return fmt.Errorf("%d runs", n)
		}
		return nil
	})
}
