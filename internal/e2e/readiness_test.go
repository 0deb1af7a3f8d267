package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/workflows"
)

// readyLines finds lines of a kind that are about a server, "" = a site.
func readyLines(r workflows.ReadinessReport, kind, server string) (found []activities.Check) {
	for _, c := range r.Checks {
		if c.Check == kind && c.Server == server {
			found = append(found, c)
		}
	}
	return found
}

// A plan that is ready says so; then an address is taken and a replication stands still, and the
// lines say what to do. Nothing is changed by asking.
func TestReadinessTellsBeforeTheDisaster(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i, name := range []string{"db", "web"} {
		h.createBox(name, i, "data=1MiB")
	}
	h.protect(planFile{servers: []string{"db", "web"}, spec: "  objectives: {rpo: 15s}\n" +
		"  dns:\n    - {name: db.shop.test, zone: shop.test, site: recovery, server: db, ttl: 60s}\n    - {name: web.shop.test, zone: shop.test, site: recovery, server: web, ttl: 10m}"})
	p := h.open("recovery")
	state := func() (state []any) {
		entries, err := p.Entries(t.Context(), cloud.LedgerFilter{})
		require.NoError(t, err)
		for _, e := range entries {
			if e.Role != activities.RolePoint { // replication goes on
				state = append(state, e)
			}
		}
		networks, err := p.Networks(t.Context(), cloud.Filter{})
		require.NoError(t, err)
		servers, err := p.Servers(t.Context(), cloud.Filter{})
		require.NoError(t, err)
		documents, err := p.DocumentNames(t.Context(), "readiness/")
		require.NoError(t, err)
		return append(state, networks, servers, documents)
	}

	t.Log("all is fine")
	before := state()
	r := ask[workflows.ReadinessReport](h, "readiness", "check", "shop")
	require.True(t, r.Ready, "%+v", r.WorstFirst())
	assert.Equal(t, "readiness/shop/1", r.WorkflowID)
	for _, c := range r.Checks {
		switch c.Check {
		case activities.CheckKindPermissions, activities.CheckKindQuota, activities.CheckKindLaunch:
			assert.Equal(t, activities.CheckUnknown, c.Status, "a local site cannot tell: %+v", c)
		case activities.CheckKindTTL:
			assert.Equal(t, map[string]activities.CheckStatus{"db": activities.CheckOK, "web": activities.CheckWarn}[c.Server], c.Status, "%+v", c)
		default:
			assert.Equal(t, activities.CheckOK, c.Status, "%+v", c)
		}
	}
	for _, kind := range []string{activities.CheckKindProtection, activities.CheckKindPoint, activities.CheckKindSnapshot, activities.CheckKindImage,
		activities.CheckKindAddress, activities.CheckKindPublic, activities.CheckKindRecord} {
		assert.Len(t, readyLines(r, kind, "db"), 1, kind)
	}
	assert.Len(t, readyLines(r, activities.CheckKindAgent, ""), 2)
	assert.Len(t, readyLines(r, activities.CheckKindNameServer, ""), 1)
	assert.Equal(t, before, state(), "nothing was made, and the ledger is as it was")
	assert.Contains(t, h.ends(done, "readiness", "check", "shop/db"), "ready as far as it is known")

	t.Log("somebody takes the address of db, and its replication is paused")
	network, err := p.Network(t.Context(), "refuge")
	require.NoError(t, err)
	disk, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "squatter"}, Bytes: 1 << 20})
	require.NoError(t, err)
	h.eventually("the disk is made", func() error {
		d, err := p.Disk(t.Context(), disk.ID)
		if err == nil && d.State != cloud.Available {
			err = fmt.Errorf("it is %s", d.State)
		}
		return err
	})
	recovery := h.recovered(0)
	squatter, err := p.StartLaunch(t.Context(), cloud.LaunchServer{Create: cloud.Create{Token: "squatter", Name: "squatter"}, Network: network.ID, IP: recovery,
		Disks: []cloud.ServerDisk{{DiskID: disk.ID, Name: "root", Boot: true}}, Launch: map[string]string{"runtime": "process", "command": "sleep 600"}})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, cloud.IgnoreNotFound(p.TerminateServer(context.WithoutCancel(t.Context()), squatter.ID)))
	})
	h.do("replication", "pause", "shop/db")
	h.eventually("the newest point is older than the RPO", func() error {
		if age := h.server("shop/db").RPOSeconds; age < 16 {
			return fmt.Errorf("it is %.0f s old", age)
		}
		return nil
	})
	r = asked[workflows.ReadinessReport](h, failed, "readiness", "check", "shop")
	assert.False(t, r.Ready)
	for kind, cause := range map[string]string{activities.CheckKindAddress: squatter.ID, activities.CheckKindPoint: "older than the plan's RPO of 15s",
		activities.CheckKindSnapshot: "older than the plan's RPO of 15s"} {
		c := readyLines(r, kind, "db")[0]
		assert.Equal(t, activities.CheckFail, c.Status, "%+v", c)
		assert.Contains(t, c.Cause, cause)
		assert.NotEmpty(t, c.Mend, kind)
		assert.Equal(t, activities.CheckOK, readyLines(r, kind, "web")[0].Status, "the other server is not concerned")
	}
	assert.Equal(t, activities.CheckWarn, readyLines(r, activities.CheckKindProtection, "db")[0].Status)
	said := h.ends(failed, "readiness", "show", "shop", "3")
	assert.Contains(t, said, "NOT ready: 3 failed")
	h.do("readiness", "check", "shop", "--server", "web")
	assert.Contains(t, h.ends(usage, "readiness", "check", "shop/none"), `has no server "none"`)

	t.Log("in order again")
	require.NoError(t, p.TerminateServer(t.Context(), squatter.ID))
	h.eventually("the address is free again", func() error {
		_, err := p.Server(t.Context(), squatter.ID)
		if err == nil {
			return fmt.Errorf("the server is still there")
		}
		return cloud.IgnoreNotFound(err)
	})
	h.do("replication", "resume", "shop/db")
	h.awaitPointSince("shop/db", time.Now())
	h.eventually("it is ready", func() error {
		if a := h.run(t.Context(), "readiness", "check", "shop"); a.status != done {
			return fmt.Errorf("%s", a.result)
		}
		return nil
	})
}
