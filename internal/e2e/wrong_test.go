package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/activities"
	"lifeboat/workflows"
)

// A recovery site without space says so and harms nothing; with space it goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a file system of its own")
	}
	h := emptyHouse(t)
	require.NoError(t, os.MkdirAll(h.site("recovery"), 0o700))
	require.NoError(t, unix.Mount("tmpfs", h.site("recovery"), "tmpfs", 0, "size=24m"))
	h.mount = h.site("recovery")
	h.start()
	_, b := h.createBox("db", 0, "data=64MiB")
	b.write("data", 0, randomBytes(t, 4*mib))
	h.protect(planFile{servers: []string{"db"}})
	good := h.mark("shop/db", "good")

	b.write("data", 8*mib, randomBytes(t, 40*mib))
	stalled := h.awaitHealth("shop/db", workflows.HealthStalled)
	t.Logf("it says: %s", stalled.HealthReason)
	assert.Contains(t, stalled.HealthReason, "no space left")
	assert.Contains(t, stalled.HealthReason, "make room", "what to do")
	assert.Equal(t, workflows.PhaseRealTime, stalled.Phase)
	assert.Condition(t, func() bool { return hasPoint(h.points("shop/db"), good.ID) }, "the points from before stay")
	require.NoError(t, b.alive(), "production is not disturbed")

	since := time.Now()
	require.NoError(t, unix.Mount("tmpfs", h.mount, "tmpfs", unix.MS_REMOUNT, "size=300m"))
	h.awaitHealth("shop/db", workflows.HealthOK)
	h.awaitPointSince("shop/db", since)
	drill := ask[workflows.Report](h, "drill", "start", "shop")
	assert.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
	h.do("drill", "clean", "shop")
}

func hasPoint(points []activities.Point, id string) bool {
	for _, p := range points {
		if p.ID == id {
			return true
		}
	}
	return false
}

// Wrong input changes nothing, and the message names the thing, the cause and the mend.
func TestWrongInput(t *testing.T) {
	t.Parallel()
	h := newHouse(t)

	t.Log("a plan")
	good := planFile{servers: []string{"db"}}.write(h)
	text, err := os.ReadFile(good)
	require.NoError(t, err)
	for _, wrong := range []struct{ name, from, to, says string }{
		{"unknown key", "every: 1s", "evry: 1s", `did you mean "every"`},
		{"size without unit", "memory: 64MiB", "memory: 64", "unit"},
		{"address outside the network", "ip: " + h.recovered(0), "ip: 10.99.0.1", "outside"},
		{"unknown site", "recovery: recovery,", "recovery: moon,", "moon"},
		{"no health port", "port: 8080", "port: 80800", "65535"},
	} {
		path := filepath.Join(h.dir, "wrong.yaml")
		changed := strings.Replace(string(text), wrong.from, wrong.to, 1)
		require.NotEqual(t, string(text), changed, wrong.name)
		require.NoError(t, os.WriteFile(path, []byte(changed), 0o600))
		said := h.ends(usage, "plan", "apply", "-f", path)
		assert.Contains(t, said, wrong.says, wrong.name)
		assert.Contains(t, said, "wrong.yaml:", "file, line and column")
	}
	assert.Empty(t, ask[[]any](h, "plan", "list"), "nothing was made")

	t.Log("a source server or disk that is not there")
	r := h.run(t.Context(), "plan", "apply", "-f", good, "--wait")
	assert.Equal(t, failed, r.status, r.said)
	assert.Contains(t, r.said, "db")
	assert.Equal(t, workflows.PhaseInitFailed, h.server("shop/db").Phase)
	_, _ = h.createBox("db", 0, "data=4MiB")
	h.do("server", "initialize", "shop/db", "--wait")
	h.do("server", "remove", "shop/db", "--yes", "--wait")

	t.Log("a server at a local site")
	for _, wrong := range []struct {
		says string
		args []string
	}{
		{"/nowhere/disk.img", []string{"web", "--disk", "data=/nowhere/disk.img"}},
		{"10.99.0.1", []string{"web", "--ip", "10.99.0.1", "--disk", "data=4MiB"}},
		{h.ip(0), []string{"web", "--ip", h.ip(0), "--disk", "data=4MiB"}},
		{"one already", []string{"db", "--disk", "data=4MiB"}},
	} {
		r := h.run(t.Context(), append([]string{"local", "create-server", "--site", "primary", "--network", "main", "--command", "sleep 60"}, wrong.args...)...)
		assert.NotEqual(t, done, r.status)
		assert.Contains(t, r.said, wrong.says)
	}
	assert.Len(t, ask[[]any](h, "local", "list", "--site", "primary"), 1)
}

// A site that cannot be written, and state of a newer version, are refused before
// anything is changed.
func TestUnusableDirectories(t *testing.T) {
	t.Parallel()
	h := emptyHouse(t)
	file := filepath.Join(h.dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r := h.run(t.Context(), "local", "create-server", "db", "--site-dir", file, "--command", "sleep 60", "--disk", "data=4MiB")
	assert.NotEqual(t, done, r.status)
	assert.Contains(t, r.said, file)
	assert.Contains(t, r.said, "not a directory")

	if h.isRoot() { // nobody else is refused by root's own directory
		h.user = &syscall.Credential{Uid: 65534, Gid: 65534}
		require.NoError(t, os.Chmod(h.dir, 0o755))
		r = h.run(t.Context(), "local", "create-server", "db", "--site-dir", filepath.Join(h.dir, "site"), "--command", "sleep 60", "--disk", "data=4MiB")
		assert.NotEqual(t, done, r.status)
		assert.Contains(t, r.said, filepath.Join(h.dir, "site"))
		assert.Contains(t, r.said, "cannot write to it")
		assert.Contains(t, r.said, "chown nobody", "what to do")
		h.user = nil
	}
	assert.NoDirExists(t, filepath.Join(h.dir, "site"))

	newer := `{"format": 99, "address": "127.0.0.1:1"}`
	require.NoError(t, os.WriteFile(filepath.Join(h.dir, "dev.json"), []byte(newer), 0o600))
	for _, args := range [][]string{{"dev", "--data", h.dir}, {"status"}} {
		said := h.ends(usage, args...)
		assert.Contains(t, said, "dev.json")
		assert.Contains(t, said, "newer lifeboat")
	}
	left, err := os.ReadFile(filepath.Join(h.dir, "dev.json"))
	require.NoError(t, err)
	assert.Equal(t, newer, string(left), "nothing was changed")
	require.NoError(t, os.Remove(filepath.Join(h.dir, "dev.json")))
	assert.Empty(t, h.processes("server start-dev"), fmt.Sprintf("something runs on %s", h.dir))
}
