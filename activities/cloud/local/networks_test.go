package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

// needIsolation skips tests of what only root can do.
func needIsolation(t *testing.T) {
	t.Helper()
	if err := canIsolate(); err != nil {
		t.Skip("needs the right to make network namespaces (root): " + err.Error())
	}
}

func TestNetworksOfOneRangeAreApart(t *testing.T) {
	parallel(t)
	needIsolation(t)
	p := testSite(t)
	servers := map[string]cloud.Server{}
	for name, ports := range map[string][]int{"production": {8080, 8081}, "drill": {80}} {
		n, err := p.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: fresh(name), CIDR: "10.90.0.0/24"})
		require.NoError(t, err)
		assert.True(t, n.Isolated)
		assert.Empty(t, n.Note)
		servers[name] = testLaunch(t, p, cloud.LaunchServer{Create: fresh("in-" + name), Network: name, IP: "10.90.0.5", Ports: ports, Launch: testCommand(t)})
	}
	assert.Equal(t, "in-production:", greeting(t, dialServer(t, p, servers["production"])))
	assert.Equal(t, "in-drill:", greeting(t, dialServer(t, p, servers["drill"])))
	conn, err := p.Dial(t.Context(), "production", "10.90.0.5:8081")
	require.NoError(t, err)
	conn.Close()

	_, err = p.Dial(t.Context(), "drill", "10.90.0.6:80")
	assert.Equal(t, cloud.Unavailable, cloud.CodeOf(err), "no server has this address: %v", err)
	_, err = p.Dial(t.Context(), "drill", "10.90.0.5:8081")
	assert.ErrorContains(t, err, "nothing listens", "what listens in production is not seen from the drill")
	assert.Equal(t, cloud.InUse, cloud.CodeOf(p.DeleteNetwork(t.Context(), servers["drill"].Network)))
}

func TestNetworkComesBackAfterItsNamespaceIsGone(t *testing.T) {
	parallel(t)
	needIsolation(t)
	p := testSite(t)
	n, err := p.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: fresh("net"), CIDR: "10.91.0.0/24"})
	require.NoError(t, err)
	path := filepath.Join(namespaceDir, "lifeboat-"+n.ID)
	// What a restart of the machine does, and then what a killed process may leave.
	require.NoError(t, unix.Unmount(path, unix.MNT_DETACH))
	is, err := isNamespace(path)
	require.NoError(t, err)
	require.False(t, is)
	s := testLaunch(t, p, cloud.LaunchServer{Create: fresh("s"), Network: "net", Ports: []int{8080}, Launch: testCommand(t)})
	dialServer(t, p, s)
	require.NoError(t, p.TerminateServer(t.Context(), s.ID))
	waitGone(t, p, s.ID)
	require.NoError(t, p.DeleteNetwork(t.Context(), n.ID))
	_, err = os.Stat(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.Equal(t, cloud.NotFound, cloud.CodeOf(p.DeleteNetwork(t.Context(), n.ID)))
}

func TestNetworkKnowsItsAddresses(t *testing.T) {
	parallel(t)
	p := testSite(t)
	in := cloud.CreateNetwork{Create: fresh("small"), CIDR: "127.45.8.0/29"}
	n, err := p.StartCreateNetwork(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, 6, n.Free)
	same, err := again(t, p).StartCreateNetwork(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, n, same)
	for i := range 6 {
		s, err := p.StartLaunch(t.Context(), cloud.LaunchServer{Create: fresh("s"), Network: "small", Launch: map[string]string{"command": "sleep 1000"}})
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintf("127.45.8.%d", i+1), s.IP)
	}
	_, err = p.StartLaunch(t.Context(), cloud.LaunchServer{Create: fresh("s"), Network: "small", Launch: map[string]string{"command": "sleep 1000"}})
	assert.Equal(t, cloud.Capacity, cloud.CodeOf(err))
	n, err = p.Network(t.Context(), "small")
	require.NoError(t, err)
	assert.Zero(t, n.Free)
}

func TestNetworkRefusesWhatIsNoRange(t *testing.T) {
	parallel(t)
	p := testSite(t)
	for _, cidr := range []string{"", "127.1.0.0", "127.1.0.1/24", "127.1.0.0/31", "::1/128", "0.0.0.0/0", "127.1.0.0/24x"} {
		_, err := p.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: fresh("n"), CIDR: cidr})
		assert.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%q: %v", cidr, err)
	}
	_, err := checkCIDR("StartCreateNetwork", "10.0.0.0/24", unix.EPERM)
	assert.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))
	assert.ErrorContains(t, err, "run as root")
	testNetwork(t, p, "net")
	_, err = p.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: fresh("net"), CIDR: testCIDR})
	assert.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "a name is there once")
}

func TestLoopbackNetworksCanBeSharedWithTheMachine(t *testing.T) {
	parallel(t)
	p, err := Open(t.Context(), cloud.Site{Name: "shared", Directory: t.TempDir()}, Options{SharedLoopback: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Destroy(context.Background())) })
	n, err := p.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: cloud.Create{Token: "net"}, CIDR: "127.99.1.0/24"})
	require.NoError(t, err)
	require.False(t, n.Isolated)
	require.Contains(t, n.Note, "loopback")
}
