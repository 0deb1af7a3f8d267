package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

// What the hold helper says on its standard output, a line each.
const (
	holdPaused  = "paused"
	holdResumed = "resumed" // its standard input was closed
	holdExpired = "expired" // the time was up before that
	holdFailed  = "failed: "
)

const stillLimit = 10 * time.Second // for a server to come to rest

// pauseInfo says who holds a server still, and what has to be done to undo it.
type pauseInfo struct {
	Child      process `json:"child"`
	Supervisor int     `json:"supervisor"`
	Machine    bool    `json:"machine"` // a virtual machine, paused through QMP
}

// PauseServer holds a server still: none of its processes executes (process
// runtime), or its virtual machine is stopped with its writes in the files
// (qemu). A helper process resumes it when resume is called, when this process
// dies, or when max has passed; in the last case resume returns an error,
// since what was read meanwhile is not of one instant.
func (p *Provider) PauseServer(ctx context.Context, id string, max time.Duration) (resume func() error, err error) {
	const op = "PauseServer"
	if max <= 0 {
		return nil, invalid(op, "server "+id, "the longest pause is not positive", "give a duration")
	}
	s, err := p.Server(ctx, id)
	if err != nil {
		return nil, err
	}
	if s.State != cloud.Running {
		return nil, cloud.E(cloud.Conflict, op, "server "+id, "is "+string(s.State)+", only a running one can be paused", "", nil)
	}
	cmd, err := p.helper(roleHold, id, max.String())
	if err != nil {
		return nil, err
	}
	hold := &holder{op: op, id: id, cmd: cmd}
	if hold.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, osError(op, "server "+id, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, osError(op, "server "+id, err)
	}
	cmd.Stderr = &hold.stderr
	if err := cmd.Start(); err != nil {
		return nil, osError(op, "server "+id, err)
	}
	hold.lines = bufio.NewReader(stdout)
	// A caller that gives up closes the helper's input, which then resumes and ends.
	undo := context.AfterFunc(ctx, func() { hold.stdin.Close() })
	line, err := hold.read()
	if !undo() && err == nil {
		err = osError(op, "server "+id, ctx.Err())
	}
	if err == nil && line != holdPaused {
		err = cloud.E(cloud.Unavailable, op, "server "+id, "could not be paused: "+strings.TrimPrefix(line, holdFailed), "", nil)
	}
	if err != nil {
		return nil, errors.Join(err, hold.end())
	}
	return sync.OnceValue(hold.resume), nil
}

// holder is the caller's side of a hold helper.
type holder struct {
	op, id string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Reader
	stderr strings.Builder
}

func (h *holder) read() (string, error) {
	line, err := h.lines.ReadString('\n')
	if err != nil {
		return "", cloud.E(cloud.Unavailable, h.op, "server "+h.id, "the helper that pauses it ended", "", err)
	}
	return strings.TrimSpace(line), nil
}

func (h *holder) end() error {
	h.stdin.Close()
	if err := h.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(h.stderr.String()))
	}
	return nil
}

func (h *holder) resume() error {
	h.stdin.Close()
	line, err := h.read()
	if err == nil && line != holdResumed {
		err = cloud.E(cloud.Failed, h.op, "server "+h.id, "was resumed before it was asked for ("+line+")", "allow a longer pause", nil)
	}
	return errors.Join(err, h.end())
}

// holdServer is the helper that holds a server still while its standard input is open.
func holdServer(site cloud.Site, id, limit string) error {
	longest, err := time.ParseDuration(limit)
	if err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // any end is the end
		close(closed)
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-closed; cancel() }()
	p, err := Open(ctx, site, Options{})
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // ends with the process
	dir := p.serverDir(id)
	lock, err := waitLock(ctx, filepath.Join(dir, pauseLock))
	if err != nil {
		return err
	}
	defer lock.Close()
	info, err := p.pauseTarget(ctx, id)
	if err != nil {
		fmt.Println(holdFailed + strings.ReplaceAll(err.Error(), "\n", " "))
		return nil
	}
	if err := writeJSON(filepath.Join(dir, pauseFile), info); err != nil {
		return err
	}
	still := info.pause(dir, closed)
	expired := time.After(longest)
	how := holdResumed
	if still == nil {
		fmt.Println(holdPaused)
		select {
		case <-closed:
		case <-expired:
			how = holdExpired
		}
	}
	err = errors.Join(info.resume(dir), os.Remove(filepath.Join(dir, pauseFile)))
	if still = errors.Join(still, err); still != nil {
		how = holdFailed + strings.ReplaceAll(still.Error(), "\n", " ")
	}
	fmt.Println(how)
	return nil
}

// waitLock is takeLock that waits until the lock is free or ctx ends.
func waitLock(ctx context.Context, path string) (*os.File, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		lock, free, err := takeLock(path)
		if err != nil || free {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// pauseTarget finds out what has to be paused.
func (p *Provider) pauseTarget(ctx context.Context, id string) (pauseInfo, error) {
	l, _, err := p.loadServer(ctx, "PauseServer", id)
	if err != nil {
		return pauseInfo{}, err
	}
	o, err := observeRun(l.dir, l.Run)
	if err != nil {
		return pauseInfo{}, err
	}
	if o.phase != phaseRunning {
		return pauseInfo{}, errors.New("it does not run any more")
	}
	return pauseInfo{Child: o.run.Child, Supervisor: o.run.Supervisor.PID, Machine: o.run.Machine != ""}, nil
}

// pause stops execution and returns when nothing executes any more. A process
// that was stopped between vfork and exec keeps its parent from stopping: then
// all are let go for a moment, each time after a longer wait.
func (i pauseInfo) pause(dir string, giveUp <-chan struct{}) error {
	if i.Machine {
		return machineCommand(dir, qmpHold, "stop")
	}
	deadline := time.After(stillLimit)
	patience := 20 * time.Millisecond
	letGo := time.After(patience)
	var before map[int]bool
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		now, still, err := i.stop()
		if err != nil {
			return err
		}
		// A process may have been made while the list was: two equal lists tell.
		if still && maps.Equal(now, before) {
			return nil
		}
		before = now
		select {
		case <-giveUp:
			return errors.New("nobody waits for it any more")
		case <-deadline:
			return fmt.Errorf("it does not come to rest within %s", stillLimit)
		case <-letGo:
			if !still {
				if err := i.resume(dir); err != nil {
					return err
				}
			}
			patience = min(2*patience, time.Second)
			letGo = time.After(patience)
		case <-time.After(pause):
		}
	}
}

// stop asks all processes to stop that have not, and tells whether all have.
func (i pauseInfo) stop() (members map[int]bool, still bool, err error) {
	list, err := family(i.Child, i.Supervisor)
	if err == nil && len(list) == 0 {
		err = errors.New("it has ended")
	}
	if err != nil {
		return nil, false, err
	}
	members, still = map[int]bool{}, true
	for _, m := range list {
		members[m.PID] = true
		if !isStill(m.PID) {
			still = false
			if err := m.signal(unix.SIGSTOP); err != nil {
				return nil, false, err
			}
		}
	}
	return members, still, nil
}

// isStill tells whether no thread of a process executes, not even in the kernel.
func isStill(pid int) bool {
	base := fmt.Sprintf("/proc/%d/task", pid)
	tasks, err := os.ReadDir(base)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	for _, t := range tasks {
		raw, err := os.ReadFile(filepath.Join(base, t.Name(), "stat"))
		if err != nil {
			continue // a thread that has ended
		}
		if s, err := parseStat(raw); err != nil || !strings.ContainsRune("TtZX", rune(s.state)) {
			return false
		}
	}
	return true
}

// resume undoes pause. Resuming what runs or is gone is nil.
func (i pauseInfo) resume(dir string) error {
	if !i.Child.alive() {
		return nil
	}
	if i.Machine {
		return machineCommand(dir, qmpHold, "cont")
	}
	members, err := family(i.Child, i.Supervisor)
	for _, m := range members {
		err = errors.Join(err, m.signal(unix.SIGCONT))
	}
	return err
}

// resumeForgotten resumes a server whose hold helper was itself killed.
func resumeForgotten(dir string) error {
	path := filepath.Join(dir, pauseFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, free, err := takeLock(filepath.Join(dir, pauseLock))
	if err != nil || !free {
		return err
	}
	defer lock.Close()
	var info pauseInfo
	found, err := readJSON(path, &info)
	if err != nil || !found {
		return err
	}
	return errors.Join(info.resume(dir), os.Remove(path))
}
