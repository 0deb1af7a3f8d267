package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/internal/demo/inventory"
	"lifeboat/internal/demo/numbers"
	"lifeboat/workflows"
)

// Two servers by snapshots and one by blocks, one of them with a database that a client
// writes to by its name: the region is lost, and what is lost with it is measured in the
// database. The name is served by a third site, so that nobody asks the failed region,
// nor the control plane of Route 53, which is in a region of its own.
func TestADatabaseSurvivesTheLossOfARegionOfAWS(t *testing.T) {
	t.Parallel()
	h := newCloudHouse(t)
	servers := []string{"db", "app", "web"}
	origin, _ := h.machine("db", "data", "log")
	for _, name := range servers[1:] {
		_, b := h.machine(name, "root")
		b.writeLine("root", 0, "home of "+name)
	}
	c := h.client(origin.IP)
	h.do("plan", "apply", "-f", h.writePlan(awsPlan{transfer: "snapshots", servers: servers, blocks: "web", database: "db"}), "--wait")
	h.do("replication", "start", "shop", "--wait")
	c.acks(5)
	early := h.mark("shop/db", "early")

	t.Log("a drill, beside production")
	c.acks(5)
	for _, name := range servers {
		h.mark("shop/"+name, "late")
	}
	drill := ask[workflows.Report](h.house, "drill", "start", "shop")
	require.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
	h.disksAreThePoint(drill)
	c.measure(drill, "http://"+net.JoinHostPort(reported(t, drill, "db").IP, strconv.Itoa(boxPort)), true)
	h.audit("primary", "recovery")
	drill = ask[workflows.Report](h.house, "drill", "clean", "shop")
	assert.Equal(t, workflows.OutcomeCleaned, drill.Outcome, drill.Reason)
	assert.Zero(t, drill.Resources.Left, drill.Resources.LeftOver)
	h.audit("primary", "recovery")

	t.Log("the region is lost, and its servers with it")
	c.acks(5)
	h.mark("shop/db", "last")
	c.acks(5)
	require.NoError(t, h.cloud.KillGuest(t.Context(), origin.ID))
	c.holdBack(true) // until the recovered disks are compared
	h.lose("primary")
	over := ask[workflows.Report](h.house, "failover", "start", "shop", "--source-down", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	h.disksAreThePoint(over)
	m := c.measure(over, c.url(), false)
	c.holdBack(false)
	assertStamps(t, over.Stamps)
	newest := reported(t, over, "db").NewestWrite
	require.NotNil(t, newest, "the script asked the database")
	assert.Equal(t, m.Newest.Time.UTC(), newest.UTC(), "what the report says is what the database has")
	require.NotNil(t, over.RPOSeconds)
	assert.GreaterOrEqual(t, *over.RPOSeconds, m.RPO.Seconds(), "the other servers have only the time of their points")
	t.Logf("RPO %s, RTO %.1f s, %d acknowledged writes lost after the point", m.RPO, *over.RTOSeconds, m.LostAfter)
	c.acks(5)

	back := ask[workflows.Report](h.house, "failover", "switch-point", "shop/db", "--point", early.ID, "--yes")
	require.Equal(t, workflows.OutcomeDone, back.Outcome, back.Reason)
	c.measure(back, c.url(), false)
	h.do("failover", "commit", "shop", "--wait")
	assert.Empty(t, h.asked(awsRegions["primary"]), "the lost region is asked for nothing")
	assert.Empty(t, h.asked("us-east-1"), "nor is the region of Route 53's control plane")
	h.audit("recovery")

	t.Log("the way home")
	h.find("primary")
	h.do("reverse", "register", "shop", "--wait")
	h.do("reverse", "start", "shop", "--wait")
	c.acks(5)
	home := ask[workflows.Report](h.house, "failback", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, home.Outcome, home.Reason)
	m = c.measure(home, c.url(), false)
	assert.Zero(t, m.LostAfter, "a planned way loses nothing")
	c.acks(5)
	h.do("server", "register", "shop", "--wait")
	h.audit("primary", "recovery")
	assert.Empty(t, h.leftAt("recovery"), "what the failover made is gone")
}

// awsClient writes to the database by its name, and remembers what was acknowledged.
type awsClient struct {
	h        *cloudHouse
	resolver string
	history  *numbers.History
	held     chan bool // what it may write to now: see holdBack
}

const (
	awsZone   = "shop.test"
	awsRecord = "db.shop.test"
)

// client points the name to an address and begins to write.
func (h *cloudHouse) client(ip string) *awsClient {
	h.t.Helper()
	names := h.open("names")
	change, err := names.StartSetRecords(h.t.Context(), awsZone, "first", []cloud.Record{{Name: awsRecord, Type: "A", TTL: time.Second, Values: []string{ip}}})
	require.NoError(h.t, err)
	settled(h, "the name", func(ctx context.Context) (cloud.Change, error) { return names.Change(ctx, change.ID) },
		func(c cloud.Change) cloud.State { return c.State }, cloud.Available)
	log := filepath.Join(h.dir, "client.log")
	c := &awsClient{h: h, history: numbers.NewHistory(log), held: make(chan bool, 1)}
	c.held <- false
	c.resolver, err = names.Resolver(h.t.Context(), awsZone)
	require.NoError(h.t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(h.t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- numbers.RunClient(ctx, numbers.ClientOptions{Name: awsRecord, Resolver: c.resolver, Port: boxPort, Every: 25 * time.Millisecond,
			Bytes: 1024, Log: log, Allow: func(string) bool { held := <-c.held; c.held <- held; return !held }})
	}()
	h.t.Cleanup(func() { stop(); assert.NoError(h.t, <-ended) })
	return c
}

// holdBack keeps the client from writing, or lets it write again.
func (c *awsClient) holdBack(held bool) { <-c.held; c.held <- held }

// acks waits for so many more acknowledged writes.
func (c *awsClient) acks(n int) {
	c.h.t.Helper()
	_, err := c.history.Update()
	require.NoError(c.h.t, err)
	goal := c.history.Acked() + n
	c.h.eventually("writes are acknowledged", func() error {
		if _, err := c.history.Update(); err != nil || c.history.Acked() >= goal {
			return err
		}
		return fmt.Errorf("%d of %d", c.history.Acked(), goal)
	})
}

// url is where the name leads to now.
func (c *awsClient) url() string {
	c.h.t.Helper()
	ip, err := numbers.Resolve(c.h.t.Context(), c.resolver, awsRecord)
	require.NoError(c.h.t, err)
	return "http://" + net.JoinHostPort(ip, strconv.Itoa(boxPort))
}

// measure holds a recovered database against what the client was told.
func (c *awsClient) measure(r workflows.Report, url string, branch bool) numbers.Measurement {
	c.h.t.Helper()
	db := reported(c.h.t, r, "db")
	m, err := c.history.Measure(c.h.t.Context(), numbers.Recovery{URL: url, Declared: *r.Stamps.Declared, PointTime: *db.PointTime, Branch: branch})
	require.NoError(c.h.t, err)
	assert.Empty(c.h.t, m.Problems, "%s", r.WorkflowID)
	assert.Zero(c.h.t, m.LostBefore, "acknowledged before the point")
	return m
}

// reported is a server of a report.
func reported(t *testing.T, r workflows.Report, name string) workflows.ServerReport {
	t.Helper()
	for _, s := range r.Servers {
		if s.Name == name {
			return s
		}
	}
	require.FailNow(t, "the report has no server "+name)
	return workflows.ServerReport{}
}

// assertStamps checks that all six instants are there, one after the other.
func assertStamps(t *testing.T, s workflows.Stamps) {
	t.Helper()
	last := time.Time{}
	for i, at := range []*time.Time{s.Declared, s.Accepted, s.DisksReady, s.Running, s.Healthy, s.Serving} {
		require.NotNil(t, at, "stamp %d", i)
		assert.False(t, at.Before(last), "stamps are in order: %+v", s)
		last = *at
	}
}

// disksAreThePoint compares every recovered disk, which nobody has written to yet, with
// the snapshot of its point, byte for byte.
func (h *cloudHouse) disksAreThePoint(r workflows.Report) {
	h.t.Helper()
	recovery := h.at("recovery")
	for _, s := range r.Servers {
		machine, err := recovery.Server(h.t.Context(), s.ServerID)
		require.NoError(h.t, err)
		var point *activities.Point
		for _, p := range h.points("shop/" + s.Name) {
			if p.ID == s.Point {
				point = &p
			}
		}
		require.NotNil(h.t, point, "point %s of %s", s.Point, s.Name)
		require.Len(h.t, machine.Disks, len(point.Disks), s.Name)
		for _, d := range machine.Disks {
			for _, of := range point.Disks {
				if of.Name == d.Name {
					h.diskIsSnapshot(d.DiskID, of.Snapshot)
				}
			}
		}
	}
}

// diskIsSnapshot compares all bytes of a volume with those of a snapshot.
func (h *cloudHouse) diskIsSnapshot(disk, snapshot string) {
	h.t.Helper()
	content, err := h.cloud.SnapshotReader(snapshot)
	require.NoError(h.t, err)
	path, err := h.cloud.VolumePath(disk)
	require.NoError(h.t, err)
	file, err := os.Open(path)
	require.NoError(h.t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(h.t, err)
	assert.Equal(h.t, content.Size(), info.Size())
	has, want := xxh3.New(), xxh3.New()
	_, err = io.Copy(has, file)
	require.NoError(h.t, err)
	_, err = io.Copy(want, io.NewSectionReader(content, 0, content.Size()))
	require.NoError(h.t, err)
	assert.Equal(h.t, want.Sum64(), has.Sum64(), "disk %s has the bytes of snapshot %s", disk, snapshot)
}

// audit holds sites against their ledgers, both ways. Points come and go all the time, so
// that only what stays wrong is a fault.
func (h *cloudHouse) audit(sites ...string) {
	h.t.Helper()
	for _, site := range sites {
		p := h.at(site)
		h.eventually("the ledger of "+site+" is right", func() error {
			faults, err := inventory.Audit(h.t.Context(), p, func(e cloud.Entry) bool { return e.Role == activities.RolePoint })
			if err == nil && len(faults) > 0 {
				err = fmt.Errorf("%v", faults)
			}
			return err
		})
	}
}
