package delta

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

// The root of a volume that is read is the root of an index that was told all its pieces.
func TestRootOfBytesIsTheRootOfTheIndex(t *testing.T) {
	t.Parallel()
	for i, size := range []int64{1, block.Piece, block.Piece + 1, pageBytes, pageBytes + 1, 3*pageBytes - 7, 300*pageBytes + 12345, 2 << 40} {
		for _, proof := range []block.Proof{block.BLAKE3, block.Fast} {
			t.Run(fmt.Sprintf("%d bytes, %v", size, proof), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(uint64(i), 5))
				path := filepath.Join(t.TempDir(), "disk")
				f, err := os.Create(path)
				require.NoError(t, err)
				require.NoError(t, f.Truncate(size))
				x, _, err := index.Open(filepath.Join(t.TempDir(), "x"), index.Options{Size: size, Proof: proof})
				require.NoError(t, err)
				geo := block.Geometry{Size: size}
				for n := range 40 {
					piece := rng.Int64N(geo.Pieces())
					if n == 0 {
						piece = geo.Pieces() - 1
					}
					b := make([]byte, geo.PieceBytes(piece))
					for k := range b {
						b[k] = byte(rng.Uint32())
					}
					if n%7 == 3 {
						clear(b) // zeros that are not a hole
					}
					_, err := f.WriteAt(b, piece*block.Piece)
					require.NoError(t, err)
					require.NoError(t, x.SetPieces([]index.PieceHash{{Piece: piece, Hash: proof.OfPiece(b)}}))
				}
				require.NoError(t, f.Close())
				want, err := x.Root()
				require.NoError(t, err)
				require.NoError(t, x.Close())
				v, err := volume.Open(path)
				require.NoError(t, err)
				got, err := RootOf(t.Context(), v, proof)
				require.NoError(t, err)
				require.NoError(t, v.Close())
				require.Equal(t, proof.RootString(want), got)
			})
		}
	}
}

func TestRootOfABadDiskIsAnErrorWithTheOffset(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(path, make([]byte, 3*block.Piece), 0o600))
	v, err := volume.Open(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, block.Piece)) // under the reader
	defer func() { require.NoError(t, v.Close()) }()
	_, err = RootOf(t.Context(), badAfter{v, block.Piece}, block.BLAKE3)
	require.ErrorContains(t, err, fmt.Sprint("offset ", block.Piece))
}

// badAfter has data everywhere, which cannot be read behind an offset.
type badAfter struct {
	volume.Source
	good int64
}

func (b badAfter) NextData(off int64) (int64, int64, error) { return off, b.Size(), nil }

func (b badAfter) ReadAt(p []byte, off int64) (int, error) {
	if off >= b.good {
		return 0, os.ErrInvalid
	}
	return b.Source.ReadAt(p, off)
}
