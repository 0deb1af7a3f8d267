package e2e

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud/aws/awstest"
	"lifeboat/workflows"
)

// killer kills the worker in the middle of calls: each of them is answered, and nobody
// hears the answer.
type killer struct {
	h    *cloudHouse
	mu   sync.Mutex
	done []string
}

// at arms the next call of each of the operations in a region.
func (k *killer) at(site string, operations ...string) {
	for _, op := range operations {
		k.h.cloud.Inject(awstest.Rule{Region: awsRegions[site], Operation: op, Times: 1, After: true, Drop: true, Then: func(awstest.Request) {
			for _, pid := range k.h.processes("--roles control,cloud") {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended just now
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			k.done = append(k.done, op)
		}})
	}
}

// struck asserts that the worker was killed at each of them.
func (k *killer) struck(operations ...string) {
	k.h.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, op := range operations {
		assert.Contains(k.h.t, k.done, op, "the worker was not killed there")
	}
	k.h.t.Logf("killed at %v", k.done)
}

// The worker is killed at every kind of call that changes something, just when the cloud
// has done what was asked: in the end there is one of each, and nothing is left.
func TestAWSWorkerIsKilledAtEveryKindOfCall(t *testing.T) {
	t.Parallel()
	h := newCloudHouse(t)
	_, origin := h.machine("db", "root", "data")
	origin.writeLine("data", 0, "home")
	k := &killer{h: h}

	k.at("recovery", "CreateSubnet", "AllocateAddress")
	h.do("plan", "apply", "-f", h.plan("snapshots", "db"), "--wait")
	k.struck("CreateSubnet", "AllocateAddress")
	k.at("primary", "CreateSnapshots")
	k.at("recovery", "CopySnapshot")
	h.do("replication", "start", "shop", "--wait")
	// The phase can be seen a moment before the entity's next decision goes by it, when
	// the worker of its last one was killed.
	h.eventually("a point is marked", func() error {
		if r := h.run(t.Context(), "point", "mark", "shop/db"); r.status != done {
			return errors.New(r.said)
		}
		return nil
	})
	k.struck("CreateSnapshots", "CopySnapshot")

	k.at("recovery", "RegisterImage", "RunInstances")
	drill := ask[workflows.Report](h.house, "drill", "start", "shop")
	require.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
	k.struck("RegisterImage", "RunInstances")
	assert.Len(t, slices.DeleteFunc(h.leftAt("recovery"), func(s string) bool { return s[:8] == "snapshot" }), 3, "one server with two disks")
	k.at("recovery", "TerminateInstances", "DeleteVolume")
	drill = ask[workflows.Report](h.house, "drill", "clean", "shop")
	assert.Equal(t, workflows.OutcomeCleaned, drill.Outcome, drill.Reason)
	assert.Zero(t, drill.Resources.Left, drill.Resources.LeftOver)
	k.struck("TerminateInstances", "DeleteVolume")

	k.at("primary", "StopInstances")
	k.at("recovery", "AssociateAddress", "DeregisterImage")
	over := ask[workflows.Report](h.house, "failover", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	k.struck("StopInstances", "AssociateAddress", "DeregisterImage")
	assert.Equal(t, "home", boxAt(t, over.Servers[0].Public).line("data", 0))
	k.at("recovery", "DeleteSnapshot")
	k.at("primary", "DeleteSnapshot")
	h.do("failover", "commit", "shop", "--wait")
	k.struck("DeleteSnapshot")
	assert.Empty(t, h.leftAt("recovery", over.Servers[0].ServerID))
	assert.Empty(t, h.leftAt("primary"))
}
