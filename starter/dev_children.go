package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a worker process that dev keeps alive.
type child struct {
	name    string // what it is, for people
	program string
	args    []string
	log     string // file that its output is appended to
	say     func(format string, args ...any)
	// firstPause is the pause before the first restart in a row.
	firstPause time.Duration

	mu      sync.Mutex
	process *os.Process // nil while it does not run
}

// Pauses between the death of a child and its next start: longer each time,
// and short again after it has lived for a while.
const (
	restartPause = 200 * time.Millisecond
	restartMost  = 10 * time.Second
	goodLife     = 30 * time.Second
	// childLogMost is the size at which a log is put aside when a child starts.
	childLogMost = 16 << 20
)

// keep runs the child until ctx ends, starting it again whenever it dies. It
// returns when no process of it is left.
func (c *child) keep(ctx context.Context) {
	// The kernel kills a child with the thread that forked it (Pdeathsig), so
	// that this goroutine keeps its thread.
	runtime.LockOSThread()
	pause := c.firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > goodLife {
			pause = c.firstPause
		}
		c.say("%s ended: %v; starting it again in %s (log: %s)", c.name, err, length(pause), c.log)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, restartMost)
	}
}

// once runs the child to its end and says how it ended.
func (c *child) once(ctx context.Context) error {
	log, err := openChildLog(c.log)
	if err != nil {
		return err
	}
	defer log.Close()
	start, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd := exec.Command(c.program, c.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Also after kill -9 of dev nothing may be left.
		Pdeathsig: syscall.SIGKILL,
		// A Ctrl-C at the terminal is for dev, who stops the children in order.
		Setpgid: true,
	}
	c.mu.Lock()
	if ctx.Err() != nil {
		c.mu.Unlock()
		return ctx.Err()
	}
	err = cmd.Start()
	if err == nil {
		c.process = cmd.Process
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	err = cmd.Wait()
	c.mu.Lock()
	c.process = nil
	c.mu.Unlock()
	if err == nil {
		err = fmt.Errorf("exit status 0")
	}
	if said := lastLine(c.log, start); said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// signal sends a signal to the child, if it runs.
func (c *child) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		// The only error is that it has ended, which is what is wanted.
		_ = c.process.Signal(s)
	}
}

func openChildLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.Size() > childLogMost {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
}

// lastLine is the last line that was written to a log after an offset.
func lastLine(path string, from int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	from = max(from, info.Size()-2000)
	text, err := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
