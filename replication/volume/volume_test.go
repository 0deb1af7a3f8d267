package volume_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
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
		{"file read past the cache", inDir, []volume.Option{volume.WithDirect(true)}},
		{"file on tmpfs, where that cannot be", func(t *testing.T, size int64) string {
			need(t, "mount", "umount")
			dir := t.TempDir()
			run(t, "mount", "-t", "tmpfs", "none", dir)
			t.Cleanup(func() { run(t, "umount", dir) })
			path := filepath.Join(dir, "disk")
			makeFile(t, path, size)
			return path
		}, []volume.Option{volume.WithDirect(true)}},
		{"block device", loopDevice, nil},
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
				w, err := volume.OpenTarget(path)
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
						_, err = w.WriteAt(want[off:off+n], off)
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
	// ext2 has neither holes that are punched, nor zeros that are asked for.
	path := filepath.Join(mountImage(t, 16<<20, "", "mkfs.ext2", "-q", "-F"), "disk")
	want := bytes.Repeat([]byte{7}, 3<<20)
	require.NoError(t, os.WriteFile(path, want, 0o600))
	v, err := volume.OpenTarget(path)
	require.NoError(t, err)
	require.NoError(t, v.Zero(5000, 2<<20))
	clear(want[5000 : 5000+2<<20])
	requireBytes(t, v, want)
	require.NoError(t, v.Close())
}

func TestNothingIsWrittenBeyondTheEnd(t *testing.T) {
	t.Parallel()
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			v, err := volume.OpenTarget(p.make(t, 1<<20))
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
	need(t, "mkfs.ext4", "mount", "umount")
	device, dir := loopDevice(t, 16<<20), t.TempDir()
	run(t, "mkfs.ext4", "-q", "-F", device)
	run(t, "mount", device, dir)
	_, err := volume.OpenTarget(device)
	require.ErrorContains(t, err, "is mounted, or another program holds it")
	v, err := volume.Open(device)
	require.NoError(t, err, "but it can be read")
	require.NoError(t, v.Close())
	run(t, "umount", dir)
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
