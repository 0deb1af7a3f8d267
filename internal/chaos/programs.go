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

// worker is a lifeboat-worker process.
type worker struct {
	label string
	path  string
	args  []string
	log   string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

func (w *worker) name() string { return w.label }

func (w *worker) start(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	log, err := os.OpenFile(w.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- start %s\n", time.Now().Format(time.RFC3339Nano))
	w.cmd = exec.Command(w.path, w.args...)
	w.cmd.Stdout, w.cmd.Stderr = log, log
	w.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd, ended, started := w.cmd, make(chan struct{}), make(chan error)
	w.ended = ended
	go func() {
		// Pdeathsig means the death of the thread that forked: it must live as long.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, or its log says why
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", w.label, err)
	}
	return nil
}

func (w *worker) kill(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd == nil {
		return nil
	}
	_ = w.cmd.Process.Kill() // gone already: the same
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alive says why a worker does not run though nobody killed it.
func (w *worker) alive() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.ended:
		return fmt.Errorf("%s ended by itself: %v (see %s)", w.label, w.cmd.ProcessState, w.log)
	default:
		return nil
	}
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

// Binaries are the programs that the campaign runs.
type Binaries struct {
	Lifeboat, Worker, Temporal string
}

func newPrograms(b Binaries, dir, sites string) *programs {
	logs := filepath.Join(dir, "logs")
	site := func(name string) string { return name + "=" + filepath.Join(sites, name) }
	// The Temporal address is known only when it runs: see startAll.
	make := func(label string, args ...string) *worker {
		return &worker{label: label, path: b.Worker, log: filepath.Join(logs, label+".log"),
			args: append([]string{"--data", filepath.Join(dir, label), "--timeouts", "fast"}, args...)}
	}
	agent := func(name string) *worker {
		return make("agent-"+name, "--roles", "agent", "--agent", name, "--site", site(name))
	}
	return &programs{
		temporal: newOrchestrator(b.Temporal, dir),
		control:  make("worker", "--roles", "control,cloud", "--site", site("primary"), "--site", site("recovery"), "--site", site("names")),
		primary:  agent("primary"),
		recovery: agent("recovery"),
	}
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
