// Package measure runs commands and says what they cost: wall time, processor
// time, memory, bytes over the loopback, and how much of the machine others
// used meanwhile.
package measure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Sample is what one measured run cost.
type Sample struct {
	Wall  float64 `json:"wall_s"`          // seconds from the first start to the last exit
	CPU   float64 `json:"cpu_s"`           // user and system seconds of all processes
	RSS   int64   `json:"rss_bytes"`       // sum of the largest resident sizes of the processes that were there together
	Wire  int64   `json:"wire_bytes"`      // through the loopback interface of the network namespace, both directions, headers included
	Other float64 `json:"other_cpu_s"`     // busy seconds of the whole machine less CPU: noise from others
	Noisy bool    `json:"noisy,omitempty"` // others used too much of the machine
}

// Group is a set of processes that are measured together.
type Group struct {
	start   time.Time
	busy    float64
	wire    int64
	sampler *sampler

	mu  sync.Mutex
	cpu float64
}

// Start begins a measurement.
func Start() *Group {
	return &Group{sampler: newSampler(), busy: Busy(), wire: Loopback(), start: time.Now()}
}

// Command is a process to start.
type Command struct {
	Args   []string
	Env    []string // added to the environment
	Stdin  *os.File
	Stdout *os.File // nil: kept, see Process.Output
}

// Process is a running process of a group, a session of its own.
type Process struct {
	group  *Group
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// Start starts a process; its children count too when it waits for them.
func (g *Group) Start(ctx context.Context, c Command) (*Process, error) {
	p := &Process{group: g, cmd: exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)}
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.cmd.Cancel = p.Kill
	p.cmd.WaitDelay = time.Second
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if c.Stdin != nil {
		p.cmd.Stdin = c.Stdin
	}
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	g.sampler.watch(p.cmd.Process.Pid)
	return p, nil
}

// Wait returns when the process has ended; an end other than exit status 0 is
// an error with what the process said.
func (p *Process) Wait() error {
	err := p.cmd.Wait()
	if ru, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		p.group.mu.Lock()
		p.group.cpu += time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Seconds()
		p.group.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", p.cmd.Args[0], err, bytes.TrimSpace(tail(p.stderr.Bytes(), 2000)))
	}
	return nil
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// Kill ends the process and all others of its session with SIGKILL.
func (p *Process) Kill() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// Output is what the process wrote to its standard output, after Wait.
func (p *Process) Output() []byte { return p.stdout.Bytes() }

// Wire returns the bytes over the loopback since the start.
func (g *Group) Wire() int64 { return Loopback() - g.wire }

// Stop ends the measurement. All processes must have been waited for.
func (g *Group) Stop() Sample {
	s := Sample{Wall: time.Since(g.start).Seconds()}
	busy := Busy()
	s.Wire = g.Wire()
	s.RSS = g.sampler.stop()
	s.CPU = g.cpu
	s.Other = max(0, busy-g.busy-s.CPU)
	return s
}

// Run starts the commands at once and waits for all. After runs when all have
// ended well, inside the measured time (say, to flush a disk); it may be nil.
// The outputs are returned in the order of the commands.
func Run(ctx context.Context, after func() error, commands ...Command) (Sample, [][]byte, error) {
	g := Start()
	var ps []*Process
	var errs []error
	for _, c := range commands {
		p, err := g.Start(ctx, c)
		if err != nil {
			errs = append(errs, err)
			break
		}
		ps = append(ps, p)
	}
	ends := make(chan error, len(ps))
	for _, p := range ps {
		go func() { ends <- p.Wait() }()
	}
	if len(errs) > 0 {
		killAll(ps)
	}
	for range ps {
		if err := <-ends; err != nil {
			errs = append(errs, err)
			killAll(ps) // the others would wait for it
		}
	}
	if after != nil && len(errs) == 0 {
		errs = append(errs, after())
	}
	s := g.Stop()
	var outs [][]byte
	for _, p := range ps {
		outs = append(outs, p.Output())
	}
	return s, outs, errors.Join(errs...)
}

func killAll(ps []*Process) {
	for _, p := range ps {
		_ = p.Kill() // most have ended already
	}
}
