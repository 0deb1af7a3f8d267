package local

import (
	"context"
	"fmt"
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

// runOf returns who runs a server at the moment.
func runOf(t *testing.T, p *Provider, id string) runInfo {
	t.Helper()
	var info runInfo
	found, err := readJSON(filepath.Join(p.serverDir(id), runFile), &info)
	require.NoError(t, err)
	require.True(t, found)
	return info
}

func TestServerRunsInItsNetworkWithItsDisk(t *testing.T) {
	parallel(t)
	p := testSite(t)
	n := testNetwork(t, p, "net")
	file := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, []byte("hello\n"+strings.Repeat("\x00", 4090)), 0o600))
	d, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: fresh("data"), Source: file})
	require.NoError(t, err)
	in := cloud.LaunchServer{Create: fresh("web"), Network: "net", IP: "127.45.6.7", Ports: []int{8080},
		Disks: []cloud.ServerDisk{{Name: "data", DiskID: d.ID}}, Launch: testCommand(t)}
	s := testLaunch(t, p, in)
	assert.Equal(t, "127.45.6.7", s.IP)
	assert.Equal(t, n.ID, s.Network)
	assert.Equal(t, "web:hello", greeting(t, dialServer(t, p, s)))

	same, err := again(t, p).StartLaunch(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, s.ID, same.ID, "the same token gives the same server")
	in.Ports = []int{8081}
	_, err = p.StartLaunch(t.Context(), in)
	assert.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err))

	assert.Equal(t, cloud.AddressTaken, cloud.CodeOf(p.CheckAddress(t.Context(), "net", "127.45.6.7")))
	require.NoError(t, p.TerminateServer(t.Context(), s.ID))
	waitGone(t, p, s.ID)
	require.NoError(t, p.CheckAddress(t.Context(), "net", "127.45.6.7"))
	d, err = p.Disk(t.Context(), d.ID)
	require.NoError(t, err)
	assert.Equal(t, cloud.Available, d.State, "the disk stays")
	assert.Equal(t, cloud.NotFound, cloud.CodeOf(p.TerminateServer(t.Context(), s.ID)))
}

func TestServerStopsAndStartsAgain(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	launchTwice := func(command map[string]string, force bool) {
		s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Ports: []int{8080}, Launch: command})
		dialServer(t, p, s)
		before := runOf(t, p, s.ID).Child
		require.NoError(t, p.StopServer(t.Context(), s.ID, force))
		stopped := waitServer(t, p, s.ID, cloud.Stopped)
		assert.Empty(t, stopped.Message)
		assert.False(t, before.alive())
		require.NoError(t, p.StopServer(t.Context(), s.ID, force), "stopped already")
		require.NoError(t, p.StartServer(t.Context(), s.ID))
		require.NoError(t, p.StartServer(t.Context(), s.ID), "started already")
		waitServer(t, p, s.ID, cloud.Running)
		dialServer(t, p, s)
	}
	launchTwice(testCommand(t), false)
	stubborn := testCommand(t, "stubborn")
	launchTwice(stubborn, true)
	stubborn["stop_timeout"] = "100ms"
	launchTwice(stubborn, false)
}

func TestServerThatEndsByItselfIsStoppedWithTheReason(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Ports: []int{8080}, Launch: testCommand(t)})
	fmt.Fprintln(dialServer(t, p, s), "exit")
	s = waitServer(t, p, s.ID, cloud.Stopped)
	assert.Contains(t, s.Message, "exit status 7")
	assert.Contains(t, s.Message, "leaving on request")

	require.NoError(t, p.StartServer(t.Context(), s.ID))
	waitServer(t, p, s.ID, cloud.Running)
	require.NoError(t, runOf(t, p, s.ID).Child.signal(unix.SIGKILL))
	s = waitServer(t, p, s.ID, cloud.Stopped)
	assert.Contains(t, s.Message, "SIGKILL")
}

func TestServerDiesWithItsSupervisor(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	// A server of two processes, so that the second would be left over.
	launch := map[string]string{"command": `sh -c "sleep 1000 & echo $!; wait"`}
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Launch: launch})
	run := runOf(t, p, s.ID)
	waitFor(t, func() (string, bool) {
		members, err := family(run.Child, run.Supervisor.PID)
		require.NoError(t, err)
		return fmt.Sprint(members), len(members) == 2
	})
	require.NoError(t, run.Supervisor.signal(unix.SIGKILL))
	s = waitServer(t, p, s.ID, cloud.Stopped)
	assert.Contains(t, s.Message, "lost")
	members, err := family(run.Child, 0)
	require.NoError(t, err)
	assert.Empty(t, members)
	require.NoError(t, p.StartServer(t.Context(), s.ID))
	waitServer(t, p, s.ID, cloud.Running)
}

func TestServerThatCannotBeStartedFails(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s, err := p.StartLaunch(t.Context(), cloud.LaunchServer{Create: fresh("s"), Network: "net", Launch: map[string]string{"command": "/no/such/program"}})
	require.NoError(t, err)
	s = waitServer(t, p, s.ID, cloud.Failing)
	assert.Contains(t, s.Message, "/no/such/program")
}

func TestLaunchRefusesWhatCannotWork(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	command := map[string]string{"command": "true"}
	for name, c := range map[string]struct {
		in   cloud.LaunchServer
		code cloud.Code
	}{
		"no network":       {cloud.LaunchServer{Network: "other", Launch: command}, cloud.NotFound},
		"address outside":  {cloud.LaunchServer{Network: "net", IP: "127.45.7.1", Launch: command}, cloud.InvalidInput},
		"first address":    {cloud.LaunchServer{Network: "net", IP: "127.45.6.0", Launch: command}, cloud.InvalidInput},
		"last address":     {cloud.LaunchServer{Network: "net", IP: "127.45.6.255", Launch: command}, cloud.InvalidInput},
		"no command":       {cloud.LaunchServer{Network: "net"}, cloud.InvalidInput},
		"unknown runtime":  {cloud.LaunchServer{Network: "net", Launch: map[string]string{"runtime": "x"}}, cloud.InvalidInput},
		"port twice":       {cloud.LaunchServer{Network: "net", Launch: command, Ports: []int{1, 1}}, cloud.InvalidInput},
		"image":            {cloud.LaunchServer{Network: "net", Launch: command, Image: "img-1"}, cloud.Unsupported},
		"no such disk":     {cloud.LaunchServer{Network: "net", Launch: command, Disks: []cloud.ServerDisk{{DiskID: "disk-1"}}}, cloud.NotFound},
		"bad stop timeout": {cloud.LaunchServer{Network: "net", Launch: map[string]string{"command": "true", "stop_timeout": "1"}}, cloud.InvalidInput},
	} {
		c.in.Create = fresh("s")
		_, err := p.StartLaunch(t.Context(), c.in)
		assert.Equal(t, c.code, cloud.CodeOf(err), "%s: %v", name, err)
	}
	all, err := p.Servers(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	assert.Empty(t, all, "nothing was changed")
}

func TestLaunchIsCompletedByWhoeverPolls(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	// A caller that was killed after the record and before the start.
	broken := again(t, p)
	broken.options.Executable = "/no/such/helper"
	in := cloud.LaunchServer{Create: fresh("s"), Network: "net", Launch: testCommand(t), Ports: []int{8080}}
	_, err := broken.StartLaunch(t.Context(), in)
	require.Error(t, err)
	all, err := p.Servers(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagRole: "test"}})
	require.NoError(t, err)
	require.Len(t, all, 1)
	s := testLaunch(t, p, in)
	assert.Equal(t, all[0].ID, s.ID)
}

func TestManyWhoPollStartAServerOnce(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	count := filepath.Join(t.TempDir(), "starts")
	in := cloud.LaunchServer{Create: fresh("s"), Network: "net", Launch: map[string]string{"command": fmt.Sprintf(`sh -c "echo x >>%s; exec sleep 1000"`, count)}}
	done := make(chan error)
	for range 6 {
		q := again(t, p)
		go func() {
			_, err := q.StartLaunch(context.WithoutCancel(t.Context()), in)
			done <- err
		}()
	}
	for range 6 {
		require.NoError(t, <-done)
	}
	s := testLaunch(t, p, in)
	require.Eventually(t, func() bool { _, err := os.Stat(count); return err == nil }, time.Minute, 5*time.Millisecond, "it runs, and comes to its first command later")
	require.NoError(t, p.StopServer(t.Context(), s.ID, true))
	waitServer(t, p, s.ID, cloud.Stopped)
	raw, err := os.ReadFile(count)
	require.NoError(t, err)
	assert.Equal(t, "x\n", string(raw))
}

func TestDestroyLeavesNothing(t *testing.T) {
	parallel(t)
	p := testSite(t)
	n := testNetwork(t, p, "net")
	file := p.path(diskDir, "mine.raw")
	require.NoError(t, os.WriteFile(file, make([]byte, 4096), 0o600))
	d, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: fresh("data"), Source: file})
	require.NoError(t, err)
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Ports: []int{8080}, Launch: testCommand(t), Disks: []cloud.ServerDisk{{Name: "data", DiskID: d.ID}}})
	a, err := p.AllocateAddress(t.Context(), fresh("a"))
	require.NoError(t, err)
	require.NoError(t, p.AssociateAddress(t.Context(), a.ID, s.ID, false))
	child := runOf(t, p, s.ID).Child
	q, err := Open(t.Context(), p.Site(), Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, q.Destroy(ctx))
	assert.False(t, child.alive())
	assert.FileExists(t, file, "an adopted file stays")
	left, err := filepath.Glob(filepath.Join(p.Site().Directory, "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{p.path(diskDir)}, left)
	if n.Isolated {
		assert.NoFileExists(t, filepath.Join(namespaceDir, "lifeboat-"+n.ID))
	}
	// For the cleanup: the site begins anew.
	_, err = Open(t.Context(), p.Site(), Options{})
	require.NoError(t, err)
}

func TestHelpersEndWithTheDirectoryOfTheirSite(t *testing.T) {
	parallel(t)
	p, err := Open(t.Context(), cloud.Site{Name: "test", Directory: t.TempDir() + "/site"}, Options{})
	require.NoError(t, err)
	n := testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Launch: testCommand(t), Ports: []int{8080}})
	a, err := p.AllocateAddress(t.Context(), fresh("a"))
	require.NoError(t, err)
	require.NoError(t, p.AssociateAddress(t.Context(), a.ID, s.ID, false))
	run := runOf(t, p, s.ID)
	require.NoError(t, p.Close())
	// Moved away first, since helpers may write until they notice.
	gone := p.Site().Directory + ".gone"
	require.NoError(t, os.Rename(p.Site().Directory, gone))
	waitFor(t, func() (string, bool) { return "the server goes on", !run.Child.alive() && !run.Supervisor.alive() })
	waitFor(t, func() (string, bool) { return "helpers are left", p.helpersLeft() == 0 })
	if n.Isolated {
		assert.NoFileExists(t, filepath.Join(namespaceDir, "lifeboat-"+n.ID))
	}
}
