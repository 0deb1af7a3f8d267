package delta_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/deltatest"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	gib = int64(1) << 30
	tib = int64(1) << 40
	// memoryMost is what both ends together may hold, in one process.
	memoryMost = 64 << 20
	// memoryLimit is what the Go runtime is told to stay within, which is no use if more is alive.
	memoryLimit = 52 << 20
)

// spread puts count extents evenly over a volume.
func spread(size int64, count int, length int64) (extents []volume.Extent) {
	step := size / int64(count) &^ (block.Size - 1)
	for i := range int64(count) {
		extents = append(extents, volume.Extent{Offset: i * step, Length: length})
	}
	return extents
}

// sparsePair has a target that is kept in a file.
func sparsePair(t *testing.T, size int64, proof block.Proof) (*deltatest.Pair, *deltatest.Sparse) {
	f, err := os.Create(filepath.Join(t.TempDir(), "blocks"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return &deltatest.Pair{Proof: proof, Dir: t.TempDir(), Lanes: 2}, deltatest.NewSparse(size, f)
}

// stateBytes is what the indexes take on the disk.
func stateBytes(t *testing.T, dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(filepath.Join(dir, e.Name()), &st))
		n += st.Blocks * 512
	}
	return n
}

// Memory, state and time follow the data, not the size of the volume. Not parallel: it looks at the
// memory of the process.
func TestMemoryDoesNotGrowWithTheVolume(t *testing.T) {
	proofs := map[block.Proof][]int64{block.BLAKE3: {4 * gib, 16 * tib}, block.Fast: {16 * tib}}
	if deltatest.Raced { // which takes ten times as long, and sees nothing more in the second
		delete(proofs, block.Fast)
	}
	for proof, sizes := range proofs {
		var small time.Duration
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%v/%d GiB", proof, size/gib), func(t *testing.T) {
				// 128 MiB in one run, and 128 MiB in small pieces.
				extents := append([]volume.Extent{{Offset: 0, Length: 128 << 20}}, spread(size, 2048, block.Piece)[64:]...)
				source := deltatest.NewScattered(size, extents)
				p, target := sparsePair(t, size, proof)
				defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryLimit))
				watch := deltatest.WatchMemory()
				began := time.Now()
				_, err := p.Run(t.Context(), deltatest.Copy{From: source, To: target})
				require.NoError(t, err)
				for i := range 200 {
					source.Version[i*9]++
				}
				_, err = p.Run(t.Context(), deltatest.Copy{From: source, To: target})
				require.NoError(t, err)
				took, peak := time.Since(began), watch.Stop()
				var used int64
				for _, e := range extents {
					used += e.Length
				}
				require.Equal(t, used, int64(target.Blocks())*block.Size)
				t.Logf("%v, peak %d MiB, state %d KiB", took, peak>>20, stateBytes(t, p.Dir)>>10)
				require.Less(t, peak, uint64(memoryMost))
				// Scattered pieces pay for whole pages of both indexes: 4 KiB of hashes and more above
				// them, and the digests of a region.
				require.Less(t, stateBytes(t, p.Dir), used/200+int64(len(extents))*28<<10)
				if small == 0 {
					small = took
				}
				require.Less(t, took, 4*small+2*time.Second)
			})
		}
	}
}

// A pass over very many regions with very little to send in each does not gather them, and does
// not wait for what the target was not told to write.
func TestManySmallChangesStayWithinTheWindow(t *testing.T) {
	// 2 lanes are what a near target gets, 8 a far one.
	for proof, counts := range map[block.Proof][]int{block.BLAKE3: {8}, block.Fast: {2}} {
		for _, lanes := range counts {
			t.Run(fmt.Sprintf("%v/%d lanes", proof, lanes), func(t *testing.T) {
				const regions = 12 << 10
				extents := spread(regions*block.Region, regions, 2*block.Size)
				source := deltatest.NewScattered(regions*block.Region, extents)
				p, target := sparsePair(t, source.Size(), proof)
				p.Lanes = lanes
				_, err := p.Run(t.Context(), deltatest.Copy{From: source, To: target})
				require.NoError(t, err)

				defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryLimit))
				watch := deltatest.WatchMemory()
				changed := make([]volume.Extent, 0, regions)
				for i := range extents { // the second block of each becomes zeros
					extents[i].Length = block.Size
					changed = append(changed, volume.Extent{Offset: extents[i].Offset + block.Size, Length: block.Size})
				}
				_, err = p.Run(t.Context(), deltatest.Copy{From: source, To: target, Changed: changed})
				require.NoError(t, err)
				require.Equal(t, regions, target.Blocks())
				source.Punch()
				_, err = p.Run(t.Context(), deltatest.Copy{From: source, To: target})
				require.NoError(t, err)
				require.Zero(t, target.Blocks())
				peak := watch.Stop()
				t.Logf("peak %d MiB", peak>>20)
				require.Less(t, peak, uint64(memoryMost))
			})
		}
	}
}
