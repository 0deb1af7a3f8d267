package stage

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/workflows/plan"
)

func TestGroundIsTakenAwayAgain(t *testing.T) {
	t.Parallel()
	g, err := PrepareGround(t.Context(), t.TempDir())
	require.NoError(t, err)
	file := filepath.Join(g.Sites, "file")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	mounted := g.mounted
	require.NoError(t, g.Clear(t.Context()))
	if mounted {
		require.NoFileExists(t, file, "it was on the file system that is gone")
	}
	require.NotEmpty(t, g.Words)
}

// TestGroundWithoutBtrfs hides one tool after the other.
func TestGroundWithoutBtrfs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a file system")
	}
	bin := t.TempDir()
	for _, tool := range []string{"mkfs.xfs", "mount", "umount"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skip("needs " + tool + " (xfsprogs)")
		}
		require.NoError(t, os.Symlink(path, filepath.Join(bin, tool)))
	}
	t.Setenv("PATH", bin)
	g, err := PrepareGround(t.Context(), t.TempDir())
	require.NoError(t, err)
	require.Contains(t, g.Words, "xfs on a loop device")
	require.NoError(t, g.Clear(t.Context()))

	require.NoError(t, os.Remove(filepath.Join(bin, "mkfs.xfs")))
	g, err = PrepareGround(t.Context(), t.TempDir())
	require.NoError(t, err)
	require.Contains(t, g.Words, "plain directories")
	require.NoError(t, g.Clear(t.Context()))
}

func TestPlanOfTheStageIsValid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, err := WritePlan(dir, filepath.Join(dir, "sites"), "/usr/bin/lifeboat", ChooseAddresses(), 8*time.Second)
	require.NoError(t, err)
	loaded, err := plan.Load(file)
	require.NoError(t, err)
	resolved, err := plan.Resolve(loaded)
	require.NoError(t, err)
	require.Len(t, resolved.Servers, 1)
	require.Contains(t, resolved.Servers[0].Script, "__numbers-newest")
}

func TestPollEndsWithAnErrorOrTheLimit(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	require.ErrorIs(t, Poll(t.Context(), time.Minute, func() (bool, error) { return false, broken }), broken)
	require.ErrorIs(t, Poll(t.Context(), time.Millisecond, func() (bool, error) { return false, nil }), context.DeadlineExceeded)
	require.NoError(t, Poll(t.Context(), time.Minute, func() (bool, error) { return true, nil }))
}
