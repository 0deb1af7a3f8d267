package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

// counting launches a server that counts up in a file from two processes.
func counting(t *testing.T, p *Provider) (s cloud.Server, count func() string) {
	t.Helper()
	testNetwork(t, p, "net")
	file := filepath.Join(t.TempDir(), "count")
	script := fmt.Sprintf(`i=0; while :; do i=$((i+1)); echo $i >%s.new; mv %s.new %s; done`, file, file, file)
	s = testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Launch: map[string]string{"command": `sh -c "sh -c '` + strings.ReplaceAll(script, "$", `\$`) + `'; exit"`}})
	count = func() string {
		raw, err := os.ReadFile(file)
		if err != nil {
			return ""
		}
		return string(raw)
	}
	waitFor(t, func() (string, bool) { return "counts", count() != "" })
	return s, count
}

// goesOn waits until a count has changed.
func goesOn(t *testing.T, count func() string) {
	t.Helper()
	before := count()
	waitFor(t, func() (string, bool) { return "the server stands still", count() != before })
}

// standsStill is true when no process of the server could have written.
func standsStill(t *testing.T, p *Provider, s cloud.Server) {
	t.Helper()
	run := runOf(t, p, s.ID)
	members, err := family(run.Child, run.Supervisor.PID)
	require.NoError(t, err)
	require.NotEmpty(t, members)
	for _, m := range members {
		assert.True(t, isStill(m.PID))
	}
}

func TestPauseHoldsAServerStill(t *testing.T) {
	parallel(t)
	p := testSite(t)
	s, count := counting(t, p)
	for range 3 {
		resume, err := p.PauseServer(t.Context(), s.ID, time.Minute)
		require.NoError(t, err)
		standsStill(t, p, s)
		before := count()
		assert.Equal(t, before, count())
		require.NoError(t, resume())
		require.NoError(t, resume(), "resumed already")
		goesOn(t, count)
	}
	require.NoError(t, p.StopServer(t.Context(), s.ID, true))
	waitServer(t, p, s.ID, cloud.Stopped)
	_, err := p.PauseServer(t.Context(), s.ID, time.Minute)
	assert.Equal(t, cloud.Conflict, cloud.CodeOf(err))
}

func TestPauseEndsByItselfAndSaysSo(t *testing.T) {
	parallel(t)
	p := testSite(t)
	s, count := counting(t, p)
	resume, err := p.PauseServer(t.Context(), s.ID, time.Millisecond)
	require.NoError(t, err)
	goesOn(t, count)
	assert.ErrorContains(t, resume(), "before it was asked")
}

func TestPauseEndsWithWhoeverAskedForIt(t *testing.T) {
	parallel(t)
	p := testSite(t)
	s, count := counting(t, p)
	// A second process asks, and is killed while the server is held still.
	exe, err := os.Executable()
	require.NoError(t, err)
	pidFile := filepath.Join(t.TempDir(), "pid")
	cmd := startTest(t, exe, testPauser, p.Site().Directory, s.ID, pidFile)
	var pid int
	waitFor(t, func() (string, bool) {
		raw, err := os.ReadFile(pidFile)
		if err != nil {
			return "no pause yet", false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(raw)))
		return "pid", err == nil
	})
	standsStill(t, p, s)
	require.Equal(t, cmd.Process.Pid, pid)
	require.NoError(t, cmd.Process.Kill())
	cmd.Wait() //nolint:errcheck // was killed
	goesOn(t, count)
}

func TestPauseEndsWhenItsHelperIsKilled(t *testing.T) {
	parallel(t)
	p := testSite(t)
	s, count := counting(t, p)
	resume, err := p.PauseServer(t.Context(), s.ID, time.Minute)
	require.NoError(t, err)
	all, err := processes()
	require.NoError(t, err)
	killed := 0
	for _, candidate := range all {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", candidate.pid))
		if err == nil && strings.Contains(string(raw), roleHold+"\x00test\x00"+p.Site().Directory+"\x00") {
			require.NoError(t, unix.Kill(candidate.pid, unix.SIGKILL))
			killed++
		}
	}
	assert.Equal(t, 1, killed)
	goesOn(t, count)
	assert.Error(t, resume(), "what was read is not of one instant")
}

func TestTwoPausesFollowEachOther(t *testing.T) {
	parallel(t)
	p := testSite(t)
	s, count := counting(t, p)
	first, err := p.PauseServer(t.Context(), s.ID, time.Minute)
	require.NoError(t, err)
	second := make(chan func() error)
	go func() {
		resume, err := p.PauseServer(t.Context(), s.ID, time.Minute)
		assert.NoError(t, err)
		second <- resume
	}()
	require.NoError(t, first())
	resume := <-second
	standsStill(t, p, s)
	require.NoError(t, resume())
	goesOn(t, count)
}
