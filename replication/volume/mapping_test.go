package volume_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

// fakeBlocks is a file of 4 KiB blocks that says where each lies. Equal runs of it differ
// in how they are cut into parts.
type fakeBlocks []volume.Run

func (b fakeBlocks) runs(rng *rand.Rand, size int64) volume.FakeMap {
	m := volume.FakeMap{Size: size, Part: rng.IntN(5) + 1}
	for i, r := range b {
		if r.Kind == volume.KindZero && rng.IntN(2) == 0 {
			continue // a hole may be there or be left out
		}
		r.Start, r.End = int64(i)*4096, int64(i+1)*4096
		if n := len(m.Runs); n > 0 && rng.IntN(4) > 0 {
			if p := &m.Runs[n-1]; p.End == r.Start && p.Kind == r.Kind && p.Extent == r.Extent && (r.Kind != volume.KindData || p.Place+uint64(p.End-p.Start) == r.Place) {
				p.End = r.End
				continue
			}
		}
		m.Runs = append(m.Runs, r)
	}
	return m
}

func randomBlock(rng *rand.Rand, i int) volume.Run {
	switch rng.IntN(5) {
	case 0:
		return volume.Run{Kind: volume.KindZero}
	case 1:
		return volume.Run{Kind: volume.KindUnknown}
	case 2:
		return volume.Run{Kind: volume.KindData, Extent: 7, Place: uint64(i) * 4096}
	}
	return volume.Run{Kind: volume.KindData, Place: 1<<30 + uint64(i)*4096}
}

func TestMapsAreComparedBlockByBlock(t *testing.T) {
	t.Parallel()
	rng := seeded(t, 1)
	for range 3000 {
		old, new := make(fakeBlocks, rng.IntN(30)), make(fakeBlocks, rng.IntN(30))
		for i := range old {
			old[i] = randomBlock(rng, i)
		}
		for i := range new {
			if new[i] = randomBlock(rng, i); i < len(old) && rng.IntN(3) > 0 {
				new[i] = old[i]
			}
		}
		cut := rng.Int64N(4096) // the ends are within a block
		size := func(b fakeBlocks) int64 { return max(0, int64(len(b))*4096-cut) }
		var want []volume.Extent
		for i := range new {
			start, end := int64(i)*4096, min(int64(i+1)*4096, size(new))
			if i < len(old) && old[i] == new[i] && new[i].Kind != volume.KindUnknown {
				start = max(start, min(end, size(old))) // what is beyond the end of old counts
			}
			if start == end {
				continue
			}
			if n := len(want); n > 0 && want[n-1].End() == start {
				want[n-1].Length += end - start
				continue
			}
			want = append(want, volume.Extent{Offset: start, Length: end - start})
		}
		got, err := volume.DiffMaps(t.Context(), old.runs(rng, size(old)), new.runs(rng, size(new)), 1000)
		require.NoError(t, err)
		require.Equal(t, want, got, "%+v\n%+v", old, new)
	}
}

func TestAMapThatMovesMeanwhileIsNotTrusted(t *testing.T) {
	t.Parallel()
	reads := 0
	old := volume.FakeMap{Size: 8192, Part: 10, Runs: []volume.Run{{Start: 0, End: 4096, Kind: volume.KindData, Place: 1 << 20}, {Start: 4096, End: 8192, Kind: volume.KindData, Place: 5 << 20}}}
	new := volume.FakeMap{Size: 8192, Part: 10, Runs: slices.Clone(old.Runs)}
	changed, err := volume.DiffMaps(t.Context(), old, new, 10)
	require.NoError(t, err)
	require.Empty(t, changed)
	old.Read = func() {
		if reads++; reads == 2 {
			old.Runs[1].Place = 9 << 20
		}
	}
	_, err = volume.DiffMaps(t.Context(), old, new, 10)
	require.ErrorIs(t, err, volume.ErrNoMap)
}

func TestManyChangesAreJoinedWithinTheLimit(t *testing.T) {
	t.Parallel()
	rng := seeded(t, 3)
	const blocks, limit = 20000, 64
	old := volume.FakeMap{Size: blocks * 4096, Part: 1000}
	new := old
	var changed []int64
	for at := int64(0); at < blocks*4096; at += 4096 * (1 + rng.Int64N(20)) {
		changed = append(changed, at)
		new.Runs = append(new.Runs, volume.Run{Start: at, End: at + 4096, Kind: volume.KindData, Place: 1 << 40})
	}
	extents, err := volume.DiffMaps(t.Context(), old, new, limit)
	require.NoError(t, err)
	require.LessOrEqual(t, len(extents), limit)
	require.Greater(t, len(extents), limit/8)
	i := 0
	for _, at := range changed {
		for extents[i].End() <= at {
			i++
		}
		require.LessOrEqual(t, extents[i].Offset, at)
		require.GreaterOrEqual(t, extents[i].End(), at+4096)
	}
}

// fiemapAnswer is what the kernel gives.
func fiemapAnswer(extents ...[4]uint64) []byte {
	b := make([]byte, 32)
	binary.NativeEndian.PutUint32(b[20:], uint32(len(extents)))
	for _, e := range extents {
		x := make([]byte, 56)
		binary.NativeEndian.PutUint64(x[0:], e[0])
		binary.NativeEndian.PutUint64(x[8:], e[1])
		binary.NativeEndian.PutUint64(x[16:], e[2])
		binary.NativeEndian.PutUint32(x[40:], uint32(e[3]))
		b = append(b, x...)
	}
	return b
}

func TestFiemapAnswersAreChecked(t *testing.T) {
	t.Parallel()
	runs, last, err := volume.ParseFiemap(fiemapAnswer([4]uint64{0, 1 << 20, 8192, 0x2000}, [4]uint64{8192, 5 << 20, 4096, 0x800}, [4]uint64{1 << 20, 9 << 20, 4096, 0x1}), 4096)
	require.NoError(t, err)
	require.True(t, last)
	require.Equal(t, []volume.Run{{Start: 4096, End: 8192, Kind: volume.KindData, Place: 1<<20 + 4096}, {Start: 8192, End: 12288, Kind: volume.KindZero, Place: 5 << 20}, {Start: 1 << 20, End: 1<<20 + 4096, Kind: volume.KindData, Place: 9 << 20}}, runs)
	for _, flag := range []uint64{0x2, 0x4, 0x8, 0x80, 0x100, 0x200, 0x400, 0x4000, 1 << 31} {
		runs, _, err = volume.ParseFiemap(fiemapAnswer([4]uint64{0, 4096, 4096, flag | 0x801}), 0)
		require.NoError(t, err)
		require.Equal(t, volume.KindUnknown, runs[0].Kind, "flag %#x", flag)
	}
	for name, bad := range map[string][]byte{
		"overlap":             fiemapAnswer([4]uint64{0, 0, 8192, 0}, [4]uint64{4096, 0, 8192, 0}),
		"descending":          fiemapAnswer([4]uint64{8192, 0, 4096, 0}, [4]uint64{0, 0, 4096, 0}),
		"empty":               fiemapAnswer([4]uint64{0, 0, 0, 0}),
		"too long":            fiemapAnswer([4]uint64{4096, 0, math.MaxInt64, 0}),
		"place beyond 64 bit": fiemapAnswer([4]uint64{0, math.MaxUint64, 4096, 0}),
		"cut off":             fiemapAnswer([4]uint64{0, 0, 4096, 0})[:80],
		"no head":             make([]byte, 31),
	} {
		_, _, err = volume.ParseFiemap(bad, 0)
		require.ErrorIs(t, err, volume.ErrNoMap, name)
	}
}

// requireMap checks what holds for each map that is accepted.
func requireMap(t *testing.T, runs []volume.Run, off int64) {
	t.Helper()
	for _, r := range runs {
		if r.Start < off || r.End <= r.Start {
			t.Fatalf("run %+v after %d", r, off)
		}
		off = r.End
	}
}

func FuzzFiemapAnswer(f *testing.F) {
	f.Add(fiemapAnswer([4]uint64{0, 1 << 20, 8192, 0x2000}, [4]uint64{8192, 5 << 20, 4096, 0x801}), int64(4096))
	f.Add(fiemapAnswer(), int64(0))
	f.Add(fiemapAnswer([4]uint64{4096, 0, math.MaxInt64, 8})[:70], int64(1))
	f.Fuzz(func(t *testing.T, buf []byte, off int64) {
		if off < 0 {
			return
		}
		if runs, last, err := volume.ParseFiemap(buf, off); err == nil {
			requireMap(t, runs, off)
			if len(runs) == 0 && !last {
				t.Fatal("no runs, and no end: it would be asked for ever")
			}
		}
	})
}

// btrfsAnswer is what the kernel gives for an inode: items of offset and extent.
func btrfsAnswer(inode uint64, items ...[]byte) []byte {
	b := make([]byte, 112)
	binary.NativeEndian.PutUint32(b[64:], uint32(len(items)))
	for _, item := range items {
		h := make([]byte, 32)
		binary.NativeEndian.PutUint64(h[8:], inode)
		copy(h[16:], item[:8])
		binary.NativeEndian.PutUint32(h[24:], 108)
		binary.NativeEndian.PutUint32(h[28:], uint32(len(item)-8))
		b = append(append(b, h...), item[8:]...)
	}
	return b
}

// btrfsExtent is an item of at, and what struct btrfs_file_extent_item has.
func btrfsExtent(at int64, compression, kind byte, disk, offset, length uint64) []byte {
	b := make([]byte, 8+53)
	binary.NativeEndian.PutUint64(b, uint64(at))
	e := b[8:]
	binary.LittleEndian.PutUint64(e[8:], length)
	e[16], e[20] = compression, kind
	binary.LittleEndian.PutUint64(e[21:], disk)
	binary.LittleEndian.PutUint64(e[37:], offset)
	binary.LittleEndian.PutUint64(e[45:], length)
	return b
}

func TestBtrfsAnswersAreChecked(t *testing.T) {
	t.Parallel()
	inline := btrfsExtent(0, 0, 0, 0, 0, 100)[:8+21+20]
	runs, err := volume.ParseBtrfs(btrfsAnswer(257, inline, btrfsExtent(4096, 0, 1, 1<<20, 8192, 4096), btrfsExtent(8192, 3, 1, 2<<20, 4096, 8192),
		btrfsExtent(16384, 0, 1, 0, 0, 4096), btrfsExtent(1<<20, 0, 2, 3<<20, 0, 4096)), 257, 0)
	require.NoError(t, err)
	require.Equal(t, []volume.Run{{Start: 0, End: 100, Kind: volume.KindUnknown}, {Start: 4096, End: 8192, Kind: volume.KindData, Place: 1<<20 + 8192},
		{Start: 8192, End: 16384, Kind: volume.KindData, Extent: 2 << 20, Place: 4096}, {Start: 16384, End: 20480, Kind: volume.KindZero},
		{Start: 1 << 20, End: 1<<20 + 4096, Kind: volume.KindZero, Place: 3 << 20}}, runs)
	encrypted := btrfsExtent(0, 0, 1, 1<<20, 0, 4096)
	encrypted[8+17] = 1
	runs, err = volume.ParseBtrfs(btrfsAnswer(257, encrypted), 257, 0)
	require.NoError(t, err)
	require.Equal(t, volume.KindUnknown, runs[0].Kind)
	good := btrfsExtent(0, 0, 1, 1<<20, 0, 8192)
	for name, bad := range map[string][]byte{
		"another inode": btrfsAnswer(258, good),
		"overlap":       btrfsAnswer(257, good, btrfsExtent(4096, 0, 1, 1<<20, 0, 8192)),
		"no length":     btrfsAnswer(257, btrfsExtent(0, 0, 1, 1<<20, 0, 0)),
		"too long":      btrfsAnswer(257, btrfsExtent(4096, 0, 1, 1<<20, 0, math.MaxInt64)),
		"short item":    btrfsAnswer(257, good[:40]),
		"cut off":       btrfsAnswer(257, good)[:150],
		"no item":       btrfsAnswer(257, good)[:120],
		"no head":       make([]byte, 50),
	} {
		_, err = volume.ParseBtrfs(bad, 257, 0)
		require.ErrorIs(t, err, volume.ErrNoMap, name)
	}
}

func FuzzBtrfsAnswer(f *testing.F) {
	f.Add(btrfsAnswer(257, btrfsExtent(0, 0, 1, 1<<20, 0, 8192), btrfsExtent(8192, 3, 2, 1<<20, 0, 8192)), int64(0))
	f.Add(btrfsAnswer(257, btrfsExtent(0, 0, 0, 0, 0, 100)[:49]), int64(0))
	f.Fuzz(func(t *testing.T, buf []byte, off int64) {
		if off < 0 {
			return
		}
		if runs, err := volume.ParseBtrfs(buf, 257, off); err == nil {
			requireMap(t, runs, off)
		}
	})
}
