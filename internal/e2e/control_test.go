package e2e

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/workflows"
)

// figures of a warning, like "writes 41 MB/s, link 28 MB/s".
var figures = regexp.MustCompile(`writes [0-9.]+ [kKM]?i?B/s.*link [0-9.]+ [kKM]?i?B/s`)

// randomBytes cannot be compressed.
func randomBytes(t *testing.T, n int) []byte {
	t.Helper()
	content := make([]byte, n)
	_, err := rand.Read(content)
	require.NoError(t, err)
	return content
}

func TestReplicationIsControlledWhileItRuns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, b := h.createBox("db", 0, "data=64MiB")
	b.write("data", 0, randomBytes(t, 16*mib))

	t.Log("a bandwidth limit holds during the full copy, and progress is shown")
	h.do("plan", "apply", "-f", planFile{servers: []string{"db"}, policy: ", bandwidth: 1MiB"}.write(h), "--wait")
	h.do("replication", "start", "shop", "--wait=full-replication")
	began := time.Now()
	h.eventually("something was copied", func() error {
		if h.server("shop/db").Replication.BytesDone == 0 {
			return assert.AnError
		}
		return nil
	})
	r := h.server("shop/db").Replication
	assert.Equal(t, "full", r.Stage)
	assert.Less(t, r.Percent, 100.0)
	assert.LessOrEqual(t, float64(r.BytesSent), 3*mib+1.5*mib*time.Since(began).Seconds(), "1 MiB/s, and a burst")
	assert.Contains(t, h.ends(refused, "drill", "start", "shop"), "no complete copy")
	assert.Contains(t, h.ends(refused, "failover", "start", "shop", "--yes"), "no complete copy")

	t.Log("paused, nothing moves; resumed, it goes on where it was")
	h.do("replication", "pause", "shop")
	paused := h.awaitHealth("shop/db", workflows.HealthPaused)
	assert.Contains(t, paused.HealthReason, "resume")
	assert.Contains(t, h.ends(refused, "replication", "pause", "shop"), "paused already")
	<-time.After(time.Second) // what was under way has arrived
	sent := h.server("shop/db").Replication.BytesSent
	<-time.After(time.Second)
	assert.Equal(t, sent, h.server("shop/db").Replication.BytesSent)
	h.do("replication", "resume", "shop")
	assert.Contains(t, h.ends(refused, "replication", "resume", "shop"), "neither paused nor interrupted")

	t.Log("a change of bandwidth takes hold at once")
	h.do("replication", "set", "shop", "--bandwidth", "unlimited")
	changed := time.Now()
	h.do("replication", "status", "shop", "--wait=real-time")
	assert.Less(t, time.Since(changed), 10*time.Second, "16 MiB without a limit")
	h.ends(usage, "replication", "set", "shop", "--bandwidth", "50")
	h.ends(usage, "replication", "set", "shop", "--interval", "10ms")

	t.Log("writes that outrun the link are shown in figures")
	h.do("replication", "set", "shop", "--bandwidth", "256KiB")
	h.eventually("it lags", func() error {
		b.write("data", 0, randomBytes(t, mib))
		v := h.server("shop/db")
		if v.Health != workflows.HealthLagging || !figures.MatchString(v.HealthReason) {
			return fmt.Errorf("health %s: %s", v.Health, v.HealthReason)
		}
		t.Logf("the warning: %s", v.HealthReason)
		return nil
	})
	h.do("replication", "set", "shop", "--bandwidth", "unlimited")
	h.awaitHealth("shop/db", workflows.HealthOK)

	t.Log("without automatic resume, an interruption stays until a person resumes")
	h.do("replication", "set", "shop", "--auto-resume=false")
	require.NoError(t, syscall.Kill(h.process("--agent recovery"), syscall.SIGKILL))
	interrupted := h.awaitHealth("shop/db", workflows.HealthInterrupted)
	assert.Contains(t, interrupted.HealthReason, "resume")
	assert.Equal(t, workflows.PhaseRealTime, interrupted.Phase, "health never changes the phase")
	h.eventually("the receiver is back", func() error {
		if len(h.processes("--agent recovery")) != 1 {
			return assert.AnError
		}
		return nil
	})
	<-time.After(2 * time.Second) // several attempts of an automatic resume
	assert.Equal(t, workflows.HealthInterrupted, h.server("shop/db").Health)
	h.do("replication", "resume", "shop")
	since := time.Now()
	h.awaitHealth("shop/db", workflows.HealthOK)
	h.awaitPointSince("shop/db", since)

	t.Log("with it, nobody is needed")
	h.do("replication", "set", "shop", "--auto-resume=true")
	since = time.Now()
	require.NoError(t, syscall.Kill(h.process("--agent recovery"), syscall.SIGKILL))
	h.awaitPointSince("shop/db", since.Add(time.Second))
	h.awaitHealth("shop/db", workflows.HealthOK)
}

// The newest points of the policy are kept; a locked one is spared.
func TestRetentionKeepsTheNewestAndLockedPoints(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, b := h.createBox("db", 0, "data=8MiB")
	b.writeLine("data", 0, "locked in")
	h.protect(planFile{servers: []string{"db"}, every: "1h"}) // points only by hand: 24 are kept by default
	ids := map[string]string{}
	var order []string
	mark := func(n int) {
		label := fmt.Sprintf("number %d", n)
		p := h.mark("shop/db", label)
		ids[label] = p.ID
		order = append(order, p.ID)
	}
	mark(1)
	h.do("point", "lock", "shop/db", order[0])
	b.writeLine("data", 0, "later")
	for n := 2; n <= 25; n++ {
		mark(n)
	}
	kept := func() (ids []string) {
		for _, p := range h.points("shop/db") {
			ids = append(ids, p.ID)
		}
		return ids
	}
	assert.Subset(t, kept(), order, "24 points and a locked one")
	assert.Len(t, kept(), 25, "the first one of replication was the oldest")

	mark(26)
	points := kept()
	assert.NotContains(t, points, ids["number 2"], "one more evicts the oldest")
	assert.Contains(t, points, ids["number 1"], "unless it is locked")
	assert.Len(t, points, 25)

	drill := ask[workflows.Report](h, "drill", "start", "shop", "--point", order[0])
	require.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
	p := h.open("recovery")
	server, err := p.Server(t.Context(), drill.Servers[0].ServerID)
	require.NoError(t, err)
	assert.Equal(t, "locked in", boxInside(t, p, server.Network, server.IP).line("data", 0))
	h.do("point", "unlock", "shop/db", order[0])
	mark(27)
	assert.Contains(t, kept(), order[0], "a point in use is spared, too")
	h.do("drill", "clean", "shop")
	mark(28)
	assert.NotContains(t, kept(), order[0])
	assert.Len(t, kept(), 24)
	assert.Equal(t, usage, h.run(t.Context(), "point", "lock", "shop/db", order[0]).status, "a point that is gone")
}
