package agentless_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
	"lifeboat/replication"
	"lifeboat/replication/deltatest"
)

// childEnv makes of the test binary a worker that runs a stream until it is killed.
const childEnv = "LIFEBOAT_AGENTLESS_TEST_CHILD"

// childJob says what such a worker does. It dies by itself, as by kill -9, at the call to a
// provider with the number Die, or right after it.
type childJob struct {
	Dir     string
	Spec    agentless.Spec
	Die     int
	DieLate bool
}

// death ends the process with kill -9 at a call, before or after its effect.
type death struct {
	mu    sync.Mutex
	calls int
	at    int
	late  bool
}

func (d *death) before() (end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if d.calls != d.at {
		return func() {}
	}
	kill := func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if !d.late {
		kill()
	}
	return kill
}

// mortal is a site at whose calls the process may die.
type mortal struct {
	*local.Provider
	death *death
}

func (m mortal) StartSnapshots(ctx context.Context, in cloud.CreateSnapshots) ([]cloud.Snapshot, error) {
	defer m.death.before()()
	return m.Provider.StartSnapshots(ctx, in)
}

func (m mortal) StartCopySnapshot(ctx context.Context, in cloud.CopySnapshot) (cloud.Snapshot, error) {
	defer m.death.before()()
	return m.Provider.StartCopySnapshot(ctx, in)
}

func (m mortal) DeleteSnapshot(ctx context.Context, id string) error {
	defer m.death.before()()
	return m.Provider.DeleteSnapshot(ctx, id)
}

func (m mortal) Intend(ctx context.Context, e cloud.Entry) (cloud.Entry, error) {
	defer m.death.before()()
	return m.Provider.Intend(ctx, e)
}

func (m mortal) Made(ctx context.Context, token, id string) error {
	defer m.death.before()()
	return m.Provider.Made(ctx, token, id)
}

func (m mortal) Gone(ctx context.Context, token string) error {
	defer m.death.before()()
	return m.Provider.Gone(ctx, token)
}

func (m mortal) PutDocument(ctx context.Context, doc cloud.Document) (cloud.Document, error) {
	defer m.death.before()()
	return m.Provider.PutDocument(ctx, doc)
}

func (m mortal) PauseServer(ctx context.Context, id string, max time.Duration) (func() error, error) {
	defer m.death.before()()
	return m.Provider.PauseServer(ctx, id, max)
}

// runChild is a worker: it goes on with its streams, asks for the one of the test, and
// makes points until it is killed.
func runChild(raw string) error {
	var job childJob
	if err := json.Unmarshal([]byte(raw), &job); err != nil {
		return err
	}
	ctx := context.Background()
	death := &death{at: job.Die, late: job.DieLate}
	sites := activities.NewSites(func(ctx context.Context, site cloud.Site) (cloud.Provider, error) {
		p, err := local.Open(ctx, site, local.Options{})
		return mortal{Provider: p, death: death}, err
	})
	maker := activities.AgentlessSites{Open: sites.Open, Timing: quick}
	e, err := agentless.Open(ctx, agentless.Config{Dir: job.Dir, Documents: maker.Documents, Maker: maker, RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	if err := e.Start(ctx, job.Spec); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if _, err := e.Mark(ctx, streamName, fmt.Sprintf("%d-%d", os.Getpid(), n), ""); err != nil {
			return err
		}
	}
}

func TestKilledAtAnyCallNothingIsMadeTwiceOrLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec()
	random := rand.New(rand.NewPCG(7, 11))
	dir := w.config("a").Dir
	rounds := 25
	if deltatest.Raced {
		rounds = 10
	}
	for round := range rounds {
		w.child(childJob{Dir: dir, Spec: spec, Die: 1 + random.IntN(60), DieLate: round%2 == 0})
		w.once()
		if round%8 == 7 {
			require.NoError(t, os.RemoveAll(dir)) // the worker goes on elsewhere
		}
	}
	e := w.engine("a")
	require.NoError(t, e.Start(t.Context(), spec))
	w.mark(e, "after all")
	require.Len(t, w.points(e), 3)
	w.once()
	w.tidy(e, 1)
	for _, p := range w.points(e) {
		root, data := w.numbers(p)
		require.True(t, root == data || root == data+1, "root has %d, data has %d", root, data)
	}
	require.NoError(t, e.StopTarget(t.Context(), streamName, 1))
	require.NoError(t, e.StopSource(t.Context(), streamName))
	w.tidy(e, 0)
	w.serverIs(cloud.Running)
}

func TestKilledAtAnyMomentPointsArePointsAndTheServerRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec()
	spec.Settings.Interval = time.Millisecond
	random := rand.New(rand.NewPCG(3, 5))
	dir := w.config("a").Dir
	for range 10 {
		w.killAfter(childJob{Dir: dir, Spec: spec}, time.Duration(50+random.IntN(400))*time.Millisecond)
		w.once()
	}
	e := w.engine("a")
	require.NoError(t, e.Start(t.Context(), spec), "on a slow machine no worker may have come as far")
	require.NoError(t, e.Set(streamName, replication.Settings{Interval: time.Hour, AutoResume: true}))
	w.mark(e, "after all")
	w.tidy(e, 1)
	before, _ := w.numbers(w.mark(e, "one"))
	after, _ := w.numbers(w.mark(e, "two"))
	require.Greater(t, after, before, "the server was let go")
}

func (w *world) command(job childJob) *exec.Cmd {
	w.Helper()
	raw, err := json.Marshal(job)
	require.NoError(w, err)
	exe, err := os.Executable()
	require.NoError(w, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	cmd.Stderr = os.Stderr
	return cmd
}

// child runs a worker until it dies at its call.
func (w *world) child(job childJob) {
	w.Helper()
	cmd := w.command(job)
	require.NoError(w, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		require.ErrorContains(w, err, "killed", "it dies at call %d", job.Die)
	case <-time.After(time.Minute):
		require.NoError(w, errors.Join(cmd.Process.Kill(), errors.New("a worker did not come to its end")))
	}
}

// killAfter runs a worker for a while.
func (w *world) killAfter(job childJob, d time.Duration) {
	w.Helper()
	cmd := w.command(job)
	require.NoError(w, cmd.Start())
	// The moment of the kill is the point of the test, not a wait for something.
	time.Sleep(d)
	require.NoError(w, cmd.Process.Kill())
	require.ErrorContains(w, cmd.Wait(), "killed")
}
