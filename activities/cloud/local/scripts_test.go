package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

// runScript runs a script to its end.
func runScript(t *testing.T, p *Provider, in cloud.RunScript) cloud.ScriptRun {
	t.Helper()
	if in.Token == "" {
		in.Token = fresh("script").Token
	}
	run, err := p.StartScript(t.Context(), in)
	require.NoError(t, err)
	return waitScript(t, p, run.ID)
}

func waitScript(t *testing.T, p *Provider, id string) (run cloud.ScriptRun) {
	t.Helper()
	waitFor(t, func() (string, bool) {
		var err error
		run, err = p.ScriptRun(t.Context(), id)
		require.NoError(t, err)
		return "script is " + string(run.State), run.State != cloud.Running
	})
	return run
}

func TestScriptRunsBesideItsServer(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	file := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, make([]byte, 4096), 0o600))
	d, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: fresh("data"), Source: file})
	require.NoError(t, err)
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("web"), Network: "net", Ports: []int{8080}, Launch: testCommand(t), UserData: "settings",
		Disks: []cloud.ServerDisk{{Name: "data", DiskID: d.ID}}})
	dialServer(t, p, s)
	run := runScript(t, p, cloud.RunScript{Server: s.ID, Env: map[string]string{"LIFEBOAT_OPERATION": "drill"}, Content: `
echo "$LIFEBOAT_OPERATION of $LIFEBOAT_SERVER at $LIFEBOAT_ADDRESS:$LIFEBOAT_PORTS"
echo "$LIFEBOAT_DISKS $LIFEBOAT_DISK_DATA" >&2
cat "$LIFEBOAT_USER_DATA"
exit 5`})
	assert.Equal(t, cloud.Available, run.State)
	assert.Equal(t, 5, run.ExitCode)
	assert.Equal(t, "drill of web at "+s.IP+":8080\ndata="+file+" "+file+"\nsettings", run.Output)

	run = runScript(t, p, cloud.RunScript{Server: s.ID, Content: "#!/usr/bin/env bash\nexec 3<>/dev/tcp/$LIFEBOAT_ADDRESS/8080; head -1 <&3"})
	assert.Equal(t, 0, run.ExitCode)
	assert.Contains(t, run.Output, "web:", "it is in the network of its server")
}

func TestScriptOverItsLimitIsKilledWithAllItStarted(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("web"), Network: "net", Launch: map[string]string{"command": "sleep 1000"}})
	run := runScript(t, p, cloud.RunScript{Server: s.ID, Timeout: 200 * time.Millisecond, Content: "setsid sleep 987 & sleep 987 & echo started; sleep 987"})
	assert.Equal(t, cloud.Failing, run.State)
	assert.Contains(t, run.Message, "time limit")
	assert.Equal(t, "started\n", run.Output)
	all, err := processes()
	require.NoError(t, err)
	for _, candidate := range all {
		raw, err := os.ReadFile("/proc/" + itoa(candidate.pid) + "/environ")
		assert.False(t, err == nil && strings.Contains(string(raw), "LIFEBOAT_SERVER_ID="+s.ID) && candidate.session != runOf(t, p, s.ID).Child.PID,
			"process %d of the script is left over", candidate.pid)
	}
}

func TestScriptRunsOnceForEachToken(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("web"), Network: "net", Launch: map[string]string{"command": "sleep 1000"}})
	count := filepath.Join(t.TempDir(), "count")
	in := cloud.RunScript{Token: "once", Server: s.ID, Content: "echo x >>" + count}
	first := runScript(t, p, in)
	assert.Equal(t, first, runScript(t, again(t, p), in))
	raw, err := os.ReadFile(count)
	require.NoError(t, err)
	assert.Equal(t, "x\n", string(raw))
	in.Content = "false"
	_, err = p.StartScript(t.Context(), in)
	assert.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err))
}

func TestScriptShowsTheEndOfItsOutput(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("web"), Network: "net", Launch: map[string]string{"command": "sleep 1000"}})
	run := runScript(t, p, cloud.RunScript{Server: s.ID, Content: "seq 100000; kill -9 $$"})
	assert.Len(t, run.Output, 16<<10)
	assert.True(t, strings.HasSuffix(run.Output, "\n100000\n"))
	assert.Equal(t, 137, run.ExitCode)
}

func TestScriptIsLostWithItsSupervisorAndEndedWithItsServer(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("web"), Network: "net", Launch: map[string]string{"command": "sleep 1000"}})
	start := func() (string, runInfo) {
		run, err := p.StartScript(t.Context(), cloud.RunScript{Token: fresh("t").Token, Server: s.ID, Content: "sleep 1000"})
		require.NoError(t, err)
		var info runInfo
		waitFor(t, func() (string, bool) {
			o, err := observeRun(p.scriptDir(run.ID), 1)
			require.NoError(t, err)
			info = o.run
			return "script starts", o.phase == phaseRunning
		})
		return run.ID, info
	}
	lost, info := start()
	require.NoError(t, info.Supervisor.signal(unix.SIGKILL))
	run := waitScript(t, p, lost)
	assert.Equal(t, cloud.Failing, run.State)
	assert.Contains(t, run.Message, "lost")

	ended, _ := start()
	require.NoError(t, p.TerminateServer(t.Context(), s.ID))
	waitGone(t, p, s.ID)
	run = waitScript(t, p, ended)
	assert.Equal(t, cloud.Failing, run.State)
	assert.Contains(t, run.Message, "together with its server")
}

func TestScriptIsRefusedWhenItCannotRun(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("web"), Network: "net", Launch: map[string]string{"command": "sleep 1000"}})
	require.NoError(t, p.StopServer(t.Context(), s.ID, true))
	waitServer(t, p, s.ID, cloud.Stopped)
	for what, c := range map[string]struct {
		in   cloud.RunScript
		code cloud.Code
	}{
		"stopped":        {cloud.RunScript{Server: s.ID, Content: "true"}, cloud.Conflict},
		"no such server": {cloud.RunScript{Server: "srv-0", Content: "true"}, cloud.NotFound},
		"empty":          {cloud.RunScript{Server: s.ID, Content: "\n"}, cloud.InvalidInput},
		"bad variable":   {cloud.RunScript{Server: s.ID, Content: "true", Env: map[string]string{"A=B": "c"}}, cloud.InvalidInput},
		"negative limit": {cloud.RunScript{Server: s.ID, Content: "true", Timeout: -1}, cloud.InvalidInput},
	} {
		c.in.Token = fresh("t").Token
		_, err := p.StartScript(t.Context(), c.in)
		assert.Equal(t, c.code, cloud.CodeOf(err), "%s: %v", what, err)
	}
}
