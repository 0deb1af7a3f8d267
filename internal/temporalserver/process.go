package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// DynamicConfig takes a step of a workflow from 100 ms to 5 ms on a quiet
// server: a shard's transfer queue may be polled more than 20 times a second,
// an activity may be handed out with the task that asked for it, and a task
// queue has one partition, so that no poller waits at an empty one. Keys and
// values are those of Temporal's dynamic configuration.
func DynamicConfig() map[string]any {
	return map[string]any{
		"history.transferProcessorMaxPollRPS":  10000,
		"system.enableActivityEagerExecution":  true,
		"matching.numTaskqueueReadPartitions":  1,
		"matching.numTaskqueueWritePartitions": 1,
	}
}

// maxLog is the size at which the log of earlier starts is put aside.
const maxLog = 16 << 20

// process is the server's process.
type process struct {
	cmd      *exec.Cmd
	log      string // path of its output
	logStart int64  // where this process's output begins
	stopping atomic.Bool
	done     chan struct{} // closed when it has ended
	err      error         // its exit status, once done
}

// arguments are those of the server.
func arguments(opts Options, st state) []string {
	args := []string{
		"server", "start-dev",
		"--db-filename", filepath.Join(opts.DataDir, databaseFile),
		"--ip", loopback, "--port", strconv.Itoa(st.Port),
		"--ui-ip", loopback, "--ui-port", strconv.Itoa(st.UIPort),
		// The user's settings for the client must not reach the server.
		"--disable-config-file", "--disable-config-env",
		"--sqlite-pragma", "journal_mode=WAL",
	}
	if opts.Durable {
		args = append(args, "--sqlite-pragma", "synchronous=full")
	} else {
		args = append(args, "--sqlite-pragma", "synchronous=normal")
	}
	for key, value := range DynamicConfig() {
		args = append(args, "--dynamic-config-value", fmt.Sprintf("%s=%v", key, value))
	}
	if opts.Namespace != "default" {
		args = append(args, "--namespace", opts.Namespace)
	}
	for _, name := range opts.SearchAttributes {
		args = append(args, "--search-attribute", name+"=Keyword")
	}
	return args
}

// environment is the caller's without what configures a Temporal client. The
// tool looks for its old settings below HOME, so HOME is the data directory.
func environment(dir string) []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "TEMPORAL_") && !strings.HasPrefix(entry, "HOME=") {
			env = append(env, entry)
		}
	}
	return append(env, "HOME="+dir)
}

// launch starts the process. It inherits the lock, so that the data directory
// is taken for exactly as long as the server lives.
func launch(opts Options, st state, lock *os.File) (*process, error) {
	out, start, err := openLog(opts.LogFile)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(opts.Path, arguments(opts, st)...)
	cmd.Dir = opts.DataDir
	cmd.Env = environment(opts.DataDir)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Also after kill -9 of the caller nothing may be left.
		Pdeathsig: syscall.SIGKILL,
		// A Ctrl-C at the terminal is for the caller, who stops workers first.
		Setpgid: true,
	}
	p := &process{cmd: cmd, log: opts.LogFile, logStart: start, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run starts the process and waits for its end. The kernel sends Pdeathsig
// when the *thread* that forked ends, so this goroutine keeps its thread.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// openLog opens the log for appending, and puts a long one aside first.
func openLog(path string) (file *os.File, size int64, err error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, fmt.Errorf("put the Temporal server's log aside: %w", err)
		}
	}
	file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open the Temporal server's log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, 0, fmt.Errorf("open the Temporal server's log: %w", err)
	}
	return file, info.Size(), nil
}

// portClashError says that the server ended because a port was taken.
type portClashError struct{ said string }

func (e *portClashError) Error() string { return "a port was taken: " + e.said }

// failure says how the process ended, with the last of its output.
func (p *process) failure() error {
	// A server that misses a port panics: the reason stands before a long trace.
	for line := range strings.Lines(p.lastWords(1 << 20)) {
		if strings.Contains(line, "address already in use") {
			return &portClashError{strings.TrimSpace(line)}
		}
	}
	said := p.lastWords(1500)
	status := "exit status 0"
	if p.err != nil {
		status = p.err.Error()
	}
	return fmt.Errorf("the Temporal server ended: %s; its last words in %s: %s", status, p.log, said)
}

// lastWords are up to n bytes from the end of what the process wrote.
func (p *process) lastWords(n int64) string {
	file, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err.Error()
	}
	from := max(p.logStart, info.Size()-n)
	data, err := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}

// stop asks the process to end, and kills it when it does not.
func (p *process) stop(ctx context.Context) error {
	p.stopping.Store(true)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the Temporal server: %w", err)
	}
	late := time.NewTimer(stopPatience)
	defer late.Stop()
	select {
	case <-p.done:
		return nil
	case <-late.C:
	case <-ctx.Done():
	}
	return p.kill()
}

// kill ends the process at once and waits for its end.
func (p *process) kill() error {
	p.stopping.Store(true)
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the Temporal server: %w", err)
	}
	<-p.done
	return nil
}
