package temporalserver

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// silent is a logger that says nothing.
func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// listeners are the TCP sockets on which a process listens.
func listeners(t *testing.T, pid int) []*net.TCPAddr {
	t.Helper()
	own := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(t, err)
	for _, fd := range fds {
		// A file that was closed meanwhile is no listener.
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:[") {
			own[strings.Trim(target[len("socket:"):], "[]")] = true
		}
	}
	var found []*net.TCPAddr
	for _, table := range []string{"tcp", "tcp6"} {
		file, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		require.NoError(t, err)
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) > 9 && fields[3] == "0A" && own[fields[9]] {
				found = append(found, kernelAddress(t, fields[1]))
			}
		}
		require.NoError(t, lines.Err())
		require.NoError(t, file.Close())
	}
	return found
}

// kernelAddress reads the kernel's "0100007F:1C41": 32-bit words of the
// address in the machine's byte order, little-endian here, and the port.
func kernelAddress(t *testing.T, s string) *net.TCPAddr {
	t.Helper()
	host, port, ok := strings.Cut(s, ":")
	require.True(t, ok, s)
	ip, err := hex.DecodeString(host)
	require.NoError(t, err)
	for word := range slices.Chunk(ip, 4) {
		slices.Reverse(word)
	}
	n, err := strconv.ParseUint(port, 16, 16)
	require.NoError(t, err)
	return &net.TCPAddr{IP: ip, Port: int(n)}
}

func addresses(found []*net.TCPAddr) []string {
	var s []string
	for _, address := range found {
		s = append(s, address.String())
	}
	return s
}
