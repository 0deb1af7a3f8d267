package block_test

import (
	"bytes"
	"testing"

	"lifeboat/replication/block"

	"github.com/stretchr/testify/require"
)

func TestZerosCostNothing(t *testing.T) {
	t.Parallel()
	for _, p := range []block.Proof{block.BLAKE3, block.Fast} {
		require.True(t, p.OfPiece(make([]byte, block.Piece)).IsZero())
		require.True(t, p.OfPiece(make([]byte, 5)).IsZero(), "short pieces too")
		require.True(t, p.OfPage(3, new([block.PageSize]byte)).IsZero())
		require.NotEqual(t, p.Root(1, block.Hash{}), p.Root(2, block.Hash{}), "the size is part of the root")
	}
	require.Zero(t, block.DigestOf(make([]byte, block.Size)))
	require.NotZero(t, block.DigestOf([]byte{1}))
}

func TestUnknownSpreadsUpToTheRoot(t *testing.T) {
	t.Parallel()
	var page [block.PageSize]byte
	page[0] = 1
	copy(page[64:], block.Unknown[:])
	for _, p := range []block.Proof{block.BLAKE3, block.Fast} {
		require.Equal(t, block.Unknown, p.OfPage(0, &page))
		require.Equal(t, block.Unknown, p.Root(1<<20, block.Unknown))
	}
}

func TestEveryBitOfAPieceCounts(t *testing.T) {
	t.Parallel()
	piece := bytes.Repeat([]byte("lifeboat"), block.Piece/8)
	for _, p := range []block.Proof{block.BLAKE3, block.Fast} {
		before := p.OfPiece(piece)
		for _, at := range []int{0, block.Size - 1, block.Size, block.Piece - 1} {
			piece[at] ^= 1
			require.NotEqual(t, before, p.OfPiece(piece))
			piece[at] ^= 1
		}
		require.Equal(t, before, p.OfPiece(piece))
	}
}

func TestPagesOfDifferentLevelsHaveDifferentHashes(t *testing.T) {
	t.Parallel()
	page := [block.PageSize]byte{1}
	for _, p := range []block.Proof{block.BLAKE3, block.Fast} {
		require.NotEqual(t, p.OfPage(0, &page), p.OfPage(1, &page))
	}
}

func TestGeometry(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ size, regions, pieces, pages0, levels int64 }{
		{0, 0, 0, 0, 1},
		{1, 1, 1, 1, 1},
		{block.Region, 1, 16, 1, 1},
		{8<<20 + 1, 9, 129, 2, 2},
		{4 << 30, 4096, 65536, 512, 3},
		{16 << 40, 16 << 20, 256 << 20, 2 << 20, 4},
	} {
		g := block.Geometry{Size: c.size}
		require.Equal(t, c, struct{ size, regions, pieces, pages0, levels int64 }{c.size, g.Regions(), g.Pieces(), g.Pages(0), int64(g.Levels())})
	}
	require.Equal(t, 1, block.Geometry{Size: block.Region + 1}.RegionBytes(1))
	require.Equal(t, 1, block.Geometry{Size: block.Piece + 1}.PieceBytes(1))
}

func TestRootsAreReadBackAsWritten(t *testing.T) {
	t.Parallel()
	for _, p := range []block.Proof{block.BLAKE3, block.Fast} {
		root := p.Root(7, p.OfPiece([]byte("x")))
		q, again, err := block.ParseRoot(p.RootString(root))
		require.NoError(t, err)
		require.Equal(t, p, q)
		require.Equal(t, root, again)
	}
	for _, bad := range []string{"", "blake3:", "blake3:unknown", "xxh3:00", "md5:00000000000000000000000000000000", "blake3:zz"} {
		_, _, err := block.ParseRoot(bad)
		require.ErrorContains(t, err, "is not a root", bad)
	}
}
