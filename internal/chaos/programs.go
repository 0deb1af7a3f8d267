package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/temporalserver"
	"lifeboat/workflows"
)

// program is a process of Lifeboat that can be killed and started again.
type program interface {
	name() string
	// kill ends it by SIGKILL and waits until it is gone.
	kill(ctx context.Context) error
	start(ctx context.Context) error
}

// worker is a lifeboat-worker process under a supervisor, as `lifeboat dev` or an
// init system is one: a worker that is started while Temporal is away gives up.
type worker struct {
	label string
	path  string
	args  []string
	env   []string // beside that of the campaign
	log   string

	mu      sync.Mutex
	process *os.Process
	wanted  bool          // false: it is being killed
	crash   error         // it ended in a way that a supervisor must not hide
	ended   chan struct{} // the supervisor has ended
}

// Supervision of a worker.
const (
	restartPause = 300 * time.Millisecond
	exitPanic    = 2 // of a Go program
)

func (w *worker) name() string { return w.label }

func (w *worker) start(context.Context) error {
	started, ended := make(chan error, 1), make(chan struct{})
	w.mu.Lock()
	w.wanted, w.ended = true, ended
	w.mu.Unlock()
	go w.supervise(started, ended)
	return <-started
}

// supervise runs the worker until it is killed.
func (w *worker) supervise(started chan<- error, ended chan<- struct{}) {
	defer close(ended)
	// Pdeathsig means the death of the thread that forked: it must live as long.
	runtime.LockOSThread()
	for {
		cmd, err := w.launch()
		select {
		case started <- err:
		default: // not the first time
		}
		if cmd == nil {
			return
		}
		_ = cmd.Wait() // its state says it all
		if !w.goesOn(cmd.ProcessState) {
			return
		}
		time.Sleep(restartPause) // nothing to wait for: Temporal may be back by then
	}
}

// launch starts the process, unless it is not wanted any more.
func (w *worker) launch() (*exec.Cmd, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.wanted {
		return nil, nil
	}
	log, err := os.OpenFile(w.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		w.crash = err
		return nil, err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- start %s\n", time.Now().Format(time.RFC3339Nano))
	cmd := exec.Command(w.path, w.args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), w.env...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.crash = fmt.Errorf("start %s: %w", w.label, err)
		return nil, w.crash
	}
	w.process = cmd.Process
	return cmd, nil
}

// goesOn tells whether an ended process is started again.
func (w *worker) goesOn(state *os.ProcessState) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if state.ExitCode() == exitPanic {
		w.crash = fmt.Errorf("%s: %s (see %s)", w.label, state, w.log)
	}
	return w.wanted && w.crash == nil
}

func (w *worker) kill(ctx context.Context) error {
	w.mu.Lock()
	process, ended := w.process, w.ended
	w.wanted = false
	if process != nil {
		_ = process.Kill() // gone already: the same
	}
	w.mu.Unlock()
	if ended == nil {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alive says how a worker has ended that must not end like that.
func (w *worker) alive() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.crash
}

// orchestrator is the Temporal server.
type orchestrator struct {
	options temporalserver.Options
	server  *temporalserver.Server
}

func newOrchestrator(path, dir string) *orchestrator {
	return &orchestrator{options: temporalserver.Options{Path: path, DataDir: filepath.Join(dir, "temporal"),
		SearchAttributes: workflows.SearchAttributes()}}
}

func (o *orchestrator) name() string { return "temporal" }

// start starts it on the same data and the same ports as before.
func (o *orchestrator) start(ctx context.Context) error {
	var err error
	o.server, err = temporalserver.Start(ctx, o.options)
	return err
}

func (o *orchestrator) kill(ctx context.Context) error {
	if o.server == nil {
		return nil
	}
	if err := unix.Kill(o.server.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	select {
	case <-o.server.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// programs are all that can be killed, beside the servers.
type programs struct {
	temporal          *orchestrator
	control           *worker
	primary, recovery *worker
}

// newWorker prepares a worker. The address of Temporal is known only when it runs: see startAll.
func (c *campaign) newWorker(v victim, env []string, args ...string) *worker {
	label := string(v)
	return &worker{label: label, path: c.Binaries.Worker, log: filepath.Join(c.Dir, "logs", label+".log"), env: env,
		args: append([]string{"--data", filepath.Join(c.Dir, label), "--timeouts", "fast"}, args...)}
}

func (p *programs) workers() []*worker { return []*worker{p.control, p.primary, p.recovery} }

// startAll starts Temporal, then the workers with its address.
func (p *programs) startAll(ctx context.Context) error {
	if err := p.temporal.start(ctx); err != nil {
		return err
	}
	for _, w := range p.workers() {
		w.args = append(w.args, "--address", p.temporal.server.Address)
		if err := w.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stopAll kills everything: the campaign is over.
func (p *programs) stopAll(ctx context.Context) error {
	var errs []error
	for _, w := range p.workers() {
		errs = append(errs, w.kill(ctx))
	}
	return errors.Join(append(errs, p.temporal.kill(ctx))...)
}
