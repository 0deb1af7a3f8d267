package e2e

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/workflows"
)

func TestDevStopsCleanlyAndGoesOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, b := h.createBox("db", 0, "data=16MiB")
	h.protect(planFile{servers: []string{"db"}})

	t.Log("nothing listens beyond loopback")
	assert.Empty(t, h.beyondLoopback())

	t.Log("a second dev on the same directory is refused")
	said := h.ends(failed, "dev", "--data", h.dir)
	assert.Contains(t, said, "another `lifeboat dev` runs on it, process "+fmt.Sprint(h.dev.Process.Pid))
	assert.Contains(t, said, "--data", "what to do")

	t.Log("Ctrl-C stops everything of Lifeboat, and the server of one's own goes on")
	address := h.address()
	assert.Equal(t, done, h.signal(syscall.SIGINT))
	assert.Empty(t, h.processes("lifeboat-worker --"), "workers are left")
	assert.Empty(t, h.processes("server start-dev"), "Temporal is left")
	require.NoError(t, b.alive())
	said = h.ends(unreachable, "status", "--timeout", "20s")
	assert.Contains(t, said, address)

	t.Log("started again, everything goes on at the same address")
	b.writeLine("data", 0, "written while Lifeboat was away")
	before := time.Now()
	h.start()
	assert.Equal(t, address, h.address())
	h.awaitPointSince("shop/db", before)

	t.Log("kill -9 in the middle of a full copy, and again everything goes on")
	h.do("replication", "stop", "shop", "--wait")
	b.write("data", 4096, slices.Repeat([]byte("0123456789abcdef"), 12*mib/16))
	h.do("replication", "start", "shop")
	h.signal(syscall.SIGKILL)
	h.eventually("its children die with it", func() error {
		if left := append(h.processes("lifeboat-worker --"), h.processes("server start-dev")...); len(left) > 0 {
			return fmt.Errorf("processes %v", left)
		}
		return nil
	})
	before = time.Now()
	h.start()
	h.do("replication", "status", "shop", "--wait=real-time")
	h.awaitPointSince("shop/db", before)
	over := ask[workflows.Report](h, "failover", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	assert.Equal(t, "written while Lifeboat was away", boxAt(t, over.Servers[0].Public).line("data", 0))
}

// address of Temporal.
func (h *house) address() string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "dev.json"))
	require.NoError(h.t, err)
	_, rest, _ := strings.Cut(string(text), `"address": "`)
	address, _, _ := strings.Cut(rest, `"`)
	require.NotEmpty(h.t, address)
	return address
}

// awaitPointSince waits for a recovery point of after an instant.
func (h *house) awaitPointSince(server string, since time.Time) {
	h.t.Helper()
	h.eventually("a new recovery point of "+server, func() error {
		points := h.points(server)
		if len(points) == 0 || !points[0].Time.After(since) {
			return fmt.Errorf("%d points, none newer than %s", len(points), since)
		}
		return nil
	})
}

// beyondLoopback lists what the processes of the house listen on, in their own
// networks, beside loopback addresses. Local servers listen in networks of their own.
func (h *house) beyondLoopback() (open []string) {
	h.t.Helper()
	here, err := os.Readlink("/proc/self/ns/net")
	require.NoError(h.t, err)
	for _, pid := range h.processes("") {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil || ns != here {
			continue
		}
		sockets := h.sockets(pid)
		for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
			for _, l := range listeners(h.t, filepath.Join("/proc/self/net", table)) {
				if sockets[l.inode] && !l.ip.IsLoopback() {
					open = append(open, fmt.Sprintf("process %d: %s %s", pid, table, l.ip))
				}
			}
		}
	}
	return open
}

// sockets are the inodes of the sockets of a process.
func (h *house) sockets(pid int) map[string]bool {
	inodes := map[string]bool{}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(h.t, err)
	for _, link := range links {
		to, err := os.Readlink(link)
		if inode, ok := strings.CutPrefix(to, "socket:["); err == nil && ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}

type listener struct {
	ip    net.IP
	inode string
}

// listeners reads a table of the kernel: TCP in state LISTEN, and UDP without a peer.
func listeners(t *testing.T, table string) (all []listener) {
	t.Helper()
	file, err := os.Open(table)
	require.NoError(t, err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Scan() // the head
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != "0A" && f[3] != "07" {
			continue
		}
		text, _, _ := strings.Cut(f[1], ":")
		raw, err := hex.DecodeString(text)
		require.NoError(t, err)
		for word := range slices.Chunk(raw, 4) { // each in the order of the machine
			slices.Reverse(word)
		}
		all = append(all, listener{ip: net.IP(raw), inode: f[9]})
	}
	require.NoError(t, lines.Err())
	return all
}
