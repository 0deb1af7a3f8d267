package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
)

// testServer is the argument that makes this program the server of the tests.
const testServer = "activities-test-server"

func TestMain(m *testing.M) {
	local.RunHelper()
	if len(os.Args) > 1 && os.Args[1] == testServer {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(net.JoinHostPort(os.Getenv("LIFEBOAT_ADDRESS"), os.Getenv("LIFEBOAT_PORTS")),
			http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/broken" {
					w.WriteHeader(http.StatusInternalServerError)
				}
				fmt.Fprintln(w, os.Getenv("LIFEBOAT_SERVER"))
			})))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// port is where the servers of the tests listen.
const port = 8080

// nets makes the addresses of each test differ: where namespaces are not allowed,
// all networks share the loopback addresses of the machine.
var nets atomic.Int32

// place is a local site of one test, and the activities on it.
type place struct {
	*testing.T
	p     *local.Provider
	site  Site
	cidr  string
	acts  *Cloud
	exe   string
	scope Scope
}

// quick is the timing of the tests.
var quick = Timing{Poll: time.Millisecond, PollMax: 20 * time.Millisecond, Visible: 400 * time.Millisecond, Stuck: 3 * time.Second}

func newPlace(t *testing.T) *place {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	site := Site{Name: "recovery", Provider: "local", Directory: filepath.Join(t.TempDir(), "recovery")}
	p, err := local.Open(t.Context(), site, local.Options{})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, p.Destroy(ctx))
	})
	w := &place{T: t, p: p, site: site, exe: exe, cidr: fmt.Sprintf("127.47.%d.0/24", nets.Add(1)),
		scope: Scope{Site: site, Plan: "shop", Server: "db", Operation: "drill/shop/1", Role: RoleDrill}}
	w.through(p)
	return w
}

// through makes the activities see the site through another provider.
func (w *place) through(p cloud.Provider) {
	w.acts = &Cloud{Open: func(context.Context, Site) (cloud.Provider, error) { return p, nil }, Timing: quick}
}

// attempt runs an activity once.
func attempt[R any](w *place, activity any, args ...any) (R, error) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(activity)
	env.SetTestTimeout(time.Minute)
	var result R
	value, err := env.ExecuteActivity(activity, args...)
	if err == nil && value.HasValue() {
		err = value.Get(&result)
	}
	return result, err
}

// persist runs an activity as Temporal does: again, until it succeeds or must not be retried.
func persist[R any](w *place, activity any, args ...any) (R, error) {
	w.Helper()
	for n := 1; ; n++ {
		result, err := attempt[R](w, activity, args...)
		var application *temporal.ApplicationError
		if err == nil || errors.As(err, &application) && application.NonRetryable() || n == 200 {
			return result, err
		}
	}
}

// must runs an activity that has to succeed.
func must[R any](w *place, activity any, args ...any) R {
	w.Helper()
	result, err := persist[R](w, activity, args...)
	require.NoError(w, err)
	return result
}

// nothing is the result of activities that return only an error.
type nothing = struct{}

// refused requires an application error of a type that is not retried.
func refused(w *place, kind string, err error) *temporal.ApplicationError {
	w.Helper()
	var application *temporal.ApplicationError
	require.ErrorAs(w, err, &application)
	require.Equal(w, kind, application.Type(), "%v", err)
	require.True(w, application.NonRetryable(), "%v", err)
	return application
}

// snapshot makes a disk with a snapshot, as a recovery point has one.
func (w *place) snapshot() string {
	w.Helper()
	d, err := w.p.StartCreateDisk(w.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "replica"}, Bytes: 1 << 20})
	require.NoError(w, err)
	w.eventually("disk", func() bool {
		got, err := w.p.Disk(w.Context(), d.ID)
		return err == nil && got.State == cloud.Available
	})
	s, err := w.p.StartSnapshots(w.Context(), cloud.CreateSnapshots{Create: cloud.Create{Token: "point"}, Disks: []string{d.ID}})
	require.NoError(w, err)
	w.eventually("snapshot", func() bool {
		got, err := w.p.Snapshot(w.Context(), s[0].ID)
		return err == nil && got.State == cloud.Available
	})
	return s[0].ID
}

func (w *place) eventually(what string, done func() bool) {
	w.Helper()
	require.Eventually(w, done, 30*time.Second, 5*time.Millisecond, what)
}

// recovered is what a drill makes.
type recovered struct {
	network NetworkInfo
	disks   []DiskInfo
	server  ServerInfo
}

func (w *place) networkInput() EnsureNetworkInput {
	return EnsureNetworkInput{Scope: w.scope, Step: "network", Name: "net", CIDR: w.cidr}
}

func (w *place) disksInput(snapshot string) CreateDisksInput {
	return CreateDisksInput{Scope: w.scope, Step: "disks", Disks: []DiskInfo{
		{Name: "root", Snapshot: snapshot, Boot: true}, {Name: "data", Bytes: 1 << 20}}}
}

func (w *place) launchInput(r recovered) LaunchServerInput {
	return LaunchServerInput{Scope: w.scope, Step: "launch", Name: "db", Disks: r.disks, NetworkID: r.network.ID, Ports: []int{port},
		Launch: map[string]string{"runtime": "process", "command": w.exe + " " + testServer}}
}

// bringUp makes network, disks and server, retrying each as Temporal does.
func (w *place) bringUp(snapshot string) (r recovered) {
	w.Helper()
	r.network = must[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())
	r.disks = must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(snapshot))
	r.server = must[ServerInfo](w, w.acts.LaunchServer, w.launchInput(r))
	return r
}

// made counts, in the site itself, what carries the tag of the operation.
func (w *place) made() (servers, disks, networks int) {
	w.Helper()
	f := cloud.Filter{Tags: map[string]string{cloud.TagOperation: w.scope.Operation}}
	s, err := w.p.Servers(w.Context(), f)
	require.NoError(w, err)
	d, err := w.p.Disks(w.Context(), f)
	require.NoError(w, err)
	n, err := w.p.Networks(w.Context(), f)
	require.NoError(w, err)
	return len(s), len(d), len(n)
}

// nothingLeft requires that site and ledger know nothing more of the operation.
func (w *place) nothingLeft() {
	w.Helper()
	servers, disks, networks := w.made()
	require.Zero(w, servers+disks+networks, "left: %d servers, %d disks, %d networks", servers, disks, networks)
	entries, err := w.p.Entries(w.Context(), cloud.LedgerFilter{Operation: w.scope.Operation})
	require.NoError(w, err)
	for _, e := range entries {
		require.NotNil(w, e.Deleted, "ledger entry %+v", e)
	}
}

// operation is the scope of everything that the operation made.
func (w *place) operation() Scope {
	return Scope{Site: w.site, Plan: w.scope.Plan, Operation: w.scope.Operation}
}
