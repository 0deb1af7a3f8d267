package store

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
)

func TestManyPacksAndAHeadThatIsFilledFromAPoint(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	const size = 150<<20 + 4096
	h := head(t, s, "v", size, "")
	p := random(9, 1<<20)
	for off := int64(0); off < size; off += int64(len(p)) {
		stamp(p, uint64(off))
		write(t, h, p[:min(int64(len(p)), size-off)], off)
		require.NoError(t, h.Flush(off, int64(len(p))))
	}
	first, err := h.Point("first", nil)
	require.NoError(t, err)
	require.Equal(t, h.Root(), first.Root)
	u, err := s.Usage()
	require.NoError(t, err)
	require.Equal(t, 3, u.Packs, "packs are closed at 64 MiB and the rest of a batch")
	require.Equal(t, 2401, u.Pieces)
	stored := allocated(t, s)

	// What is the same already is not written again, and what is not in the source goes.
	from, err := s.OpenPoint("first")
	require.NoError(t, err)
	other := head(t, s, "w", size, "")
	write(t, other, random(3, 1<<20), 77<<20)
	require.NoError(t, h.Zero(20<<20, 30<<20))
	_, err = h.Point("second", nil)
	require.NoError(t, err)
	var done []int64
	require.NoError(t, other.Fill(t.Context(), from, func(n int64) error { done = append(done, n); return nil }))
	require.NoError(t, other.Sync())
	require.Equal(t, []int64{64 << 20, 128 << 20, size}, done)
	require.Equal(t, first.Root, other.Root())
	from, err = s.OpenPoint("second")
	require.NoError(t, err)
	require.NoError(t, other.Fill(t.Context(), from, func(int64) error { return nil }))
	require.NoError(t, other.Sync())
	require.Equal(t, h.Root(), other.Root())
	require.LessOrEqual(t, allocated(t, s)-stored, int64(17*block.Piece))
	require.NoError(t, s.Check())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, other.Fill(ctx, from, func(int64) error { return nil }), context.Canceled)
	stop := errors.New("stop")
	require.ErrorIs(t, other.Fill(t.Context(), from, func(int64) error { return stop }), stop)

	// Deleting the first point gives back the pieces that only it has.
	sealed, err := other.Seal("sealed", nil)
	require.NoError(t, err)
	require.Equal(t, h.Root(), sealed.Root)
	require.ErrorIs(t, s.DeleteHead("w"), ErrNotFound, "the point took its place")
	require.NoError(t, s.Check())
	require.NoError(t, s.Delete("sealed"))
	require.NoError(t, s.Delete("first"))
	require.Less(t, allocated(t, s), stored-29<<20)
	require.True(t, bytes.Equal(make([]byte, 1<<20), pointContents(t, s, "second")[25<<20:26<<20]))
	require.NoError(t, s.Delete("second"))
	require.NoError(t, h.Close())
	require.NoError(t, s.DeleteHead("v"))
	requireEmpty(t, s)
}

func TestZeroingMuchIsDurableBeforeAllOfItIsTakenApart(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	const pages, stride = 2 * reapShare * reapPages, block.Piece * block.Fanout
	h := head(t, s, "v", pages*stride, "")
	p := random(1, block.Piece)
	for i := range int64(pages) {
		stamp(p, uint64(i))
		write(t, h, p, i*stride)
	}
	require.NoError(t, h.Sync())
	require.NoError(t, h.Zero(0, h.Size()))
	require.NoError(t, h.Sync())
	require.Empty(t, volumeRuns(t, h))
	u, err := s.Usage()
	require.NoError(t, err)
	require.Positive(t, u.Waiting)
	require.NoError(t, h.Close())
	require.NoError(t, s.Check())
	require.NoError(t, s.DeleteHead("v"))
	requireEmpty(t, s)
}
