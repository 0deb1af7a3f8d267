package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	regexpPercent = regexp.MustCompile(`"percent": 42`)
	regexpPaused  = regexp.MustCompile(`paused: holidays`)
)

// devProcess is a running `lifeboat dev`.
type devProcess struct {
	t    *testing.T
	cmd  *exec.Cmd
	data string
	out  chan string // lines of both streams
	all  bytes.Buffer
	end  chan error
}

// programs makes lifeboat and lifeboat-worker out of this test program.
func programs(t *testing.T) (lifeboat, worker string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	for _, name := range []string{"lifeboat", "lifeboat-worker"} {
		require.NoError(t, os.Symlink(self, filepath.Join(dir, name)))
	}
	return filepath.Join(dir, "lifeboat"), filepath.Join(dir, "lifeboat-worker")
}

func startDev(t *testing.T, data string, args ...string) *devProcess {
	t.Helper()
	lifeboat, worker := programs(t)
	d := &devProcess{t: t, data: data, out: make(chan string, 1000), end: make(chan error, 1)}
	d.cmd = exec.Command(lifeboat, append([]string{"dev", "--data", data, "--worker", worker}, args...)...)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	d.cmd.Stdout, d.cmd.Stderr = write, write
	require.NoError(t, d.cmd.Start())
	require.NoError(t, write.Close())
	read2 := io.TeeReader(read, &d.all)
	go func() {
		lines := bufio.NewScanner(read2)
		for lines.Scan() {
			d.out <- lines.Text()
		}
		close(d.out)
		d.end <- d.cmd.Wait()
	}()
	t.Cleanup(func() {
		if err := d.cmd.Process.Kill(); err == nil {
			for range d.out {
			}
		}
		read.Close()
	})
	return d
}

// until waits for a line that contains text.
func (d *devProcess) until(text string) string {
	d.t.Helper()
	late := time.After(60 * time.Second)
	var seen []string
	for {
		select {
		case line, open := <-d.out:
			seen = append(seen, line)
			if strings.Contains(line, text) {
				return line
			}
			require.True(d.t, open, "dev ended before it said %q; it said:\n%s", text, strings.Join(seen, "\n"))
		case <-late:
			require.Fail(d.t, "dev did not say "+text, strings.Join(seen, "\n"))
		}
	}
}

// over waits for the end of dev and gives its exit status.
func (d *devProcess) over() int {
	d.t.Helper()
	for range d.out {
	}
	select {
	case err := <-d.end:
		var exit *exec.ExitError
		if err != nil {
			require.ErrorAs(d.t, err, &exit)
		}
		return d.cmd.ProcessState.ExitCode()
	case <-time.After(60 * time.Second):
		require.Fail(d.t, "dev did not end")
		return -1
	}
}

// processes finds the processes whose command line names the data directory.
func (d *devProcess) processes(word string) []int {
	d.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(d.t, err)
	var found []int
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		text := strings.ReplaceAll(string(line), "\x00", " ")
		if strings.Contains(text, d.data) && strings.Contains(text, word) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			require.NoError(d.t, err)
			if pid != os.Getpid() {
				found = append(found, pid)
			}
		}
	}
	return found
}

func (d *devProcess) noProcessLeft() {
	d.t.Helper()
	require.Eventually(d.t, func() bool { return len(d.processes("")) == 0 }, 20*time.Second, 20*time.Millisecond,
		"processes of dev are left: %v", d.processes(""))
}

func TestDevRunsUntilInterruptedAndGoesOnAfterEveryKill(t *testing.T) {
	useBuiltTemporal(t)
	data := filepath.Join(t.TempDir(), "data")
	d := startDev(t, data, "--site", "branch="+filepath.Join(data, "branch"))
	d.until("Lifeboat is ready")
	d.until("Stop it with Ctrl-C")
	first := readState(t, data)
	require.Len(t, first.Sites, 4)
	require.Contains(t, first.Address, "127.0.0.1:")

	// Another terminal finds it by its data directory.
	r := runIn(t, nil, map[string]string{dataEnv: data}, "status", "-o", "json").done(t)
	require.Contains(t, r.out, `"workers": true`)
	r = runIn(t, nil, map[string]string{dataEnv: data}, "local", "list").done(t)
	require.Contains(t, r.out, "branch")

	// A second dev on the directory is told who has it.
	second := run(t, nil, "dev", "--data", data, "--worker", os.Args[0])
	require.Equal(t, statusFailed, second.status)
	require.Contains(t, second.err, fmt.Sprintf("process %d", d.cmd.Process.Pid))

	// A child that dies is started again, and so is Temporal, on the same port.
	killed := d.processes("host-free agent-none") // nothing: keeps the helper honest
	require.Empty(t, killed)
	for _, pid := range d.processes("--roles agent --agent recovery") {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	d.until("agent-recovery ended: signal: killed")
	require.Eventually(t, func() bool { return len(d.processes("--roles agent --agent recovery")) == 1 }, 20*time.Second, 20*time.Millisecond)
	for _, pid := range d.processes("server start-dev") {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	d.until("Temporal is back at " + first.Address)

	// kill -9 of dev leaves nothing behind, and the next start goes on.
	require.NoError(t, d.cmd.Process.Kill())
	d.over()
	d.noProcessLeft()
	d = startDev(t, data)
	d.until("Lifeboat is ready")
	require.Equal(t, first.Address, readState(t, data).Address)
	require.Equal(t, first.Sites, readState(t, data).Sites, "a site that was added is remembered")

	// Ctrl-C ends it in order, with success.
	require.NoError(t, d.cmd.Process.Signal(os.Interrupt))
	d.until("stopping the workers, then Temporal")
	require.Equal(t, statusDone, d.over(), d.all.String())
	d.noProcessLeft()
}

func TestASecondInterruptKillsWhatDoesNotStop(t *testing.T) {
	useBuiltTemporal(t)
	data := filepath.Join(t.TempDir(), "data")
	d := startDev(t, data)
	d.until("Lifeboat is ready")
	// A stopped process cannot answer SIGTERM.
	for _, pid := range d.processes("--roles agent --agent primary") {
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	require.NoError(t, d.cmd.Process.Signal(os.Interrupt))
	d.until("stopping the workers")
	require.NoError(t, d.cmd.Process.Signal(os.Interrupt))
	began := time.Now()
	d.over()
	require.Less(t, time.Since(began), stopPatience/2)
	d.noProcessLeft()
}

func readState(t *testing.T, data string) devState {
	t.Helper()
	state, err := readDev(data)
	require.NoError(t, err)
	require.NotNil(t, state)
	return *state
}

func TestStateOfANewerOrDamagedDevIsRefused(t *testing.T) {
	t.Parallel()
	for content, says := range map[string]string{
		`{"format": 99}`: "newer lifeboat",
		`{"format": 1,`:  "damaged",
	} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, devFile), []byte(content), 0o600))
		r := runIn(t, newFakeHouse(), map[string]string{dataEnv: dir}, "plan", "list")
		require.Equal(t, statusUsage, r.status)
		require.Contains(t, r.err, says)
		require.Contains(t, r.err, dir)
	}
}

func FuzzParseDev(f *testing.F) {
	f.Add([]byte(`{"format":1,"address":"127.0.0.1:7233","sites":{"primary":"/d"}}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, content []byte) {
		state, err := parseDev(content)
		if err != nil {
			return
		}
		again, err := json.Marshal(state)
		require.NoError(t, err)
		_, err = parseDev(again)
		require.NoError(t, err)
	})
}

func TestDevChecksBeforeItStartsAnything(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for says, args := range map[string][]string{
		"write NAME=DIR":              {"--site", "x"},
		"given twice":                 {"--site", "x=/a", "--site", "x=/b"},
		"letters, digits and dashes":  {"--site", "x/y=/a"},
		"there are standard and fast": {"--timeouts", "slow"},
		"--worker":                    {"--worker", "/nonexistent/worker"},
		"choose another with --data":  {"--worker", os.Args[0], "--data", file},
	} {
		r := run(t, nil, append([]string{"dev", "--data", filepath.Join(t.TempDir(), "d")}, args...)...)
		require.Equal(t, statusUsage, r.status, "%v: %s", args, r.err)
		require.Contains(t, r.err, says)
	}
}
