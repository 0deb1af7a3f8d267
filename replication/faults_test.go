package replication_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lifeboat/replication"
	"lifeboat/replication/replicationtest"

	"github.com/stretchr/testify/require"
)

// faultyPair has a target whose disk fails as the test says, and a source alike.
func faultyPair(t *testing.T, size int64, target, source replicationtest.Fault) *pair {
	t.Helper()
	p := newPair(t, size)
	require.NoError(t, p.target.Close())
	require.NoError(t, p.source.Close())
	wrap := func(d replication.Disk, fault replicationtest.Fault) (replication.TargetVolume, error) {
		v, err := replication.OpenTargetVolume(d.Path)
		if err != nil || fault == nil {
			return v, err
		}
		return replicationtest.NewFaulty(v, fault), nil
	}
	tc := p.targetConfig()
	tc.OpenTarget = func(d replication.Disk) (replication.TargetVolume, error) { return wrap(d, target) }
	sc := p.sourceConfig()
	sc.OpenSource = func(d replication.Disk) (replication.SourceVolume, error) { return wrap(d, source) }
	var err error
	p.target, err = replication.Open(t.Context(), tc)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.target.Close() })
	p.source, err = replication.Open(t.Context(), sc)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.source.Close() })
	return p
}

func TestFullDiskStallsAndGoesOnWhenThereIsSpace(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	full.Store(true)
	p := faultyPair(t, 12<<20, func(op string, off int64, _ int) error {
		if full.Load() && op == "write" && off > 5<<20 {
			return &os.PathError{Op: "write", Path: "/replicas/db", Err: syscall.ENOSPC}
		}
		return nil
	}, nil)
	p.settings.AutoResume = false
	p.prepareAndStart()
	st := p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	require.Contains(t, st.HealthReason, "no space")
	require.Contains(t, st.HealthReason, "make room")
	require.Contains(t, st.HealthReason, "/replicas/db")
	full.Store(false)
	pt := p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil && s.Health == replication.HealthOK }).LastPoint
	p.requireSame(*pt)
}

func TestFullDiskOfSnapshotsStalls(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	p.maker.Fail(fmt.Errorf("snapshot: %w", syscall.ENOSPC))
	p.prepareAndStart()
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	points, err := p.target.Points(testStream)
	require.NoError(t, err)
	require.Empty(t, points, "a point without snapshots is not offered")
	p.maker.Fail(nil)
	p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil })
}

func TestUnreadableSourceIsReportedAndNeverZeros(t *testing.T) {
	t.Parallel()
	const bad = 3<<20 + 2*replication.BlockSize
	var broken atomic.Bool
	p := faultyPair(t, 8<<20, nil, func(op string, off int64, n int) error {
		if broken.Load() && op == "read" && off <= bad && bad < off+int64(n) {
			return syscall.EIO
		}
		return nil
	})
	p.start()
	f, err := os.OpenFile(p.disks[0], os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("precious"), bad)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	broken.Store(true)
	asked := p.markAsync("m")
	st := p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	require.Contains(t, st.HealthReason, fmt.Sprintf("disk vda at offset %d", bad))
	points, err := p.target.Points(testStream)
	require.NoError(t, err)
	require.Len(t, points, 1, "no point of a disk that cannot be read")
	broken.Store(false)
	<-asked
	p.requireSame(p.mark("m"))
}

// Every kind of failing call at the target, torn writes too, is survived.
func TestFailingTargetCallsNeverCorrupt(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"read", "write", "zero", "sync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			p := faultyPair(t, 20<<20, func(o string, _ int64, _ int) error {
				if n := calls.Add(1); o == op && n > 20 && n%41 < 2 && n < 800 {
					return errors.New("failed on purpose")
				}
				return nil
			}, nil)
			p.prepareAndStart()
			pt := p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil }).LastPoint
			p.requireSame(*pt)
		})
	}
}

// A disk that loses or changes writes is found by the scrub, before another point is made of it.
func TestLyingTargetDiskIsFound(t *testing.T) {
	t.Parallel()
	var lying atomic.Bool
	lying.Store(true)
	p := newPair(t, 6<<20)
	require.NoError(t, p.target.Close())
	tc := p.targetConfig()
	tc.ScrubEvery = 50 * time.Millisecond
	tc.OpenTarget = func(d replication.Disk) (replication.TargetVolume, error) {
		v, err := replication.OpenTargetVolume(d.Path)
		return &forgetful{TargetVolume: v, lying: &lying}, err
	}
	var err error
	p.target, err = replication.Open(t.Context(), tc)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.target.Close() })
	p.settings.Interval = 5 * time.Millisecond
	p.prepareAndStart()
	p.waitFor(func(s replication.Status) bool { return strings.Contains(s.HealthReason, "root mismatch") })
	lying.Store(false)
	// What was lied about is found by the next rounds of the scrub, not by what is sent.
	for i := 0; ; i++ {
		pt := p.mark(fmt.Sprintf("mended-%d", i))
		same, err := p.same(pt)
		require.NoError(t, err)
		if same {
			break
		}
		require.Less(t, i, 1000, "the scrub does not find it")
	}
}

// forgetful does not write the last block of what it is given.
type forgetful struct {
	replication.TargetVolume
	lying *atomic.Bool
}

func (f *forgetful) WriteAt(p []byte, off int64) (int, error) {
	if f.lying.Load() && len(p) > replication.BlockSize {
		if _, err := f.TargetVolume.WriteAt(p[:len(p)-replication.BlockSize], off); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return f.TargetVolume.WriteAt(p, off)
}

func TestWrongSpecsAreRefusedWithTheMend(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	p.prepare()
	for name, change := range map[string]func(*replication.SourceSpec){
		"without name":   func(s *replication.SourceSpec) { s.Stream = "" },
		"without disks":  func(s *replication.SourceSpec) { s.Disks = nil },
		"twice one name": func(s *replication.SourceSpec) { s.Disks = append(s.Disks, s.Disks[0]) },
		"negative epoch": func(s *replication.SourceSpec) { s.Epoch = -1 },
		"without target": func(s *replication.SourceSpec) { s.TargetAddress = "" },
		"negative limit": func(s *replication.SourceSpec) { s.Settings.BytesPerSecond = -1 },
		"another size":   func(s *replication.SourceSpec) { s.Disks[0].Size++ },
		"a directory":    func(s *replication.SourceSpec) { s.Disks[0].Path = p.dir },
	} {
		spec := p.sourceSpec()
		change(&spec)
		require.ErrorIs(t, p.source.StartSource(t.Context(), spec), replication.ErrInvalidSpec, name)
	}
	spec := p.sourceSpec()
	spec.Disks[0].Path = p.dir + "/missing"
	require.ErrorIs(t, p.source.StartSource(t.Context(), spec), os.ErrNotExist)
	_, err := p.source.Status(testStream)
	require.ErrorIs(t, err, replication.ErrUnknownStream)
	require.NoError(t, p.source.StopSource(t.Context(), testStream), "stopping nothing is fine")
	_, err = p.source.Mark(p.ctx(), testStream, "x", "")
	require.ErrorIs(t, err, replication.ErrUnknownStream)
}

func TestTwoEnginesDoNotShareADirectory(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	_, err := replication.Open(t.Context(), p.sourceConfig())
	require.ErrorContains(t, err, "in use by another process")
}

func TestDamagedDatabaseIsNamed(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1<<20)
	require.NoError(t, p.source.Close())
	path := p.dir + "/source/engine.db"
	require.NoError(t, os.WriteFile(path, make([]byte, 32<<10), 0o600))
	_, err := replication.Open(t.Context(), p.sourceConfig())
	require.ErrorIs(t, err, replication.ErrDamagedState)
	require.ErrorContains(t, err, path)
}
