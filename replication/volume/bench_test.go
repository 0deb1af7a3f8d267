package volume_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

// BenchmarkDiff compares clones of a file that got 20,000 single blocks written in between,
// that is with 40,000 extents.
func BenchmarkDiff(b *testing.B) {
	const size, writes = 1 << 30, 20000
	for _, fs := range []struct{ name, mkfs string }{{"btrfs", "mkfs.btrfs"}, {"xfs", "mkfs.xfs"}} {
		b.Run(fs.name, func(b *testing.B) {
			dir := mountImage(b, 4<<30, "", fs.mkfs, "-q")
			live, old := filepath.Join(dir, "live"), filepath.Join(dir, "old")
			rng := rand.New(rand.NewPCG(1, 2))
			f, err := os.Create(live)
			require.NoError(b, err)
			p := randomBytes(rng, 1<<20)
			for off := int64(0); off < size; off += 1 << 20 {
				_, err = f.WriteAt(p, off)
				require.NoError(b, err)
			}
			require.NoError(b, volume.Clone(live, old))
			for range writes {
				_, err = f.WriteAt(p[:4096], rng.Int64N(size/4096)*4096)
				require.NoError(b, err)
			}
			require.NoError(b, f.Close())
			var n int
			b.Run("as root", func(b *testing.B) {
				for b.Loop() {
					changed, known, err := volume.Diff(b.Context(), old, live)
					require.NoError(b, err)
					require.True(b, known)
					n = len(changed)
				}
				b.ReportMetric(float64(n), "extents")
			})
			b.Run("by FIEMAP", func(b *testing.B) {
				for b.Loop() {
					diffByFiemap(b, old, live)
				}
			})
		})
	}
}
