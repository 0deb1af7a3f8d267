package agentless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lifeboat/activities/cloud"
	"lifeboat/replication"

	"go.uber.org/zap"
)

// Engine protects streams. It goes on with all of them by itself when it is opened.
type Engine struct {
	config   Config
	log      *zap.Logger
	registry *registry
	owner    string // of the streams that this engine runs
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	copies   chan struct{} // one for each copy that may run

	changing sync.Map // by stream: serialises changes of it as a whole

	mu      sync.Mutex // guards closed, streams, and running against Close
	closed  bool
	streams map[string]*stream
}

// Open starts an engine, which goes on with every stream that its directory knows. ctx
// bounds only the opening; sites are not asked by it, so that one that does not answer
// keeps nobody from the others.
func Open(ctx context.Context, config Config) (*Engine, error) {
	config.defaults()
	if config.Dir == "" || config.Documents == nil || config.Maker == nil {
		return nil, fmt.Errorf("%w: an agentless engine needs a directory, documents and a maker of snapshots", replication.ErrInvalidSpec)
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of the agentless engine: %w", err)
	}
	registry, err := openRegistry(ctx, config.Dir)
	if err != nil {
		return nil, err
	}
	e := &Engine{config: config, log: config.Log, registry: registry, copies: make(chan struct{}, config.Copies), streams: map[string]*stream{}}
	if e.owner, err = registry.owner(ctx); err != nil {
		return nil, err
	}
	known, err := registry.streams(ctx)
	if err != nil {
		return nil, err
	}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for name, target := range known {
		s := e.newStream(name, target)
		e.streams[name] = s
		s.start()
	}
	return e, nil
}

// Close stops everything at once; what is durable stays and goes on at the next Open.
// Closing again is fine.
func (e *Engine) Close() error {
	e.mu.Lock()
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	e.cancel()
	e.running.Wait()
	return nil
}

// Start begins to protect a server, and is durable when it returns: the stream goes on by
// itself after a restart. The same again is fine, and takes a stream over that another
// engine ran. With the same epoch it takes over other disks, sites and retention; settings
// are changed by Set only, so that a repeated start does not undo them. A higher epoch
// begins anew, with the points that are there; a lower one is [replication.ErrStaleEpoch].
func (e *Engine) Start(ctx context.Context, spec Spec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	defer e.lockStream(spec.Stream)()
	s, err := e.stream(spec.Stream)
	if errors.Is(err, replication.ErrUnknownStream) {
		s = e.newStream(spec.Stream, spec.Target)
	} else if err != nil {
		return err
	}
	// What the site says, not this engine: another one may have taken the stream over.
	at := s.cached()
	if s.target == spec.Target {
		if at, err = s.refresh(ctx); err != nil && !errors.Is(err, replication.ErrUnknownStream) {
			return err
		}
	}
	if at != nil && spec.Epoch < at.Spec.Epoch {
		return staleEpoch(spec, at.Spec.Epoch)
	}
	if at != nil && s.started() && s.doing(at, spec) {
		return nil
	}
	if err := s.stop(ctx); err != nil {
		return err
	}
	next := s
	if s.target != spec.Target {
		next = e.newStream(spec.Stream, spec.Target)
	}
	if err := e.begin(ctx, next, spec); err != nil {
		s.restart()
		return errors.Join(err, e.unregister(ctx, spec.Stream))
	}
	e.mu.Lock()
	e.streams[spec.Stream] = next
	e.mu.Unlock()
	next.show()
	next.start()
	s.answered()
	return nil
}

// begin makes a stream durable: first that this engine has it, then its state.
func (e *Engine) begin(ctx context.Context, s *stream, spec Spec) error {
	if err := e.registry.put(ctx, spec.Stream, spec.Target); err != nil {
		return err
	}
	_, err := s.change(ctx, func(st *state) error { return st.adopt(spec, e.owner, e.now()) })
	return err
}

// unregister takes back that this engine has a stream at another site than before.
func (e *Engine) unregister(ctx context.Context, name string) error {
	s, err := e.stream(name)
	if err != nil {
		return e.registry.remove(ctx, name)
	}
	return e.registry.put(ctx, name, s.target)
}

func staleEpoch(spec Spec, at int64) error {
	return fmt.Errorf("%w: stream %s is at epoch %d, start asked for %d; somebody newer is in charge", replication.ErrStaleEpoch, spec.Stream, at, spec.Epoch)
}

func (e *Engine) now() time.Time { return e.config.Now().UTC() }

// lockStream serialises changes of one stream as a whole.
func (e *Engine) lockStream(name string) (unlock func()) {
	m, _ := e.changing.LoadOrStore(name, new(sync.Mutex))
	mu := m.(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

func (e *Engine) stream(name string) (*stream, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.streams[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: %s; start it first", replication.ErrUnknownStream, name)
}

// asking bounds a change or a look for which the caller gives no context.
const asking = 30 * time.Second

func (e *Engine) ask() (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.ctx, asking)
}

// drop forgets a stream in this process and its directory.
func (e *Engine) drop(ctx context.Context, s *stream) error {
	if err := os.RemoveAll(s.dir()); err != nil {
		return fmt.Errorf("forget stream %s: %w", s.name, err)
	}
	if err := e.registry.remove(ctx, s.name); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.streams, s.name)
	return nil
}

func (e *Engine) newStream(name string, target cloud.Site) *stream {
	return &stream{engine: e, name: name, target: target, wake: make(chan struct{}, 1), answers: make(chan struct{}), looked: make(chan struct{}),
		hub: newHub(e.now, replication.Status{Stream: name, Role: replication.RoleTarget, Stage: replication.StageStarting, Health: replication.HealthOK})}
}

func (s *stream) dir() string {
	return filepath.Join(s.engine.config.Dir, "streams", filepath.Base(documentName(s.name)))
}
