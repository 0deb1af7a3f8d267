package local

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

// dialPublic waits until a public address takes connections.
func dialPublic(t *testing.T, a cloud.Address, port int) (conn net.Conn) {
	t.Helper()
	waitFor(t, func() (string, bool) {
		var err error
		conn, err = net.Dial("tcp4", net.JoinHostPort(a.Public, strconv.Itoa(port)))
		if err != nil {
			return err.Error(), false
		}
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		return "", true
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestPublicAddressMovesBetweenServers(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	first := testLaunch(t, p, cloud.LaunchServer{Create: fresh("first"), Network: "net", Ports: []int{8080}, Launch: testCommand(t)})
	second := testLaunch(t, p, cloud.LaunchServer{Create: fresh("second"), Network: "net", Ports: []int{8080, 8081}, Launch: testCommand(t)})
	for _, s := range []cloud.Server{first, second} {
		dialServer(t, p, s)
	}
	in := fresh("www")
	a, err := p.AllocateAddress(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, cloud.Available, a.State)
	same, err := p.AllocateAddress(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, a.ID, same.ID)

	require.NoError(t, p.AssociateAddress(t.Context(), a.ID, first.ID, false))
	require.NoError(t, p.AssociateAddress(t.Context(), a.ID, first.ID, false), "there already")
	old := dialPublic(t, a, 8080)
	assert.Equal(t, "first:", greeting(t, old))
	s, err := p.Server(t.Context(), first.ID)
	require.NoError(t, err)
	assert.Equal(t, a.Public, s.Public)

	assert.Equal(t, cloud.InUse, cloud.CodeOf(p.AssociateAddress(t.Context(), a.ID, second.ID, false)))
	assert.Equal(t, cloud.InUse, cloud.CodeOf(p.ReleaseAddress(t.Context(), a.ID)))
	require.NoError(t, p.AssociateAddress(t.Context(), a.ID, second.ID, true))
	_, err = old.Read(make([]byte, 1))
	assert.Error(t, err, "connections to the first are closed")
	assert.Equal(t, "second:", greeting(t, dialPublic(t, a, 8080)), "at once")
	assert.Equal(t, "second:", greeting(t, dialPublic(t, a, 8081)))

	require.NoError(t, p.DisassociateAddress(t.Context(), a.ID))
	require.NoError(t, p.DisassociateAddress(t.Context(), a.ID), "nowhere already")
	_, err = net.Dial("tcp4", a.Public+":8080")
	assert.ErrorIs(t, err, unix.ECONNREFUSED)
	require.NoError(t, p.ReleaseAddress(t.Context(), a.ID))
	assert.Equal(t, cloud.NotFound, cloud.CodeOf(p.ReleaseAddress(t.Context(), a.ID)))
}

func TestPublicAddressSurvivesItsDaemon(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Ports: []int{8080}, Launch: testCommand(t)})
	dialServer(t, p, s)
	a, err := p.AllocateAddress(t.Context(), fresh("a"))
	require.NoError(t, err)
	require.NoError(t, p.AssociateAddress(t.Context(), a.ID, s.ID, false))
	resolver, err := p.Resolver(t.Context(), "example.org")
	require.NoError(t, err)
	daemon := func() (status daemonStatus) {
		_, err := readJSON(filepath.Join(p.daemonDir(), statusFile), &status)
		require.NoError(t, err)
		return status
	}
	before := daemon()
	require.NoError(t, before.Process.signal(unix.SIGKILL))
	waitFor(t, func() (string, bool) { return "the daemon lives", !before.Process.alive() })

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- again(t, p).KeepDaemon(ctx) }()
	assert.Equal(t, "s:", greeting(t, dialPublic(t, a, 8080)))
	cancel()
	require.NoError(t, <-done)
	same, err := p.Resolver(t.Context(), "example.org")
	require.NoError(t, err)
	assert.Equal(t, resolver, same, "its address is remembered")
	assert.NotEqual(t, before.Process, daemon().Process)
}

func TestPublicAddressWhosePortIsTakenSaysSo(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Ports: []int{8080}, Launch: testCommand(t)})
	a, err := p.AllocateAddress(t.Context(), fresh("a"))
	require.NoError(t, err)
	other, err := net.Listen("tcp4", a.Public+":8080")
	require.NoError(t, err)
	err = p.AssociateAddress(t.Context(), a.ID, s.ID, false)
	assert.Equal(t, cloud.InUse, cloud.CodeOf(err))
	assert.ErrorContains(t, err, "8080 is used by another program")
	require.NoError(t, other.Close())
	assert.Equal(t, "s:", greeting(t, dialPublic(t, a, 8080)), "served as soon as the port is free")
}

func TestAddressOfATerminatedServerIsFree(t *testing.T) {
	parallel(t)
	p := testSite(t)
	testNetwork(t, p, "net")
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Ports: []int{8080}, Launch: testCommand(t)})
	a, err := p.AllocateAddress(t.Context(), fresh("a"))
	require.NoError(t, err)
	require.NoError(t, p.AssociateAddress(t.Context(), a.ID, s.ID, false))
	require.NoError(t, p.TerminateServer(t.Context(), s.ID))
	a, err = p.Address(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, cloud.Available, a.State)
	assert.Empty(t, a.Server)
	waitGone(t, p, s.ID)
	assert.Equal(t, cloud.NotFound, cloud.CodeOf(p.AssociateAddress(t.Context(), a.ID, s.ID, false)))
}
