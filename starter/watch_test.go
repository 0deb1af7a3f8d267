package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/internal/dial"
	"lifeboat/workflows"
)

// openTerminal makes a terminal of a width; what is written to it is read from master.
func openTerminal(t *testing.T, columns uint16) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { master.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: columns}))
	return master, terminal
}

// onTerminal runs a command line whose standard error is a terminal.
func onTerminal(t *testing.T, h house, columns uint16, args ...string) (status int, out, seen string) {
	t.Helper()
	master, terminal := openTerminal(t, columns)
	var screen, result bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		// The read ends with an error when the terminal is closed.
		_, _ = io.Copy(&screen, master)
	}()
	a := newApp(Streams{In: strings.NewReader(""), Out: &result, Err: terminal})
	a.pace = 100 * time.Millisecond
	a.connect = func(context.Context, dial.Options) (house, error) { return h, nil }
	status = a.execute(t.Context(), args)
	require.NoError(t, terminal.Close())
	<-read
	return status, result.String(), screen.String()
}

func TestBarsOnATerminal(t *testing.T) {
	t.Parallel()
	there := webServer()
	there.Phase, there.Replication.Stage = workflows.PhaseRealTime, "real-time"
	h := newFakeHouse().withServer(webServer(), webServer(), webServer(), there)
	status, out, seen := onTerminal(t, h, 120, "replication", "start", "shop/web", "--wait")
	require.Equal(t, statusDone, status)
	require.Regexp(t, `shop/web +\[=+>-+\] +full-replication  25\.0 %  1GiB of 4GiB  100MiB/s  left 31\.0s`, seen)
	require.Regexp(t, `shop/web +\[=+\] +real-time  lag 0\.0s`, seen)
	require.Equal(t, "shop/web  real-time  ok\n", out, "results and progress do not mix")
}

func TestLinesOnATerminalWithoutWidth(t *testing.T) {
	t.Parallel()
	there := webServer()
	there.Phase = workflows.PhaseRealTime
	status, _, seen := onTerminal(t, newFakeHouse().withServer(there), 0, "replication", "status", "shop/web", "--wait")
	require.Equal(t, statusDone, status)
	require.Contains(t, seen, "shop/web  real-time")
	require.NotContains(t, seen, "[=")
}
