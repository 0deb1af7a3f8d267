package replication_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lifeboat/replication"
	"lifeboat/replication/replicationtest"

	"github.com/stretchr/testify/require"
)

// childEnv makes of the test binary an agent: its value is a childJob in JSON.
const childEnv = "LIFEBOAT_REPLICATION_TEST_CHILD"

type childJob struct {
	Dir    string
	Lock   string
	Maker  string
	Source *replication.SourceSpec
	Target *replication.TargetSpec
	// Interval, where set, replaces the one of a stream that runs already.
	Interval time.Duration
}

func TestMain(m *testing.M) {
	if raw := os.Getenv(childEnv); raw != "" {
		if err := runChild(raw); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// flockPauser pauses writers that share a lock file; a kill ends the pause.
type flockPauser struct{ path string }

func (p flockPauser) Pause(context.Context, replication.SourceSpec) (func() error, error) {
	f, err := os.OpenFile(p.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return f.Close, syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
}

// runChild is an agent that runs until it is killed. It prints its fingerprint and address,
// then each new point.
func runChild(raw string) error {
	var job childJob
	if err := json.Unmarshal([]byte(raw), &job); err != nil {
		return err
	}
	ctx := context.Background()
	e, err := replication.Open(ctx, replication.Config{Dir: job.Dir, Pauser: flockPauser{job.Lock}, Points: &replicationtest.Maker{Dir: job.Maker},
		LinkTimeout: 3 * time.Second, RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	if job.Target != nil && job.Target.Peer != "" {
		if _, err := e.PrepareTarget(ctx, *job.Target); err != nil {
			return err
		}
	}
	if job.Source != nil {
		if err := e.StartSource(ctx, *job.Source); err != nil {
			return err
		}
	}
	if job.Interval > 0 {
		if err := e.Set(testStream, replication.Settings{Interval: job.Interval, AutoResume: true}); err != nil {
			return err
		}
	}
	fmt.Println("ready", e.Fingerprint(), e.Address())
	if job.Source == nil {
		select {}
	}
	last := ""
	for version := uint64(0); ; {
		st, err := e.Wait(ctx, testStream, version)
		if err != nil {
			return err
		}
		if version = st.Version; st.LastPoint != nil && st.LastPoint.ID != last {
			last = st.LastPoint.ID
			fmt.Println("point", st.LastPoint.Time.UnixNano(), last)
		}
	}
}

// child is a running agent.
type child struct {
	cmd         *exec.Cmd
	fingerprint replication.Fingerprint
	address     string
	lastPoint   atomic.Int64 // its cut, in Unix nanoseconds
	points      atomic.Int64 // how many it told of
	gone        chan struct{}
}

func startChild(t *testing.T, job childJob) *child {
	t.Helper()
	raw, err := json.Marshal(job)
	require.NoError(t, err)
	c := &child{cmd: exec.Command(os.Args[0]), gone: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(c.kill)
	ready := make(chan struct{})
	go func() {
		defer close(c.gone)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			words := strings.Fields(sc.Text())
			switch words[0] {
			case "ready":
				c.fingerprint, c.address = replication.Fingerprint(words[1]), words[2]
				close(ready)
			case "point":
				var at int64
				_, _ = fmt.Sscan(words[1], &at)
				c.lastPoint.Store(at)
				c.points.Add(1)
			}
		}
	}()
	select {
	case <-ready:
	case <-c.gone:
		t.Fatal("the agent ended at once")
	case <-time.After(20 * time.Second):
		t.Fatal("the agent does not get ready")
	}
	return c
}

// kill is kill -9.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_, _ = c.cmd.Process.Wait()
	<-c.gone
}

func TestKillMinusNineOfSenderAndReceiver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk, replica, lock := filepath.Join(dir, "disk"), filepath.Join(dir, "replica"), filepath.Join(dir, "lock")
	rng := rand.New(rand.NewPCG(7, 7))
	const size = 12<<20 + 777
	writeImage(t, rng, disk, size)
	maker := filepath.Join(dir, "snapshots")
	require.NoError(t, os.Mkdir(maker, 0o700))
	sourceJob := childJob{Dir: filepath.Join(dir, "s"), Lock: lock, Maker: maker}
	targetJob := childJob{Dir: filepath.Join(dir, "t"), Lock: lock, Maker: maker}

	probe := startChild(t, sourceJob) // makes the key
	probe.kill()
	targetJob.Target = &replication.TargetSpec{Stream: testStream, Epoch: 1, Peer: probe.fingerprint, Keep: replication.Keep{Count: 8},
		Disks: []replication.Disk{{Name: "vda", Path: replica, Size: size}}}
	target := startChild(t, targetJob)
	sourceJob.Source = &replication.SourceSpec{Stream: testStream, Epoch: 1, Disks: []replication.Disk{{Name: "vda", Path: disk}},
		TargetAddress: target.address, TargetFingerprint: target.fingerprint,
		Settings: replication.Settings{Interval: 10 * time.Millisecond, AutoResume: true}}
	source := startChild(t, sourceJob)

	stop := writeUnderLock(t, disk, lock)
	for range 12 {
		<-time.After(time.Duration(rng.IntN(250)) * time.Millisecond) // the moment of the kill is random
		if rng.IntN(2) == 0 {
			source.kill()
			source = startChild(t, sourceJob)
		} else {
			target.kill()
			target = startChild(t, targetJob)
		}
	}
	stop()
	quiet := time.Now().UnixNano()
	before := source.points.Load()
	require.Eventually(t, func() bool { return source.points.Load() > before+8 }, 20*time.Second, 5*time.Millisecond)
	// One more pass, and then none for an hour: nothing is half done when both end.
	source.kill()
	sourceJob.Interval = time.Hour
	source = startChild(t, sourceJob)
	require.Eventually(t, func() bool { return source.points.Load() > 1 && source.lastPoint.Load() > quiet }, 20*time.Second, 5*time.Millisecond)
	source.kill()
	target.kill()
	checkAfterKills(t, targetJob, disk, maker)
}

// writeUnderLock changes a disk until stop, holding the shared lock for each round.
func writeUnderLock(t *testing.T, disk, lock string) (stop func()) {
	t.Helper()
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(2, 3))
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
				t.Error(err)
				return
			}
			scribble(t, rng, disk, 2)
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
				t.Error(err)
				return
			}
		}
	})
	return func() { close(quit); wg.Wait(); _ = f.Close() }
}

// checkAfterKills: every point in the catalogue has snapshots with its root, nothing else
// was left over, and the newest is what the disk holds.
func checkAfterKills(t *testing.T, job childJob, disk, maker string) {
	t.Helper()
	e, err := replication.Open(t.Context(), replication.Config{Dir: job.Dir, Points: &replicationtest.Maker{Dir: maker}})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	points, err := e.Points(testStream)
	require.NoError(t, err)
	require.Len(t, points, 8)
	known := map[string]bool{}
	for _, pt := range points {
		known[pt.Disks[0].Snapshot] = true
		root, err := replication.RootOfFile(t.Context(), filepath.Join(maker, pt.Disks[0].Snapshot))
		require.NoError(t, err)
		require.Equal(t, pt.Disks[0].Root, root, "point %s", pt.ID)
	}
	root, err := replication.RootOfFile(t.Context(), disk)
	require.NoError(t, err)
	require.Equal(t, root, points[0].Disks[0].Root, "the newest point is what the disk holds")
	entries, err := os.ReadDir(maker)
	require.NoError(t, err)
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasSuffix(name, ".tmp") { // a half copy of the maker
			require.True(t, known[name], "snapshot %s belongs to no point", name)
		}
	}
}

func TestServerThatStandsStillSinceACrashRunsAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	require.NoError(t, p.source.Close())
	stuck := &stuckPauser{paused: make(chan struct{})}
	config := p.sourceConfig()
	config.Pauser = stuck
	e, err := replication.Open(t.Context(), config)
	require.NoError(t, err)
	p.source = e
	p.prepareAndStart()
	<-stuck.paused // the server stands still; now the agent dies
	require.NoError(t, e.Close())

	again := &stuckPauser{paused: make(chan struct{}), works: true}
	config.Pauser = again
	p.source, err = replication.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.source.Close() })
	p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil })
	require.GreaterOrEqual(t, again.resumed.Load(), int64(2), "once for the crash, once for the point")
}

// stuckPauser dies in the pause, unless it works.
type stuckPauser struct {
	paused  chan struct{}
	works   bool
	resumed atomic.Int64
}

func (p *stuckPauser) Pause(ctx context.Context, _ replication.SourceSpec) (func() error, error) {
	if !p.works {
		close(p.paused)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return func() error { p.resumed.Add(1); return nil }, nil
}
