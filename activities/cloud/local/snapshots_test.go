package local

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/replication/block"
	points "lifeboat/replication/store"
)

const testDisk = 64<<20 + 5*sectorSize // neither whole pages nor whole blocks

// allocated returns how much space files below a path take.
func allocated(t *testing.T, path string) (bytes int64) {
	t.Helper()
	require.NoError(t, filepath.Walk(path, func(_ string, info fs.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	}))
	return bytes
}

func makeDisk(t *testing.T, p *Provider, token string, bytes int64) cloud.Disk {
	t.Helper()
	d, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: token}, Bytes: bytes})
	require.NoError(t, err)
	require.Equal(t, cloud.Available, d.State)
	return d
}

func writeDisk(t *testing.T, d cloud.Disk, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(data, at)
	require.NoError(t, errors.Join(err, f.Close()))
}

func snapshot(t *testing.T, p *Provider, token string, disks ...string) []cloud.Snapshot {
	t.Helper()
	s, err := p.StartSnapshots(t.Context(), cloud.CreateSnapshots{Create: cloud.Create{Token: token}, Disks: disks})
	require.NoError(t, err)
	for i := range s {
		require.Equal(t, cloud.Available, s[i].State)
		require.Equal(t, 100, s[i].Percent)
	}
	return s
}

func sum(t *testing.T, r io.ReaderAt, size int64) string {
	t.Helper()
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(r, 0, size))
	require.NoError(t, err)
	return fmt.Sprintf("%x", h.Sum(nil))
}

func sumFile(t *testing.T, path string) string {
	t.Helper()
	c, err := openFileContent(path, 0)
	require.NoError(t, err)
	defer c.Close()
	return sum(t, c, c.Size())
}

func sumSnapshot(t *testing.T, p *Provider, id string) string {
	t.Helper()
	c, err := p.OpenSnapshot(t.Context(), id)
	require.NoError(t, err)
	defer c.Close()
	return sum(t, c, c.Size())
}

// diskOf makes a disk of a snapshot and waits for it.
func diskOf(t *testing.T, p *Provider, token, snapshot string) cloud.Disk {
	t.Helper()
	d, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: token}, SnapshotID: snapshot})
	require.NoError(t, err)
	return awaitDisk(t, p, d.ID)
}

func awaitDisk(t *testing.T, p *Provider, id string) (d cloud.Disk) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		d, err = p.Disk(t.Context(), id)
		return err == nil && d.State != cloud.Creating
	}, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, cloud.Available, d.State, d.Message)
	return d
}

func TestSnapshotsNeverChangeAndDisksOfThemAreEqual(t *testing.T) {
	t.Parallel()
	onEachFileSystem(t, func(t *testing.T, dir string) {
		p := openSite(t, dir)
		d := makeDisk(t, p, "d", testDisk)
		var ids, sums []string
		for round := range uint64(5) {
			writeDisk(t, d, int64(round)*9<<20+int64(round)*333, randomBytes(round, 3<<20))
			writeDisk(t, d, int64(round)*2<<20, make([]byte, 1<<20))
			writeDisk(t, d, testDisk-10, []byte{byte(round), 1, 2, 3, 4, 5, 6, 7, 8, 9})
			ids = append(ids, snapshot(t, p, fmt.Sprint("s", round), d.ID)[0].ID)
			sums = append(sums, sumFile(t, d.Path))
		}
		for i, id := range ids {
			require.Equal(t, sums[i], sumSnapshot(t, p, id))
			copied := diskOf(t, p, fmt.Sprint("c", i), id)
			require.Equal(t, int64(testDisk), copied.Bytes)
			require.Equal(t, sums[i], sumFile(t, copied.Path))
		}
		// Deleting some leaves the others whole.
		for _, i := range []int{1, 3, 0} {
			require.NoError(t, p.DeleteSnapshot(t.Context(), ids[i]))
			_, err := p.Snapshot(t.Context(), ids[i])
			require.True(t, cloud.IsNotFound(err))
			require.Equal(t, sums[2], sumSnapshot(t, p, ids[2]))
			require.Equal(t, sums[4], sumSnapshot(t, p, ids[4]))
		}
		require.NoError(t, p.DeleteSnapshot(t.Context(), ids[2]))
		require.NoError(t, p.DeleteSnapshot(t.Context(), ids[4]))
		requireNothingStored(t, p)
	})
}

// requireNothingStored holds when no snapshot is there: then nothing else is either.
func requireNothingStored(t *testing.T, p *Provider) {
	t.Helper()
	for _, name := range []string{snapshotDir, "packs"} {
		entries, err := os.ReadDir(p.path(name))
		require.NoError(t, err)
		require.Empty(t, entries, name)
	}
	u, err := p.points.Usage()
	require.NoError(t, err)
	u.IndexBytes = 0
	require.Equal(t, points.Usage{}, u)
}

func TestSnapshotOfAHugeSparseDiskCostsItsData(t *testing.T) {
	t.Parallel()
	onEachFileSystem(t, func(t *testing.T, dir string) {
		p := openSite(t, dir)
		d := makeDisk(t, p, "d", 100<<30)
		for i := range uint64(8) {
			writeDisk(t, d, int64(i)*13<<30+77, randomBytes(i, 4<<20))
		}
		first := snapshot(t, p, "s1", d.ID)[0]
		stored := allocated(t, p.path("packs"))
		writeDisk(t, d, 50<<30, randomBytes(99, 1<<20))
		began := time.Now()
		second := snapshot(t, p, "s2", d.ID)[0]
		require.Less(t, time.Since(began), 20*time.Second)
		require.Less(t, allocated(t, p.path("packs"))-stored, int64(2<<20), "the second one costs what changed")
		copied := diskOf(t, p, "c", second.ID)
		require.Less(t, allocated(t, copied.Path), int64(48<<20))
		require.Equal(t, int64(100<<30), copied.Bytes)
		a, err := openFileContent(copied.Path, 0)
		require.NoError(t, err)
		defer a.Close()
		got := make([]byte, 1<<20)
		_, err = a.ReadAt(got, 50<<30)
		require.NoError(t, err)
		require.True(t, bytes.Equal(randomBytes(99, 1<<20), got))
		require.NoError(t, p.DeleteSnapshot(t.Context(), first.ID))
		require.NoError(t, p.DeleteSnapshot(t.Context(), second.ID))
		requireNothingStored(t, p)
	})
}

func TestEqualBlocksAreStoredOnce(t *testing.T) {
	t.Parallel()
	p := openPacksSite(t)
	data := randomBytes(7, 1<<20)
	a, b := makeDisk(t, p, "a", 32<<20), makeDisk(t, p, "b", 32<<20)
	for i := range int64(4) {
		writeDisk(t, a, i*(4<<20), data)
		writeDisk(t, b, i*(6<<20), data)
	}
	snapshot(t, p, "s", a.ID, b.ID)
	require.LessOrEqual(t, allocated(t, p.path("packs")), int64(1<<20+8192))
}

// openPacksSite opens a site that stores snapshots in packs wherever the test runs.
func openPacksSite(t *testing.T) *Provider {
	t.Helper()
	p := openSite(t, t.TempDir())
	p.clones = false
	return p
}

func TestSpaceOfDeletedBlocksComesBackWhileOthersOfThePackLive(t *testing.T) {
	t.Parallel()
	p := openPacksSite(t)
	d := makeDisk(t, p, "d", 64<<20)
	writeDisk(t, d, 0, randomBytes(1, 32<<20))
	first := snapshot(t, p, "s1", d.ID)[0]
	writeDisk(t, d, 1<<20, randomBytes(2, 31<<20)) // 1 MiB of the first pack stays in use
	second := snapshot(t, p, "s2", d.ID)[0]
	before := allocated(t, p.path("packs"))
	require.NoError(t, p.DeleteSnapshot(t.Context(), first.ID))
	require.Less(t, allocated(t, p.path("packs")), before-30<<20)
	require.Equal(t, sumFile(t, d.Path), sumSnapshot(t, p, second.ID))
}

func TestDamagedBlockIsNamedAndNeverHandedOut(t *testing.T) {
	t.Parallel()
	p := openPacksSite(t)
	d := makeDisk(t, p, "d", 4<<20)
	writeDisk(t, d, 0, randomBytes(1, 4<<20))
	s := snapshot(t, p, "s", d.ID)[0]
	packs, err := filepath.Glob(p.path("packs", "*.pack"))
	require.NoError(t, err)
	require.Len(t, packs, 1)
	f, err := os.OpenFile(packs[0], os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{0}, 10*block.Piece+5)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{1}, 10*block.Piece+6)
	require.NoError(t, errors.Join(err, f.Close()))

	c, err := p.OpenSnapshot(t.Context(), s.ID)
	require.NoError(t, err)
	defer c.Close()
	buffer := make([]byte, 100)
	_, err = c.ReadAt(buffer, 10*block.Piece+50)
	require.Equal(t, cloud.Corrupt, cloud.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, s.ID)
	require.ErrorContains(t, err, packs[0])
	_, err = c.ReadAt(buffer, 11*block.Piece)
	require.NoError(t, err, "other blocks are read")

	made, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "c"}, SnapshotID: s.ID})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		made, err = p.Disk(t.Context(), made.ID)
		return err == nil && made.State == cloud.Failing
	}, 10*time.Second, 5*time.Millisecond)
	require.Contains(t, made.Message, s.ID)
	require.NoError(t, p.DeleteDisk(t.Context(), made.ID))
	require.NoError(t, os.Remove(packs[0]))
	c2, err := openSite(t, p.site.Directory).OpenSnapshot(t.Context(), s.ID) // p has the file open
	require.NoError(t, err)
	defer c2.Close()
	_, err = c2.ReadAt(buffer, 0)
	require.Equal(t, cloud.Corrupt, cloud.CodeOf(err), "%v", err)
	require.NoError(t, p.DeleteSnapshot(t.Context(), s.ID), "what is damaged can be deleted")
}

func TestCopyBetweenSites(t *testing.T) {
	t.Parallel()
	onEachFileSystem(t, func(t *testing.T, dir string) {
		for name, target := range map[string]string{"same file system": filepath.Join(dir, "b"), "other file system": t.TempDir()} {
			a, b := openSite(t, filepath.Join(dir, "a "+name)), openSite(t, target)
			d := makeDisk(t, a, "d", testDisk)
			writeDisk(t, d, 3<<20, randomBytes(1, 20<<20))
			s := snapshot(t, a, "s", d.ID)[0]
			in := cloud.CopySnapshot{Create: cloud.Create{Token: "copy"}, From: a.Site(), SnapshotID: s.ID}
			c, err := b.StartCopySnapshot(t.Context(), in)
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				c, err = b.Snapshot(t.Context(), c.ID)
				return err == nil && c.State == cloud.Available
			}, 20*time.Second, 5*time.Millisecond)
			require.Equal(t, s.Time, c.Time, "a copy shows the same instant")
			require.Equal(t, sumFile(t, d.Path), sumSnapshot(t, b, c.ID))
			require.NoError(t, a.DeleteSnapshot(t.Context(), s.ID))
			require.NoError(t, a.DeleteDisk(t.Context(), d.ID))
			again, err := b.StartCopySnapshot(t.Context(), in)
			require.NoError(t, err, "the token is answered without the original")
			require.Equal(t, c.ID, again.ID)
			require.NotEmpty(t, sumSnapshot(t, b, c.ID))
			require.NoError(t, b.DeleteSnapshot(t.Context(), c.ID))
			requireNothingStored(t, b)
			requireNothingStored(t, a)
		}
	})
}

func TestFullDiskIsAnErrorAndGivesItsSpaceBack(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	p := openSite(t, mountSized(t, 64<<20, "mkfs.ext4", "-q", "-F"))
	source := filepath.Join(t.TempDir(), "large")
	require.NoError(t, os.WriteFile(source, randomBytes(1, 90<<20), 0o600))
	d, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "d"}, Source: source})
	require.NoError(t, err)
	before := allocated(t, p.path("packs"))
	_, err = p.StartSnapshots(t.Context(), cloud.CreateSnapshots{Create: cloud.Create{Token: "s"}, Disks: []string{d.ID}})
	require.Equal(t, cloud.NoSpace, cloud.CodeOf(err), "%v", err)
	require.Equal(t, cloud.AskPerson, cloud.ClassOf(err))
	require.Equal(t, before, allocated(t, p.path("packs")))
	small := makeDisk(t, p, "small", 4<<20)
	writeDisk(t, small, 0, randomBytes(2, 4<<20))
	require.Equal(t, sumFile(t, small.Path), sumSnapshot(t, p, snapshot(t, p, "small", small.ID)[0].ID))
}
