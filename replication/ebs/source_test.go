package ebs_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"lifeboat/replication/ebs"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

func TestASourceReadsWhatTheSnapshotHas(t *testing.T) {
	t.Parallel()
	s := newService()
	s.perPage, s.empty = 11, true
	blocks := many(100)
	src, err := s.client(t, 6, ebs.Options{}).Open(t.Context(), s.add(1, blocks))
	require.NoError(t, err)
	require.EqualValues(t, gib, src.Size())
	want := make([]byte, 160*ebs.BlockSize)
	for i, b := range blocks {
		copy(want[i*ebs.BlockSize:], b)
	}
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(r)))
			for range 60 {
				off, n := rng.Int64N(159*ebs.BlockSize), rng.IntN(ebs.BlockSize)
				got := make([]byte, n)
				if err := volume.ReadFull(src, got, off); err != nil || string(got) != string(want[off:off+int64(n)]) {
					t.Errorf("read of %d at %d: %v", n, off, err)
				}
			}
		})
	}
	readers.Wait()
	n, err := src.ReadAt(make([]byte, 10), gib-4)
	require.Equal(t, 4, n)
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, src.Close())
	_, err = src.ReadAt(make([]byte, 10), 0)
	require.Error(t, err, "closed")
}

func TestNextDataFindsTheBlocks(t *testing.T) {
	t.Parallel()
	s := newService()
	s.perPage = 2
	src, err := s.client(t, 0, ebs.Options{}).Open(t.Context(), s.add(1, disk(3, 4, 5, 9, 2047)))
	require.NoError(t, err)
	defer src.Close()
	var got []volume.Extent
	for off := int64(0); ; {
		start, end, err := src.NextData(off)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		got = append(got, volume.Extent{Offset: start / ebs.BlockSize, Length: (end - start) / ebs.BlockSize})
		off = end
	}
	require.Equal(t, []volume.Extent{{Offset: 3, Length: 3}, {Offset: 9, Length: 1}, {Offset: 2047, Length: 1}}, got)
	start, _, err := src.NextData(4*ebs.BlockSize + 77)
	require.NoError(t, err)
	require.EqualValues(t, 4*ebs.BlockSize+77, start)
}

func TestASourceReadsAheadOfAReaderThatAscends(t *testing.T) {
	t.Parallel()
	s := newService()
	s.latency = 20 * time.Millisecond
	src, err := s.client(t, 32, ebs.Options{}).Open(t.Context(), s.add(1, many(80)))
	require.NoError(t, err)
	defer src.Close()
	buf := make([]byte, 64<<10)
	for off := int64(0); off < 120*ebs.BlockSize; off += int64(len(buf)) {
		require.NoError(t, volume.ReadFull(src, buf, off))
	}
	require.Greater(t, s.peak, 4)
	require.Equal(t, 80, s.count("get"), "each block once")
}

func TestAReadThatFailedIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newService()
	src, err := s.client(t, 0, ebs.Options{}).Open(t.Context(), s.add(1, disk(0)))
	require.NoError(t, err)
	defer src.Close()
	s.change(func() {
		s.before = func(string, int64) error { return errKilled }
	})
	_, err = src.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, errKilled)
	s.change(func() { s.before = nil })
	_, err = src.ReadAt(make([]byte, 1), 0)
	require.NoError(t, err)
}
