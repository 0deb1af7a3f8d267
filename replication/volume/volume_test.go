package volume_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// place makes something of a size that can be opened, full of zeros.
type place struct {
	name string
	make func(t *testing.T, size int64) string
	open []volume.Option
}

func places() []place {
	inDir := func(t *testing.T, size int64) string {
		path := filepath.Join(t.TempDir(), "disk")
		makeFile(t, path, size)
		return path
	}
	return []place{
		{"file", inDir, nil},
		{"file past the cache", inDir, []volume.Option{volume.WithDirect(true)}},
		{"file past the cache where it is cold", inDir, []volume.Option{volume.WithDirectIfCold(true)}},
		{"file through the cache, leaving nothing", inDir, []volume.Option{volume.WithUncached(true)}},
		{"file on xfs past the cache", onImage("mkfs.xfs"), []volume.Option{volume.WithDirect(true)}},
		{"file on btrfs past the cache", onImage("mkfs.btrfs"), []volume.Option{volume.WithDirect(true)}},
		{"file on btrfs, leaving nothing", onImage("mkfs.btrfs"), []volume.Option{volume.WithUncached(true), volume.WithDirectIfCold(true)}},
		{"file on tmpfs, where that cannot be", func(t *testing.T, size int64) string {
			need(t, "mount")
			dir := t.TempDir()
			run(t, "mount", "-t", "tmpfs", "none", dir)
			t.Cleanup(func() { unmount(t, dir) })
			path := filepath.Join(dir, "disk")
			makeFile(t, path, size)
			return path
		}, []volume.Option{volume.WithDirect(true)}},
		{"block device", loopDevice, nil},
		{"block device past the cache", loopDevice, []volume.Option{volume.WithDirect(true)}},
	}
}

func onImage(mkfs string) func(t *testing.T, size int64) string {
	return func(t *testing.T, size int64) string {
		path := filepath.Join(mountImage(t, 512<<20, "", mkfs, "-q"), "disk")
		makeFile(t, path, size)
		return path
	}
}

// sizes are whole blocks, and ends within a block; devices have whole sectors.
var sizes = []int64{1 << 20, 3<<20 + 4096, 2<<20 + 512, 1<<20 - 1536}

func TestVolumesGiveBackWhatWasWritten(t *testing.T) {
	t.Parallel()
	for _, p := range places() {
		for _, size := range sizes {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				rng := seeded(t, uint64(size))
				path, want := p.make(t, size), make([]byte, size)
				w, err := volume.OpenTarget(path, p.open...)
				require.NoError(t, err)
				require.Equal(t, size, w.Size())
				for range 60 {
					off := rng.Int64N(size)
					n := rng.Int64N(min(256<<10, size-off)) + 1
					if rng.IntN(3) > 0 {
						off, n = off&^4095, min((n+4095)&^4095, size-off&^4095)
					}
					if rng.IntN(3) == 0 {
						clear(want[off : off+n])
						require.NoError(t, w.Zero(off, n))
					} else {
						copy(want[off:], randomBytes(rng, n))
						p := volume.Buffer(int(n))
						copy(p, want[off:])
						_, err = w.WriteAt(p, off)
						require.NoError(t, err)
						require.NoError(t, w.(volume.Flusher).Flush(off, n))
					}
				}
				requireBytes(t, w, want)
				require.NoError(t, w.Sync())
				require.NoError(t, w.Close())

				r, err := volume.Open(path, p.open...)
				require.NoError(t, err)
				requireBytes(t, r, want)
				covered := make([]byte, size)
				for _, e := range dataOf(t, r) {
					require.NoError(t, r.(volume.Prefetcher).Prefetch(e.Offset, e.Length))
					require.NoError(t, volume.ReadFull(r, covered[e.Offset:e.End()], e.Offset))
				}
				require.True(t, bytes.Equal(want, covered), "data outside of what NextData gave")
				require.NoError(t, r.Close())
			})
		}
	}
}

// requireBytes reads all at once, at odd places, and across the end.
func requireBytes(t *testing.T, v volume.Source, want []byte) {
	t.Helper()
	size := int64(len(want))
	require.Equal(t, size, v.Size())
	for _, r := range []volume.Extent{{Offset: 0, Length: size}, {Offset: 1, Length: 5}, {Offset: 4095, Length: 8194}, {Offset: size - 1, Length: 1}, {Offset: size - 4097, Length: 4097}} {
		got := volume.Buffer(int(r.Length))
		require.NoError(t, volume.ReadFull(v, got, r.Offset))
		require.True(t, bytes.Equal(want[r.Offset:r.End()], got), "%+v", r)
	}
	for _, off := range []int64{size - 4096, size - 700, size, size + 4096} {
		got := volume.Buffer(8192)
		n, err := v.ReadAt(got, off)
		require.ErrorIs(t, err, io.EOF)
		require.EqualValues(t, max(0, size-off), n)
		require.True(t, bytes.Equal(want[min(off, size):], got[:n]))
		require.ErrorIs(t, volume.ReadFull(v, got, off), io.ErrUnexpectedEOF)
	}
}

func TestHolesAreKept(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	path := filepath.Join(t.TempDir(), "disk")
	makeFile(t, path, size)
	v, err := volume.OpenTarget(path)
	require.NoError(t, err)
	defer v.Close()
	require.Empty(t, dataOf(t, v))
	_, err = v.WriteAt(bytes.Repeat([]byte{1}, 8<<20), 16<<20)
	require.NoError(t, err)
	require.Equal(t, []volume.Extent{{Offset: 16 << 20, Length: 8 << 20}}, dataOf(t, v))
	require.NoError(t, v.Zero(18<<20, 4<<20))
	require.Equal(t, []volume.Extent{{Offset: 16 << 20, Length: 2 << 20}, {Offset: 22 << 20, Length: 2 << 20}}, dataOf(t, v))
	start, end, err := v.NextData(17 << 20)
	require.NoError(t, err)
	require.Equal(t, []int64{17 << 20, 18 << 20}, []int64{start, end})
	require.NoError(t, v.Zero(0, size))
	require.Empty(t, dataOf(t, v))
}

func TestZerosAreWrittenWhereThereAreNoHoles(t *testing.T) {
	t.Parallel()
	need(t, "mount")
	dir := t.TempDir()
	run(t, "mount", "-t", "ramfs", "none", dir) // it knows neither holes nor asked-for zeros
	t.Cleanup(func() { unmount(t, dir) })
	path := filepath.Join(dir, "disk")
	want := bytes.Repeat([]byte{7}, 3<<20)
	require.NoError(t, os.WriteFile(path, want, 0o600))
	v, err := volume.OpenTarget(path)
	require.NoError(t, err)
	require.NoError(t, v.Zero(5000, 2<<20))
	clear(want[5000 : 5000+2<<20])
	requireBytes(t, v, want)
	require.Equal(t, []volume.Extent{{Offset: 0, Length: 3 << 20}}, dataOf(t, v))
	require.NoError(t, v.Close())
}

func TestNothingIsWrittenBeyondTheEnd(t *testing.T) {
	t.Parallel()
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			v, err := volume.OpenTarget(p.make(t, 1<<20), p.open...)
			require.NoError(t, err)
			for _, off := range []int64{-1, 1<<20 - 4096, 1 << 20, 1 << 40, 1<<63 - 1} {
				_, err = v.WriteAt(make([]byte, 8192), off)
				require.ErrorContains(t, err, "beyond the end of")
				require.ErrorContains(t, v.Zero(off, 8192), "beyond the end of")
			}
			require.NoError(t, v.Zero(1<<20, 0))
			require.EqualValues(t, 1<<20, v.Size())
			_, _, err = v.NextData(1 << 20)
			require.ErrorIs(t, err, io.EOF)
			_, _, err = v.NextData(-1)
			require.Error(t, err)
			require.NotErrorIs(t, err, io.EOF)
			require.NoError(t, v.Close())
		})
	}
}

func TestWhatWasCutOffIsNotTakenForZeros(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte{1}, 1<<20), 0o600))
	v, err := volume.Open(path)
	require.NoError(t, err)
	defer v.Close()
	require.NoError(t, os.Truncate(path, 1<<19))
	require.ErrorIs(t, volume.ReadFull(v, make([]byte, 8192), 1<<19-4096), io.ErrUnexpectedEOF)
	start, end, err := v.NextData(0)
	require.NoError(t, err)
	require.Equal(t, []int64{0, 1 << 19}, []int64{start, end})
	_, _, err = v.NextData(end)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "cut off from 1048576 to 524288")
}

func TestOnlyFilesAndBlockDevicesAreVolumes(t *testing.T) {
	t.Parallel()
	for _, path := range []string{t.TempDir(), "/dev/null"} {
		_, err := volume.Open(path)
		require.ErrorIs(t, err, volume.ErrNotVolume)
		_, err = volume.OpenTarget(path)
		require.ErrorIs(t, err, volume.ErrNotVolume)
		_, err = volume.Identify(path)
		require.ErrorIs(t, err, volume.ErrNotVolume)
	}
	_, err := volume.Open(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestADeviceInUseIsNotWritten(t *testing.T) {
	t.Parallel()
	need(t, "mkfs.ext4", "mount")
	device, dir := loopDevice(t, 16<<20), t.TempDir()
	run(t, "mkfs.ext4", "-q", "-F", device)
	run(t, "mount", device, dir)
	_, err := volume.OpenTarget(device)
	require.ErrorContains(t, err, "is mounted, or another program holds it")
	v, err := volume.Open(device)
	require.NoError(t, err, "but it can be read")
	require.NoError(t, v.Close())
	unmount(t, dir)
	w, err := volume.OpenTarget(device)
	require.NoError(t, err)
	require.NoError(t, w.Close())
}

func TestBuffersAreAligned(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 4096, 5000, 1 << 20} {
		b := volume.Buffer(n)
		require.Len(t, b, n)
		require.Equal(t, n, cap(b))
	}
}

// failing reads as much as it has, and gives an error for the rest.
type failing struct {
	have []byte
	err  error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) { return copy(p, f.have[off:]), f.err }

func TestReadFullGivesTheErrorOfTheDisk(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	require.ErrorIs(t, volume.ReadFull(failing{make([]byte, 4), broken}, make([]byte, 8), 0), broken)
	require.NoError(t, volume.ReadFull(failing{make([]byte, 8), io.EOF}, make([]byte, 8), 0))
	require.ErrorIs(t, volume.ReadFull(failing{make([]byte, 4), nil}, make([]byte, 8), 0), io.ErrUnexpectedEOF)
}

// cached tells how much of a file is in the page cache.
func cached(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var st unix.Cachestat_t
	if err = unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &st, 0); errors.Is(err, unix.ENOSYS) {
		t.Skip("missing: cachestat, which Linux has since 6.5")
	}
	require.NoError(t, err)
	return int64(st.Cache) * int64(os.Getpagesize())
}

// coldFile is a file that is on the disk and not in the page cache.
func coldFile(t *testing.T, contents []byte) string {
	t.Helper()
	path := filepath.Join(mountImage(t, 64<<20, "", "mkfs.ext4", "-q", "-F"), "disk")
	require.NoError(t, os.WriteFile(path, contents, 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Sync())
	require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	require.Zero(t, cached(t, path))
	return path
}

func TestAColdFileStaysColdWhenItIsReadPastTheCache(t *testing.T) {
	t.Parallel()
	want := randomBytes(seeded(t, 9), 8<<20)
	for name, opt := range map[string]volume.Option{"direct": volume.WithDirect(true), "direct if cold": volume.WithDirectIfCold(true)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := coldFile(t, want)
			v, err := volume.Open(path, opt)
			require.NoError(t, err)
			defer v.Close()
			p := volume.Buffer(1 << 20)
			for off := int64(0); off < v.Size(); off += 1 << 20 {
				require.NoError(t, v.(volume.Prefetcher).Prefetch(off, 4<<20))
				require.NoError(t, volume.ReadFull(v, p, off))
				require.True(t, bytes.Equal(want[off:off+1<<20], p))
			}
			require.Zero(t, cached(t, path))
		})
	}
}

func TestUncachedWritesLeaveNothingInTheCache(t *testing.T) {
	t.Parallel()
	path := coldFile(t, nil)
	require.NoError(t, os.Truncate(path, 8<<20)) // into holes: over old blocks, some kernels keep them
	v, err := volume.OpenTarget(path, volume.WithUncached(true))
	require.NoError(t, err)
	defer v.Close()
	_, err = v.WriteAt(randomBytes(seeded(t, 4), 8<<20), 0)
	require.NoError(t, err)
	require.NoError(t, v.Sync())
	if _, err = unix.Pwritev2(int(mustOpen(t, path).Fd()), [][]byte{{1}}, 0, unix.RWF_DONTCACHE); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("missing: uncached writes, which Linux has since 6.14")
	}
	require.NoError(t, v.Sync())
	require.Eventually(t, func() bool { return cached(t, path) < 1<<20 }, 5*time.Second, 10*time.Millisecond)
}

func mustOpen(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}
