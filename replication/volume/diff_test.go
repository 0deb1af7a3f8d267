package volume_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// cloning are the file systems on which Diff knows something.
var cloning = []struct {
	name, options, mkfs string
	args                []string
	exact               bool // without root too
}{
	{"btrfs", "", "mkfs.btrfs", []string{"-q"}, true},
	{"btrfs that compresses", ",compress-force=zstd", "mkfs.btrfs", []string{"-q"}, false},
	{"btrfs that writes in place", ",nodatacow", "mkfs.btrfs", []string{"-q"}, true},
	{"btrfs with records of holes", "", "mkfs.btrfs", []string{"-q", "-O", "^no-holes"}, true},
	{"xfs", "", "mkfs.xfs", []string{"-q"}, true},
	{"xfs of small blocks", "", "mkfs.xfs", []string{"-q", "-b", "size=1024"}, true},
}

func TestDiffLeavesNoChangeOut(t *testing.T) {
	t.Parallel()
	for i, fs := range cloning {
		t.Run(fs.name, func(t *testing.T) {
			t.Parallel()
			rng := seeded(t, uint64(100+i))
			dir := mountImage(t, 512<<20, fs.options, fs.mkfs, fs.args...)
			live, cut := filepath.Join(dir, "live"), filepath.Join(dir, "cut0")
			writeDisk(t, rng, live, 4<<20)
			require.True(t, volume.CanClone(live))
			require.NoError(t, volume.Clone(live, cut))
			for round := 1; round <= 20; round++ {
				what := change(t, rng, live)
				next := filepath.Join(dir, fmt.Sprintf("cut%d", round))
				require.NoError(t, volume.Clone(live, next))
				for _, new := range []string{next, live} {
					changed, known, err := volume.Diff(t.Context(), cut, new)
					require.NoError(t, err, what)
					require.True(t, known, what)
					requireCovered(t, changed, readAll(t, cut), readAll(t, new), what)
					requireCovered(t, diffByFiemap(t, cut, new), readAll(t, cut), readAll(t, new), what)
				}
				require.NoError(t, os.Remove(cut))
				cut = next
			}
		})
	}
}

// writeDisk writes data that compress, data that do not, zeros and holes.
func writeDisk(t *testing.T, rng *rand.Rand, path string, size int64) {
	t.Helper()
	makeFile(t, path, size)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	for off := int64(0); off < size; {
		n := min(rng.Int64N(400<<10)+1, size-off)
		if p := contents(rng, n); rng.IntN(4) > 0 {
			_, err = f.WriteAt(p, off)
			require.NoError(t, err)
		}
		off += n
	}
	require.NoError(t, f.Close())
}

func contents(rng *rand.Rand, n int64) []byte {
	switch rng.IntN(4) {
	case 0:
		return make([]byte, n)
	case 1:
		return bytes.Repeat([]byte{byte(rng.Uint32() | 1)}, int(n))
	}
	return randomBytes(rng, n)
}

// change does a few things to a file that move its bytes, or change them, and says which.
func change(t *testing.T, rng *rand.Rand, path string) (what []string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	fd := int(f.Fd())
	for range rng.IntN(8) {
		st, err := f.Stat()
		require.NoError(t, err)
		size := st.Size()
		off := rng.Int64N(size)
		n := min(rng.Int64N(300<<10)+1, size-off)
		if rng.IntN(2) == 0 {
			off, n = off&^4095, 4096
		}
		kind := rng.IntN(11)
		what = append(what, fmt.Sprintf("%d: %d at %d", kind, n, off))
		switch kind {
		case 0, 1, 2:
			_, err = f.WriteAt(contents(rng, n), off)
		case 3:
			err = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		case 4:
			err = unix.Fallocate(fd, 0, size, n) // grows: reserved
		case 5:
			err = f.Truncate(max(1<<20, size-n))
		case 6:
			err = f.Truncate(size + n)
		case 7:
			_, err = f.WriteAt(contents(rng, n), size)
		case 8:
			err = unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, off, n)
		case 9: // bytes from another place of the same file
			from := rng.Int64N(size>>16) << 16
			to := rng.Int64N(size>>16) << 16
			err = unix.IoctlFileCloneRange(fd, &unix.FileCloneRange{Src_fd: int64(fd), Src_offset: uint64(from), Src_length: 64 << 10, Dest_offset: uint64(to)})
			if from == to && errors.Is(err, unix.EINVAL) {
				err = nil
			}
		case 10:
			defragment(t, path)
		}
		require.NoError(t, err, what)
	}
	return what
}

// defragment moves the bytes of a file to other places, where there is a program for it.
func defragment(t *testing.T, path string) {
	t.Helper()
	var fs unix.Statfs_t
	require.NoError(t, unix.Statfs(path, &fs))
	if _, err := exec.LookPath("btrfs"); fs.Type == unix.BTRFS_SUPER_MAGIC && err == nil {
		run(t, "btrfs", "filesystem", "defragment", "-f", path)
	}
}

// requireCovered checks that extents ascend, and that what differs is within them.
func requireCovered(t *testing.T, changed []volume.Extent, old, new []byte, what any) {
	t.Helper()
	outside := bytes.Clone(new)
	end := int64(-1)
	for _, e := range changed {
		require.Greater(t, e.Offset, end, "extents neither overlap nor touch")
		require.Positive(t, e.Length)
		end = e.End()
		require.LessOrEqual(t, end, int64(len(new)))
		if e.Offset < int64(len(old)) {
			copy(outside[e.Offset:e.End()], old[e.Offset:])
		}
		clear(outside[max(e.Offset, min(int64(len(old)), e.End())):e.End()])
	}
	want := make([]byte, len(new))
	copy(want, old)
	if !bytes.Equal(want, outside) {
		at := 0
		for want[at] == outside[at] {
			at++
		}
		t.Fatalf("the change at %d is in none of %v, after %v", at, changed, what)
	}
}

func diffByFiemap(t testing.TB, old, new string) []volume.Extent {
	t.Helper()
	a, err := os.Open(old)
	require.NoError(t, err)
	b, err := os.Open(new)
	require.NoError(t, err)
	changed, err := volume.DiffByFiemap(t.Context(), a, b)
	require.NoError(t, err)
	require.NoError(t, errors.Join(a.Close(), b.Close()))
	return changed
}

func TestASmallChangeGivesASmallDiff(t *testing.T) {
	t.Parallel()
	for _, fs := range cloning {
		t.Run(fs.name, func(t *testing.T) {
			t.Parallel()
			dir := mountImage(t, 512<<20, fs.options, fs.mkfs, fs.args...)
			live, old, new := filepath.Join(dir, "live"), filepath.Join(dir, "old"), filepath.Join(dir, "new")
			makeFile(t, live, 64<<20)
			f, err := os.OpenFile(live, os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt(bytes.Repeat([]byte("text that compresses "), 1<<20), 0)
			require.NoError(t, err)
			require.NoError(t, f.Sync())
			require.NoError(t, volume.Clone(live, old))

			changed, known, err := volume.Diff(t.Context(), old, live)
			require.NoError(t, err)
			require.True(t, known)
			require.Empty(t, changed, "nothing changed")

			for _, off := range []int64{0, 5 << 20, 15<<20 + 8192, 40 << 20} {
				_, err = f.WriteAt(bytes.Repeat([]byte{1}, 4096), off)
				require.NoError(t, err)
			}
			require.NoError(t, f.Close())
			require.NoError(t, volume.Clone(live, new))
			changed, known, err = volume.Diff(t.Context(), old, new)
			require.NoError(t, err)
			require.True(t, known)
			require.Equal(t, []volume.Extent{{Offset: 0, Length: 4096}, {Offset: 5 << 20, Length: 4096}, {Offset: 15<<20 + 8192, Length: 4096}, {Offset: 40 << 20, Length: 4096}}, changed)
			if fs.exact {
				require.Equal(t, changed, diffByFiemap(t, old, new))
			}
		})
	}
}

// A compressed extent takes one block here for 128 KiB, and the next one follows at once. By
// FIEMAP, the second half of the first and the begin of the second have the same place.
func TestCompressedExtentsAreNotTakenForEachOther(t *testing.T) {
	t.Parallel()
	dir := mountImage(t, 512<<20, ",compress-force=zstd", "mkfs.btrfs", "-q")
	live, old := filepath.Join(dir, "live"), filepath.Join(dir, "old")
	require.NoError(t, os.WriteFile(live, bytes.Repeat([]byte{1}, 128<<10), 0o600))
	run(t, "sync", live)
	require.NoError(t, volume.Clone(live, old))
	f, err := os.OpenFile(live, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt(bytes.Repeat([]byte{2}, 124<<10), 4<<10)
	require.NoError(t, err)
	require.NoError(t, f.Sync())

	before, err := os.Open(old)
	require.NoError(t, err)
	defer before.Close()
	oldMap, err := volume.MapOf(before)
	require.NoError(t, err)
	newMap, err := volume.MapOf(f)
	require.NoError(t, err)
	t.Logf("maps by FIEMAP: %+v, %+v", oldMap, newMap)

	want := []volume.Extent{{Offset: 4 << 10, Length: 124 << 10}}
	changed, known, err := volume.Diff(t.Context(), old, live)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, want, changed)
	require.Equal(t, []volume.Extent{{Offset: 0, Length: 128 << 10}}, diffByFiemap(t, old, live), "without root nothing is said of compressed extents")
}

func TestDiffBetweenSnapshotsOfASubvolume(t *testing.T) {
	t.Parallel()
	need(t, "btrfs")
	dir := mountImage(t, 512<<20, "", "mkfs.btrfs", "-q")
	run(t, "btrfs", "subvolume", "create", filepath.Join(dir, "vms"))
	live := filepath.Join(dir, "vms", "disk")
	require.NoError(t, os.WriteFile(live, bytes.Repeat([]byte{1}, 8<<20), 0o600))
	run(t, "btrfs", "subvolume", "snapshot", "-r", filepath.Join(dir, "vms"), filepath.Join(dir, "one"))
	f, err := os.OpenFile(live, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{2}, 8192), 1<<20)
	require.NoError(t, errors.Join(err, f.Close()))
	run(t, "btrfs", "subvolume", "snapshot", "-r", filepath.Join(dir, "vms"), filepath.Join(dir, "two"))
	changed, known, err := volume.Diff(t.Context(), filepath.Join(dir, "one", "disk"), filepath.Join(dir, "two", "disk"))
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, []volume.Extent{{Offset: 1 << 20, Length: 8192}}, changed)
}

func TestUnrelatedFilesDifferInAllTheirData(t *testing.T) {
	t.Parallel()
	for _, fs := range cloning {
		t.Run(fs.name, func(t *testing.T) {
			t.Parallel()
			dir := mountImage(t, 512<<20, fs.options, fs.mkfs, fs.args...)
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			for _, path := range []string{a, b} {
				makeFile(t, path, 4<<20)
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				require.NoError(t, err)
				_, err = f.WriteAt(bytes.Repeat([]byte{1}, 1<<20), 1<<20)
				require.NoError(t, errors.Join(err, f.Close()))
			}
			changed, known, err := volume.Diff(t.Context(), a, b)
			require.NoError(t, err)
			require.True(t, known)
			require.Equal(t, []volume.Extent{{Offset: 1 << 20, Length: 1 << 20}}, changed)
			changed, known, err = volume.Diff(t.Context(), a, a)
			require.NoError(t, err)
			require.True(t, known)
			require.Empty(t, changed)
		})
	}
}

func TestDiffIsNotKnownWherePlacesDoNotTell(t *testing.T) {
	t.Parallel()
	unknown := func(t *testing.T, a, b string) {
		t.Helper()
		changed, known, err := volume.Diff(t.Context(), a, b)
		require.NoError(t, err)
		require.False(t, known)
		require.Empty(t, changed)
	}
	t.Run("other file systems", func(t *testing.T) {
		t.Parallel()
		dir := mountImage(t, 64<<20, "", "mkfs.ext4", "-q", "-F")
		path := filepath.Join(dir, "a")
		makeFile(t, path, 1<<20)
		unknown(t, path, path)
		require.False(t, volume.CanClone(path))
		require.Error(t, volume.Clone(path, filepath.Join(dir, "b")))
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 2, "a and lost+found: %v", left)
	})
	t.Run("two file systems of one kind", func(t *testing.T) {
		t.Parallel()
		for _, mkfs := range []string{"mkfs.btrfs", "mkfs.xfs"} {
			a := filepath.Join(mountImage(t, 512<<20, "", mkfs, "-q"), "a")
			b := filepath.Join(mountImage(t, 512<<20, "", mkfs, "-q"), "b")
			makeFile(t, a, 1<<20)
			makeFile(t, b, 1<<20)
			unknown(t, a, b)
		}
	})
	t.Run("devices", func(t *testing.T) {
		t.Parallel()
		unknown(t, loopDevice(t, 1<<20), loopDevice(t, 1<<20))
	})
	t.Run("no file is an error", func(t *testing.T) {
		t.Parallel()
		_, _, err := volume.Diff(t.Context(), filepath.Join(t.TempDir(), "none"), os.DevNull)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestClonesAreOfOneInstantAndNeverReplaceAFile(t *testing.T) {
	t.Parallel()
	dir := mountImage(t, 512<<20, "", "mkfs.xfs", "-q")
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	require.NoError(t, os.WriteFile(from, []byte("one"), 0o600))
	require.NoError(t, volume.Clone(from, to))
	require.NoError(t, os.WriteFile(from, []byte("two"), 0o600))
	require.Equal(t, "one", string(readAll(t, to)))
	require.ErrorIs(t, volume.Clone(from, to), os.ErrExist)
	require.Equal(t, "one", string(readAll(t, to)))
	require.True(t, volume.CanClone(from))
	require.False(t, volume.CanClone(dir))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2, "nothing is left of the try")
}

func TestDiffEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := volume.FakeMap{Size: 1 << 20, Part: 1}
	_, err := volume.DiffMaps(ctx, m, m, 10)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, io.EOF)
}
