package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local/guesttest"
)

const bootLimit = 2 * time.Minute // without KVM and on a busy machine

var guest = sync.OnceValues(func() (map[string]string, error) {
	dir, err := os.MkdirTemp("", "lifeboat-guest-")
	if err != nil {
		return nil, err
	}
	removeAtEnd = append(removeAtEnd, dir)
	kernel, initrd, err := guesttest.Build(dir)
	return map[string]string{"runtime": "qemu", "kernel": kernel, "initrd": initrd, "append": guesttest.Append}, err
})

// machineLaunch returns the settings that launch the test guest.
func machineLaunch(t *testing.T) map[string]string {
	t.Helper()
	if _, err := exec.LookPath(qemuProgram); err != nil {
		t.Skip("needs " + qemuProgram + " (package " + qemuPackage + ")")
	}
	launch, err := guest()
	if errors.Is(err, guesttest.ErrMissing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	return launch
}

// machineSite launches a virtual machine whose disk begins with a line.
func machineSite(t *testing.T, line string) (p *Provider, s cloud.Server, file string) {
	t.Helper()
	launch := machineLaunch(t)
	p = testSite(t)
	testNetwork(t, p, "net")
	file = filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, []byte(line+"\n"), 0o600))
	require.NoError(t, os.Truncate(file, 16<<20))
	d, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: fresh("root"), Source: file})
	require.NoError(t, err)
	s = testLaunch(t, p, cloud.LaunchServer{Create: fresh("vm"), Network: "net", IP: "127.45.6.9", Ports: []int{80}, Memory: 256 << 20, Launch: launch,
		Disks: []cloud.ServerDisk{{Name: "root", DiskID: d.ID, Boot: true}}})
	return p, s, file
}

// machineClient speaks HTTP with a server in its network.
func machineClient(p *Provider, network string) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return p.Dial(ctx, network, address) }}}
}

// get asks a server until it answers, at most bootLimit.
func get(t *testing.T, client *http.Client, url string, console string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		require.NoError(t, err)
		reply, err := client.Do(request)
		if err == nil {
			body, berr := io.ReadAll(reply.Body)
			reply.Body.Close()
			if berr == nil && reply.StatusCode == http.StatusOK {
				return strings.TrimSpace(string(body))
			}
			err = fmt.Errorf("%s %s", reply.Status, body)
		}
		select {
		case <-ctx.Done():
			output, _ := tail(console, 4096)
			require.FailNow(t, "the guest does not answer", "%v; its console: %s", err, output)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func put(t *testing.T, client *http.Client, url, line string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(line))
	require.NoError(t, err)
	reply, err := client.Do(request)
	require.NoError(t, err)
	reply.Body.Close()
	require.Equal(t, http.StatusOK, reply.StatusCode)
}

// TestMachine is one story, since booting is what takes long here.
func TestMachine(t *testing.T) {
	parallel(t)
	p, s, file := machineSite(t, "from the disk")
	client, url, console := machineClient(p, s.Network), "http://"+s.IP+"/", filepath.Join(p.serverDir(s.ID), consoleFile)
	assert.Equal(t, "from the disk", get(t, client, url, console), "it boots and answers at its address, within its network")

	t.Run("what it has flushed is in the file", func(t *testing.T) {
		put(t, client, url, "written")
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(raw), "written\n"))
	})
	t.Run("scripts run within", func(t *testing.T) { machineScripts(t, p, s) })
	t.Run("a pause holds it still", func(t *testing.T) {
		resume, err := p.PauseServer(t.Context(), s.ID, time.Minute)
		require.NoError(t, err)
		waitFor(t, func() (string, bool) {
			s, err := p.Server(t.Context(), s.ID)
			require.NoError(t, err)
			return s.Message, s.State == cloud.Running && strings.Contains(s.Message, "paused")
		})
		hasty := *client
		hasty.Timeout = 300 * time.Millisecond
		_, err = hasty.Get(url)
		assert.Error(t, err)
		require.NoError(t, resume())
		assert.Equal(t, "written", get(t, client, url, console))
	})
	t.Run("a public address leads to it", func(t *testing.T) {
		a, err := p.AllocateAddress(t.Context(), fresh("a"))
		require.NoError(t, err)
		require.NoError(t, p.AssociateAddress(t.Context(), a.ID, s.ID, false))
		assert.Equal(t, "written", get(t, http.DefaultClient, "http://"+a.Public+"/", console))
	})
	t.Run("its power button stops it in good order", func(t *testing.T) {
		require.NoError(t, p.StopServer(t.Context(), s.ID, false))
		stopped := waitServer(t, p, s.ID, cloud.Stopped)
		assert.Empty(t, stopped.Message)
		output, err := tail(console, 4096)
		require.NoError(t, err)
		assert.Contains(t, output, "power button")
	})
	t.Run("its death is noticed, and it starts again", func(t *testing.T) {
		require.NoError(t, p.StartServer(t.Context(), s.ID))
		waitServer(t, p, s.ID, cloud.Running)
		require.NoError(t, runOf(t, p, s.ID).Child.signal(unix.SIGKILL))
		stopped := waitServer(t, p, s.ID, cloud.Stopped)
		assert.Contains(t, stopped.Message, "SIGKILL")
		require.NoError(t, p.StartServer(t.Context(), s.ID))
		waitServer(t, p, s.ID, cloud.Running)
		assert.Equal(t, "written", get(t, client, url, console))
	})
}

// machineScripts runs scripts within the guest.
func machineScripts(t *testing.T, p *Provider, s cloud.Server) {
	var run cloud.ScriptRun
	in := cloud.RunScript{Token: "in-guest", Server: s.ID, Timeout: time.Minute, Env: map[string]string{"LIFEBOAT_OPERATION": "failover"},
		Content: "#!/bin/sh\nuname -s; echo $LIFEBOAT_OPERATION $LIFEBOAT_SERVER; cat /proc/1/comm; ls -d /proc/self/root/modules; exit 6"}
	waitFor(t, func() (string, bool) {
		var err error
		run, err = p.StartScript(t.Context(), in)
		if err != nil {
			require.Equal(t, cloud.NotReady, cloud.CodeOf(err), "%v", err)
		}
		return fmt.Sprint(err), err == nil
	})
	run = waitScript(t, p, run.ID)
	assert.Equal(t, cloud.Available, run.State, run.Message)
	assert.Equal(t, 6, run.ExitCode)
	assert.Equal(t, "Linux\nfailover vm\ninit\n/proc/self/root/modules\n", run.Output)

	run = runScript(t, p, cloud.RunScript{Server: s.ID, Timeout: time.Second, Content: "sleep 1000"})
	assert.Equal(t, cloud.Failing, run.State)
	assert.Contains(t, run.Message, "time limit")
	waitFor(t, func() (string, bool) {
		run := runScript(t, p, cloud.RunScript{Server: s.ID, Timeout: time.Minute, Content: "ps | grep -c '[s]leep 1000'"})
		return "it is still there in the guest: " + run.Output, run.Output == "0\n"
	})
}

func TestMachineWithoutAgentRunsNoScripts(t *testing.T) {
	parallel(t)
	launch := machineLaunch(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	// A kernel that finds no init does not get as far as an agent.
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("vm"), Network: "net", Memory: 128 << 20,
		Launch: map[string]string{"runtime": "qemu", "kernel": launch["kernel"], "append": "panic=0"}})
	_, err := p.StartScript(t.Context(), cloud.RunScript{Token: "t", Server: s.ID, Content: "true"})
	assert.Equal(t, cloud.NotReady, cloud.CodeOf(err), "%v", err)
	assert.ErrorContains(t, err, "install qemu-guest-agent")
	assert.Equal(t, cloud.Wait, cloud.ClassOf(err))
}

func TestMachineThatCannotStartSaysWhy(t *testing.T) {
	parallel(t)
	launch := machineLaunch(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s, err := p.StartLaunch(t.Context(), cloud.LaunchServer{Create: fresh("vm"), Network: "net", CPU: 100000, Launch: launch})
	require.NoError(t, err)
	s = waitServer(t, p, s.ID, cloud.Failing)
	assert.Contains(t, s.Message, "SMP", "what QEMU said: %s", s.Message)
}

func TestMachineSettingsAreChecked(t *testing.T) {
	parallel(t)
	if _, err := exec.LookPath(qemuProgram); err != nil {
		t.Skip("needs " + qemuProgram + " (package " + qemuPackage + ")")
	}
	for _, launch := range []map[string]string{
		{},
		{"kernel": "/no/such/kernel"},
		{"kernel": "/dev/null", "initrd": "/no/such/initrd"},
		{"initrd": "/dev/null"},
		{"kernel": "/dev/null", "accel": "magic"},
		{"kernel": "/dev/null", "stop_timeout": "soon"},
	} {
		err := qemuRuntime{}.check("StartLaunch", "server vm", cloud.LaunchServer{Launch: launch})
		assert.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%v: %v", launch, err)
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, seed := range []string{
		`{"QMP": {"version": {}, "capabilities": []}}`,
		`{"return": {}, "id": 1}`, `{"return": 5}`,
		`{"error": {"class": "GenericError", "desc": "no"}}`,
		`{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}`,
		`{}`, `null`, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parseMessage(line)
		if err == nil && m.Greeting == nil && m.Event == "" && m.Return == nil && m.Error == nil {
			t.Fatal("a message of no kind")
		}
	})
}
