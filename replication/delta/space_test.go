package delta_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/deltatest"

	"github.com/stretchr/testify/require"
)

// tmpfs mounts a small file system, which is what fills up.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("missing: root, which mounting a small file system needs")
	}
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	t.Cleanup(func() {
		out, err := exec.Command("umount", dir).CombinedOutput()
		require.NoError(t, err, string(out))
	})
	return dir
}

// fill leaves so many pages free.
func fill(t *testing.T, dir string, pages int) (ballast string) {
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	require.NoError(t, err)
	page := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(page)
	}
	st, err := f.Stat()
	require.NoError(t, err)
	require.NoError(t, f.Truncate(max(0, st.Size()&^4095-int64(pages)*4096)))
	require.NoError(t, f.Close())
	return ballast
}

// Wherever the room for indexes and intents ends, the copy says so, and goes on when there is room.
func TestNoRoomForStateIsSaidAndGoneOnFrom(t *testing.T) {
	t.Parallel()
	full := 0
	for pages := 0; pages < 16; pages++ {
		for _, again := range []bool{false, true} {
			p, rnd := faulted(t, block.BLAKE3)
			if !again {
				p.Dir = ""
			}
			dir := tmpfs(t, "1m")
			if again { // what there is moves to the file system that is full
				require.NoError(t, os.CopyFS(filepath.Join(dir, "state"), os.DirFS(p.Dir)))
			} else {
				p.Target = deltatest.NewDisk(faultSize)
				require.NoError(t, os.Mkdir(filepath.Join(dir, "state"), 0o700))
			}
			p.Dir = filepath.Join(dir, "state")
			alter(t, rnd, p)
			ballast := fill(t, dir, pages)
			_, err := p.Run(t.Context(), deltatest.Copy{})
			if err != nil {
				full++
				require.ErrorIs(t, err, delta.ErrNoSpace, "%d pages, %v", pages, again)
				require.Regexp(t, "index|intent log", err.Error())
			}
			require.NoError(t, os.Remove(ballast))
			root, err := p.Run(t.Context(), deltatest.Copy{})
			require.NoError(t, err, "%d pages, %v", pages, again)
			require.NoError(t, p.Complete(t.Context(), root), "%d pages, %v", pages, again)
		}
	}
	require.Greater(t, full, 8)
}
