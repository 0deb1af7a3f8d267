package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// loop attaches a file of some size to a loop device.
func loop(t *testing.T, bytes int64) (device string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("missing: root, for loop devices")
	}
	if _, err := exec.LookPath("losetup"); err != nil {
		t.Skip("missing: losetup")
	}
	image := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, bytes))
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		out, err := exec.Command("losetup", "--detach", device).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	return device
}

func TestDevicesAreCopiedAndCompared(t *testing.T) {
	t.Parallel()
	const bytes = 8 << 20
	source := &disk{path: loop(t, bytes)}
	source.write(t, 0, 3<<20)
	target, state := loop(t, bytes+1<<20), filepath.Join(t.TempDir(), "state")
	copied(t, source.path, target, "--state", state)
	c := compared(t, statusDone, source.path, target)
	require.EqualValues(t, 1<<20, c.Beyond)

	source.write(t, 5<<20, 1)
	require.EqualValues(t, 5<<20, compared(t, statusFailed, source.path, target).Ranges[0].Offset)
	require.EqualValues(t, 4096, copied(t, source.path, target, "--state", state).Changed)
	compared(t, statusDone, source.path, target)

	small := run(t, nil, "copy", source.path, loop(t, bytes-1<<20))
	require.Equal(t, statusFailed, small.status)
	require.Contains(t, small.err, "give a larger one")
}

// What others write to a device leaves no trace in its times, so it is found when it is compared,
// and mended by a copy without the state.
func TestADeviceThatOthersWroteToIsMended(t *testing.T) {
	t.Parallel()
	const bytes = 8 << 20
	source := newDisk(t, bytes)
	target, state := loop(t, bytes), filepath.Join(t.TempDir(), "state")
	copied(t, source.path, target, "--state", state)
	(&disk{path: target, writes: 99}).write(t, 4096, 1)
	compared(t, statusFailed, source.path, target)
	require.NoError(t, os.RemoveAll(state))
	copied(t, source.path, target, "--state", state)
	compared(t, statusDone, source.path, target)
}
