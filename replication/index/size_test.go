package index_test

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
)

// 16 TiB with a little in it, and wholly unknown: memory, disk and time stay small.
func TestAHugeSparseVolumeIsSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vol")
	const size = 16<<40 + 12345
	o := index.Options{Size: size, Proof: block.BLAKE3, Digests: true,
		Prime: func(x *index.Index) error { return x.SetUnknown(0, x.Geometry().Pieces()) }}
	before := heap()
	x, _ := reopen(t, path, o)
	pieces := x.Geometry().Pieces()
	first, count, ok, err := x.Unknown(pieces - 3)
	require.NoError(t, err)
	require.Equal(t, []any{pieces - 3, int64(2), true}, []any{first, count, ok}, "the last piece is in the next page")
	root, err := x.Root()
	require.NoError(t, err)
	require.Equal(t, block.Unknown, root)

	require.NoError(t, x.SetZero(0, pieces))
	root, err = x.Root()
	require.NoError(t, err)
	require.Equal(t, block.BLAKE3.Root(size, block.Hash{}), root)
	require.NoError(t, x.Sync())

	const far = 9 << 20
	var rec index.Region
	rec.Pieces[3], rec.DigestsKnown = block.Hash{1}, true
	require.NoError(t, x.PutRegion(far, &rec))
	require.NoError(t, x.SetUnknown(pieces/2+7, 2))
	for range 2 {
		region, ok, err := x.NextNonZero(0)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, (pieces/2+7)/16, region)
		region, ok, err = x.NextNonZero(region + 1)
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, far, region)
		_, ok, err = x.NextNonZero(region + 1)
		require.NoError(t, err)
		require.False(t, ok)
		require.Less(t, heap()-before, int64(5<<20), "bytes of memory")
		require.NoError(t, x.Close())
		require.Less(t, allocated(t, path), int64(1<<20), "bytes on disk")
		var rep index.Report
		x, rep = reopen(t, path, o)
		require.Equal(t, index.Report{}, rep)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func allocated(t *testing.T, path string) (n int64) {
	t.Helper()
	for _, suffix := range []string{".tree", ".digests"} {
		info, err := os.Stat(path + suffix)
		require.NoError(t, err)
		n += info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	return n
}

func TestADenseIndexIsSmall(t *testing.T) {
	t.Parallel()
	const size = 1 << 30
	path, _ := known(t, size)
	require.Less(t, allocated(t, path), int64(size/200))
}

// Many read while one changes: each read is of one moment.
func TestReadersAndAWriter(t *testing.T) {
	t.Parallel()
	path, o := known(t, 300*block.Region)
	x, _ := reopen(t, path, o)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for g := range int64(3) {
		wg.Go(func() {
			var rec index.Region
			for r := g; ; r = (r + 7) % 300 {
				select {
				case <-done:
					return
				default:
				}
				if err := x.Region(r, &rec); err != nil || !rec.DigestsKnown {
					t.Errorf("region %d: %v, digests known: %v", r, err, rec.DigestsKnown)
					return
				}
				for i, h := range rec.Pieces {
					if h[4] != rec.Pieces[0][4] {
						t.Errorf("region %d: piece %d of another moment", r, i)
						return
					}
				}
				if _, ok, err := x.NextNonZero(r); err != nil || !ok {
					t.Errorf("next from %d: %v %v", r, ok, err)
					return
				}
			}
		})
	}
	var rec index.Region
	for i := range int64(600) {
		r := i * 31 % 300
		require.NoError(t, x.Region(r, &rec))
		for p := range rec.Pieces {
			rec.Pieces[p][4]++
		}
		require.NoError(t, x.PutRegion(r, &rec))
		if i%50 == 0 {
			_, err := x.Commit()
			require.NoError(t, err)
			require.NoError(t, x.Sync())
		}
	}
	close(done)
	wg.Wait()
}
