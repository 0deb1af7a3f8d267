package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/workflows"
)

// Nothing of it needs rights: as any user, a server is protected, drilled and failed over.
func TestWithoutRights(t *testing.T) {
	t.Parallel()
	h := emptyHouse(t)
	if os.Geteuid() == 0 {
		h.user = &syscall.Credential{Uid: 65534, Gid: 65534}
		require.NoError(t, os.Chown(h.dir, 65534, 65534))
		self, err := os.Executable()
		require.NoError(t, err)
		h.box = h.reachable(self)
		h.temporal = h.reachable(programs.temporal)
	}
	h.start()
	assert.Empty(t, h.beyondLoopback())
	_, b := h.createBox("db", 0, "data=16MiB", "log=4MiB")
	b.writeLine("data", 0, "first")
	h.protect(planFile{servers: []string{"db"}})
	assert.Contains(t, h.server("shop/db").Notes[0], "isolat", "there is no isolation, and it says so")
	early := h.mark("shop/db", "early")
	b.writeLine("data", 0, "second")

	drill := ask[workflows.Report](h, "drill", "start", "shop", "--point", early.ID)
	require.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
	assert.Equal(t, "first", boxAt(t, drill.Servers[0].IP).line("data", 0))
	drill = ask[workflows.Report](h, "drill", "clean", "shop")
	assert.Zero(t, drill.Resources.Left, drill.Resources.LeftOver)

	over := ask[workflows.Report](h, "failover", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	assert.Equal(t, "second", boxAt(t, over.Servers[0].Public).line("data", 0))
}

// reachable gives the path of a program that the user of the house can run: a copy
// when it lies in a directory of root's.
func (h *house) reachable(program string) string {
	h.t.Helper()
	try := exec.Command("test", "-x", program)
	try.SysProcAttr = &syscall.SysProcAttr{Credential: h.user}
	if try.Run() == nil {
		return program
	}
	text, err := os.ReadFile(program)
	require.NoError(h.t, err)
	path := filepath.Join(h.dir, "programs", filepath.Base(program))
	require.NoError(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(h.t, os.WriteFile(path, text, 0o755))
	return path
}
