package agentless_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
	"lifeboat/replication"
)

func TestMain(m *testing.M) {
	local.RunHelper()
	if len(os.Args) > 1 && os.Args[1] == writer {
		write()
	}
	if raw := os.Getenv(childEnv); raw != "" {
		if err := runChild(raw); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writer is the argument that makes this program the server of the tests.
const writer = "agentless-test-writer"

// write writes a number that grows to its first disk, then to its second, until it is ended.
func write() {
	var disks []*os.File
	for _, name := range []string{"ROOT", "DATA"} {
		f, err := os.OpenFile(os.Getenv("LIFEBOAT_DISK_"+name), os.O_WRONLY, 0)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		disks = append(disks, f)
	}
	tick := time.NewTicker(time.Millisecond) // fast enough to be caught between the disks, without a core of its own
	for n := 1; ; n++ {
		<-tick.C
		for _, f := range disks {
			if _, err := fmt.Fprintf(io.NewOffsetWriter(f, 0), "%016d", n); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
}

const (
	streamName = "shop/db"
	diskBytes  = 1 << 20
)

// nets makes the addresses of each test differ: where namespaces are not allowed, all
// networks share the loopback addresses of the machine.
var nets atomic.Int32

// quick is the timing of the tests.
var quick = activities.Timing{Poll: time.Millisecond, PollMax: 20 * time.Millisecond, Visible: 200 * time.Millisecond, Stuck: 3 * time.Second}

// world is a server with two disks at one site, and the site that it recovers at.
type world struct {
	*testing.T
	dir    string
	sites  map[string]cloud.Provider // as the engine sees them
	home   *local.Provider
	away   *local.Provider
	server cloud.Server
	disks  []cloud.Disk

	mu    sync.Mutex
	down  map[string]error // why a site does not answer
	opens map[string]int   // how often a site was asked for
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), sites: map[string]cloud.Provider{}, down: map[string]error{}, opens: map[string]int{}}
	w.home, w.away = w.site("primary"), w.site("recovery")
	for _, name := range []string{"root", "data"} {
		d, err := w.home.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: name}, Bytes: diskBytes})
		require.NoError(t, err)
		w.disks = append(w.disks, d)
	}
	network, err := w.home.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: cloud.Create{Token: "net", Name: "net"}, CIDR: fmt.Sprintf("127.48.%d.0/24", nets.Add(1))})
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	w.server, err = w.home.StartLaunch(t.Context(), cloud.LaunchServer{Create: cloud.Create{Token: "server", Name: "db"}, Network: network.ID,
		Disks:  []cloud.ServerDisk{{Name: "root", DiskID: w.disks[0].ID, Boot: true}, {Name: "data", DiskID: w.disks[1].ID}},
		Launch: map[string]string{"runtime": "process", "command": exe + " " + writer}})
	require.NoError(t, err)
	w.serverIs(cloud.Running)
	return w
}

func (w *world) serverIs(state cloud.State) {
	w.Helper()
	w.eventually("server "+string(state), func() bool {
		s, err := w.home.Server(w.Context(), w.server.ID)
		return err == nil && s.State == state
	})
}

// stopServer brings the server to rest, as a planned failover does.
func (w *world) stopServer() {
	w.Helper()
	require.NoError(w, w.home.StopServer(w.Context(), w.server.ID, true))
	w.serverIs(cloud.Stopped)
}

// site opens a local site, which is destroyed at the end.
func (w *world) site(name string) *local.Provider {
	w.Helper()
	p, err := local.Open(w.Context(), cloud.Site{Name: name, Provider: "local", Directory: filepath.Join(w.dir, name)}, local.Options{})
	require.NoError(w, err)
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(w, p.Destroy(ctx))
	})
	w.sites[name] = p
	return p
}

// open is how engines reach the sites.
func (w *world) open(_ context.Context, site cloud.Site) (cloud.Provider, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opens[site.Name]++
	if err := w.down[site.Name]; err != nil {
		return nil, err
	}
	return w.sites[site.Name], nil
}

// fail makes a site not answer, nil brings it back.
func (w *world) fail(site string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[site] = err
}

func (w *world) asked(site string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opens[site]
}

var errDown = cloud.E(cloud.Unavailable, "Open", "site primary", "connection refused", "", errors.New("down"))

func (w *world) config(name string) agentless.Config {
	// The longest pause bounds how long a server stands still when the answer to its pause is lost.
	maker := activities.AgentlessSites{Open: w.open, Timing: quick, Pause: time.Second}
	return agentless.Config{Dir: filepath.Join(w.dir, "engines", name), Documents: maker.Documents, Maker: maker,
		RetryMin: 5 * time.Millisecond, RetryMax: 100 * time.Millisecond}
}

// engine opens an engine that is closed at the end.
func (w *world) engine(name string) *agentless.Engine {
	w.Helper()
	e, err := agentless.Open(w.Context(), w.config(name))
	require.NoError(w, err)
	w.Cleanup(func() { require.NoError(w, e.Close()) })
	return e
}

// spec protects the server.
func (w *world) spec() agentless.Spec {
	return agentless.Spec{Stream: streamName, Epoch: 1, Transfer: agentless.TransferSnapshots, Plan: "shop", Server: "db", Operation: "server/shop/db",
		Source: w.home.Site(), Target: w.away.Site(), ServerID: w.server.ID,
		Disks:    []agentless.Disk{{Name: "root", ID: w.disks[0].ID, Bytes: diskBytes, Boot: true}, {Name: "data", ID: w.disks[1].ID, Bytes: diskBytes}},
		Keep:     replication.Keep{Count: 3},
		Settings: replication.Settings{Interval: time.Hour, AutoResume: true}}
}

// start begins to protect and waits for the first point.
func (w *world) start(e *agentless.Engine, spec agentless.Spec) {
	w.Helper()
	require.NoError(w, e.Start(w.Context(), spec))
	w.status(e, "real-time", func(s replication.Status) bool { return s.Stage == replication.StageRealTime })
}

// status waits for a status.
func (w *world) status(e *agentless.Engine, what string, wanted func(replication.Status) bool) replication.Status {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 4*time.Minute) // under faults, on a busy machine
	defer cancel()
	for version := uint64(0); ; {
		s, err := e.Wait(ctx, streamName, version)
		require.NoError(w, err, "%s: stage %s, health %s: %s", what, s.Stage, s.Health, s.HealthReason)
		if wanted(s) {
			return s
		}
		version = s.Version
	}
}

func (w *world) mark(e *agentless.Engine, request string) replication.Point {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	p, err := e.Mark(ctx, streamName, request, request)
	require.NoError(w, err)
	return p
}

func (w *world) points(e *agentless.Engine) []replication.Point {
	w.Helper()
	points, err := e.Points(streamName)
	require.NoError(w, err)
	return points
}

func (w *world) eventually(what string, done func() bool) {
	w.Helper()
	require.Eventually(w, done, time.Minute, 5*time.Millisecond, what)
}

// snapshots lists, in the site itself, what was made for the server.
func (w *world) snapshots(p *local.Provider) []cloud.Snapshot {
	w.Helper()
	all, err := p.Snapshots(w.Context(), cloud.Filter{Tags: map[string]string{cloud.TagPlan: "shop", cloud.TagServer: "db"}})
	require.NoError(w, err)
	return all
}

// tidy waits until both sites hold what the rules say, and nothing else: at the target the
// snapshots of the points, at the source those of base cuts; each in its ledger.
func (w *world) tidy(e *agentless.Engine, bases int) {
	w.Helper()
	var problem string
	done := func() bool {
		var want []string
		for _, p := range w.points(e) {
			for _, d := range p.Disks {
				want = append(want, d.Snapshot)
			}
		}
		problem = w.differs(w.away, want)
		if problem == "" {
			var cuts []string
			for _, s := range w.snapshots(w.home) {
				cuts = append(cuts, s.ID)
			}
			if problem = w.differs(w.home, cuts); problem == "" && len(cuts) != 2*bases {
				problem = fmt.Sprintf("%d snapshots at the source, not %d", len(cuts), 2*bases)
			}
		}
		return problem == ""
	}
	for deadline := time.Now().Add(30 * time.Second); !done(); {
		require.True(w, time.Now().Before(deadline), problem)
		require.NoError(w, e.Resume(streamName)) // look now
		select {
		case <-time.After(20 * time.Millisecond):
		case <-w.Context().Done():
		}
	}
}

// differs compares what is at a site, and what its ledger says, with what should be.
func (w *world) differs(p *local.Provider, want []string) string {
	w.Helper()
	wanted := map[string]bool{}
	for _, id := range want {
		wanted[id] = true
	}
	there := w.snapshots(p)
	for _, s := range there {
		if !wanted[s.ID] || s.State != cloud.Available {
			return fmt.Sprintf("snapshot %s of point %s is left at %s: %s", s.ID, s.Tags[cloud.TagPoint], p.Site().Name, s.State)
		}
	}
	_, open := w.ledger(p)
	for _, e := range open {
		if !wanted[e.ID] {
			return fmt.Sprintf("ledger of %s: entry %s of %q is open", p.Site().Name, e.Token, e.ID)
		}
	}
	if len(there) != len(want) || len(open) != len(want) {
		return fmt.Sprintf("site %s has %d snapshots and %d ledger entries, wanted are %d", p.Site().Name, len(there), len(open), len(want))
	}
	return ""
}

// numbers reads what the server had written to its disks in a point.
func (w *world) numbers(p replication.Point) (root, data int) {
	w.Helper()
	out := []int{0, 0}
	for i, d := range p.Disks {
		c, err := w.away.OpenSnapshot(w.Context(), d.Snapshot)
		require.NoError(w, err)
		raw := make([]byte, 16)
		_, err = c.ReadAt(raw, 0)
		require.NoError(w, errors.Join(err, c.Close()))
		_, err = fmt.Sscanf(string(raw), "%d", &out[i])
		require.NoError(w, err, "%q", raw)
	}
	return out[0], out[1]
}
