package replication_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat/replication"

	"github.com/stretchr/testify/require"
)

// counterServer writes a rising number into the first block of each disk, one after the
// other: at any instant, disk i is not behind disk i+1, and at most one ahead.
func counterServer(t *testing.T, p *pair) (stop func()) {
	t.Helper()
	var files []*os.File
	for _, path := range p.disks {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		files = append(files, f)
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		var b [8]byte
		for n := uint64(1); ; n++ {
			for i, f := range files {
				select {
				case <-quit:
					return
				default:
				}
				binary.LittleEndian.PutUint64(b[:], n)
				p.pauser.Writes.RLock()
				// The number lies far apart on each disk: at its begin and its end.
				_, err := f.WriteAt(b[:], int64(i)*8)
				_, err2 := f.WriteAt(b[:], p.sourceDisks()[i].Size-64)
				p.pauser.Writes.RUnlock()
				if err != nil || err2 != nil {
					t.Error(err, err2)
					return
				}
			}
		}
	})
	return func() {
		close(quit)
		wg.Wait()
		for _, f := range files {
			_ = f.Close()
		}
	}
}

// requireOneInstant checks that the numbers in a point's snapshots fit to one instant.
func (p *pair) requireOneInstant(pt replication.Point) {
	p.t.Helper()
	var numbers []uint64
	for i, d := range pt.Disks {
		f, err := os.Open(p.maker.Path(d.Snapshot))
		require.NoError(p.t, err)
		var head, tail [8]byte
		_, err = f.ReadAt(head[:], int64(i)*8)
		require.NoError(p.t, err)
		_, err = f.ReadAt(tail[:], d.Bytes-64)
		require.NoError(p.t, err)
		require.NoError(p.t, f.Close())
		h, l := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint64(tail[:])
		require.LessOrEqual(p.t, l, h, "begin is written before the end")
		require.LessOrEqual(p.t, h-l, uint64(1), "begin and end are of one instant")
		if d.Bytes > 0 && pt.CutMethod == replication.CutPause {
			require.Equal(p.t, h, l)
		}
		numbers = append(numbers, h)
	}
	for i := 1; i < len(numbers); i++ {
		require.LessOrEqual(p.t, numbers[i], numbers[i-1], "disks are of one instant: %v", numbers)
		require.LessOrEqual(p.t, numbers[i-1]-numbers[i], uint64(1), "disks are of one instant: %v", numbers)
	}
	require.NotZero(p.t, numbers[0])
}

func TestPauseCutIsOneInstantAndMeasured(t *testing.T) {
	t.Parallel()
	p := newPair(t, 8<<20, 4<<20)
	stop := counterServer(t, p)
	defer stop()
	p.start()
	for _, id := range []string{"a", "b", "c", "d"} {
		pt := p.mark(id)
		require.Equal(t, replication.CutPause, pt.CutMethod)
		require.Positive(t, pt.Pause)
		p.requireOneInstant(pt)
	}
	st, err := p.source.Status(testStream)
	require.NoError(t, err)
	require.Equal(t, replication.CutPause, st.CutMethod)
	require.Positive(t, st.LastPause)
}

func TestPauseDoesNotLastAsLongAsTheLinkNeeds(t *testing.T) {
	t.Parallel()
	p := newPair(t, 8<<20)
	p.start()
	require.NoError(t, p.source.Set(testStream, replication.Settings{Interval: time.Hour, AutoResume: true, BytesPerSecond: 200 << 10}))
	stop := counterServer(t, p)
	defer stop()
	pt := p.mark("slow")
	require.Less(t, pt.Pause, time.Second)
	p.requireOneInstant(pt)
}

func TestWithoutACutThereIsNoPointUntilFinal(t *testing.T) {
	t.Parallel()
	p := newPair(t, 3<<20)
	require.NoError(t, p.source.Close())
	config := p.sourceConfig()
	config.Pauser = nil
	var err error
	p.source, err = replication.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.source.Close() })
	p.prepareAndStart()
	st := p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthStalled })
	require.Contains(t, st.HealthReason, "no cut possible")
	points, err := p.target.Points(testStream)
	require.NoError(t, err)
	require.Empty(t, points)
	final, err := p.source.Final(p.ctx(), testStream, "f")
	require.NoError(t, err)
	require.Equal(t, replication.CutStopped, final.CutMethod)
	p.requireSame(final)
}

// btrfs mounts a file system with reflinks until the test ends.
func btrfs(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("missing: root, to mount a loop device")
	}
	for _, tool := range []string{"mkfs.btrfs", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("missing: %s", tool)
		}
	}
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 512<<20))
	require.NoError(t, os.Mkdir(mount, 0o700))
	for _, args := range [][]string{{"mkfs.btrfs", "-q", image}, {"mount", "-o", "loop", image, mount}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		// A process that another test is forking just now may hold our files for a moment.
		var out []byte
		var err error
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
			if out, err = exec.Command("umount", mount).CombinedOutput(); err == nil {
				return
			}
		}
		t.Errorf("umount: %v: %s", err, out)
	})
	return mount
}

func TestReflinkCutNeedsNoPauseForOneDisk(t *testing.T) {
	t.Parallel()
	p := newPairIn(t, btrfs(t), 12<<20)
	stop := counterServer(t, p)
	p.start()
	for _, id := range []string{"a", "b", "c"} {
		pt := p.mark(id)
		require.Equal(t, replication.CutReflink, pt.CutMethod)
		require.Zero(t, pt.Pause)
		p.requireOneInstant(pt)
	}
	stop()
	require.Zero(t, p.pauser.Count.Load())
	p.requireSame(p.mark("still"))
	cuts, err := os.ReadDir(filepath.Join(p.dir, replication.CutsDir))
	require.NoError(t, err)
	require.Len(t, cuts, 1, "the clone of the last pass; the others are gone")
	require.NoError(t, p.source.StopSource(t.Context(), testStream))
	require.NoDirExists(t, filepath.Join(p.dir, replication.CutsDir))
	require.NoError(t, p.source.Close())
	require.NoError(t, p.target.Close())
}

func TestReflinkCutOfSeveralDisksPausesAroundTheClones(t *testing.T) {
	t.Parallel()
	p := newPairIn(t, btrfs(t), 12<<20, 6<<20, 3<<20)
	stop := counterServer(t, p)
	p.start()
	for _, id := range []string{"a", "b", "c"} {
		pt := p.mark(id)
		require.Equal(t, replication.CutReflink, pt.CutMethod)
		require.Positive(t, pt.Pause)
		p.requireOneInstant(pt)
	}
	stop()
	final, err := p.source.Final(p.ctx(), testStream, "f")
	require.NoError(t, err)
	p.requireSame(final)
	require.NoError(t, p.source.Close())
	require.NoError(t, p.target.Close())
}

func TestReflinkCutIsGoneOnWithAfterARestart(t *testing.T) {
	t.Parallel()
	p := newPairIn(t, btrfs(t))
	path := filepath.Join(p.dir, "disk0")
	writeRandom(t, path, 60<<20)
	p.disks, p.replicas = []string{path}, []string{filepath.Join(p.dir, "replica0")}
	p.settings.BytesPerSecond = 10 << 20
	p.prepareAndStart()
	acknowledged := p.waitFor(func(s replication.Status) bool { return s.Durable > 16<<20 }).Durable
	root, err := replication.RootOfFile(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, p.source.Close())
	writeRandom(t, path, 60<<20) // the server goes on meanwhile
	cuts, err := os.ReadDir(filepath.Join(p.dir, replication.CutsDir))
	require.NoError(t, err)
	require.Len(t, cuts, 1)
	p.openSource()
	require.NoError(t, p.source.Set(testStream, replication.Settings{Interval: time.Hour, AutoResume: true}))
	pt := p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil }).LastPoint
	require.Equal(t, root, pt.Disks[0].Root, "the point is of the cut from before the restart")
	st, err := p.source.Status(testStream)
	require.NoError(t, err)
	require.Less(t, st.BytesScanned, 60<<20-acknowledged+4<<20, "what is acknowledged is not read again, but for regions that are in part")
	require.NoError(t, p.source.Close())
	require.NoError(t, p.target.Close())
}

// loopDevice attaches a file of its own as a block device until the test ends.
func loopDevice(t *testing.T, size int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("missing: root, to attach a loop device")
	}
	if _, err := exec.LookPath("losetup"); err != nil {
		t.Skip("missing: losetup")
	}
	image := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, size))
	out, err := exec.Command("losetup", "-f", "--show", image).Output()
	require.NoError(t, err)
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("losetup -d %s: %v: %s", device, err, out)
		}
	})
	return device
}

func TestBlockDevicesAtBothEnds(t *testing.T) {
	t.Parallel()
	const size = 20<<20 + 512
	p := newPair(t) // its disks are devices
	p.disks, p.replicas = []string{loopDevice(t, size)}, []string{loopDevice(t, size)}
	writeRandom(t, p.replicas[0], 5<<20) // the device held something else before
	rng := rand.New(rand.NewPCG(4, 4))
	scribble(t, rng, p.disks[0], 30)
	p.prepare()
	spec := p.sourceSpec()
	require.NoError(t, p.source.StartSource(t.Context(), spec))
	first := p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil }).LastPoint
	p.requireSame(*first)
	scribble(t, rng, p.disks[0], 5)
	p.requireSame(p.mark("m"))
	require.NoError(t, p.source.Close())
	require.NoError(t, p.target.Close())
}
