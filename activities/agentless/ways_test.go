package agentless_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
	"lifeboat/replication"
)

// From zone to zone nothing is copied: the cuts are the points.
func TestWhereBothSitesAreOnePlaceTheCutsAreThePoints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	zone := w.home.Site()
	zone.Name, zone.Zone = "recovery", "b"
	w.sites["recovery"] = w.home
	e := w.engine("a")
	spec := w.spec()
	spec.Target = zone
	w.start(e, spec)
	for _, name := range []string{"1", "2", "3", "4"} {
		w.mark(e, name)
	}
	points := w.points(e)
	require.Len(t, points, 3)
	var want []string
	for _, p := range points {
		for _, d := range p.Disks {
			want = append(want, d.Snapshot)
			s, err := w.home.Snapshot(t.Context(), d.Snapshot)
			require.NoError(t, err)
			assert.Equal(t, "point", s.Tags[cloud.TagRole])
		}
	}
	w.eventually("only the points are there", func() bool { return w.differs(w.home, want) == "" })
	assert.Empty(t, w.snapshots(w.away))
	assert.Zero(t, w.asked("primary"), "the target makes them: it has to be able to without the source")
	require.NoError(t, e.StopTarget(t.Context(), streamName, 1))
	require.NoError(t, e.StopSource(t.Context(), streamName))
	w.eventually("points stay", func() bool { return w.differs(w.home, want) == "" })
}

// blockSite is a site that copies by blocks; here through copies of snapshots.
type blockSite struct {
	*local.Provider
	asked chan cloud.BlockCopy
}

func (b blockSite) CopyBlocks(ctx context.Context, in cloud.BlockCopy, report func(done, total int64)) (cloud.Snapshot, error) {
	b.asked <- in
	report(1, 4)
	s, err := b.StartCopySnapshot(ctx, cloud.CopySnapshot{Create: in.Create, From: in.From, SnapshotID: in.SnapshotID, Key: in.Key})
	for err == nil && s.State == cloud.Creating {
		s, err = b.Snapshot(ctx, s.ID)
	}
	return s, err
}

func TestCopiesByBlocksAreToldThePairBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := blockSite{Provider: w.away, asked: make(chan cloud.BlockCopy, 100)}
	w.sites["recovery"] = b
	e := w.engine("a")
	spec := w.spec()
	spec.Transfer = agentless.TransferBlocks
	w.start(e, spec)
	cuts := map[string]string{} // copy → original
	byDisk := map[string]string{}
	for range 2 {
		in := <-b.asked
		assert.Empty(t, in.Base)
		assert.NotEmpty(t, in.State)
		assert.Equal(t, "primary", in.From.Name)
		byDisk[in.State] = in.SnapshotID
	}
	first := w.points(e)[0]
	for _, d := range first.Disks {
		cuts[d.Snapshot] = "there"
	}
	w.mark(e, "second")
	for range 2 {
		in := <-b.asked
		assert.Equal(t, byDisk[in.State], in.FromBase, "the cut before is the base")
		assert.Equal(t, "there", cuts[in.Base], "and its copy")
	}
	w.tidy(e, 1)

	// Without the capability it says so, and does not try for ever.
	w.mend()
	go func() { _, _ = e.Mark(t.Context(), streamName, "third", "third") }()
	s := w.status(e, "stalled", func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	assert.Contains(t, s.HealthReason, "copies by blocks")
	require.NoError(t, e.StopTarget(t.Context(), streamName, 1))
	require.NoError(t, e.StopSource(t.Context(), streamName))
	w.tidy(e, 0)
}
