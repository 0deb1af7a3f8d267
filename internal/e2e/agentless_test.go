package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
	"lifeboat/workflows"
)

// Without agents, by snapshots that are copied, a server goes there and back again, and
// in the end nothing is left but the server.
func TestSnapshotsTakeAServerThereAndBackAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, origin := h.createBox("db", 0, "data=32MiB", "log=8MiB")
	head := randomBytes(t, mib)
	origin.write("data", 0, head)
	origin.writeLine("log", 0, "home")
	h.protect(planFile{servers: []string{"db"}, tier: ", transfer: snapshots"})
	h.noAgents()
	early := h.mark("shop/db", "early")
	assert.Equal(t, "snapshot", early.CutMethod)
	origin.writeLine("log", 0, "later")
	late := h.mark("shop/db", "late")
	recovery, primary := h.open("recovery"), h.open("primary")
	h.pointIs(recovery, late, "data", head)

	t.Log("a drill from the earlier point, beside production")
	drill := ask[workflows.Report](h, "drill", "start", "shop", "--point", early.ID)
	require.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
	drilled := drilledServer(t, recovery, drill, "db")
	inside := boxInside(t, recovery, drilled.Network, drilled.IP)
	assert.Equal(t, "home", inside.line("log", 0))
	assert.Equal(t, head, inside.read("data", 0, len(head)))
	before := time.Now()
	drill = ask[workflows.Report](h, "drill", "clean", "shop")
	assert.Equal(t, workflows.OutcomeCleaned, drill.Outcome, drill.Reason)
	assert.Zero(t, drill.Resources.Left, drill.Resources.LeftOver)
	assert.Equal(t, drill.Resources.Created, drill.Resources.Deleted)
	h.awaitPointSince("shop/db", before)

	t.Log("the source is lost")
	saved := h.mark("shop/db", "saved")
	for _, pid := range h.processes("local-helper server primary") {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	over := ask[workflows.Report](h, "failover", "start", "shop", "--source-down", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	assert.Equal(t, "unknown", over.Servers[0].Fencing)
	assert.False(t, over.Servers[0].PointTime.Before(saved.Time), "the newest point")
	away := boxAt(t, over.Servers[0].Public)
	assert.Equal(t, "later", away.line("log", 0))
	assert.Equal(t, head, away.read("data", 0, len(head)))

	back := ask[workflows.Report](h, "failover", "switch-point", "shop", "--point", early.ID, "--yes")
	require.Equal(t, workflows.OutcomeDone, back.Outcome, back.Reason)
	away = boxAt(t, back.Servers[0].Public)
	assert.Equal(t, "home", away.line("log", 0), "the earlier point")
	h.do("failover", "commit", "shop", "--wait")
	assert.Empty(t, h.snapshots(recovery), "commit removes the points")
	away.writeLine("log", 0, "from abroad")
	away.writeLine("data", 5*mib, "news")

	t.Log("the way home")
	h.do("reverse", "register", "shop", "--wait")
	said := h.ends(usage, "reverse", "start", "shop/db", "--in-place", "--confirm", "db")
	assert.Contains(t, said, "snapshots", "the reason why not")
	h.do("reverse", "start", "shop", "--wait")
	home := ask[workflows.Report](h, "failback", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, home.Outcome, home.Reason)
	origin = boxAt(t, home.Servers[0].Public)
	assert.Equal(t, "from abroad", origin.line("log", 0))
	assert.Equal(t, "news", origin.line("data", 5*mib))
	assert.Equal(t, head, origin.read("data", 0, len(head)))
	assert.Error(t, away.alive(), "only one serves")

	t.Log("protected again, then no more")
	h.do("server", "register", "shop", "--wait")
	assert.Empty(t, h.made(recovery, cloud.KindServer, cloud.KindDisk, cloud.KindSnapshot), "what failover made is gone")
	assert.Empty(t, h.snapshots(primary))
	h.do("replication", "start", "shop", "--wait")
	origin.writeLine("log", 0, "once more")
	again := ask[workflows.Report](h, "failover", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, again.Outcome, again.Reason)
	assert.Equal(t, "done", again.Servers[0].Fencing)
	assert.Equal(t, "once more", boxAt(t, again.Servers[0].Public).line("log", 0), "a planned failover loses nothing")
	h.do("failover", "cancel", "shop", "--wait")
	assert.Equal(t, "once more", origin.line("log", 0), "the restored server serves again")
	h.do("replication", "stop", "shop", "--wait")
	h.do("server", "remove", "shop/db", "--yes", "--wait")
	assert.Empty(t, h.made(recovery, cloud.KindServer, cloud.KindDisk, cloud.KindSnapshot))
	assert.Empty(t, h.snapshots(primary), "nor at the source")
	require.NoError(t, origin.alive())
}

// Recovery points go on while the worker that makes them is killed again and again, and
// a worker that has lost its directory finds the points.
func TestSnapshotsGoOnWhenTheirWorkerIsKilled(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, b := h.createBox("db", 0, "data=8MiB")
	h.protect(planFile{servers: []string{"db"}, tier: ", transfer: snapshots"})
	first := h.mark("shop/db", "first")
	h.do("point", "lock", "shop/db", first.ID)
	for i := range 3 {
		b.writeLine("data", 0, fmt.Sprintf("killed %d", i))
		require.NoError(t, syscall.Kill(h.process("--roles control,cloud"), syscall.SIGKILL))
		since := time.Now()
		h.awaitPointSince("shop/db", since)
	}
	assert.True(t, hasPoint(h.points("shop/db"), first.ID))

	require.NoError(t, syscall.Kill(h.process("--roles control,cloud"), syscall.SIGSTOP))
	require.NoError(t, os.RemoveAll(filepath.Join(h.dir, "agentless", "local.recovery")))
	require.NoError(t, syscall.Kill(h.process("--roles control,cloud"), syscall.SIGKILL))
	since := time.Now()
	h.awaitPointSince("shop/db", since)
	assert.True(t, hasPoint(h.points("shop/db"), first.ID), "the points are at the site, not in the directory")
	over := ask[workflows.Report](h, "failover", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	assert.Equal(t, "killed 2", boxAt(t, over.Servers[0].Public).line("data", 0))
	h.do("failover", "commit", "shop", "--wait")
	assert.Empty(t, h.snapshots(h.open("recovery")))
	assert.Empty(t, h.snapshots(h.open("primary")), "killed or not, nothing is left at the source")
}

// noAgents ends every agent, for good: dev would start them again.
func (h *house) noAgents() {
	h.t.Helper()
	for _, pid := range h.processes("--roles agent") {
		require.NoError(h.t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	h.t.Cleanup(func() {
		for _, pid := range h.processes("--roles agent") {
			_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
		}
	})
}

// pointIs asserts that a disk of a recovery point begins with content.
func (h *house) pointIs(p *local.Provider, point activities.Point, disk string, content []byte) {
	h.t.Helper()
	for _, d := range point.Disks {
		if d.Name != disk {
			continue
		}
		snapshot, err := p.Snapshot(h.t.Context(), d.Snapshot)
		require.NoError(h.t, err)
		assert.Equal(h.t, cloud.Available, snapshot.State)
		assert.Equal(h.t, point.ID, snapshot.Tags[cloud.TagPoint])
		assert.Equal(h.t, point.Time.UTC(), snapshot.Time.UTC(), "the time of a point is that of its cut")
		assert.Equal(h.t, content, h.restored(p, snapshot.ID, len(content)))
		return
	}
	h.t.Fatalf("point %s has no disk %s", point.ID, disk)
}

// restored reads the beginning of a snapshot, through a disk that is made of it.
func (h *house) restored(p *local.Provider, snapshot string, n int) []byte {
	h.t.Helper()
	d, err := p.StartCreateDisk(h.t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "look-" + snapshot}, SnapshotID: snapshot})
	require.NoError(h.t, err)
	h.eventually("a disk of "+snapshot, func() error {
		if d, err = p.Disk(h.t.Context(), d.ID); err == nil && d.State != cloud.Available {
			err = fmt.Errorf("it is %s", d.State)
		}
		return err
	})
	file, err := os.Open(d.Path)
	require.NoError(h.t, err)
	defer file.Close()
	content := make([]byte, n)
	_, err = file.ReadAt(content, 0)
	require.NoError(h.t, err)
	require.NoError(h.t, p.DeleteDisk(h.t.Context(), d.ID))
	return content
}

// snapshots lists what a site has of them.
func (h *house) snapshots(p *local.Provider) []string {
	h.t.Helper()
	return h.made(p, cloud.KindSnapshot)
}

// made lists what Lifeboat has made at a site and not deleted, by its ledger, and by looking.
func (h *house) made(p *local.Provider, kinds ...cloud.Kind) (found []string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	entries, err := p.Entries(ctx, cloud.LedgerFilter{})
	require.NoError(h.t, err)
	for _, kind := range kinds {
		for _, e := range entries {
			if e.Kind == kind && e.Deleted == nil && !e.Kept {
				found = append(found, fmt.Sprintf("ledger: %s %s of %s", kind, e.ID, e.Operation))
			}
		}
		if kind != cloud.KindSnapshot {
			continue
		}
		all, err := p.Snapshots(ctx, cloud.Filter{})
		require.NoError(h.t, err)
		for _, s := range all {
			if s.State != cloud.Deleting {
				found = append(found, fmt.Sprintf("%s %s %v", kind, s.ID, s.Tags))
			}
		}
	}
	return found
}
