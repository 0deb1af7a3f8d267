package e2e

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/workflows"
)

// Recovery points go on while Temporal is away: they are the agents'.
func TestReplicationGoesOnWithoutTemporal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, b := h.createBox("db", 0, "data=16MiB")
	h.protect(planFile{servers: []string{"db"}})
	temporal := h.process("server start-dev")

	require.NoError(t, syscall.Kill(temporal, syscall.SIGSTOP))
	gone := time.Now()
	for i := range 4 {
		b.writeLine("data", 0, fmt.Sprintf("written in the dark %d", i))
		<-time.After(1500 * time.Millisecond) // the outage lasts: that is what is tested
	}
	back := time.Now()
	require.NoError(t, syscall.Kill(temporal, syscall.SIGKILL))

	h.eventually("Temporal is back", func() error {
		if r := h.run(t.Context(), "status", "--timeout", "10s"); r.status != done {
			return fmt.Errorf("status %d: %s", r.status, r.said)
		}
		return nil
	})
	made := 0
	for _, p := range h.points("shop/db") {
		if p.Time.After(gone) && p.Time.Before(back) {
			made++
		}
	}
	assert.GreaterOrEqual(t, made, 3, "recovery points of the 6 s without Temporal")
	h.eventually("the entity catches up", func() error {
		v := h.server("shop/db")
		if v.Health != workflows.HealthOK || v.LastPoint == nil || v.LastPoint.Time.Before(back) || v.RPOSeconds > 10 {
			return fmt.Errorf("health %s: %s, last point %v, RPO %v s", v.Health, v.HealthReason, v.LastPoint, v.RPOSeconds)
		}
		return nil
	})
	over := ask[workflows.Report](h, "failover", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	assert.Equal(t, "written in the dark 3", boxAt(t, over.Servers[0].Public).line("data", 0))
}

// When the whole primary site is lost, nothing of it is needed.
func TestFailoverWithoutThePrimarySite(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, b := h.createBox("db", 0, "data=16MiB")
	h.protect(planFile{servers: []string{"db"}})
	b.writeLine("data", 0, "the last words")
	saved := h.mark("shop/db", "saved")

	// The site is lost: its server, its agent, its directory.
	helpers := h.processes("local-helper server primary")
	require.Len(t, helpers, 1)
	for _, pid := range append(helpers, h.process("--agent primary")) {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	require.NoError(t, os.Rename(h.site("primary"), h.site("lost")))
	require.NoError(t, os.WriteFile(h.site("primary"), []byte("a burnt house\n"), 0o600)) // nobody makes a new one
	h.eventually("the source server is dead", func() error {
		if b.alive() == nil {
			return errors.New("it answers")
		}
		return nil
	})

	began := time.Now()
	over := ask[workflows.Report](h, "failover", "start", "shop", "--source-down", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	t.Logf("serving %s after the command", time.Since(began).Round(time.Millisecond))
	assert.Less(t, *over.RTOSeconds, 15.0, "nothing waits for the lost site")
	assert.Equal(t, "unknown", over.Servers[0].Fencing, "nobody can say what the lost site does")
	assert.Equal(t, "the last words", boxAt(t, over.Servers[0].Public).line("data", 0))
	assert.False(t, over.Servers[0].PointTime.Before(saved.Time), "the newest point")
	view := h.server("shop/db")
	assert.Equal(t, workflows.PhaseFailedOver, view.Phase)
	assert.Contains(t, fmt.Sprint(view.Notes), "unknown", "the server's notes say so, too")

	h.do("failover", "commit", "shop", "--wait")
	view = h.server("shop/db")
	assert.Equal(t, workflows.PhaseFailoverComplete, view.Phase)
	assert.Empty(t, h.points("shop/db"), "commit removes the points")
	require.NoError(t, boxAt(t, over.Servers[0].Public).alive())

	// Later the site is there again, with what it had: the way home is open.
	away := boxAt(t, over.Servers[0].Public)
	away.writeLine("data", 0, "written abroad")
	require.NoError(t, os.Remove(h.site("primary")))
	require.NoError(t, os.Rename(h.site("lost"), h.site("primary")))
	h.eventually("its agent is back", func() error {
		if len(h.processes("--agent primary")) == 0 {
			return errors.New("it does not run")
		}
		return nil
	})
	h.do("reverse", "register", "shop", "--wait")
	h.do("reverse", "start", "shop", "--wait")
	home := ask[workflows.Report](h, "failback", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, home.Outcome, home.Reason)
	assert.Equal(t, "written abroad", boxAt(t, home.Servers[0].Public).line("data", 0))
	assert.Error(t, away.alive(), "only one serves")
}
