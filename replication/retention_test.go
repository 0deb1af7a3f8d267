package replication_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/replication"
	"lifeboat/replication/replicationtest"

	"github.com/stretchr/testify/require"
)

func TestTheTwentyFifthPointEvictsTheOldestUnlessItIsSpared(t *testing.T) {
	t.Parallel()
	p := newPair(t, 64<<10)
	p.keep = replication.Keep{Count: 24, Within: 24 * time.Hour}
	var points []replication.Point
	points = append(points, p.start())
	for i := range 25 {
		points = append(points, p.mark(fmt.Sprint(i)))
		if i == 0 {
			require.NoError(t, p.target.LockPoint(testStream, points[0].ID, true))
		}
	}
	got, err := p.target.Points(testStream)
	require.NoError(t, err)
	require.Len(t, got, 25, "24 and the locked one")
	require.Equal(t, points[25].ID, got[0].ID, "newest first")
	require.Equal(t, points[0].ID, got[24].ID)
	require.Equal(t, points[2].ID, got[23].ID)
	_, err = os.Stat(p.maker.Path(points[1].Disks[0].Snapshot))
	require.ErrorIs(t, err, os.ErrNotExist, "its snapshot is gone as well")

	require.ErrorIs(t, p.target.DeletePoint(t.Context(), testStream, points[0].ID), replication.ErrPointInUse)
	require.NoError(t, p.target.LockPoint(testStream, points[0].ID, false))
	require.NoError(t, p.target.UsePoint(testStream, points[0].ID, true))
	require.NoError(t, p.target.PrunePoints(t.Context(), testStream))
	_, err = p.target.Point(testStream, points[0].ID)
	require.NoError(t, err, "it is in use")
	require.NoError(t, p.target.UsePoint(testStream, points[0].ID, false))
	require.NoError(t, p.target.PrunePoints(t.Context(), testStream))
	_, err = p.target.Point(testStream, points[0].ID)
	require.ErrorIs(t, err, replication.ErrUnknownPoint)
	require.NoError(t, p.target.DeletePoint(t.Context(), testStream, points[5].ID))
	require.NoError(t, p.target.DeletePoint(t.Context(), testStream, points[5].ID), "gone is fine")
}

func TestOldPointsGoButNeverTheNewest(t *testing.T) {
	t.Parallel()
	p := newPair(t, 64<<10)
	p.keep = replication.Keep{Within: time.Hour}
	var later atomic.Int64
	require.NoError(t, p.target.Close())
	config := p.targetConfig()
	config.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	var err error
	p.target, err = replication.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.target.Close() })
	p.start()
	newest := p.mark("m")
	later.Store(int64(2 * time.Hour))
	require.NoError(t, p.target.PrunePoints(t.Context(), testStream))
	points, err := p.target.Points(testStream)
	require.NoError(t, err)
	require.Len(t, points, 1)
	require.Equal(t, newest.ID, points[0].ID)
}

func TestTestedPointsAreRemembered(t *testing.T) {
	t.Parallel()
	p := newPair(t, 64<<10)
	pt := p.start()
	at := time.Now().Round(time.Second).UTC()
	require.NoError(t, p.target.TestedPoint(testStream, pt.ID, at))
	require.NoError(t, p.target.Close())
	p.openTarget()
	got, err := p.target.Point(testStream, pt.ID)
	require.NoError(t, err)
	require.Equal(t, at, *got.TestedAt)
	require.ErrorIs(t, p.target.ConsumePoint(testStream, pt.ID, "op"), replication.ErrInvalidSpec, "only current-time is consumed")
	require.ErrorIs(t, p.target.LockPoint(testStream, "no", true), replication.ErrUnknownPoint)
}

func TestPointOfACrashBetweenSnapshotAndCatalogueIsThereWithoutTheSource(t *testing.T) {
	t.Parallel()
	p := newPair(t, 3<<20)
	p.start()
	require.NoError(t, p.target.Close())
	config := p.targetConfig()
	dies := &dyingMaker{Maker: p.maker, made: make(chan struct{})}
	config.Points = dies
	var err error
	p.target, err = replication.Open(t.Context(), config)
	require.NoError(t, err)
	asked := p.markAsync("m")
	<-dies.made // the snapshot exists, the catalogue does not know
	require.NoError(t, p.target.Close())
	points, made := 0, p.maker.Made.Load()
	require.NoError(t, p.source.Close()) // the source is lost
	<-asked

	p.openTarget()
	require.Eventually(t, func() bool {
		got, err := p.target.Points(testStream)
		points = len(got)
		return err == nil && points == 2
	}, 10*time.Second, 5*time.Millisecond)
	got, err := p.target.Points(testStream)
	require.NoError(t, err)
	require.Equal(t, "by test", got[0].Label)
	p.requireSame(got[0])
	require.Equal(t, made, p.maker.Made.Load(), "the snapshot that existed was found again")
}

// dyingMaker takes the snapshot, but never comes back.
type dyingMaker struct {
	*replicationtest.Maker
	made chan struct{}
}

func (m *dyingMaker) Make(ctx context.Context, r replication.PointRequest) (map[string]string, error) {
	if _, err := m.Maker.Make(ctx, r); err != nil {
		return nil, err
	}
	close(m.made)
	<-ctx.Done()
	return nil, ctx.Err()
}
