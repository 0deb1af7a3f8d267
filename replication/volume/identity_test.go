package volume_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

func identify(t *testing.T, path string) volume.Identity {
	t.Helper()
	id, err := volume.Identify(path)
	require.NoError(t, err)
	return id
}

// settledFile is a file whose last change is long enough ago. Nobody can set the time of the
// last change (ctime), so this waits for it.
func settledFile(t *testing.T, contents string) (path string, id volume.Identity) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(path, []byte(contents), 0o600))
	require.False(t, identify(t, path).Settled, "it was written just now")
	require.Eventually(t, func() bool { return identify(t, path).Settled }, 10*time.Second, 50*time.Millisecond)
	return path, identify(t, path)
}

func TestAFileIsUnchangedOnlyIfNothingWasDoneToIt(t *testing.T) {
	t.Parallel()
	path, before := settledFile(t, "contents")
	require.EqualValues(t, 8, before.Size)
	require.Equal(t, before, identify(t, path))
	require.True(t, identify(t, path).Unchanged(before))
	stored, err := json.Marshal(before)
	require.NoError(t, err)
	var loaded volume.Identity
	require.NoError(t, json.Unmarshal(stored, &loaded))
	require.True(t, identify(t, path).Unchanged(loaded), "an identity can be stored")

	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("x"), 3)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	after := identify(t, path)
	require.True(t, after.SameVolume(before))
	require.False(t, after.Unchanged(before))
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(0, before.Mtime)))
	require.False(t, identify(t, path).Unchanged(before), "the time of the last write was set back")
	require.False(t, identify(t, path).Unchanged(after), "after was not settled: a write could have got the same time")
}

func TestAFileThatReplacesAnotherIsNotTheSame(t *testing.T) {
	t.Parallel()
	path, before := settledFile(t, "contents")
	require.NoError(t, os.WriteFile(path+".new", []byte("contents"), 0o600))
	require.NoError(t, os.Chtimes(path+".new", time.Time{}, time.Unix(0, before.Mtime)))
	require.NoError(t, os.Rename(path+".new", path))
	after := identify(t, path)
	require.False(t, after.SameVolume(before))
	require.False(t, after.Unchanged(before))
	require.NoError(t, os.Rename(path, path+".moved"))
	require.True(t, identify(t, path+".moved").SameVolume(after), "a name is not what a file is")
}

func TestADeviceIsTheSameUntilItIsDetached(t *testing.T) {
	t.Parallel()
	need(t, "losetup")
	image, other := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "other")
	makeFile(t, image, 1<<20)
	makeFile(t, other, 1<<20)
	device := run(t, "losetup", "--find", "--show", image)
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	before := identify(t, device)
	require.True(t, before.Block)
	require.EqualValues(t, 1<<20, before.Size)
	require.True(t, identify(t, device).SameVolume(before))
	require.False(t, identify(t, device).Unchanged(before), "devices do not record writes")
	require.False(t, identify(t, image).SameVolume(before))
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(device, link))
	require.Equal(t, before, identify(t, link))
	if before.DiskSeq == 0 {
		t.Skip("missing: diskseq, which Linux has since 5.15")
	}
	second := run(t, "losetup", "--find", "--show", other)
	t.Cleanup(func() { run(t, "losetup", "--detach", second) })
	require.Greater(t, identify(t, second).DiskSeq, before.DiskSeq)
	require.False(t, identify(t, second).SameVolume(before))
}

func TestFilesOfNetworksAreNeverSettled(t *testing.T) {
	t.Parallel()
	id := identify(t, "/proc/self/status")
	require.False(t, id.Settled, "only file systems whose times are known to be exact are trusted")
}

func TestIOPriorityIsThatOfTheThread(t *testing.T) {
	t.Parallel()
	done := make(chan error, 2)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its priority
		done <- volume.SetIOPriority(volume.IOBestEffort, 7)
		done <- volume.SetIOPriority(volume.IOIdle, 0)
	}()
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	require.ErrorContains(t, volume.SetIOPriority(volume.IOBestEffort, 8), "levels 0 to 7")
	require.ErrorContains(t, volume.SetIOPriority(0, 0), "classes are")
}
