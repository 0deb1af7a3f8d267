package aws

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

var _ cloud.Restorer = (*Provider)(nil)

// restored goes on with a restore until it is done, each time as another process would.
func (d *double) restored(in cloud.RestoreServer) cloud.Restore {
	d.t.Helper()
	var r cloud.Restore
	require.Eventually(d.t, func() bool {
		p := d.home()
		var err error
		r, err = p.RestoreServer(d.t.Context(), in)
		in.Repeat = true
		if cloud.ClassOf(err) == cloud.Wait {
			err = nil
		}
		require.NoError(d.t, err)
		return r.State == cloud.Available
	}, time.Minute, 5*time.Millisecond, "%+v", r)
	return r
}

// first reads the beginning of a disk.
func (d *double) first(disk string) string {
	d.t.Helper()
	b := make([]byte, 4)
	require.NoError(d.t, d.cloud.ReadVolume(disk, b, 0))
	return string(b)
}

func TestAServerIsPutBackInPlace(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	s := d.server(p, "server", "root", "data")
	root, data := s.Disks[0].DiskID, s.Disks[1].DiskID
	good := d.cut(p, "good", root, data)
	for _, disk := range []string{root, data} {
		require.NoError(t, d.cloud.WriteVolume(disk, []byte("evil"), 0))
	}
	in := cloud.RestoreServer{Create: cloud.Create{Token: "restore", Tags: map[string]string{cloud.TagServer: "web"}}, Server: s.ID,
		Disks: []cloud.RestoreDisk{{Disk: root, SnapshotID: good[0].ID}, {Disk: data, SnapshotID: good[1].ID}}}
	_, err := p.RestoreServer(t.Context(), in)
	require.Equal(t, cloud.Conflict, cloud.CodeOf(err), "disks of a running server are in use: %v", err)
	require.NoError(t, p.StopServer(t.Context(), s.ID, false))
	d.serverIs(p, s.ID, cloud.Stopped)

	r := d.restored(in)
	again := d.restored(in)
	require.Equal(t, r.Disks, again.Disks, "the same token makes nothing more")
	got := d.serverIs(p, s.ID, cloud.Stopped)
	require.Equal(t, []cloud.ServerDisk{{Name: "root", DiskID: r.Disks[0], Device: "xvda", Boot: true}, {Name: "data", DiskID: r.Disks[1], Device: "sdf"}}, got.Disks)
	require.Equal(t, "root", d.first(r.Disks[0]))
	require.Equal(t, "data", d.first(r.Disks[1]))
	for i, disk := range []string{root, data} {
		require.Equal(t, disk, r.Undo[i].Disk)
		d.snapshotIs(p, r.Undo[i].ID, cloud.Available)
		require.Equal(t, "evil", d.first(disk), "the earlier disks stay")
		d.diskIs(p, disk, cloud.Available)
	}
	require.NoError(t, p.StartServer(t.Context(), s.ID))
	d.serverIs(p, s.ID, cloud.Running)

	// Undo is a restore, too.
	require.NoError(t, p.StopServer(t.Context(), s.ID, false))
	d.serverIs(p, s.ID, cloud.Stopped)
	undone := d.restored(cloud.RestoreServer{Create: cloud.Create{Token: "undo"}, Server: s.ID, Disks: []cloud.RestoreDisk{{Disk: r.Disks[1], SnapshotID: r.Undo[1].ID}}})
	require.Equal(t, "evil", d.first(undone.Disks[0]))
}

func TestTheRootOfARunningServerIsReplaced(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	s := d.server(p, "server", "root", "data")
	root, data := s.Disks[0].DiskID, s.Disks[1].DiskID
	good := d.cut(p, "good", root)[0]
	require.NoError(t, d.cloud.WriteVolume(root, []byte("evil"), 0))
	in := cloud.RestoreServer{Create: cloud.Create{Token: "restore"}, Server: s.ID, Disks: []cloud.RestoreDisk{{Disk: root, SnapshotID: good.ID}}}
	r := d.restored(in)
	got := d.serverIs(p, s.ID, cloud.Running)
	require.Equal(t, r.Disks[0], got.Disks[0].DiskID)
	require.Equal(t, s.IP, got.IP)
	require.Equal(t, "root", d.first(r.Disks[0]))
	require.Equal(t, "evil", d.first(root))
	require.Equal(t, r.Disks, d.restored(in).Disks)

	_, err := p.RestoreServer(t.Context(), cloud.RestoreServer{Create: cloud.Create{Token: "data"}, Server: s.ID, Disks: []cloud.RestoreDisk{{Disk: data, SnapshotID: good.ID}}})
	require.Equal(t, cloud.Conflict, cloud.CodeOf(err), "%v", err)
	_, err = p.RestoreServer(t.Context(), cloud.RestoreServer{Create: cloud.Create{Token: "old"}, Server: s.ID, Disks: []cloud.RestoreDisk{{Disk: root, SnapshotID: good.ID}}})
	require.Equal(t, cloud.Conflict, cloud.CodeOf(err), "a disk that is not the root any more: %v", err)
	_, err = p.RestoreServer(t.Context(), cloud.RestoreServer{Create: cloud.Create{Token: "none"}, Server: s.ID})
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%v", err)
}
