package agentless_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/cloudtest"
	"lifeboat/activities/cloud/local"
	"lifeboat/replication"
	"lifeboat/replication/deltatest"
)

func TestASourceThatDoesNotAnswerIsSaidInWordsAndPointsStayUsable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	spec := w.spec()
	spec.Settings.Interval = 20 * time.Millisecond
	w.start(e, spec)
	w.fail("primary", errDown)
	s := w.status(e, "interrupted", func(s replication.Status) bool { return s.Health == replication.HealthInterrupted })
	assert.Contains(t, s.HealthReason, "cut at site primary")
	assert.Contains(t, s.HealthReason, "connection refused")
	assert.Contains(t, s.HealthReason, "points that are there stay usable")
	assert.Equal(t, replication.StageRealTime, s.Stage)
	point := w.points(e)[0]
	require.NoError(t, e.UsePoint(streamName, point.ID, true))
	require.NoError(t, e.UsePoint(streamName, point.ID, false))

	w.fail("primary", nil)
	s = w.status(e, "healthy again", func(s replication.Status) bool {
		return s.Health == replication.HealthOK && s.LastPoint.Time.After(point.Time)
	})
	spec.Settings.Interval = time.Hour
	require.NoError(t, e.Set(streamName, spec.Settings))
	w.tidy(e, 1)
}

func TestAttemptsAtADeadSourceAreFew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := w.config("a")
	config.RetryMin, config.RetryMax = 40*time.Millisecond, 200*time.Millisecond
	e, err := agentless.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	w.fail("primary", errDown)
	require.NoError(t, e.Start(t.Context(), w.spec()))
	began := time.Now()
	w.eventually("attempts", func() bool { return w.asked("primary") >= 6 })
	// 40 + 80 + 160 + 200 + 200 ms lie between six attempts.
	assert.Greater(t, time.Since(began), 650*time.Millisecond)
}

func TestWithoutAutoResumeAnInterruptionWaitsForAPerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	spec := w.spec()
	spec.Settings = replication.Settings{Interval: 20 * time.Millisecond}
	w.start(e, spec)
	w.fail("primary", errDown)
	w.status(e, "interrupted", func(s replication.Status) bool { return s.Health == replication.HealthInterrupted })
	w.fail("primary", nil)
	require.NoError(t, e.Close())
	asked := w.asked("primary")
	e = w.engine("a")
	s := w.status(e, "interrupted over the restart", func(s replication.Status) bool { return s.Health == replication.HealthInterrupted })
	assert.Contains(t, s.HealthReason, "resume the stream")
	// The end may have come before the state was written: then one attempt finds out again.
	assert.LessOrEqual(t, w.asked("primary"), asked+1)
	before := w.points(e)[0]
	require.NoError(t, e.Resume(streamName))
	w.status(e, "healthy again", func(s replication.Status) bool {
		return s.Health == replication.HealthOK && s.LastPoint.Time.After(before.Time)
	})
}

func TestAfterStopTargetTheSourceIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	for _, down := range []bool{false, true} {
		t.Run(fmt.Sprintf("down %v", down), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			e := w.engine("a")
			spec := w.spec()
			spec.Settings.Interval = 10 * time.Millisecond
			w.start(e, spec)
			w.status(e, "passes", func(s replication.Status) bool { return s.Passes > 2 })
			if down {
				w.fail("primary", errDown)
				w.status(e, "interrupted", func(s replication.Status) bool { return s.Health == replication.HealthInterrupted })
			}
			require.NoError(t, e.StopTarget(t.Context(), streamName, 1))
			asked := w.asked("primary")
			points := w.points(e)
			require.NoError(t, e.UsePoint(streamName, points[0].ID, true))
			require.NoError(t, e.DeletePoint(t.Context(), streamName, points[1].ID))
			require.NoError(t, e.PrunePoints(t.Context(), streamName))
			require.NoError(t, e.Resume(streamName))
			require.NoError(t, e.Close())
			e = w.engine("a")
			w.status(e, "stopped", func(s replication.Status) bool { return s.Stage == replication.StageStopped })
			w.eventually("the target is in order", func() bool {
				var want []string
				for _, p := range w.points(e) {
					for _, d := range p.Disks {
						want = append(want, d.Snapshot)
					}
				}
				return w.differs(w.away, want) == ""
			})
			assert.Equal(t, asked, w.asked("primary"))

			w.fail("primary", nil)
			spec.Epoch, spec.Settings.Interval = 2, time.Hour
			w.start(e, spec)
			require.NoError(t, e.UsePoint(streamName, points[0].ID, false))
			w.tidy(e, 1) // what was left at the source is gone, too
		})
	}
}

func TestAStopOfTheSourceThatDoesNotAnswerSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	w.start(e, w.spec())
	w.fail("primary", errDown)
	require.ErrorContains(t, e.StopSource(t.Context(), streamName), "site primary")
	w.status(e, "stopped all the same", func(s replication.Status) bool { return s.Stage == replication.StageStopped })
	w.fail("primary", nil)
	w.tidy(e, 0) // by itself

	spec := w.spec()
	spec.Epoch = 2
	w.start(e, spec)
	w.fail("primary", errDown)
	require.NoError(t, e.StopTarget(t.Context(), streamName, 2))
	require.Error(t, e.StopSource(t.Context(), streamName))
	require.NoError(t, e.ForgetTarget(t.Context(), streamName), "a source that is lost keeps nobody from forgetting")
	_, open := w.ledger(w.home)
	require.Len(t, open, 2, "its ledger knows what is left")
}

// Throttling, lost answers and late visibility at both sites, of snapshots, ledgers and documents.
func TestLostAnswersAndLateVisibilityNeverMakeTwice(t *testing.T) {
	t.Parallel()
	seeds := uint64(6)
	if deltatest.Raced {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var wrapped []*cloudtest.FaultyProvider
			for i, name := range []string{"primary", "recovery"} {
				f := cloudtest.Faulty(w.sites[name], cloudtest.Plan{Seed: 2*seed + uint64(i), Throttle: 0.03, Unavailable: 0.04, Lost: 0.08, Hide: int(seed % 3)})
				wrapped = append(wrapped, f)
				w.sites[name] = f
			}
			e := w.engine("a")
			spec := w.spec()
			spec.Settings.Interval = 10 * time.Millisecond
			insist(w, func() error { return e.Start(t.Context(), spec) })
			w.status(e, "passes", func(s replication.Status) bool { return s.Passes >= 5 })
			var marked replication.Point
			insist(w, func() (err error) { marked, err = e.Mark(t.Context(), streamName, "marked", "marked"); return err })
			w.mend()
			spec.Settings.Interval = time.Hour
			require.NoError(t, e.Set(streamName, spec.Settings))
			w.once()
			assert.Equal(t, marked.ID, w.mark(e, "marked").ID)
			w.tidy(e, 1)
			for _, f := range wrapped {
				_, faults := f.Counts()
				assert.Positive(t, faults)
			}
		})
	}
}

// mend takes faults away.
func (w *world) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sites["primary"], w.sites["recovery"] = w.home, w.away
}

// insist repeats a call as Temporal does.
func insist(w *world, call func() error) {
	w.Helper()
	w.eventually("success", func() bool {
		err := call()
		class := cloud.ClassOf(err)
		if err != nil {
			require.True(w, class == cloud.Retry || class == cloud.Wait, "%v", err)
		}
		return err == nil
	})
}

// ledger lists the entries of a site, all and those that are open.
func (w *world) ledger(p *local.Provider) (all, open []cloud.Entry) {
	w.Helper()
	all, err := p.Entries(w.Context(), cloud.LedgerFilter{Plan: "shop", Server: "db"})
	require.NoError(w, err)
	for _, e := range all {
		if e.Deleted == nil {
			open = append(open, e)
		}
	}
	return all, open
}

// once requires that no point has two snapshots of one disk at one site.
func (w *world) once() {
	w.Helper()
	for _, s := range []struct {
		name string
		list []cloud.Snapshot
	}{{"primary", w.snapshots(w.home)}, {"recovery", w.snapshots(w.away)}} {
		seen := map[string]string{}
		for _, snap := range s.list {
			key := snap.Tags[cloud.TagPoint] + " " + snap.Disk
			require.Empty(w, seen[key], "site %s: two snapshots of %s", s.name, key)
			seen[key] = snap.ID
		}
	}
}

// between does something of a test between two steps of a pass.
type between struct {
	agentless.Maker
	mu       sync.Mutex
	onCopy   func(r agentless.CopyRequest) error
	onRemove func(r agentless.Removal) error
	copies   []agentless.CopyRequest
}

func (b *between) Copy(ctx context.Context, r agentless.CopyRequest, report func(done, total int64)) (cloud.Snapshot, error) {
	b.mu.Lock()
	b.copies = append(b.copies, r)
	do := b.onCopy
	b.mu.Unlock()
	if do != nil {
		if err := do(r); err != nil {
			return cloud.Snapshot{}, err
		}
	}
	return b.Maker.Copy(ctx, r, report)
}

func (b *between) Remove(ctx context.Context, r agentless.Removal) error {
	b.mu.Lock()
	do := b.onRemove
	b.mu.Unlock()
	if do != nil {
		if err := do(r); err != nil {
			return err
		}
	}
	return b.Maker.Remove(ctx, r)
}

// engineOf opens an engine whose maker the test can get in between.
func (w *world) engineOf(b *between) *agentless.Engine {
	w.Helper()
	config := w.config("a")
	b.Maker = config.Maker
	config.Maker = b
	e, err := agentless.Open(w.Context(), config)
	require.NoError(w, err)
	w.Cleanup(func() { require.NoError(w, e.Close()) })
	return e
}

func TestACutThatIsLostOnTheWayIsReplacedByAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var once sync.Once
	e := w.engineOf(&between{onCopy: func(r agentless.CopyRequest) error {
		once.Do(func() { require.NoError(t, w.home.DeleteSnapshot(t.Context(), r.Snapshot)) })
		return nil
	}})
	w.start(e, w.spec())
	require.Len(t, w.points(e), 1)
	w.tidy(e, 1)
}

func TestSnapshotsThatCannotBeRemovedNowAreRemovedLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := &between{onRemove: func(agentless.Removal) error {
		return cloud.E(cloud.InUse, "DeleteSnapshot", "snapshot", "a disk is being filled from it", "", nil)
	}}
	e := w.engineOf(b)
	w.start(e, w.spec())
	for _, name := range []string{"1", "2", "3", "4"} {
		w.mark(e, name)
	}
	require.Len(t, w.points(e), 3)
	require.Greater(t, len(w.snapshots(w.away)), 6)
	second := w.points(e)[1]
	require.ErrorContains(t, e.DeletePoint(t.Context(), streamName, second.ID), "being filled")
	b.mu.Lock()
	b.onRemove = nil
	b.mu.Unlock()
	require.NoError(t, e.DeletePoint(t.Context(), streamName, second.ID))
	w.tidy(e, 1)
}

func TestStoppingWhileACopyIsUnderWayLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	copying, ended := make(chan struct{}, 8), t.Context().Done()
	b := &between{onCopy: func(agentless.CopyRequest) error {
		copying <- struct{}{}
		return nil
	}}
	e := w.engineOf(b)
	w.start(e, w.spec())
	<-copying
	<-copying
	hold := make(chan struct{})
	b.mu.Lock()
	b.onCopy = func(r agentless.CopyRequest) error {
		copying <- struct{}{}
		if r.Snap.Disk == "data" {
			select {
			case <-hold:
			case <-ended:
			}
		}
		return nil
	}
	b.mu.Unlock()
	answer := make(chan error, 1)
	go func() {
		_, err := e.Mark(t.Context(), streamName, "never", "never")
		answer <- err
	}()
	<-copying
	<-copying
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, e.StopTarget(short, streamName, 1), context.DeadlineExceeded, "it does not say stopped while a request may be on its way")
	close(hold)
	require.NoError(t, e.StopTarget(t.Context(), streamName, 1))
	require.ErrorIs(t, <-answer, replication.ErrStopped)
	require.NoError(t, e.StopSource(t.Context(), streamName))
	w.tidy(e, 0)
	require.Len(t, w.points(e), 1)
}
