package replication_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lifeboat/replication"

	"github.com/stretchr/testify/require"
)

// btrfsPair has a source disk of incompressible data on a file system with reflinks, and its first point.
func btrfsPair(t *testing.T, size int64) *pair {
	t.Helper()
	p := newPairIn(t, btrfs(t))
	path := filepath.Join(p.dir, "disk0")
	writeRandom(t, path, size)
	p.disks, p.replicas = []string{path}, []string{filepath.Join(p.dir, "replica0")}
	p.keep = replication.Keep{Count: 2} // each is a full copy, on a small file system
	p.start()
	return p
}

func (p *pair) closeBoth() {
	p.t.Helper()
	require.NoError(p.t, p.source.Close())
	require.NoError(p.t, p.target.Close())
}

func (p *pair) scanned() int64 {
	p.t.Helper()
	st, err := p.source.Status(testStream)
	require.NoError(p.t, err)
	return st.BytesScanned
}

func TestClonesAreComparedInsteadOfRead(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	p := btrfsPair(t, size)
	defer p.closeBoth()
	before := p.scanned()
	p.requireSame(p.mark("nothing"))
	require.Zero(t, p.scanned()-before)

	rng := rand.New(rand.NewPCG(1, 3))
	for i := range 4 {
		before = p.scanned()
		scribble(t, rng, p.disks[0], 3)
		p.requireSame(p.mark(fmt.Sprint(i)))
		require.Less(t, p.scanned()-before, int64(4<<20), "only what changed is read")
	}

	// After a restart of the source the clone of before still counts.
	require.NoError(t, p.source.Close())
	scribble(t, rng, p.disks[0], 2)
	p.openSource()
	p.requireSame(p.mark("restarted"))
	require.Less(t, p.scanned(), int64(4<<20))
}

func TestClonesAreNotBelievedWhereTheTargetHasSomethingElse(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	for name, spoil := range map[string]func(t *testing.T, p *pair){
		"replica written by others": func(t *testing.T, p *pair) { rot(t, p.replicas[0], 5<<20) },
		"clone written by others": func(t *testing.T, p *pair) {
			scribble(t, rand.New(rand.NewPCG(3, 3)), onlyCut(t, p), 3)
			scribble(t, rand.New(rand.NewPCG(3, 4)), p.disks[0], 3)
		},
		"clone lost":               func(t *testing.T, p *pair) { require.NoError(t, os.Remove(onlyCut(t, p))) },
		"index of the source lost": func(t *testing.T, p *pair) { require.NoError(t, os.Remove(sourceIndex(p))) },
		"index of the target lost": func(t *testing.T, p *pair) { require.NoError(t, os.Remove(targetIndex(p))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := btrfsPair(t, size)
			defer func() { p.closeBoth() }()
			p.closeBoth()
			spoil(t, p)
			scribble(t, rand.New(rand.NewPCG(2, 2)), p.disks[0], 2)
			p.openTarget()
			p.openSource()
			pt := p.mark("after")
			p.requireSame(pt)
			root, err := replication.RootOfFile(t.Context(), p.replicas[0])
			require.NoError(t, err)
			require.Equal(t, pt.Disks[0].Root, root)
		})
	}
}

// A pass that knows what changed and is interrupted still knows it when it goes on.
func TestInterruptedPassOverComparedClonesGoesOn(t *testing.T) {
	t.Parallel()
	p := btrfsPair(t, 32<<20)
	defer func() { p.closeBoth() }()
	f, err := os.OpenFile(p.disks[0], os.O_WRONLY, 0)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(6, 6))
	for off := int64(0); off < 32<<20; off += 4 << 20 {
		_, err = f.WriteAt(randomBytes(rng, 1<<20), off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	root, err := replication.RootOfFile(t.Context(), p.disks[0])
	require.NoError(t, err)
	require.NoError(t, p.source.Set(testStream, replication.Settings{Interval: time.Hour, AutoResume: true, BytesPerSecond: 2 << 20}))
	before, err := p.source.Status(testStream)
	require.NoError(t, err)
	asked := p.markAsync("m")
	p.waitFor(func(s replication.Status) bool { return s.Durable > before.Durable+1<<20 })
	require.NoError(t, p.source.Close())
	<-asked
	writeRandom(t, p.disks[0], 4<<20) // the server goes on meanwhile
	p.openSource()
	require.NoError(t, p.source.Set(testStream, replication.Settings{Interval: time.Hour, AutoResume: true}))
	pt := p.mark("m")
	require.Equal(t, root, pt.Disks[0].Root, "the point is of the cut from before the restart")
	require.LessOrEqual(t, p.scanned(), int64(8<<20), "what did not change is not read")
	p.requireSame(p.mark("now"))
}

// onlyCut is the clone of the last pass.
func onlyCut(t *testing.T, p *pair) string {
	t.Helper()
	dir := filepath.Join(p.dir, replication.CutsDir)
	cuts, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, cuts, 1)
	return filepath.Join(dir, cuts[0].Name())
}
