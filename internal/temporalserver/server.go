// Package temporalserver runs a Temporal server for one machine: the
// development server of the Temporal command line tool with a database file,
// its Web UI, and the settings that take a workflow step from 100 ms to 5 ms.
// It finds or builds the tool (Find), starts it as a child that never outlives
// its parent (Start), and keeps ports, schema and version of a data directory
// together, so that a start after any kill goes on where the server was.
// Every port it opens is on 127.0.0.1.
package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// Options say which server to start. DataDir is required.
type Options struct {
	// DataDir holds the server's own files: database, log, ports, version. It
	// is made with mode 0700 when it is not there.
	DataDir string
	// Path of the Temporal command line tool; empty asks Find.
	Path string
	// Port of the frontend and UIPort of the Web UI. Zero takes those of the
	// last start on DataDir, at first 7233 and 8233 when StandardPorts is set
	// and they are free, else any free ones.
	Port, UIPort  int
	StandardPorts bool
	// Namespace that must exist; empty means "default".
	Namespace string
	// SearchAttributes of the namespace to register, all of type Keyword.
	SearchAttributes []string
	// Retention of closed workflows, at least; zero means 90 days, because
	// reports of operations are read from them. It is never shortened.
	Retention time.Duration
	// LogFile takes the server's own output; empty means temporal.log in DataDir.
	LogFile string
	// Durable makes each commit wait for the disk, so that a power cut loses
	// nothing. A kill of the server loses nothing either way; the price is that
	// steps take about twice as long, under load four times.
	Durable bool
	// Log takes what the start has to say; nil is silent.
	Log *zap.Logger
}

// Server is a running Temporal server.
type Server struct {
	Address string // host:port of the frontend
	UIURL   string // of the Web UI
	PID     int
	LogFile string
	Version Version

	process *process
}

const (
	loopback       = "127.0.0.1"
	startAttempts  = 4
	lockPatience   = 15 * time.Second
	startPatience  = 90 * time.Second
	stopPatience   = 10 * time.Second
	defaultRetain  = 90 * 24 * time.Hour
	standardPort   = 7233
	standardUIPort = 8233
)

// ErrInUse says that another server runs on the data directory.
var ErrInUse = errors.New("data directory in use")

// Start starts a server and returns when its frontend and its Web UI answer
// and the namespace is as asked. ctx bounds the start alone: the server runs
// until Stop, or until the calling process ends in whatever way. One server
// runs on a data directory at a time; a second start waits a few seconds for
// the first to end, then fails with ErrInUse. ErrNewerData says that a newer
// server wrote the directory. After an error nothing is left running.
func Start(ctx context.Context, opts Options) (*Server, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(ctx, opts.DataDir)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the server holds it from its start on
	if opts.Path == "" {
		if opts.Path, err = Find(ctx, opts.DataDir, opts.Log); err != nil {
			return nil, err
		}
	}
	version, err := versionOf(ctx, opts.Path)
	if err != nil {
		return nil, fmt.Errorf("start the Temporal server: %w", err)
	}
	st, err := prepare(opts.DataDir, version)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		server, err := startOnce(ctx, opts, st, version, lock)
		var clash *portClashError
		if errors.As(err, &clash) && attempt < startAttempts {
			opts.Log.Info("a port was taken while the Temporal server started; trying others", zap.Error(err))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("start the Temporal server: %w", err)
		}
		return server, nil
	}
}

// complete checks opts and fills in what was left out.
func (o Options) complete() (Options, error) {
	if o.DataDir == "" {
		return o, errors.New("start the Temporal server: no data directory was named")
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return o, fmt.Errorf("start the Temporal server: %w", err)
	}
	o.DataDir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return o, fmt.Errorf("start the Temporal server: make its data directory: %w", err)
	}
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if o.Retention == 0 {
		o.Retention = defaultRetain
	}
	if o.LogFile == "" {
		o.LogFile = filepath.Join(dir, logFile)
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o, nil
}

// lockDir takes the data directory for one server. The lock file names the
// server's process for the message of whoever comes too late.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	waitCtx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	lock, err := waitLock(waitCtx, path)
	if err == nil {
		return lock, nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		holder, readErr := os.ReadFile(path)
		if readErr != nil || len(holder) == 0 {
			holder = []byte("unknown")
		}
		return nil, fmt.Errorf("%w: a Temporal server (process %s) runs on %s; stop the lifeboat that started it, or use another --data directory", ErrInUse, holder, dir)
	}
	return nil, fmt.Errorf("start the Temporal server: %w", err)
}

// prepare makes a data directory ready for a server of version v and gives
// what it remembers.
func prepare(dir string, v Version) (state, error) {
	st, known, err := readState(dir)
	if err != nil {
		return state{}, err
	}
	if known {
		if err := st.checkVersion(dir, v); err != nil {
			return state{}, err
		}
		if !st.Initialized {
			if err := discardHalfMade(dir); err != nil {
				return state{}, err
			}
		}
	} else if _, err := os.Stat(filepath.Join(dir, databaseFile)); err == nil {
		return state{}, fmt.Errorf("%s holds %s but no %s, so the version that wrote it is unknown; restore that file, or move the database away to start anew",
			dir, databaseFile, stateFile)
	}
	st.ServerVersion = v.String()
	// Before the server's first write: a kill in between must be recognised.
	return st, writeState(dir, st)
}

// startOnce tries once, with the ports asked for, remembered or found free.
func startOnce(ctx context.Context, opts Options, st state, v Version, lock *os.File) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	var err error
	if st.Port, err = choosePort(opts.Port, st.Port, standardPort, opts, 0); err != nil {
		return nil, fmt.Errorf("its frontend: %w", err)
	}
	if st.UIPort, err = choosePort(opts.UIPort, st.UIPort, standardUIPort, opts, st.Port); err != nil {
		return nil, fmt.Errorf("its Web UI: %w", err)
	}
	p, err := launch(opts, st, lock)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Address: net.JoinHostPort(loopback, strconv.Itoa(st.Port)),
		UIURL:   "http://" + net.JoinHostPort(loopback, strconv.Itoa(st.UIPort)),
		PID:     p.cmd.Process.Pid, LogFile: opts.LogFile, Version: v, process: p,
	}
	if err := s.admit(ctx, opts, st, lock); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	return s, nil
}

// admit waits until the server just launched is ready, and remembers that it was.
func (s *Server) admit(ctx context.Context, opts Options, st state, lock *os.File) error {
	if err := nameHolder(lock, s.PID); err != nil {
		return err
	}
	if err := s.settle(ctx, opts, st); err != nil {
		return err
	}
	st.Initialized = true
	return writeState(opts.DataDir, st)
}

// nameHolder writes the process that holds the lock into its file.
func nameHolder(lock *os.File, pid int) error {
	if err := lock.Truncate(0); err != nil {
		return err
	}
	_, err := lock.WriteAt([]byte(strconv.Itoa(pid)), 0)
	return err
}

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.process.done }

// Err says why the server ended, after Done: nil when Stop ended it.
func (s *Server) Err() error {
	select {
	case <-s.process.done:
	default:
		return nil
	}
	if s.process.stopping.Load() {
		return nil
	}
	return s.process.failure()
}

// Stop ends the server in order, and kills it when it takes longer than 10 s
// or than ctx allows. It returns when the process is gone; calling it again is fine.
func (s *Server) Stop(ctx context.Context) error {
	return s.process.stop(ctx)
}
