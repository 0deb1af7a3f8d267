package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"lifeboat/internal/demo/stage"
)

// house is a running `lifeboat dev`.
type house struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when the process has ended
}

// startHouse starts `lifeboat dev` and waits until it takes commands.
func startHouse(ctx context.Context, c *cli, dir string) (*house, error) {
	h := &house{log: filepath.Join(dir, "dev.log"), ended: make(chan struct{})}
	log, err := os.OpenFile(h.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	h.cmd = exec.Command(c.executable, "dev", "--data", dir)
	h.cmd.Env, h.cmd.Stdout, h.cmd.Stderr = c.env, log, log
	// A Ctrl-C at the terminal is for the demo, which then stops it in order.
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start lifeboat dev: %w", err)
	}
	go func() {
		_ = h.cmd.Wait()
		close(h.ended)
	}()
	var last error
	err = stage.Poll(ctx, 5*time.Minute, func() (bool, error) {
		select {
		case <-h.ended:
			return false, fmt.Errorf("lifeboat dev ended: %s", h.lastWords())
		default:
		}
		if _, err := os.Stat(filepath.Join(dir, "dev.json")); err != nil {
			return false, nil
		}
		last = c.quiet(ctx, nil, "status", "--timeout", "5s")
		return last == nil, nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lifeboat dev is not ready: %w", err), last, h.stop(context.WithoutCancel(ctx)))
	}
	return h, nil
}

func (h *house) lastWords() string {
	text, err := os.ReadFile(h.log)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text), 5)
}

// stop ends it in good order, and by force when that takes too long.
func (h *house) stop(ctx context.Context) error {
	_ = h.cmd.Process.Signal(syscall.SIGTERM) // ended already: see below
	err := stage.Poll(ctx, 30*time.Second, func() (bool, error) {
		select {
		case <-h.ended:
			return true, nil
		default:
			return false, nil
		}
	})
	if err != nil {
		_ = h.cmd.Process.Kill()
		<-h.ended
		return fmt.Errorf("lifeboat dev did not stop within 30 s: %s", h.lastWords())
	}
	return nil
}
