package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local/guesttest"
	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// A virtual machine is protected, drilled and failed over: what is recovered really
// boots, and answers with the data of its recovery point.
func TestVirtualMachineIsRecovered(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64 (package qemu-system-x86)")
	}
	kernel, initrd, err := guesttest.Build(t.TempDir())
	if errors.Is(err, guesttest.ErrMissing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	disk := filepath.Join(t.TempDir(), "vm.img")
	require.NoError(t, os.WriteFile(disk, []byte("from the factory\n"), 0o600))
	require.NoError(t, os.Truncate(disk, 16*mib))

	h := newHouse(t)
	server := ask[cloud.Server](h, "local", "create-server", "vm", "--site", "primary", "--network", "main", "--cidr", h.range24()+"0/24", "--ip", h.ip(0), "--port", "80", "--public",
		"--disk", "root="+disk, "--kernel", kernel, "--initrd", initrd, "--append", guesttest.Append, "--memory", "256MiB")
	source := machine{h, server.Public, nil}
	h.eventually("the virtual machine has booted", func() error { return source.says("from the factory") })
	source.write("first")
	h.protect(planFile{servers: []string{"vm"}, launch: "cpu: 1, memory: 256MiB, health: {http: /, port: 80, timeout: 80s}"})
	early := h.mark("shop/vm", "early")
	assert.Equal(t, "pause", early.CutMethod, "no reflink here: the machine stands still for a moment")
	source.write("second")
	h.mark("shop/vm", "late")
	source.write("third")

	drill := ask[workflows.Report](h, "drill", "start", "shop", "--point", early.ID)
	require.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
	p := h.open("recovery")
	drilled := drilledServer(t, p, drill, "vm")
	inside := machine{h, drilled.IP, stage.Inside(p, drilled.Network)}
	require.NoError(t, inside.says("first"), "the drilled machine, over its address")
	require.NoError(t, source.says("third"), "production beside it")
	drill = ask[workflows.Report](h, "drill", "clean", "shop")
	assert.Zero(t, drill.Resources.Left, drill.Resources.LeftOver)

	over := ask[workflows.Report](h, "failover", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	assert.Equal(t, "done", over.Servers[0].Fencing)
	away := machine{h, over.Servers[0].Public, nil}
	require.NoError(t, away.says("third"), "over its public address")
	recovered := drilledServer(t, p, over, "vm")
	require.NoError(t, machine{h, recovered.IP, stage.Inside(p, recovered.Network)}.says("third"), "over its address")
	assert.Error(t, source.says("third"), "the source is off")
}

// machine is a running test guest.
type machine struct {
	h      *house
	ip     string
	client *http.Client // nil = from outside
}

func (m machine) ask(method, body string) (string, error) {
	b := boxAt(m.h.t, m.ip)
	b.url = "http://" + net.JoinHostPort(m.ip, "80")
	if m.client != nil {
		b.client = m.client
	}
	ctx, cancel := context.WithTimeout(m.h.t.Context(), patience)
	defer cancel()
	answer, err := b.ask(ctx, method, "/", bytes.TrimSpace([]byte(body)))
	return strings.TrimSpace(string(answer)), err
}

// says is nil when the line on the machine's disk is as wanted.
func (m machine) says(line string) error {
	got, err := m.ask(http.MethodGet, "")
	if err == nil && got != line {
		err = fmt.Errorf("it says %q instead of %q", got, line)
	}
	return err
}

func (m machine) write(line string) {
	m.h.t.Helper()
	_, err := m.ask(http.MethodPut, line)
	require.NoError(m.h.t, err)
}
