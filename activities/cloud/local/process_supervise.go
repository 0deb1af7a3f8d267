package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultGrace = 10 * time.Second // between asking a program to end and killing it
	quitWait     = 3 * time.Second  // between ending a virtual machine and killing it
	killWait     = 10 * time.Second // for killed processes to be gone
	outputLimit  = 8 << 20          // output that is kept of earlier runs
)

// program is what a supervisor is to run.
type program struct {
	path  string
	args  []string // with the name of the program
	env   []string
	dir   string
	enter func() error // moves this thread into the network; nil = stay
	files []*os.File   // file descriptors 3, 4, … of the program
	limit time.Duration
	grace time.Duration
	ask   func() error // asks it to end; nil = SIGTERM
	quit  func() error // ends it when it did not follow; nil = SIGKILL
	// follow is called once the program is started and returns when it runs, with
	// the first state of a virtual machine. Later ones go to state.
	follow func(child process, state func(machine string)) (machine string, err error)
	after  func() // cleans up after the end
}

// supervisor keeps one run of one program.
type supervisor struct {
	dir     string
	info    runInfo
	exit    exitInfo
	program program
	signals chan os.Signal
	states  chan string
}

// supervise runs what prepare says, once for each number, and returns when it
// has ended. It is all that a helper process does.
func supervise(dir string, number int, prepare func() (program, error)) error {
	// The program dies with the thread that started it, and is in its network.
	runtime.LockOSThread()
	s := &supervisor{dir: dir, signals: make(chan os.Signal, 8), states: make(chan string, 8)}
	signal.Notify(s.signals, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1)
	lock, free, err := takeLock(filepath.Join(dir, lockFile))
	if err != nil || !free {
		return err
	}
	defer lock.Close()
	var before runInfo
	if _, err := readJSON(filepath.Join(dir, runFile), &before); err != nil {
		return err
	}
	if before.Run >= number {
		return nil // somebody was faster
	}
	if err := killFamily(before.Child, 0, killWait); err != nil {
		return err
	}
	self, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	s.info = runInfo{Run: number, Supervisor: self}
	s.exit = exitInfo{Run: number}
	if err := writeJSON(filepath.Join(dir, runFile), s.info); err != nil {
		return err
	}
	if err := s.run(prepare); err != nil {
		s.exit.Error = err.Error()
	}
	s.exit.Time = time.Now().UTC()
	return writeJSON(filepath.Join(dir, exitFile), s.exit)
}

// run runs the program; an error is that it could not be started.
func (s *supervisor) run(prepare func() (program, error)) (err error) {
	s.program, err = prepare()
	if err != nil {
		return err
	}
	if s.program.after != nil {
		defer s.program.after()
	}
	if s.program.enter != nil {
		if err := s.program.enter(); err != nil {
			return err
		}
	}
	// Processes that lose their parent become ours, so that none is left over.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become reaper: %w", err)
	}
	pid, err := s.start()
	if err != nil {
		return err
	}
	s.info.Child, err = identify(pid) // is there until it is reaped
	ended := reap(pid)
	if err == nil && s.program.follow != nil {
		s.info.Machine, err = s.program.follow(s.info.Child, func(state string) { s.states <- state })
	}
	if err == nil {
		err = writeJSON(filepath.Join(s.dir, runFile), s.info)
	}
	if err != nil {
		unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // ours, and not reaped yet
	}
	s.wait(pid, ended)
	return errors.Join(err, killFamily(s.info.Child, s.info.Supervisor.PID, killWait))
}

// start starts the program in a session of its own.
func (s *supervisor) start() (pid int, err error) {
	path, err := exec.LookPath(s.program.path)
	if err != nil {
		return 0, fmt.Errorf("program %s: %w", s.program.path, errors.Unwrap(err))
	}
	output, err := openOutput(filepath.Join(s.dir, outputFile))
	if err != nil {
		return 0, err
	}
	defer output.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	files := []uintptr{null.Fd(), output.Fd(), output.Fd()}
	for _, f := range s.program.files {
		files = append(files, f.Fd())
		defer f.Close()
	}
	pid, err = syscall.ForkExec(path, s.program.args, &syscall.ProcAttr{
		Dir: s.program.dir, Env: s.program.env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("program %s: %w", path, err)
	}
	return pid, nil
}

// openOutput opens the output of a program, and starts afresh when it is large.
func openOutput(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > outputLimit {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// reap takes every ended child from the process table and reports the one.
func reap(pid int) <-chan unix.WaitStatus {
	ended := make(chan unix.WaitStatus, 1)
	go func() {
		for {
			var status unix.WaitStatus
			got, err := unix.Wait4(-1, &status, 0, nil)
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return // no child is left
			case got == pid:
				ended <- status
			}
		}
	}()
	return ended
}

// wait follows the program to its end and does what it is asked to meanwhile.
func (s *supervisor) wait(pid int, ended <-chan unix.WaitStatus) {
	kill := func() {
		unix.Kill(pid, unix.SIGCONT) //nolint:errcheck // ours, and not reaped yet
		unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // as before
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var limit, grace <-chan time.Time
	if s.program.limit > 0 {
		limit = time.After(s.program.limit)
	}
	for {
		select {
		case status := <-ended:
			s.exit.Code = status.ExitStatus()
			if status.Signaled() {
				s.exit.Signal = unix.SignalName(status.Signal())
			}
			return
		case sig := <-s.signals:
			s.exit.Asked = true
			if sig == unix.SIGUSR1 {
				kill()
			} else if grace == nil {
				grace = time.After(s.program.grace)
				s.askEnd(pid, kill)
			}
		case <-grace:
			if quit := s.program.quit; quit != nil && quit() == nil {
				s.program.quit, grace = nil, time.After(quitWait)
				continue
			}
			kill()
		case <-limit:
			s.exit.TimedOut = true
			kill()
		case state := <-s.states:
			s.info.Machine = state
			if err := writeJSON(filepath.Join(s.dir, runFile), s.info); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		case <-tick.C:
			// With its directory, a server has lost its site.
			if _, err := os.Stat(s.dir); errors.Is(err, os.ErrNotExist) {
				kill()
			} else if err := resumeForgotten(s.dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
}

// askEnd asks the program to end, and kills it when it cannot be asked.
func (s *supervisor) askEnd(pid int, kill func()) {
	if s.program.ask == nil {
		unix.Kill(-pid, unix.SIGTERM) //nolint:errcheck // ours, and not reaped yet
		unix.Kill(-pid, unix.SIGCONT) //nolint:errcheck // a program that is held still could not hear it
		return
	}
	if err := s.program.ask(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		kill()
	}
}
