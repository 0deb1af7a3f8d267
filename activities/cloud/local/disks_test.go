package local

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

func TestAdoptedFilesAndBlockDevicesHaveSnapshotsAndStay(t *testing.T) {
	t.Parallel()
	onEachFileSystem(t, func(t *testing.T, dir string) {
		p := openSite(t, filepath.Join(dir, "site"))
		elsewhere := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(elsewhere, randomBytes(1, 3<<20+17), 0o600))
		sources := map[string]string{"file of another file system": elsewhere}
		if os.Geteuid() == 0 {
			backing := filepath.Join(t.TempDir(), "backing")
			require.NoError(t, os.WriteFile(backing, randomBytes(2, 20<<20), 0o600))
			out, err := exec.Command("losetup", "--find", "--show", backing).Output()
			require.NoError(t, err)
			device := strings.TrimSpace(string(out))
			t.Cleanup(func() { run(t, "losetup", "--detach", device) })
			sources["block device"] = device
		}
		for name, source := range sources {
			d, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: name}, Source: source})
			require.NoError(t, err)
			require.Equal(t, cloud.Available, d.State)
			s := snapshot(t, p, name, d.ID)[0]
			require.Equal(t, sumFile(t, source), sumSnapshot(t, p, s.ID))
			copied := diskOf(t, p, name+" copy", s.ID)
			require.Zero(t, copied.Bytes%sectorSize)
			c, err := openFileContent(copied.Path, 0)
			require.NoError(t, err)
			require.Equal(t, sumFile(t, source), sum(t, c, s.Bytes))
			require.NoError(t, c.Close())
			require.NoError(t, p.DeleteDisk(t.Context(), d.ID))
			_, err = os.Stat(source)
			require.NoError(t, err)
		}
		require.NoError(t, p.destroyDisks(t.Context()))
		requireNothingStored(t, p)
	})
}

func TestWhatCannotBeAdoptedIsNamed(t *testing.T) {
	t.Parallel()
	p := openSite(t, t.TempDir())
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	full := filepath.Join(dir, "full")
	require.NoError(t, os.WriteFile(full, make([]byte, 1024), 0o600))
	for name, c := range map[string]struct {
		in   cloud.CreateDisk
		code cloud.Code
	}{
		"missing":      {cloud.CreateDisk{Source: filepath.Join(dir, "missing")}, cloud.NotFound},
		"empty":        {cloud.CreateDisk{Source: empty}, cloud.InvalidInput},
		"directory":    {cloud.CreateDisk{Source: dir}, cloud.InvalidInput},
		"no device":    {cloud.CreateDisk{Source: "/dev/null"}, cloud.InvalidInput},
		"relative":     {cloud.CreateDisk{Source: "full"}, cloud.InvalidInput},
		"other size":   {cloud.CreateDisk{Source: full, Bytes: 2048}, cloud.InvalidInput},
		"two origins":  {cloud.CreateDisk{Source: full, SnapshotID: "snap-1"}, cloud.InvalidInput},
		"odd size":     {cloud.CreateDisk{Bytes: 1000}, cloud.InvalidInput},
		"unknown type": {cloud.CreateDisk{Bytes: 1024, Type: "gp3"}, cloud.InvalidInput},
		"key":          {cloud.CreateDisk{Bytes: 1024, Key: "k"}, cloud.Unsupported},
	} {
		c.in.Token = name
		_, err := p.StartCreateDisk(t.Context(), c.in)
		require.Equal(t, c.code, cloud.CodeOf(err), "%s: %v", name, err)
		if c.in.Source != "" && name != "two origins" {
			require.ErrorContains(t, err, c.in.Source)
		}
	}
	disks, err := p.Disks(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Empty(t, disks)
}

func TestWorkThatItsProcessLeftIsDoneByWhoeverAsksNext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(name string) *Provider {
		p, err := Open(t.Context(), cloud.Site{Name: name, Directory: filepath.Join(dir, name)}, Options{})
		require.NoError(t, err)
		p.clones = false
		return p
	}
	a, b := open("a"), open("b")
	defer a.Close()
	d := makeDisk(t, a, "d", 64<<20)
	writeDisk(t, d, 0, randomBytes(1, 50<<20))
	s := snapshot(t, a, "s", d.ID)[0]
	image, err := a.RegisterImage(t.Context(), cloud.Create{Token: "i"}, []cloud.ImageDisk{{SnapshotID: s.ID}})
	require.NoError(t, err)

	// b begins and ends at once, in the middle of its work.
	copied, err := b.StartCopyImage(t.Context(), cloud.Create{Token: "copy"}, a.Site(), image.ID)
	require.NoError(t, err)
	require.Equal(t, cloud.Creating, copied.State)
	require.NoError(t, b.Close())
	made, err := a.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "made"}, SnapshotID: s.ID})
	require.NoError(t, err)
	require.NoError(t, a.Close())

	a, b = openSite(t, filepath.Join(dir, "a")), openSite(t, filepath.Join(dir, "b"))
	require.Equal(t, sumFile(t, d.Path), sumFile(t, awaitDisk(t, a, made.ID).Path))
	require.Eventually(t, func() bool {
		copied, err = b.Image(t.Context(), copied.ID)
		return err == nil && copied.State == cloud.Available
	}, 30*time.Second, 5*time.Millisecond)
	require.Equal(t, sumFile(t, d.Path), sumSnapshot(t, b, copied.Snapshots[0].SnapshotID))
	require.NoError(t, b.DeleteImage(t.Context(), copied.ID, true))
	requireNothingStored(t, b)
}

func TestDeletingWhatIsStillBeingMade(t *testing.T) {
	t.Parallel()
	p := openPacksSite(t)
	d := makeDisk(t, p, "d", 64<<20)
	writeDisk(t, d, 0, randomBytes(1, 60<<20))
	s := snapshot(t, p, "s", d.ID)[0]
	made, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "made"}, SnapshotID: s.ID})
	require.NoError(t, err)
	if err := p.DeleteSnapshot(t.Context(), s.ID); err != nil {
		require.Equal(t, cloud.InUse, cloud.CodeOf(err), "%v", err)
	}
	require.NoError(t, p.DeleteDisk(t.Context(), made.ID))
	require.Eventually(t, func() bool {
		_, err := p.Disk(t.Context(), made.ID)
		return cloud.IsNotFound(err)
	}, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, cloud.IgnoreNotFound(p.DeleteSnapshot(t.Context(), s.ID)))
	requireNothingStored(t, p)
	files, err := os.ReadDir(p.path(diskDir))
	require.NoError(t, err)
	require.Len(t, files, 1)
}
