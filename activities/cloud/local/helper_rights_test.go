package local

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

// unprivileged is set in the second run of this program as another user.
const unprivileged = "LIFEBOAT_TEST_UNPRIVILEGED"

// TestWithoutRights runs the tests of servers, addresses and scripts again as a
// user who may not make network namespaces: they share the loopback network then.
func TestWithoutRights(t *testing.T) {
	t.Parallel()
	if os.Getenv(unprivileged) != "" {
		return // this is the second run
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user; the other tests run without rights here anyway")
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	raw, err := os.ReadFile(exe)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "lifeboat-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "local.test")
	require.NoError(t, os.WriteFile(program, raw, 0o755))
	temporary := filepath.Join(dir, "tmp")
	require.NoError(t, os.Mkdir(temporary, 0o700))
	const nobody = 65534
	require.NoError(t, os.Chown(temporary, nobody, nobody))
	require.NoError(t, os.Chmod(dir, 0o755))
	cmd := exec.Command(program, "-test.run", "^Test(Server|Launch|Public|Script|Network|Destroy|Pause|Names)", "-test.timeout", "5m")
	cmd.Dir = temporary
	cmd.Env = append(os.Environ(), unprivileged+"=1", "TMPDIR="+temporary, "HOME="+temporary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.True(t, strings.HasSuffix(string(out), "PASS\n"), "%s", out)
}

func TestNetworkWithoutIsolationSaysSo(t *testing.T) {
	parallel(t)
	if canIsolate() == nil {
		t.Log("this user may isolate: TestWithoutRights runs this as another one")
		return
	}
	p := testSite(t)
	n := testNetwork(t, p, "net")
	assert.False(t, n.Isolated)
	assert.Contains(t, n.Note, "run as root")
	_, err := p.StartCreateNetwork(t.Context(), cloud.CreateNetwork{Create: fresh("n"), CIDR: "10.1.0.0/24"})
	assert.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))
	_, err = p.Dial(t.Context(), "net", "127.0.0.1:80")
	assert.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "only addresses of the network can be dialled")
}
