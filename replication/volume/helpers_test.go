package volume_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// need skips a test that needs root and programs which are not there.
func need(t testing.TB, programs ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("missing: root, which mounts and loop devices need")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("missing: " + program)
		}
	}
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", program, strings.Join(args, " "), out)
	return strings.TrimSpace(string(out))
}

// loopDevice gives a block device of a size.
func loopDevice(t *testing.T, size int64) string {
	t.Helper()
	need(t, "losetup")
	image := filepath.Join(t.TempDir(), "image")
	makeFile(t, image, size)
	device := run(t, "losetup", "--find", "--show", image)
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	return device
}

// mountImage makes a file system of a size by a program and mounts it.
func mountImage(t testing.TB, size int64, options string, mkfs string, args ...string) string {
	t.Helper()
	need(t, mkfs, "mount")
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	makeFile(t, image, size)
	run(t, mkfs, append(args, image)...)
	run(t, "mount", "-o", "loop"+options, image, dir)
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// unmount tries again while a program that another test starts has not let go of its copies
// of our files yet.
func unmount(t testing.TB, dir string) {
	t.Helper()
	require.Eventually(t, func() bool { return !errors.Is(unix.Unmount(dir, 0), unix.EBUSY) }, 10*time.Second, 10*time.Millisecond)
}

func makeFile(t testing.TB, path string, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
}

// seeded gives numbers that are the same in each run with the same seed.
func seeded(t *testing.T, seed uint64) *rand.Rand {
	t.Helper()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func randomBytes(rng *rand.Rand, n int64) []byte {
	b := make([]byte, 0, n+8)
	for int64(len(b)) < n {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return b[:n]
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// dataOf lists what NextData says.
func dataOf(t *testing.T, v volume.Source) (extents []volume.Extent) {
	t.Helper()
	for off := int64(0); ; {
		start, end, err := v.NextData(off)
		if err != nil {
			require.ErrorContains(t, err, "EOF")
			return extents
		}
		require.GreaterOrEqual(t, start, off)
		require.Greater(t, end, start)
		require.LessOrEqual(t, end, v.Size())
		extents = append(extents, volume.Extent{Offset: start, Length: end - start})
		off = end
	}
}
