package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

const testStream = "shop/db"

// pair is a source and a target engine with one stream between them.
type pair struct {
	t              *testing.T
	dir            string
	source, target *Engine
	disks          []string
	replicas       []string
	pauser         *fakePauser
	maker          *copyMaker
	settings       Settings
	keep           Keep
	epoch          int64
}

// fakePauser counts pauses; while one lasts, writers that use the lock stand still.
type fakePauser struct {
	writes sync.RWMutex
	count  atomic.Int64
}

func (p *fakePauser) Pause(context.Context, SourceSpec) (func() error, error) {
	p.writes.Lock()
	p.count.Add(1)
	return func() error { p.writes.Unlock(); return nil }, nil
}

// copyMaker snapshots by copying files; it is idempotent by point id.
type copyMaker struct {
	dir  string
	fail atomic.Pointer[error]
	made atomic.Int64
}

func (m *copyMaker) Make(_ context.Context, r PointRequest) (map[string]string, error) {
	if err := m.fail.Load(); err != nil {
		return nil, *err
	}
	out := map[string]string{}
	for _, d := range r.Disks {
		id := r.ID + "-" + d.Name
		out[d.Name] = id
		path := filepath.Join(m.dir, id)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		b, err := os.ReadFile(d.Path)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return nil, err
		}
	}
	m.made.Add(1)
	return out, nil
}

func (m *copyMaker) Remove(_ context.Context, p Point) error {
	for _, d := range p.Disks {
		if err := os.Remove(filepath.Join(m.dir, p.ID+"-"+d.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func testLog(t *testing.T) *zap.Logger {
	if testing.Verbose() {
		return zaptest.NewLogger(t)
	}
	return zap.NewNop()
}

// newPair makes disks of the given sizes with random contents, and two engines.
func newPair(t *testing.T, sizes ...int64) *pair {
	t.Helper()
	return newPairIn(t, t.TempDir(), sizes...)
}

func newPairIn(t *testing.T, dir string, sizes ...int64) *pair {
	t.Helper()
	p := &pair{t: t, dir: dir, pauser: &fakePauser{}, maker: &copyMaker{dir: filepath.Join(dir, "snapshots")},
		settings: Settings{Interval: time.Hour, AutoResume: true}, epoch: 1}
	require.NoError(t, os.MkdirAll(p.maker.dir, 0o700))
	rng := rand.New(rand.NewPCG(1, 2))
	for i, size := range sizes {
		path := filepath.Join(dir, fmt.Sprintf("disk%d", i))
		writeImage(t, rng, path, size)
		p.disks = append(p.disks, path)
		p.replicas = append(p.replicas, filepath.Join(dir, fmt.Sprintf("replica%d", i)))
	}
	p.openSource()
	p.openTarget()
	return p
}

func (p *pair) sourceConfig() Config {
	return Config{Dir: filepath.Join(p.dir, "source"), Log: testLog(p.t), Pauser: p.pauser, LinkTimeout: 3 * time.Second,
		RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond}
}

func (p *pair) targetConfig() Config {
	return Config{Dir: filepath.Join(p.dir, "target"), Log: testLog(p.t), Points: p.maker, LinkTimeout: 3 * time.Second}
}

func (p *pair) openSource() {
	p.t.Helper()
	e, err := Open(p.t.Context(), p.sourceConfig())
	require.NoError(p.t, err)
	p.source = e
	p.t.Cleanup(func() { _ = e.Close() })
}

func (p *pair) openTarget() {
	p.t.Helper()
	e, err := Open(p.t.Context(), p.targetConfig())
	require.NoError(p.t, err)
	p.target = e
	p.t.Cleanup(func() { _ = e.Close() })
}

func (p *pair) sourceDisks() (disks []Disk) {
	for i, path := range p.disks {
		fi, err := os.Stat(path)
		require.NoError(p.t, err)
		disks = append(disks, Disk{Name: fmt.Sprintf("vd%c", 'a'+i), Path: path, Size: fi.Size()})
	}
	return disks
}

func (p *pair) targetSpec() TargetSpec {
	disks := p.sourceDisks()
	for i := range disks {
		disks[i].Path = p.replicas[i]
	}
	return TargetSpec{Stream: testStream, Epoch: p.epoch, Disks: disks, Peer: p.source.Fingerprint(), Keep: p.keep}
}

func (p *pair) sourceSpec() SourceSpec {
	return SourceSpec{Stream: testStream, Epoch: p.epoch, Disks: p.sourceDisks(), TargetAddress: p.target.Address(),
		TargetFingerprint: p.target.Fingerprint(), Settings: p.settings}
}

func (p *pair) prepare() {
	p.t.Helper()
	info, err := p.target.PrepareTarget(p.t.Context(), p.targetSpec())
	require.NoError(p.t, err)
	require.Equal(p.t, TargetInfo{Address: p.target.Address(), Fingerprint: p.target.Fingerprint()}, info)
}

// start prepares and starts the stream and waits for its first point.
func (p *pair) start() Point {
	p.t.Helper()
	p.prepare()
	require.NoError(p.t, p.source.StartSource(p.t.Context(), p.sourceSpec()))
	return *p.waitFor(func(s Status) bool { return s.LastPoint != nil }).LastPoint
}

func (p *pair) ctx() context.Context {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	p.t.Cleanup(cancel)
	return ctx
}

// waitFor waits until the source's status is as wanted.
func (p *pair) waitFor(want func(Status) bool) Status {
	p.t.Helper()
	return waitStatus(p.t, p.source, want)
}

func waitStatus(t *testing.T, e *Engine, want func(Status) bool) Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	version := uint64(0)
	for {
		st, err := e.Wait(ctx, testStream, version)
		require.NoError(t, err, "%+v", st)
		if want(st) {
			return st
		}
		version = st.Version
	}
}

// mark makes a point now.
func (p *pair) mark(id string) Point {
	p.t.Helper()
	pt, err := p.source.Mark(p.ctx(), testStream, id, "by test")
	require.NoError(p.t, err)
	return pt
}

// requireSame checks that a point's snapshots and roots are those of the source disks.
func (p *pair) requireSame(pt Point) {
	p.t.Helper()
	for i, d := range pt.Disks {
		root, err := RootOfFile(p.t.Context(), p.disks[i])
		require.NoError(p.t, err)
		require.Equal(p.t, root, d.Root, "root of disk %s", d.Name)
		snapshot, err := RootOfFile(p.t.Context(), filepath.Join(p.maker.dir, d.Snapshot))
		require.NoError(p.t, err)
		require.Equal(p.t, root, snapshot, "snapshot of disk %s", d.Name)
	}
}

// writeImage makes a file of data, zeros and holes.
func writeImage(t *testing.T, rng *rand.Rand, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	for off := int64(0); off < size; {
		n := min(rng.Int64N(1<<20)+1, size-off)
		switch rng.IntN(4) {
		case 0: // a hole
		case 1:
			_, err = f.WriteAt(make([]byte, n), off)
		default:
			_, err = f.WriteAt(randomBytes(rng, n), off)
		}
		require.NoError(t, err)
		off += n
	}
	require.NoError(t, f.Close())
}

func randomBytes(rng *rand.Rand, n int64) []byte {
	b := make([]byte, n)
	word := rng.Uint64()
	for i := range b {
		if i%8 == 0 {
			word = rng.Uint64()
		}
		b[i] = byte(word >> (i % 8 * 8))
	}
	return b
}

// scribble makes n random changes to a file: writes, zeros, holes, at odd places too.
func scribble(t *testing.T, rng *rand.Rand, path string, n int) {
	t.Helper()
	v, err := openFile(path, true)
	require.NoError(t, err)
	for range n {
		size := min(rng.Int64N(200<<10)+1, v.Size())
		off := rng.Int64N(v.Size() - size + 1)
		switch rng.IntN(5) {
		case 0:
			err = v.Zero(off, size)
		case 1:
			_, err = v.WriteAt(make([]byte, size), off)
		case 2: // the very end, and one before
			_, err = v.WriteAt([]byte{byte(rng.Uint32())}, max(0, v.Size()-1-rng.Int64N(2*BlockSize)))
		default:
			_, err = v.WriteAt(randomBytes(rng, size), off)
		}
		require.NoError(t, err)
	}
	require.NoError(t, v.Close())
}
