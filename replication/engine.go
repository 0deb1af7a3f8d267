package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat/replication/delta"

	"go.uber.org/zap"
)

// Config is what an engine needs. Only Dir is required.
type Config struct {
	// Dir holds key, state and indexes. One engine at a time uses it.
	Dir string
	// Listen is the address for senders; default 127.0.0.1:0. A port that was
	// chosen by the system is remembered.
	Listen string
	Log    *zap.Logger
	// Pauser stops a server's writes for a moment. Without it, only servers with one
	// disk on a file system with reflinks get points while they run.
	Pauser Pauser
	// Points takes snapshots on the target. Without it points have none.
	Points PointMaker
	// Tracker says what changed on source disks; without it they are scanned.
	Tracker Tracker
	// OpenSource and OpenTarget open disks; default: files and block devices.
	OpenSource func(Disk) (SourceVolume, error)
	OpenTarget func(Disk) (TargetVolume, error)
	// LinkTimeout is the silence after which a link is broken; default 15 s.
	LinkTimeout time.Duration
	// RetryMin and RetryMax bound the back-off between attempts to reach the
	// target; default 200 ms and 10 s.
	RetryMin, RetryMax time.Duration
	// ScrubEvery is how long a target takes to read all its replicas once, in the background, to
	// find what their disks lost; default DefaultScrubEvery, negative is never.
	ScrubEvery time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time

	ownTargets bool // OpenTarget is the default
}

// Pauser stops the writes of a server for a moment (SIGSTOP, QMP stop).
type Pauser interface {
	// Pause returns when no write of the server is under way any more. It may be
	// called for a server that stands still already: after a crash in a pause the
	// engine calls it and then resume, so that the server runs again.
	Pause(ctx context.Context, spec SourceSpec) (resume func() error, err error)
}

// Engine sends and receives streams. It resumes all of them by itself when it
// is opened.
type Engine struct {
	config   Config
	log      *zap.Logger
	store    *store
	id       *delta.Identity
	server   *delta.Server
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	closed   atomic.Bool

	changing sync.Map // by stream: serialises changes of which streams there are

	mu      sync.Mutex
	sources map[string]*sourceStream
	targets map[string]*targetStream
}

func (c *Config) defaults() {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.OpenSource == nil {
		c.OpenSource = func(d Disk) (SourceVolume, error) { return OpenVolume(d.Path) }
	}
	if c.OpenTarget == nil {
		c.ownTargets = true
		c.OpenTarget = func(d Disk) (TargetVolume, error) { return OpenTargetVolume(d.Path) }
	}
	if c.LinkTimeout <= 0 {
		c.LinkTimeout = delta.DefaultTimeout
	}
	if c.RetryMin <= 0 {
		c.RetryMin = 200 * time.Millisecond
	}
	if c.RetryMax < c.RetryMin {
		c.RetryMax = max(c.RetryMin, 10*time.Second)
	}
	if c.ScrubEvery == 0 {
		c.ScrubEvery = DefaultScrubEvery
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Open starts an engine: it listens, and goes on with every stream that its
// directory knows. ctx bounds only the opening. Damaged or newer state is an error
// that names the file.
func Open(ctx context.Context, config Config) (e *Engine, err error) {
	config.defaults()
	if config.Dir == "" {
		return nil, fmt.Errorf("%w: the replication engine needs a directory", ErrInvalidSpec)
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of the replication engine: %w", err)
	}
	e = &Engine{config: config, log: config.Log, sources: map[string]*sourceStream{}, targets: map[string]*targetStream{}}
	if e.store, err = openStore(filepath.Join(config.Dir, storeFile)); err != nil {
		return nil, err
	}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if e.id, err = delta.LoadIdentity(filepath.Join(config.Dir, keyFile)); err != nil {
		return nil, err
	}
	e.server = delta.NewServer(handler{e}, config.LinkTimeout)
	if err := e.loadStreams(); err != nil {
		return nil, err
	}
	if err := e.listen(ctx); err != nil {
		return nil, err
	}
	e.repairTargets()
	e.running.Go(e.accept)
	for _, s := range e.sources {
		s.start(true)
	}
	return e, nil
}

// repairTargets finishes, in the background, points that a crash left half made. Senders
// of these streams are asked to come back.
func (e *Engine) repairTargets() {
	for name, t := range e.targets {
		if open, err := t.unfinished(); err != nil || !open {
			continue
		}
		unlock := e.lockStream(name)
		t.fence(fmt.Errorf("%w: stream %s finishes a point after a restart", errRetry, name))
		e.running.Go(func() {
			defer unlock()
			defer t.fence(nil)
			if err := t.repair(e.ctx); err != nil {
				e.log.Warn("a point that was being made is not finished yet", zap.String("stream", name), zap.Error(err))
			}
			if points, err := e.Points(name); err == nil && len(points) > 0 {
				t.hub.update(func(s *Status) { s.LastPoint = &points[0] })
			}
		})
	}
}

func (e *Engine) now() time.Time { return e.config.Now() }

// loadStreams reads the durable streams.
func (e *Engine) loadStreams() error {
	err := each(e.store, bucketTargets, func(name string, st *targetState) error {
		t := e.newTarget(name)
		t.state = *st
		stage, health, reason := StageStarting, HealthInterrupted, "no sender is connected"
		if st.Stopped {
			stage, health, reason = StageStopped, HealthOK, ""
		}
		t.hub.update(func(s *Status) { s.Epoch, s.Stage, s.Health, s.HealthReason = st.Spec.Epoch, stage, health, reason })
		e.targets[name] = t
		return nil
	})
	if err != nil {
		return err
	}
	for name, t := range e.targets {
		points, err := e.Points(name)
		if err != nil {
			return err
		}
		if len(points) > 0 {
			t.hub.update(func(s *Status) { s.LastPoint = &points[0] })
		}
	}
	return each(e.store, bucketSources, func(name string, st *sourceState) error {
		e.sources[name] = e.newSource(*st)
		return nil
	})
}

const metaListen = "listen"

// keyFile is the key of an engine, in its directory.
const keyFile = "key.pem"

// listen opens the port of before, if there was one.
func (e *Engine) listen(ctx context.Context) error {
	var remembered string
	if _, err := e.store.get(bucketMeta, metaListen, &remembered); err != nil {
		return err
	}
	address := e.config.Listen
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%w: listen address %q: %w; give HOST:PORT", ErrInvalidSpec, address, err)
	}
	if h, _, err := net.SplitHostPort(remembered); err == nil && port == "0" && h == host {
		address = remembered
	}
	var lc net.ListenConfig
	if e.listener, err = lc.Listen(ctx, "tcp", address); err != nil {
		return fmt.Errorf("listen for senders on %s: %w; free the port, or configure another address and prepare the targets anew", address, err)
	}
	if _, chosen, err := net.SplitHostPort(e.listener.Addr().String()); err == nil && remembered != net.JoinHostPort(host, chosen) {
		if err := e.store.put(bucketMeta, metaListen, net.JoinHostPort(host, chosen)); err != nil {
			return err
		}
	}
	return nil
}

// accept serves senders until the engine is closed.
func (e *Engine) accept() {
	config := e.id.TLS(e.knownPeer)
	for {
		conn, err := e.listener.Accept()
		if e.ctx.Err() != nil {
			return
		}
		if err != nil {
			e.log.Warn("accept", zap.Error(err))
			select {
			case <-time.After(100 * time.Millisecond):
			case <-e.ctx.Done():
			}
			continue
		}
		e.running.Go(func() {
			if err := e.serve(conn, config); err != nil && e.ctx.Err() == nil {
				e.log.Info("sender left", zap.Stringer("address", conn.RemoteAddr()), zap.Error(err))
			}
		})
	}
}

// knownPeer lets only pinned keys past the handshake.
func (e *Engine) knownPeer(peer Fingerprint) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.targets {
		if t.snapshot().Spec.Peer == peer {
			return nil
		}
	}
	return fmt.Errorf("%w: no stream expects %s", ErrWrongPeer, peer)
}

// Close stops everything at once; what is durable stays and goes on at the next Open.
// Closing again is fine.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	e.cancel()
	var errs []error
	if e.listener != nil {
		errs = append(errs, e.listener.Close())
	}
	e.running.Wait()
	return errors.Join(append(errs, e.store.close())...)
}

// Fingerprint names the key of this engine.
func (e *Engine) Fingerprint() Fingerprint { return e.id.Fingerprint() }

// Address is where senders reach this engine.
func (e *Engine) Address() string { return e.listener.Addr().String() }

// fileName makes a path element of a name.
func fileName(name string) string { return "s-" + url.PathEscape(name) }

func (e *Engine) newTarget(name string) *targetStream {
	return &targetStream{
		engine: e, name: name, dir: filepath.Join(e.config.Dir, "targets", fileName(name)),
		hub: newHub(e.now, Status{Stream: name, Role: RoleTarget, Stage: StageStarting, Health: HealthOK}),
	}
}

// lockStream serialises changes of one stream as a whole.
func (e *Engine) lockStream(stream string) (unlock func()) {
	m, _ := e.changing.LoadOrStore(stream, new(sync.Mutex))
	mu := m.(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

// target gives a stream that this engine receives.
func (e *Engine) target(stream string) (*targetStream, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.targets[stream]; t != nil {
		return t, nil
	}
	return nil, unknownStream(stream)
}

// targetFor gives a stream, a new one if need be.
func (e *Engine) targetFor(stream string) (*targetStream, error) {
	t, err := e.target(stream)
	if errors.Is(err, ErrUnknownStream) {
		return e.newTarget(stream), nil
	}
	return t, err
}

func (e *Engine) addTarget(t *targetStream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.targets[t.name] = t
}

func (e *Engine) dropTarget(stream string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.targets, stream)
}
