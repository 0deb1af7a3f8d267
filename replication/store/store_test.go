package store

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication"
	"lifeboat/replication/block"
	"lifeboat/replication/deltatest"
	"lifeboat/replication/replicationtest"
	"lifeboat/replication/volume"
)

func TestHeadConformsToTarget(t *testing.T) {
	t.Parallel()
	replicationtest.ConformTarget(t, func(t *testing.T, size int64) (replication.TargetVolume, func() replication.TargetVolume) {
		s := open(t, t.TempDir())
		return head(t, s, "v", size, ""), func() replication.TargetVolume { return head(t, s, "v", size, "") }
	})
}

func TestHeadAndPointConformToSource(t *testing.T) {
	t.Parallel()
	replicationtest.ConformSource(t, func(t *testing.T, contents []byte) replication.SourceVolume {
		h := head(t, open(t, t.TempDir()), "v", int64(len(contents)), "")
		write(t, h, contents, 0)
		return h
	})
	replicationtest.ConformSource(t, func(t *testing.T, contents []byte) replication.SourceVolume {
		s := open(t, t.TempDir())
		h := head(t, s, "v", int64(len(contents)), "")
		write(t, h, contents, 0)
		_, err := h.Point("p", nil)
		require.NoError(t, err)
		p, err := s.OpenPoint("p")
		require.NoError(t, err)
		return p
	})
}

func TestPointsKeepWhatTheyWereAndCostWhatChanged(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	const size = 40<<20 + 777
	h := head(t, s, "v", size, "")
	want := append(random(1, size-10<<20), make([]byte, 10<<20)...)
	write(t, h, want, 0)
	first, err := h.Point("first", map[string]string{"a": "b"})
	require.NoError(t, err)
	require.Equal(t, deltatest.Root(block.BLAKE3, want), first.Root, "the root of a point is that of a copy")
	stored := allocated(t, s)
	changed := bytes.Clone(want)
	copy(changed[5<<20:], random(2, 400<<10))
	clear(changed[9<<20+5 : 11<<20])
	copy(changed[size-9:], "the end  ")
	write(t, h, changed[5<<20:5<<20+400<<10], 5<<20)
	require.NoError(t, h.Zero(9<<20+5, 2<<20-5))
	write(t, h, changed[size-9:], size-9)
	second, err := h.Point("second", nil)
	require.NoError(t, err)
	require.Equal(t, deltatest.Root(block.BLAKE3, changed), second.Root)
	require.LessOrEqual(t, allocated(t, s)-stored, int64(9*block.Piece+4096), "7 pieces in the run, and two that are zeroed or written in part")
	require.NoError(t, s.Check())
	require.True(t, bytes.Equal(want, pointContents(t, s, "first")))
	require.True(t, bytes.Equal(changed, pointContents(t, s, "second")))
	again, err := h.Point("first", map[string]string{"a": "b"})
	require.ErrorIs(t, err, ErrExists, "%v", again)
	same, err := h.Point("second", nil)
	require.NoError(t, err)
	require.Equal(t, second.Time, same.Time)

	require.NoError(t, s.Delete("first"))
	require.ErrorIs(t, s.Delete("first"), ErrNotFound)
	require.NoError(t, s.Check())
	require.True(t, bytes.Equal(changed, pointContents(t, s, "second")))
	require.ErrorIs(t, s.DeleteHead("v"), ErrBusy)
	require.NoError(t, h.Close())
	require.NoError(t, s.DeleteHead("v"))
	require.True(t, bytes.Equal(changed, pointContents(t, s, "second")))
	back := head(t, s, "w", size, "second")
	require.True(t, bytes.Equal(changed, contents(t, back)))
	require.NoError(t, back.Close())
	require.NoError(t, s.Delete("second"))
	require.NoError(t, s.DeleteHead("w"))
	requireEmpty(t, s)
}

func TestHugeSparseHeadCostsItsData(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	const size = 16 << 40
	h := head(t, s, "v", size, "")
	for i := range int64(16) {
		write(t, h, random(uint64(i), 100_000), i<<40+i*12345)
	}
	require.NoError(t, h.Zero(0, 1<<40))
	require.NoError(t, h.Sync())
	_, err := h.Point("p", nil)
	require.NoError(t, err)
	require.NoError(t, h.Zero(1<<20, size-1<<20))
	_, err = h.Point("zeros", nil)
	require.NoError(t, err)
	p, err := s.OpenPoint("p")
	require.NoError(t, err)
	runs := volumeRuns(t, p)
	require.GreaterOrEqual(t, len(runs), 15)
	require.LessOrEqual(t, len(runs), 30)
	got := make([]byte, 100_000)
	require.NoError(t, volume.ReadFull(p, got, 7<<40+7*12345))
	require.True(t, bytes.Equal(random(7, 100_000), got))
	z, err := s.OpenPoint("zeros")
	require.NoError(t, err)
	require.Empty(t, volumeRuns(t, z))
	u, err := s.Usage()
	require.NoError(t, err)
	require.Less(t, u.IndexBytes, int64(2<<20))
	require.NoError(t, h.Close())
	for _, id := range []string{"p", "zeros"} {
		require.NoError(t, s.Delete(id))
	}
	require.NoError(t, s.DeleteHead("v"))
	requireEmpty(t, s)
}

func volumeRuns(t *testing.T, v volume.Source) (runs []volume.Extent) {
	t.Helper()
	for off := int64(0); ; {
		start, end, err := v.NextData(off)
		if err != nil {
			return runs
		}
		require.Greater(t, end, start)
		runs = append(runs, volume.Extent{Offset: start, Length: end - start})
		off = end
	}
}

func TestTwoProcessesShareAndFreePiecesAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all sync.WaitGroup
	for worker := range 3 {
		s := open(t, dir) // as another process has it
		all.Go(func() {
			name := fmt.Sprint("v", worker)
			for round := range uint64(10) {
				err := func() (err error) {
					h, err := s.OpenTarget(name, 8<<20, "")
					if err != nil {
						return err
					}
					defer func() { err = errors.Join(err, h.Close()) }()
					// The same bytes at all workers, so that pieces are shared and freed under each other.
					want := random(round, 3<<20)
					if _, err := h.WriteAt(want, 1<<20); err != nil {
						return err
					}
					if _, err := h.Point(name, nil); err != nil {
						return err
					}
					p, err := s.OpenPoint(name)
					if err != nil {
						return err
					}
					got := make([]byte, len(want))
					if _, err := p.ReadAt(got, 1<<20); err != nil || !bytes.Equal(got, want) {
						return fmt.Errorf("%s round %d: other bytes, %w", name, round, err)
					}
					return s.Delete(name)
				}()
				if err == nil {
					err = s.DeleteHead(name)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	requireEmpty(t, open(t, dir))
}
