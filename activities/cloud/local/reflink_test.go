package local

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// onEachFileSystem runs a test on a directory without reflinks and, as root, on
// a file system that has them.
func onEachFileSystem(t *testing.T, test func(t *testing.T, dir string)) {
	t.Helper()
	t.Run("packs", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if clones, err := probeClones(dir); err != nil || clones {
			dir = mountImage(t, "mkfs.ext4", "-q", "-F")
		}
		test(t, dir)
	})
	t.Run("reflinks", func(t *testing.T) {
		t.Parallel()
		test(t, mountImage(t, "mkfs.btrfs", "-q"))
	})
}

// mountImage mounts a new file system in a sparse file.
func mountImage(t *testing.T, mkfs string, args ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	if _, err := exec.LookPath(mkfs); err != nil {
		t.Skip(mkfs + " is not installed")
	}
	return mountSized(t, 1<<30, mkfs, args...)
}

func mountSized(t *testing.T, size int64, mkfs string, args ...string) string {
	t.Helper()
	base := t.TempDir()
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "mount")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, size))
	run(t, mkfs, append(args, image)...)
	require.NoError(t, os.Mkdir(dir, 0o700))
	run(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// openSite opens a site in dir until the test ends.
func openSite(t *testing.T, dir string) *Provider {
	t.Helper()
	p, err := Open(t.Context(), cloud.Site{Name: "site", Directory: dir}, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// randomBytes is the same for the same seed.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	source.Read(b) //nolint:errcheck // never fails
	return b
}

func TestCopySparseKeepsHolesAndDropsZeros(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, err := newFile(filepath.Join(dir, "from"), 40<<20+777)
	require.NoError(t, err)
	defer from.Close()
	data := randomBytes(1, 100_000)
	_, err = from.WriteAt(data, 5<<20+13)
	require.NoError(t, err)
	_, err = from.WriteAt(make([]byte, 4<<20), 20<<20)
	require.NoError(t, err)
	_, err = from.WriteAt([]byte("end"), 40<<20+774)
	require.NoError(t, err)

	content, err := openFileContent(from.Name(), 0)
	require.NoError(t, err)
	defer content.Close()
	to, err := newFile(filepath.Join(dir, "to"), content.Size())
	require.NoError(t, err)
	defer to.Close()
	last := int64(0)
	require.NoError(t, copySparse(t.Context(), to, content, func(done int64) error { last = done; return nil }))
	require.Equal(t, content.Size(), last)
	want, err := os.ReadFile(from.Name())
	require.NoError(t, err)
	got, err := os.ReadFile(to.Name())
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	require.Less(t, allocated(t, to.Name()), int64(1<<20))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = from.WriteAt(randomBytes(2, 20<<20), 0)
	require.NoError(t, err)
	require.ErrorIs(t, copySparse(ctx, to, content, func(int64) error { return nil }), context.Canceled)
}
