package replication_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lifeboat/replication"
	"lifeboat/replication/replicationtest"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

const testStream = "shop/db"

// pair is a source and a target engine with one stream between them.
type pair struct {
	t              *testing.T
	dir            string
	source, target *replication.Engine
	disks          []string
	replicas       []string
	pauser         *replicationtest.Pauser
	maker          *replicationtest.Maker
	settings       replication.Settings
	keep           replication.Keep
	epoch          int64
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
	p := &pair{t: t, dir: dir, pauser: &replicationtest.Pauser{}, maker: &replicationtest.Maker{Dir: filepath.Join(dir, "snapshots")},
		settings: replication.Settings{Interval: time.Hour, AutoResume: true}, epoch: 1}
	require.NoError(t, os.MkdirAll(p.maker.Dir, 0o700))
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

func (p *pair) sourceConfig() replication.Config {
	return replication.Config{Dir: filepath.Join(p.dir, "source"), Log: testLog(p.t), Pauser: p.pauser, Points: p.maker, LinkTimeout: 3 * time.Second,
		RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond}
}

func (p *pair) targetConfig() replication.Config {
	return replication.Config{Dir: filepath.Join(p.dir, "target"), Log: testLog(p.t), Pauser: p.pauser, Points: p.maker,
		LinkTimeout: 3 * time.Second, RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond}
}

func (p *pair) openSource() {
	p.t.Helper()
	e, err := replication.Open(p.t.Context(), p.sourceConfig())
	require.NoError(p.t, err)
	p.source = e
	p.t.Cleanup(func() { _ = e.Close() })
}

func (p *pair) openTarget() {
	p.t.Helper()
	e, err := replication.Open(p.t.Context(), p.targetConfig())
	require.NoError(p.t, err)
	p.target = e
	p.t.Cleanup(func() { _ = e.Close() })
}

func (p *pair) sourceDisks() (disks []replication.Disk) {
	for i, path := range p.disks {
		v, err := replication.OpenVolume(path)
		require.NoError(p.t, err)
		disks = append(disks, replication.Disk{Name: fmt.Sprintf("vd%c", 'a'+i), Path: path, Size: v.Size()})
		require.NoError(p.t, v.Close())
	}
	return disks
}

func (p *pair) targetSpec() replication.TargetSpec {
	disks := p.sourceDisks()
	for i := range disks {
		disks[i].Path = p.replicas[i]
	}
	return replication.TargetSpec{Stream: testStream, Epoch: p.epoch, Disks: disks, Peer: p.source.Fingerprint(), Keep: p.keep}
}

func (p *pair) sourceSpec() replication.SourceSpec {
	return replication.SourceSpec{Stream: testStream, Epoch: p.epoch, Disks: p.sourceDisks(), TargetAddress: p.target.Address(),
		TargetFingerprint: p.target.Fingerprint(), Settings: p.settings}
}

func (p *pair) prepare() {
	p.t.Helper()
	info, err := p.target.PrepareTarget(p.t.Context(), p.targetSpec())
	require.NoError(p.t, err)
	require.Equal(p.t, replication.TargetInfo{Address: p.target.Address(), Fingerprint: p.target.Fingerprint()}, info)
}

// start prepares and starts the stream and waits for its first point.
func (p *pair) start() replication.Point {
	p.t.Helper()
	p.prepare()
	require.NoError(p.t, p.source.StartSource(p.t.Context(), p.sourceSpec()))
	return *p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil }).LastPoint
}

func (p *pair) ctx() context.Context {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	p.t.Cleanup(cancel)
	return ctx
}

// waitFor waits until the source's status is as wanted.
func (p *pair) waitFor(want func(replication.Status) bool) replication.Status {
	p.t.Helper()
	return waitStatus(p.t, p.source, want)
}

func waitStatus(t *testing.T, e *replication.Engine, want func(replication.Status) bool) replication.Status {
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
func (p *pair) mark(id string) replication.Point {
	p.t.Helper()
	pt, err := p.source.Mark(p.ctx(), testStream, id, "by test")
	require.NoError(p.t, err)
	return pt
}

// requireSame checks that a point's snapshots and roots are those of the source disks.
func (p *pair) requireSame(pt replication.Point) {
	p.t.Helper()
	for i, d := range pt.Disks {
		root, err := replication.RootOfFile(p.t.Context(), p.disks[i])
		require.NoError(p.t, err)
		require.Equal(p.t, root, d.Root, "root of disk %s", d.Name)
		snapshot, err := replication.RootOfFile(p.t.Context(), filepath.Join(p.maker.Dir, d.Snapshot))
		require.NoError(p.t, err)
		require.Equal(p.t, root, snapshot, "snapshot of disk %s", d.Name)
	}
}

// same tells whether a point's snapshots are what the source disks hold.
func (p *pair) same(pt replication.Point) (bool, error) {
	for i, d := range pt.Disks {
		root, err := replication.RootOfFile(p.t.Context(), p.disks[i])
		if err != nil {
			return false, err
		}
		snapshot, err := replication.RootOfFile(p.t.Context(), filepath.Join(p.maker.Dir, d.Snapshot))
		if err != nil || root != snapshot {
			return false, err
		}
	}
	return true, nil
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
	v, err := replication.OpenTargetVolume(path)
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
			_, err = v.WriteAt([]byte{byte(rng.Uint32())}, max(0, v.Size()-1-rng.Int64N(2*replication.BlockSize)))
		default:
			_, err = v.WriteAt(randomBytes(rng, size), off)
		}
		require.NoError(t, err)
	}
	require.NoError(t, v.Close())
}

func (p *pair) prepareAndStart() {
	p.t.Helper()
	p.prepare()
	require.NoError(p.t, p.source.StartSource(p.t.Context(), p.sourceSpec()))
}

// sourceIndex and targetIndex are the index files of the first disk: hashes, and what is beside them.
func sourceIndex(p *pair) string {
	return filepath.Join(p.dir, "source", "sources", "s-shop%2Fdb", "s-vda.tree")
}

func targetIndex(p *pair) string {
	return filepath.Join(p.dir, "target", "targets", "s-shop%2Fdb", "s-vda.tree")
}

func targetIntents(p *pair) string { return filepath.Join(filepath.Dir(targetIndex(p)), "intents.0") }

// damage flips bytes in the hashes of an index: behind two headers and the bitmap.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("damaged"), 3*4096+500)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func appendFile(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// writeRandom fills a file with bytes that do not compress, others each time.
func writeRandom(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	for off := int64(0); off < size; off += 1 << 20 {
		_, err = f.WriteAt(randomBytes(rng, min(1<<20, size-off)), off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
}
