package replication_test

import (
	"math/rand/v2"
	"testing"

	"lifeboat/replication"

	"github.com/stretchr/testify/require"
)

func TestFirstPassIsFullAndLaterOnesAreDeltas(t *testing.T) {
	t.Parallel()
	p := newPair(t, 40<<20+12345)
	first := p.start()
	require.Equal(t, replication.PointScheduled, first.Kind)
	require.True(t, first.Verified)
	p.requireSame(first)
	full := p.waitFor(func(s replication.Status) bool { return s.Stage == replication.StageRealTime })
	require.EqualValues(t, 100, full.Percent)

	rng := rand.New(rand.NewPCG(3, 4))
	for i, id := range []string{"m1", "m2", "m3"} {
		scribble(t, rng, p.disks[0], 5*i)
		pt := p.mark(id)
		require.Equal(t, replication.PointMarked, pt.Kind)
		require.Equal(t, "by test", pt.Label)
		p.requireSame(pt)
		require.Equal(t, pt, p.mark(id), "the same request gives the same point")
	}
	after := p.waitFor(func(s replication.Status) bool { return s.Passes == 4 })
	require.Less(t, after.BytesChanged-full.BytesChanged, int64(10<<20))
	points, err := p.target.Points(testStream)
	require.NoError(t, err)
	require.Len(t, points, 4)
}

func TestFinalMakesCurrentTimeOnceAndStops(t *testing.T) {
	t.Parallel()
	p := newPair(t, 5<<20, 3<<20+1)
	p.start()
	scribble(t, rand.New(rand.NewPCG(5, 6)), p.disks[1], 3)
	final, err := p.source.Final(p.ctx(), testStream, "f1")
	require.NoError(t, err)
	require.Equal(t, replication.PointCurrentTime, final.Kind)
	p.requireSame(final)
	st, err := p.source.Status(testStream)
	require.NoError(t, err)
	require.Equal(t, replication.StageStopped, st.Stage)

	again, err := p.source.Final(p.ctx(), testStream, "f1")
	require.NoError(t, err)
	require.Equal(t, final, again)
	_, err = p.source.Final(p.ctx(), testStream, "f2")
	require.ErrorIs(t, err, replication.ErrStopped)
	require.NoError(t, p.source.Close())
	p.openSource()
	again, err = p.source.Final(p.ctx(), testStream, "f1")
	require.NoError(t, err)
	require.Equal(t, final.ID, again.ID)

	require.NoError(t, p.target.ConsumePoint(testStream, final.ID, "op1"))
	require.NoError(t, p.target.ConsumePoint(testStream, final.ID, "op1"))
	require.ErrorIs(t, p.target.ConsumePoint(testStream, final.ID, "op2"), replication.ErrConsumed)
}
