package agentless_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

func TestPointsAreCutCopiedAndKeptAsTheRulesSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	w.start(e, w.spec())
	first := w.points(e)[0]
	assert.Equal(t, replication.PointScheduled, first.Kind)
	assert.Equal(t, agentless.CutSnapshot, first.CutMethod)
	assert.True(t, first.Verified)
	assert.WithinDuration(t, time.Now(), first.Time, time.Minute)
	require.Len(t, first.Disks, 2)
	for i, name := range []string{"root", "data"} {
		assert.Equal(t, name, first.Disks[i].Name)
		assert.EqualValues(t, diskBytes, first.Disks[i].Bytes)
		s, err := w.away.Snapshot(t.Context(), first.Disks[i].Snapshot)
		require.NoError(t, err)
		assert.Equal(t, first.ID, s.Tags[cloud.TagPoint])
		assert.True(t, s.Time.Equal(first.Time), "the time of a point is that of its cut")
	}
	w.tidy(e, 1)

	marked := w.mark(e, "upgrade")
	assert.Equal(t, replication.PointMarked, marked.Kind)
	assert.Equal(t, "upgrade", marked.Label)
	assert.Equal(t, marked.ID, w.mark(e, "upgrade").ID, "the same request is the same point")
	require.NoError(t, e.LockPoint(streamName, first.ID, true))
	require.NoError(t, e.UsePoint(streamName, marked.ID, true))
	for _, name := range []string{"1", "2", "3", "4"} {
		w.mark(e, name)
	}
	var labels []string
	for _, p := range w.points(e) {
		labels = append(labels, p.Label)
	}
	assert.Equal(t, []string{"4", "3", "2", "upgrade", ""}, labels, "three are kept, and what is locked or used")
	w.tidy(e, 1)

	require.ErrorIs(t, e.DeletePoint(t.Context(), streamName, first.ID), replication.ErrPointInUse)
	require.NoError(t, e.LockPoint(streamName, first.ID, false))
	require.NoError(t, e.UsePoint(streamName, marked.ID, false))
	require.NoError(t, e.PrunePoints(t.Context(), streamName))
	require.Len(t, w.points(e), 3)
	newest := w.points(e)[0]
	for range 2 {
		require.NoError(t, e.DeletePoint(t.Context(), streamName, newest.ID))
	}
	_, err := e.Point(streamName, newest.ID)
	require.ErrorIs(t, err, replication.ErrUnknownPoint)
	require.ErrorIs(t, e.UsePoint(streamName, newest.ID, true), replication.ErrUnknownPoint)
	w.tidy(e, 1)
}

func TestACutOfTwoDisksIsOneInstantOfTheRunningServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	w.start(e, w.spec())
	before := 0
	for _, name := range []string{"1", "2", "3"} {
		root, data := w.numbers(w.mark(e, name))
		assert.Greater(t, root, before, "the server goes on between the cuts")
		assert.True(t, root == data || root == data+1, "root has %d, data has %d", root, data)
		before = root
	}
}

func TestTheIntervalMakesPointsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	spec := w.spec()
	w.start(e, spec)
	spec.Settings.Interval = 50 * time.Millisecond
	require.NoError(t, e.Set(streamName, spec.Settings))
	w.status(e, "passes", func(s replication.Status) bool { return s.Passes >= 5 })
	assert.Len(t, w.points(e), 3)
	require.NoError(t, e.Start(t.Context(), w.spec()))
	w.status(e, "more passes", func(s replication.Status) bool { return s.Passes >= 7 }) // a repeated start undoes no settings

	require.NoError(t, e.Pause(streamName))
	w.status(e, "paused", func(s replication.Status) bool { return s.Health == replication.HealthPaused })
	held := w.points(e)[0]
	paused, err := e.Status(streamName)
	require.NoError(t, err)
	require.NoError(t, e.Resume(streamName))
	w.status(e, "passes after the pause", func(s replication.Status) bool { return s.Passes > paused.Passes && s.Health == replication.HealthOK })
	assert.NotEqual(t, held.ID, w.points(e)[0].ID)
	spec.Settings.Interval = time.Hour
	require.NoError(t, e.Set(streamName, spec.Settings))
	w.tidy(e, 1)
}

func TestAResumedStreamIsHealthyBeforeItsNextPass(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	w.start(e, w.spec())
	require.NoError(t, e.Pause(streamName))
	w.status(e, "paused", func(s replication.Status) bool { return s.Health == replication.HealthPaused })
	require.NoError(t, e.Resume(streamName))
	s := w.status(e, "healthy", func(s replication.Status) bool { return s.Health == replication.HealthOK })
	assert.Equal(t, replication.StageRealTime, s.Stage)
	require.Len(t, w.points(e), 1, "the interval is an hour")
}

func TestFinalIsTheLastPointAndIsConsumedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	w.start(e, w.spec())
	require.NoError(t, e.Pause(streamName))
	w.stopServer()
	last, err := e.Final(t.Context(), streamName, "failover/1")
	require.NoError(t, err)
	assert.Equal(t, replication.PointCurrentTime, last.Kind)
	assert.Equal(t, replication.CutStopped, last.CutMethod)
	root, data := w.numbers(last)
	assert.True(t, root == data || root == data+1)
	raw, err := os.ReadFile(w.disks[0].Path)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("%016d", root), string(raw[:16]), "it has all that was written")
	again, err := e.Final(t.Context(), streamName, "failover/1")
	require.NoError(t, err)
	assert.Equal(t, last.ID, again.ID)
	_, err = e.Mark(t.Context(), streamName, "late", "late")
	require.ErrorIs(t, err, replication.ErrStopped)

	require.NoError(t, e.ConsumePoint(streamName, last.ID, "failover/1"))
	require.NoError(t, e.ConsumePoint(streamName, last.ID, "failover/1"))
	require.ErrorIs(t, e.ConsumePoint(streamName, last.ID, "failover/2"), replication.ErrConsumed)
	require.ErrorIs(t, e.ConsumePoint(streamName, w.points(e)[1].ID, "failover/1"), replication.ErrInvalidSpec)
	at := time.Now().UTC()
	require.NoError(t, e.TestedPoint(streamName, last.ID, at))
	tested, err := e.Point(streamName, last.ID)
	require.NoError(t, err)
	assert.True(t, tested.TestedAt.Equal(at))
	w.status(e, "stopped", func(s replication.Status) bool { return s.Stage == replication.StageStopped })
	w.tidy(e, 1)
	require.NoError(t, e.StopSource(t.Context(), streamName))
	w.tidy(e, 0)
	require.NoError(t, e.StopSource(t.Context(), streamName))
}

func TestEpochs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	spec := w.spec()
	spec.Epoch = 5
	w.start(e, spec)
	first := w.points(e)[0]
	lower := spec
	lower.Epoch = 4
	require.ErrorIs(t, e.Start(t.Context(), lower), replication.ErrStaleEpoch)
	require.ErrorIs(t, e.StopTarget(t.Context(), streamName, 4), replication.ErrStaleEpoch)
	require.NoError(t, e.Start(t.Context(), spec))

	for range 2 {
		require.NoError(t, e.StopTarget(t.Context(), streamName, 5))
	}
	_, err := e.Mark(t.Context(), streamName, "stopped", "")
	require.ErrorIs(t, err, replication.ErrStopped)
	higher := spec
	higher.Epoch = 6
	w.start(e, higher)
	w.eventually("a point of the new epoch", func() bool { return w.points(e)[0].Epoch == 6 })
	_, err = e.Point(streamName, first.ID)
	require.NoError(t, err, "the points of before are there")
	require.ErrorIs(t, e.Start(t.Context(), spec), replication.ErrStaleEpoch)
	w.tidy(e, 1)
}

func TestARestartedEngineGoesOnAndALostDirectoryCostsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	spec := w.spec()
	spec.Settings.Interval = 50 * time.Millisecond
	w.start(e, spec)
	first := w.mark(e, "first")
	require.NoError(t, e.LockPoint(streamName, first.ID, true))
	require.NoError(t, e.Close())
	require.NoError(t, e.Close())

	e = w.engine("a")
	newest := w.points(e)[0]
	w.eventually("a point after the restart", func() bool { return w.points(e)[0].Time.After(newest.Time) })
	require.NoError(t, e.Close())

	require.NoError(t, os.RemoveAll(w.config("a").Dir))
	e = w.engine("a")
	_, err := e.Points(streamName)
	require.ErrorIs(t, err, replication.ErrUnknownStream)
	require.NoError(t, e.Start(t.Context(), spec))
	_, err = e.Point(streamName, first.ID)
	require.NoError(t, err)
	assert.Equal(t, first.ID, w.mark(e, "first").ID, "requests are remembered")
	spec.Settings.Interval = time.Hour
	require.NoError(t, e.Set(streamName, spec.Settings))
	w.tidy(e, 1)
}

func TestOfTwoEnginesTheOneThatStartedLastGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec()
	spec.Settings.Interval = 30 * time.Millisecond
	spec.Keep.Count = 0
	a, b := w.engine("a"), w.engine("b")
	w.start(a, spec)
	require.NoError(t, b.Start(t.Context(), spec))
	w.status(a, "that it has lost", func(s replication.Status) bool {
		return s.Health == replication.HealthInterrupted && s.HealthReason == "another worker runs this stream"
	})
	w.status(b, "passes of the other", func(s replication.Status) bool { return s.Passes > 5 })
	point := w.points(b)[0]
	require.NoError(t, a.UsePoint(streamName, point.ID, true), "the catalogue is one")
	used, err := b.Point(streamName, point.ID)
	for err == nil && !used.InUse { // b learns it with its next write
		used, err = b.Point(streamName, point.ID)
	}
	require.NoError(t, err)
	marked := w.mark(a, "asked of the wrong one")
	assert.Equal(t, marked.ID, w.mark(b, "asked of the wrong one").ID)
	require.NoError(t, a.UsePoint(streamName, point.ID, false))
	spec.Settings.Interval = time.Hour
	require.NoError(t, b.Set(streamName, spec.Settings))
	w.tidy(b, 1)
}

func TestAnEndedStreamLeavesNothingButWhatItIsAskedToKeep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	w.start(e, w.spec())
	w.mark(e, "second")
	require.NoError(t, e.StopTarget(t.Context(), streamName, 1))
	require.NoError(t, e.StopSource(t.Context(), streamName))
	w.tidy(e, 0)
	require.Len(t, w.points(e), 2, "points stay")
	for _, p := range w.points(e) {
		require.NoError(t, e.DeletePoint(t.Context(), streamName, p.ID))
	}
	w.tidy(e, 0)
	for range 2 {
		require.NoError(t, e.ForgetTarget(t.Context(), streamName))
		require.NoError(t, e.StopSource(t.Context(), streamName))
	}
	_, err := e.Status(streamName)
	require.ErrorIs(t, err, replication.ErrUnknownStream)
	names, err := w.away.DocumentNames(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, names)
	w.start(e, w.spec()) // tokens of the forgotten stream are not used again
	require.Len(t, w.points(e), 1)
	w.tidy(e, 1)
}

func TestSpecsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.engine("a")
	for name, change := range map[string]func(*agentless.Spec){
		"no stream":    func(s *agentless.Spec) { s.Stream = "" },
		"transfer":     func(s *agentless.Spec) { s.Transfer = "pigeons" },
		"no disk":      func(s *agentless.Spec) { s.Disks = nil },
		"equal names":  func(s *agentless.Spec) { s.Disks[1].Name = "root" },
		"no id":        func(s *agentless.Spec) { s.Disks[1].ID = "" },
		"epoch":        func(s *agentless.Spec) { s.Epoch = -1 },
		"no operation": func(s *agentless.Spec) { s.Operation = "" },
		"no target":    func(s *agentless.Spec) { s.Target = cloud.Site{} },
		"interval":     func(s *agentless.Spec) { s.Settings.Interval = -time.Second },
	} {
		spec := w.spec()
		change(&spec)
		require.ErrorIs(t, e.Start(t.Context(), spec), replication.ErrInvalidSpec, name)
	}
	_, err := e.Points(streamName)
	require.ErrorIs(t, err, replication.ErrUnknownStream)
	_, err = agentless.Open(t.Context(), agentless.Config{})
	require.ErrorIs(t, err, replication.ErrInvalidSpec)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.Wait(ctx, streamName, 0)
	require.ErrorIs(t, err, replication.ErrUnknownStream)
}
