package replication_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"lifeboat/replication"
	"lifeboat/replication/replicationtest"

	"github.com/stretchr/testify/require"
)

// TestRandomImagesChangesAndKills compares every point with the source bytes, over random
// images, changes, cut links and engines that go away in the middle of a pass.
func TestRandomImagesChangesAndKills(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 99))
			sizes := []int64{rng.Int64N(24<<20) + 1, rng.Int64N(300<<10) + 1}[:1+rng.IntN(2)]
			if seed == 0 {
				sizes = []int64{1}
			}
			p := newPair(t, sizes...)
			proxy := replicationtest.NewProxy(t, p.target.Address())
			p.prepare()
			spec := p.sourceSpec()
			spec.TargetAddress = proxy.Address
			require.NoError(t, p.source.StartSource(t.Context(), spec))
			for round := range 6 {
				for _, path := range p.disks {
					if fi, err := os.Stat(path); err == nil && fi.Size() > 400<<10 {
						scribble(t, rng, path, rng.IntN(12))
					}
				}
				proxy.CutAfter(rng.Int64N(4 << 20))
				asked := p.markAsync(fmt.Sprint(round))
				switch rng.IntN(4) {
				case 0:
					require.NoError(t, p.source.Close())
					p.openSource()
				case 1:
					require.NoError(t, p.target.Close())
					p.openTarget()
				case 2:
					require.NoError(t, p.target.Close())
					require.NoError(t, p.source.Close())
					p.openTarget()
					p.openSource()
				}
				proxy.Mend()
				<-asked
				p.requireSame(p.mark(fmt.Sprint(round)))
			}
		})
	}
}

// markAsync asks for a point that may fail.
func (p *pair) markAsync(id string) <-chan struct{} {
	source := p.source
	done, asked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		close(asked)
		_, _ = source.Mark(p.ctx(), testStream, id, "by test") // asked again by the caller
	}()
	<-asked
	select {
	case <-done:
	case <-time.After(20 * time.Millisecond):
	}
	return done
}

func TestLostIndexesCostAScanAndNoCopy(t *testing.T) {
	t.Parallel()
	const size = 40 << 20
	for name, lose := range map[string]func(t *testing.T, p *pair){
		"index of the source lost":    func(t *testing.T, p *pair) { require.NoError(t, os.Remove(sourceIndex(p))) },
		"index of the source damaged": func(t *testing.T, p *pair) { damage(t, sourceIndex(p)) },
		"index of the target damaged": func(t *testing.T, p *pair) { damage(t, targetIndex(p)) },
		"index of the target lost":    func(t *testing.T, p *pair) { require.NoError(t, os.Remove(targetIndex(p))) },
		"both lost": func(t *testing.T, p *pair) {
			require.NoError(t, os.Remove(targetIndex(p)))
			require.NoError(t, os.Remove(sourceIndex(p)))
		},
		"intent log of the target torn": func(t *testing.T, p *pair) { appendFile(t, targetIntents(p), "LBI2 torn") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, size)
			p.start()
			require.NoError(t, p.source.Close())
			require.NoError(t, p.target.Close())
			lose(t, p)
			p.openTarget()
			p.openSource()
			scribble(t, rand.New(rand.NewPCG(1, 1)), p.disks[0], 1)
			p.requireSame(p.mark("after"))
			st, err := p.source.Status(testStream)
			require.NoError(t, err)
			require.Less(t, st.BytesSent, int64(2<<20), "a delta, not a copy")
		})
	}
}

func TestChangedReplicaIsFoundAtTheNextEpoch(t *testing.T) {
	t.Parallel()
	p := newPair(t, 20<<20)
	p.start()
	require.NoError(t, p.target.StopTarget(t.Context(), testStream, 1))
	scribble(t, rand.New(rand.NewPCG(8, 8)), p.replicas[0], 4)
	p.epoch = 2
	p.requireSame(func() replication.Point { p.prepareAndStart(); return p.mark("x") }())
	st, err := p.source.Status(testStream)
	require.NoError(t, err)
	require.Less(t, st.BytesSent, int64(4<<20))
}

func TestReverseDirectionIsADelta(t *testing.T) {
	t.Parallel()
	p := newPair(t, 20<<20)
	p.start()
	_, err := p.source.Final(p.ctx(), testStream, "f")
	require.NoError(t, err)
	require.NoError(t, p.target.StopTarget(t.Context(), testStream, 1))
	scribble(t, rand.New(rand.NewPCG(8, 9)), p.replicas[0], 4) // the recovered server writes

	p.source, p.target = p.target, p.source
	p.disks, p.replicas = p.replicas, p.disks
	p.epoch = 2
	spec := p.targetSpec()
	_, err = p.target.PrepareTarget(t.Context(), spec)
	require.NoError(t, err)
	require.NoError(t, p.source.StartSource(t.Context(), p.sourceSpec()))
	st := p.waitFor(func(s replication.Status) bool {
		return s.Role == replication.RoleSource && s.Epoch == 2 && s.LastPoint != nil
	})
	require.Less(t, st.BytesSent, int64(4<<20), "a delta, not a copy")
	want, err := replication.RootOfFile(t.Context(), p.disks[0])
	require.NoError(t, err)
	got, err := replication.RootOfFile(t.Context(), p.replicas[0])
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestReplacedReplicaIsNotTrusted(t *testing.T) {
	t.Parallel()
	p := newPair(t, 3<<20)
	p.start()
	require.NoError(t, p.target.StopTarget(t.Context(), testStream, 1))
	require.NoError(t, os.Remove(p.replicas[0]))
	p.prepare()
	p.requireSame(p.mark("x"))
}

func TestHugeSparseDiskCostsWhatItHolds(t *testing.T) {
	t.Parallel()
	p := newPair(t) // its disk is made below
	path := p.dir + "/disk0"
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(4<<40))
	for _, off := range []int64{0, 1 << 40, 4<<40 - 4096} {
		_, err = f.WriteAt([]byte("data"), off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	p.disks, p.replicas = []string{path}, []string{p.dir + "/replica0"}
	pt := p.start()
	root, err := replication.RootOfFile(t.Context(), p.replicas[0])
	require.NoError(t, err)
	require.Equal(t, pt.Disks[0].Root, root)
	st, err := p.source.Status(testStream)
	require.NoError(t, err)
	require.Less(t, st.BytesSent, int64(64<<10))
}
