package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/internal/demo/stage"
	"lifeboat/workflows"
)

// Exit statuses of the contract.
const (
	done        = 0
	failed      = 1
	usage       = 2
	refused     = 3
	waitOver    = 4
	unreachable = 5
)

// patience bounds every command and every wait.
const patience = 90 * time.Second

// house is a `lifeboat dev` on a directory, and the terminal next to it.
type house struct {
	t     *testing.T
	dir   string
	user  *syscall.Credential // nil = whoever runs the tests
	dev   *exec.Cmd
	ended chan struct{}
	// Networks without rights are 127.N.0.0/24 and the next one.
	loopback int
	mount    string // what to unmount at the end
	// Programs in other places than usual; empty = this one, and the one of TestMain.
	box, temporal string
	extra         []string      // environment beside the usual one
	patience      time.Duration // instead of the usual one
}

// newHouse starts a dev on a new directory. At the end of the test everything is
// destroyed, and nothing may be left.
func newHouse(t *testing.T) *house {
	t.Helper()
	h := emptyHouse(t)
	h.start()
	return h
}

// houses counts them, by two.
var houses atomic.Int32

func emptyHouse(t *testing.T) *house {
	t.Helper()
	dir, err := os.MkdirTemp("", "lifeboat-e2e-") // short: paths of sockets have a limit
	require.NoError(t, err)
	h := &house{t: t, dir: dir, loopback: int(houses.Add(2))%50 + 10}
	t.Cleanup(h.destroy)
	return h
}

// env is the environment of the programs.
func (h *house) env() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TEMPORAL_") })
	return append(append(env, h.extra...), "LIFEBOAT_DATA="+h.dir, "LIFEBOAT_TEMPORAL="+cmp.Or(h.temporal, programs.temporal), "HOME="+h.dir, "TMPDIR="+os.TempDir())
}

// start starts dev and waits until it says that it is ready.
func (h *house) start(args ...string) {
	h.t.Helper()
	log, err := os.OpenFile(h.logFile(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	require.NoError(h.t, err)
	defer log.Close()
	cmd := exec.Command(programs.lifeboat, append([]string{"dev", "--data", h.dir, "--timeouts", "fast"}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = h.env(), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: h.user}
	ended, started := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig means the death of the thread that forked
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in ProcessState
		}
		close(ended)
	}()
	require.NoError(h.t, <-started)
	h.dev, h.ended = cmd, ended
	h.eventually("dev is ready", func() error {
		said, err := os.ReadFile(h.logFile())
		if err == nil && !bytes.Contains(said, []byte("Lifeboat is ready")) {
			err = fmt.Errorf("it says: %s", said)
		}
		select {
		case <-h.ended:
			h.t.Fatalf("dev ended: %s", said)
		default:
		}
		return err
	})
}

func (h *house) logFile() string { return h.dir + ".dev.log" }

// signal sends dev a signal and returns its exit status; -1 when it was killed.
func (h *house) signal(s syscall.Signal) int {
	h.t.Helper()
	if err := h.dev.Process.Signal(s); !errors.Is(err, os.ErrProcessDone) { // else it says itself how it ended
		require.NoError(h.t, err)
	}
	select {
	case <-h.ended:
	case <-time.After(patience):
		require.FailNow(h.t, "dev does not end", "after %s", s)
	}
	status := h.dev.ProcessState.ExitCode()
	h.dev = nil
	return status
}

// destroy ends everything that the test has started.
func (h *house) destroy() {
	if h.t.Failed() {
		h.evidence()
	}
	if h.dev != nil {
		h.signal(syscall.SIGINT)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := os.Stat(filepath.Join(h.dir, "dev.json")); err == nil {
		r := h.run(ctx, "local", "destroy", "--yes")
		assert.Equal(h.t, done, r.status, "local destroy: %s", r.said)
	}
	// The helpers end by themselves when their site is gone.
	err := stage.Poll(ctx, 20*time.Second, func() (bool, error) { return len(h.processes("")) == 0, nil })
	assert.NoError(h.t, err, "processes are left")
	for _, pid := range h.processes("") {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended just now
		h.t.Logf("left: process %d: %s", pid, bytes.ReplaceAll(command, []byte{0}, []byte{' '}))
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if h.mount != "" {
		assert.NoError(h.t, unix.Unmount(h.mount, 0))
	}
	assert.NoError(h.t, os.RemoveAll(h.dir))
	assert.NoError(h.t, os.RemoveAll(h.logFile()))
}

// evidence logs what may say why the test failed.
func (h *house) evidence() {
	for _, args := range [][]string{{"local", "list"}, {"server", "list", "--timeout", "10s"}, {"report", "list", "shop", "--timeout", "10s"}} {
		a := h.run(context.Background(), args...)
		h.t.Logf("lifeboat %s: status %d\n%s%s", strings.Join(args, " "), a.status, a.result, a.said)
	}
	files, err := filepath.Glob(filepath.Join(h.dir, "logs", "*.log"))
	if err != nil {
		return
	}
	for _, path := range append(files, h.logFile()) {
		text, err := os.ReadFile(path)
		if err == nil && len(text) > 0 {
			h.t.Logf("the end of %s:\n%s", filepath.Base(path), text[max(0, len(text)-4000):])
		}
	}
}

// processes finds the processes whose command line names the directory and word.
func (h *house) processes(word string) (found []int) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(h.t, err)
	for _, file := range files {
		command, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(command, []byte(h.dir)) || !bytes.Contains(bytes.ReplaceAll(command, []byte{0}, []byte{' '}), []byte(word)) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(file, "/")[2]); err == nil && pid != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}

// process is the one process whose command line has the word.
func (h *house) process(word string) int {
	h.t.Helper()
	found := h.processes(word)
	require.Len(h.t, found, 1, "processes with %q", word)
	return found[0]
}

// answer of a command.
type answer struct {
	status       int
	result, said string // standard output and error
}

// run runs a command line to its end.
func (h *house) run(ctx context.Context, args ...string) answer {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(h.patience, patience))
	defer cancel()
	cmd := exec.CommandContext(ctx, programs.lifeboat, args...)
	var out, said bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = h.env(), &out, &said, h.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.user}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return answer{-1, "", err.Error()}
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), said.String()}
}

// do runs a command that must succeed.
func (h *house) do(args ...string) {
	h.t.Helper()
	h.ends(done, args...)
}

// ends runs a command, asserts its exit status, and gives all that it said.
func (h *house) ends(status int, args ...string) string {
	h.t.Helper()
	r := h.run(h.t.Context(), args...)
	require.Equal(h.t, status, r.status, "lifeboat %s\n%s%s", strings.Join(args, " "), r.result, r.said)
	return r.result + r.said
}

// ask runs a command that must succeed and reads its JSON.
func ask[T any](h *house, args ...string) T {
	h.t.Helper()
	return asked[T](h, done, args...)
}

// asked runs a command with an exit status and reads its JSON.
func asked[T any](h *house, status int, args ...string) (value T) {
	h.t.Helper()
	args = append(args, "-o", "json")
	r := h.run(h.t.Context(), args...)
	require.Equal(h.t, status, r.status, "lifeboat %s\n%s%s", strings.Join(args, " "), r.result, r.said)
	require.NoError(h.t, json.Unmarshal([]byte(r.result), &value), "lifeboat %s: %s", strings.Join(args, " "), r.result)
	return value
}

// eventually waits until look finds nothing wrong.
func (h *house) eventually(what string, look func() error) {
	h.t.Helper()
	var last error
	err := stage.Poll(h.t.Context(), cmp.Or(h.patience, patience), func() (bool, error) {
		last = look()
		return last == nil, nil
	})
	require.NoError(h.t, err, "%s: %v", what, last)
}

// server gives the state of a protected server.
func (h *house) server(name string) workflows.ServerView {
	h.t.Helper()
	return ask[workflows.ServerView](h, "server", "show", name)
}

// awaitHealth waits until a server's health is as wanted, and gives the server.
func (h *house) awaitHealth(name string, health workflows.Health) (view workflows.ServerView) {
	h.t.Helper()
	h.eventually(name+" is "+string(health), func() error {
		view = h.server(name)
		if view.Health != health {
			return fmt.Errorf("health %s: %s", view.Health, view.HealthReason)
		}
		return nil
	})
	return view
}
