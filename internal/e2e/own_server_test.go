package e2e

import (
	"bytes"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/workflows"
)

const mib = 1 << 20

// ownDisk makes a disk of one's own: a file with random content.
func ownDisk(t *testing.T, bytes int64) (path string, head []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "own.img")
	head = make([]byte, mib)
	_, err := rand.Read(head)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, head, 0o600))
	require.NoError(t, os.Truncate(path, bytes))
	return path, head
}

// loopDevice gives the file as a block device.
func loopDevice(t *testing.T, file string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loop devices")
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	require.NoError(t, err, "losetup: %s", out)
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		out, err := exec.Command("losetup", "--detach", device).CombinedOutput()
		assert.NoError(t, err, "losetup: %s", out)
	})
	return device
}

// A server of one's own, on any file or block device, goes there and back again.
func TestOwnServerGoesThereAndBackAgain(t *testing.T) {
	for _, kind := range []string{"file", "loop device"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			disk, head := ownDisk(t, 32*mib)
			if kind == "loop device" {
				disk = loopDevice(t, disk)
			}
			h := newHouse(t)
			source, origin := h.createBox("db", 0, "data="+disk, "log=8MiB")
			origin.writeLine("log", 0, "home")
			h.protect(planFile{servers: []string{"db"}})
			early := h.mark("shop/db", "early")
			origin.writeLine("log", 0, "later")

			drill := ask[workflows.Report](h, "drill", "start", "shop")
			assert.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
			drill = ask[workflows.Report](h, "drill", "clean", "shop")
			assert.Equal(t, workflows.OutcomeCleaned, drill.Outcome, drill.Reason)
			assert.Zero(t, drill.Resources.Left)
			assert.Empty(t, drill.Resources.LeftOver)

			over := ask[workflows.Report](h, "failover", "start", "shop", "--yes")
			require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
			assert.Equal(t, "done", over.Servers[0].Fencing)
			away := boxAt(t, over.Servers[0].Public)
			assert.Equal(t, "later", away.line("log", 0), "a planned failover loses nothing")
			assert.True(t, bytes.Equal(head, away.read("data", 0, len(head))), "the content of the disk is another one")

			back := ask[workflows.Report](h, "failover", "switch-point", "shop", "--point", early.ID, "--yes")
			require.Equal(t, workflows.OutcomeDone, back.Outcome, back.Reason)
			away = boxAt(t, back.Servers[0].Public)
			assert.Equal(t, "home", away.line("log", 0), "the earlier point")
			assert.True(t, bytes.Equal(head, away.read("data", 0, len(head))), "the content of the disk is another one")

			h.do("failover", "commit", "shop", "--wait")
			away.writeLine("log", 0, "from abroad")
			away.writeLine("data", 5*mib, "news")
			h.do("reverse", "register", "shop", "--wait")
			said := h.ends(usage, "reverse", "start", "shop/db", "--in-place")
			assert.Contains(t, said, "--confirm db", "overwriting the original needs its name")
			h.ends(usage, "reverse", "start", "shop/db", "--in-place", "--confirm", "another")
			assert.Equal(t, workflows.PhaseReverseRegistered, h.server("shop/db").Phase, "nothing has happened")
			h.do("reverse", "start", "shop/db", "--in-place", "--confirm", "db", "--wait")

			home := ask[workflows.Report](h, "failback", "start", "shop", "--yes")
			require.Equal(t, workflows.OutcomeDone, home.Outcome, home.Reason)
			origin = boxAt(t, home.Servers[0].Public)
			assert.Equal(t, "from abroad", origin.line("log", 0))
			assert.Equal(t, "news", origin.line("data", 5*mib))
			assert.True(t, bytes.Equal(head, origin.read("data", 0, len(head))), "the content of the disk is another one")
			assert.Equal(t, "news", firstLine(t, disk, 5*mib), "in place means: on one's own disk")
			assert.Equal(t, source.ID, home.Servers[0].ServerID, "in place means: the same server")

			h.do("server", "register", "shop", "--wait")
			h.do("replication", "start", "shop", "--wait")
			r := h.server("shop/db").Replication
			assert.Less(t, r.BytesSent, int64(mib)/2, "what is abroad already is not sent again")
		})
	}
}

// firstLine of a file at an offset.
func firstLine(t *testing.T, path string, at int64) string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	content := make([]byte, 128)
	_, err = file.ReadAt(content, at)
	require.NoError(t, err)
	line, _, _ := bytes.Cut(content, []byte("\n"))
	return string(line)
}
