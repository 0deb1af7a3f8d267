package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/workflows"
)

// A failover that waits for a person, is given up, approved, and taken back.
func TestPeopleDecide(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, source := h.createBox("db", 0, "data=16MiB")
	source.writeLine("data", 0, "production")

	t.Log("before anything is replicated, a failover is refused with the reason and what is legal")
	h.do("plan", "apply", "-f", planFile{servers: []string{"db"}, spec: "  failover: {approval: required}"}.write(h), "--wait")
	said := h.ends(refused, "failover", "start", "shop", "--yes")
	assert.Contains(t, said, "nothing is replicated yet")
	assert.Contains(t, said, workflows.CmdStartReplication, "the legal operations")
	assert.Contains(t, h.ends(refused, "drill", "start", "shop"), "nothing is replicated yet")
	h.do("replication", "start", "shop", "--wait")
	assert.Contains(t, h.ends(refused, "replication", "start", "shop"), "real-time")
	assert.Contains(t, h.ends(refused, "failover", "approve", "shop"), "no failover is running")
	h.ends(usage, "failover", "start", "shop", "--yes", "--server", "web")
	h.ends(usage, "failover", "start", "shop", "--yes", "--cpu", "2")
	h.ends(usage, "failover", "start", "store", "--yes")
	h.ends(usage, "failover", "hurry", "shop")

	t.Log("it waits for approval: the wait runs out, the failover does not")
	said = h.ends(waitOver, "failover", "start", "shop", "--yes", "--timeout", "8s")
	assert.Contains(t, said, "goes on")
	report := h.waitsFor("approve")
	assert.Nil(t, report.Stamps.Serving, "traffic is not switched")
	assert.Contains(t, h.ends(refused, "drill", "start", "shop"), "failing-over")
	assert.Contains(t, h.ends(refused, "failover", "commit", "shop"), "failing-over")

	t.Log("abort: the source server serves again, nothing is left")
	report = ask[workflows.Report](h, "failover", "abort", "shop", "--wait")
	assert.Equal(t, workflows.OutcomeAborted, report.Outcome)
	assert.Zero(t, report.Resources.Left, report.Resources.LeftOver)
	assert.Equal(t, workflows.PhaseRealTime, h.server("shop/db").Phase)
	h.eventually("the source server runs again", source.alive)
	source.writeLine("data", 0, "production goes on")
	h.awaitHealth("shop/db", workflows.HealthOK)

	t.Log("approve: traffic is switched")
	ref := ask[workflows.OperationRef](h, "failover", "start", "shop", "--yes", "--detach")
	assert.Equal(t, "failover/shop/2", ref.WorkflowID)
	h.waitsFor("approve")
	report = ask[workflows.Report](h, "failover", "approve", "shop", "--by", "ann", "--note", "all green", "--wait")
	require.Equal(t, workflows.OutcomeDone, report.Outcome, report.Reason)
	away := boxAt(t, report.Servers[0].Public)
	assert.Equal(t, "production goes on", away.line("data", 0))
	assert.Contains(t, h.ends(refused, "failover", "abort", "shop"), "no failover is running")

	t.Log("cancel: home again, what was written abroad is lost")
	away.writeLine("data", 0, "written abroad")
	h.do("failover", "cancel", "shop", "--yes", "--wait")
	assert.Contains(t, h.server("shop/db").Allowed, workflows.CmdFailover, "protected all the time: the next outage may come now")
	h.eventually("the source server runs again", source.alive)
	assert.Equal(t, "production goes on", source.line("data", 0))
	view := h.awaitHealth("shop/db", workflows.HealthOK)
	assert.Equal(t, workflows.PhaseRealTime, view.Phase)
	assert.Nil(t, view.Recovered)
	assert.Contains(t, h.ends(refused, "failover", "commit", "shop"), "real-time")
}
