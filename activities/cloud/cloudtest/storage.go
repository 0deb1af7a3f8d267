package cloudtest

import (
	"io"
	"os"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

var diskBehaviours = []behaviour{
	{"Disks", "a disk that can never be made is InvalidInput, of an unknown snapshot NotFound", func(e *env) {
		d, ok := has[cloud.Disks](e, "Disks")
		if !ok {
			return
		}
		for _, bytes := range []int64{0, -1} {
			_, err := d.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: e.create(""), Bytes: bytes})
			e.code(cloud.InvalidInput, err)
		}
		_, err := d.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: e.create(""), SnapshotID: "missing-1"})
		e.code(cloud.NotFound, err)
		list, err := d.Disks(e.ctx(), cloud.Filter{})
		require.NoError(e, err)
		require.Empty(e, list, "nothing was made")
	}},
	{"Disks", "a disk of a snapshot is equal and may be larger, never smaller", func(e *env) {
		d, ok := has[cloud.Disks](e, "Disks")
		if !ok {
			return
		}
		source := e.disk("content")
		e.fill(source, 7)
		s := e.snapshots(source.ID)[0]
		e.same(source, e.diskFrom(s.ID))
		made, err := d.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: e.create(""), SnapshotID: s.ID, Bytes: 2 * s.Bytes})
		require.NoError(e, err)
		made = e.diskIs(made.ID, cloud.Available)
		require.Equal(e, 2*s.Bytes, made.Bytes)
		require.Equal(e, s.ID, made.SnapshotID)
		e.same(source, made)
		_, err = d.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: e.create(""), SnapshotID: s.ID, Bytes: s.Bytes / 2})
		e.code(cloud.InvalidInput, err)
	}},
	{"Disks", "attaching twice is fine, to another server InUse; detaching twice is fine", func(e *env) {
		d, ok := has[cloud.Disks](e, "Disks")
		servers, can := has[cloud.Servers](e, "Servers")
		if !ok || !can {
			return
		}
		a, b, extra := e.server("a", ""), e.server("b", ""), e.disk("extra")
		for _, s := range []string{a.ID, b.ID} {
			require.NoError(e, servers.StopServer(e.ctx(), s, true))
			e.serverIs(s, cloud.Stopped)
		}
		require.NoError(e, d.StartAttachDisk(e.ctx(), extra.ID, a.ID, "sdf"))
		got := e.diskIs(extra.ID, cloud.Attached)
		require.Equal(e, a.ID, got.Server)
		require.Equal(e, "sdf", got.Device)
		require.NoError(e, d.StartAttachDisk(e.ctx(), extra.ID, a.ID, "sdf"))
		e.code(cloud.InUse, d.StartAttachDisk(e.ctx(), extra.ID, b.ID, "sdf"))
		e.code(cloud.InUse, d.DeleteDisk(e.ctx(), extra.ID))
		e.code(cloud.NotFound, d.StartAttachDisk(e.ctx(), "missing-1", a.ID, "sdg"))
		e.code(cloud.NotFound, d.StartAttachDisk(e.ctx(), e.disk("free").ID, "missing-1", "sdg"))
		require.Len(e, e.serverIs(a.ID, cloud.Stopped).Disks, 2)
		require.NoError(e, d.StartDetachDisk(e.ctx(), extra.ID))
		e.diskIs(extra.ID, cloud.Available)
		require.NoError(e, d.StartDetachDisk(e.ctx(), extra.ID))
		require.Len(e, e.serverIs(a.ID, cloud.Stopped).Disks, 1)
		require.NoError(e, d.DeleteDisk(e.ctx(), extra.ID))
	}},
	{"Disks", "an adopted file is used in place and never deleted", func(e *env) {
		d, ok := has[cloud.Disks](e, "Disks")
		if !ok || e.f.Source == nil {
			return
		}
		path := e.f.Source(e.T, e.f.DiskBytes)
		made, err := d.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: e.create(""), Source: path})
		require.NoError(e, err)
		require.Equal(e, e.f.DiskBytes, e.diskIs(made.ID, cloud.Available).Bytes)
		_, err = d.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: e.create(""), Source: path})
		e.code(cloud.InUse, err)
		_, err = d.StartCreateDisk(e.ctx(), cloud.CreateDisk{Create: e.create(""), Source: path + "-missing"})
		require.Error(e, err)
		require.NoError(e, d.DeleteDisk(e.ctx(), made.ID))
		e.gone(func() error { _, err := d.Disk(e.ctx(), made.ID); return err })
		_, err = os.Stat(path)
		require.NoError(e, err)
	}},
}

var snapshotBehaviours = []behaviour{
	{"Snapshots", "a snapshot does not change with its disk and outlives it", func(e *env) {
		d, ok := has[cloud.Disks](e, "Disks")
		if !ok {
			return
		}
		source := e.disk("before")
		s := e.snapshots(source.ID)[0]
		require.Equal(e, source.ID, s.Disk)
		require.Equal(e, source.Bytes, s.Bytes)
		require.False(e, s.Time.IsZero())
		require.Equal(e, 100, s.Percent)
		before := e.diskFrom(s.ID)
		e.fill(source, 3)
		if e.f.Write != nil {
			e.f.Write(e.T, source, 0, []byte(mark("after")))
		}
		require.NoError(e, d.DeleteDisk(e.ctx(), source.ID))
		e.gone(func() error { _, err := d.Disk(e.ctx(), source.ID); return err })
		e.same(before, e.diskFrom(s.ID))
	}},
	{"Snapshots", "several disks are cut together, in the order asked for, all or none", func(e *env) {
		s, ok := has[cloud.Snapshots](e, "Snapshots")
		if !ok {
			return
		}
		a, b, c := e.disk("a"), e.disk("b"), e.disk("c")
		made := e.snapshots(c.ID, a.ID, b.ID)
		for i, d := range []cloud.Disk{c, a, b} {
			require.Equal(e, d.ID, made[i].Disk)
			require.Equal(e, made[0].Time, made[i].Time)
			e.same(d, e.diskFrom(made[i].ID))
		}
		_, err := s.StartSnapshots(e.ctx(), cloud.CreateSnapshots{Create: e.create(""), Disks: []string{a.ID, "missing-1"}})
		e.code(cloud.NotFound, err)
		list, err := s.Snapshots(e.ctx(), cloud.Filter{})
		require.NoError(e, err)
		require.Len(e, list, 3)
		_, err = s.StartSnapshots(e.ctx(), cloud.CreateSnapshots{Create: e.create("")})
		e.code(cloud.InvalidInput, err)
	}},
	{"Snapshots", "deleting one leaves the others whole", func(e *env) {
		s, ok := has[cloud.Snapshots](e, "Snapshots")
		if !ok {
			return
		}
		d := e.disk("one")
		e.fill(d, 1)
		first := e.snapshots(d.ID)[0]
		e.fill(d, 2)
		second, kept := e.snapshots(d.ID)[0], e.snapshots(d.ID)[0]
		for _, id := range []string{first.ID, second.ID} {
			require.NoError(e, s.DeleteSnapshot(e.ctx(), id))
			e.gone(func() error { _, err := s.Snapshot(e.ctx(), id); return err })
		}
		e.same(d, e.diskFrom(kept.ID))
	}},
	{"Snapshots", "a copy at another site is equal and outlives the original", func(e *env) {
		s, ok := has[cloud.Snapshots](e, "Snapshots")
		if !ok {
			return
		}
		d := e.disk("original")
		e.fill(d, 5)
		original := e.snapshots(d.ID)[0]
		away := e.open("away")
		other := must[cloud.Snapshots](e, away, "Snapshots")
		in := cloud.CopySnapshot{Create: e.create("copy"), From: e.p.Site(), SnapshotID: original.ID}
		made, err := other.StartCopySnapshot(e.ctx(), in)
		require.NoError(e, err)
		copied := e.snapshotIs(away, made.ID, cloud.Available)
		require.Equal(e, original.Bytes, copied.Bytes)
		require.True(e, original.Time.Equal(copied.Time))
		require.NoError(e, s.DeleteSnapshot(e.ctx(), original.ID))
		again, err := other.StartCopySnapshot(e.ctx(), in)
		require.NoError(e, err)
		require.Equal(e, copied.ID, again.ID)
		in.Create = e.create("another")
		_, err = other.StartCopySnapshot(e.ctx(), in)
		e.code(cloud.NotFound, err)
		here := *e
		here.p = away
		e.same(d, here.diskFrom(copied.ID))
	}},
}

var imageBehaviours = []behaviour{
	{"Images", "a snapshot of an image is InUse; the image is deleted with or without its snapshots", func(e *env) {
		i, ok := has[cloud.Images](e, "Images")
		if !ok {
			return
		}
		s := must[cloud.Snapshots](e, e.p, "Snapshots")
		cut := e.snapshots(e.disk("root").ID, e.disk("data").ID)
		disks := []cloud.ImageDisk{{Device: "sda", SnapshotID: cut[0].ID, Boot: true}, {Device: "sdb", SnapshotID: cut[1].ID}}
		for _, with := range []bool{false, true} {
			image, err := i.RegisterImage(e.ctx(), e.create(""), disks)
			require.NoError(e, err)
			require.Equal(e, disks, e.imageIs(e.p, image.ID, cloud.Available).Snapshots)
			e.code(cloud.InUse, s.DeleteSnapshot(e.ctx(), cut[1].ID))
			require.NoError(e, i.DeleteImage(e.ctx(), image.ID, with))
			e.gone(func() error { _, err := i.Image(e.ctx(), image.ID); return err })
			if !with {
				e.snapshotIs(e.p, cut[0].ID, cloud.Available)
			}
		}
		for _, c := range cut {
			e.gone(func() error { _, err := s.Snapshot(e.ctx(), c.ID); return err })
		}
	}},
	{"Images", "an image without exactly one boot disk or of missing snapshots is refused", func(e *env) {
		i, ok := has[cloud.Images](e, "Images")
		if !ok {
			return
		}
		cut := e.snapshots(e.disk("root").ID, e.disk("data").ID)
		for _, boot := range []bool{false, true} {
			_, err := i.RegisterImage(e.ctx(), e.create(""), []cloud.ImageDisk{{Device: "sda", SnapshotID: cut[0].ID, Boot: boot}, {Device: "sdb", SnapshotID: cut[1].ID, Boot: boot}})
			e.code(cloud.InvalidInput, err)
		}
		_, err := i.RegisterImage(e.ctx(), e.create(""), nil)
		e.code(cloud.InvalidInput, err)
		_, err = i.RegisterImage(e.ctx(), e.create(""), []cloud.ImageDisk{{SnapshotID: "missing-1", Boot: true}})
		e.code(cloud.NotFound, err)
	}},
	{"Images", "an image of a server holds its disks, with and without a reboot", func(e *env) {
		i, ok := has[cloud.Images](e, "Images")
		if !ok {
			return
		}
		server := e.server("server", "")
		root := e.diskIs(server.Disks[0].DiskID, cloud.Attached)
		for _, reboot := range []bool{false, true} {
			in := e.create("")
			made, err := i.StartCreateImage(e.ctx(), in, server.ID, reboot)
			require.NoError(e, err)
			again, err := i.StartCreateImage(e.ctx(), in, server.ID, reboot)
			require.NoError(e, err)
			require.Equal(e, made.ID, again.ID)
			image := e.imageIs(e.p, made.ID, cloud.Available)
			require.Len(e, image.Snapshots, 1)
			require.True(e, image.Snapshots[0].Boot)
			require.Equal(e, 100, image.Percent)
			e.same(root, e.diskFrom(image.Snapshots[0].SnapshotID))
			e.serverIs(server.ID, cloud.Running)
		}
		_, err := i.StartCreateImage(e.ctx(), e.create(""), "missing-1", false)
		e.code(cloud.NotFound, err)
	}},
	{"Images", "a copy at another site has snapshots of its own", func(e *env) {
		i, ok := has[cloud.Images](e, "Images")
		if !ok {
			return
		}
		root, data := e.disk("root"), e.disk("data")
		e.fill(data, 4)
		cut := e.snapshots(root.ID, data.ID)
		image, err := i.RegisterImage(e.ctx(), e.create(""), []cloud.ImageDisk{{Device: "sda", SnapshotID: cut[0].ID, Boot: true}, {Device: "sdb", SnapshotID: cut[1].ID}})
		require.NoError(e, err)
		e.imageIs(e.p, image.ID, cloud.Available)
		away := e.open("away")
		other := must[cloud.Images](e, away, "Images")
		made, err := other.StartCopyImage(e.ctx(), e.create(""), e.p.Site(), image.ID)
		require.NoError(e, err)
		copied := e.imageIs(away, made.ID, cloud.Available)
		require.Equal(e, 100, copied.Percent)
		require.NoError(e, i.DeleteImage(e.ctx(), image.ID, true))
		here := *e
		here.p = away
		e.same(root, here.diskFrom(copied.Snapshots[0].SnapshotID))
		e.same(data, here.diskFrom(copied.Snapshots[1].SnapshotID))
		require.NoError(e, other.DeleteImage(e.ctx(), copied.ID, true))
		e.gone(func() error { _, err := other.Image(e.ctx(), copied.ID); return err })
		list, err := must[cloud.Snapshots](e, away, "Snapshots").Snapshots(e.ctx(), cloud.Filter{})
		require.NoError(e, err)
		require.Empty(e, list)
		_, err = other.StartCopyImage(e.ctx(), e.create(""), e.p.Site(), "missing-1")
		e.code(cloud.NotFound, err)
	}},
}

// fill writes a pattern to several places of a disk.
func (e *env) fill(d cloud.Disk, seed byte) {
	e.Helper()
	if e.f.Write == nil {
		return
	}
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(i*7) ^ byte(i>>8) ^ seed
	}
	for _, at := range []int64{4096 + int64(seed), d.Bytes / 3, d.Bytes - int64(len(data))} {
		e.f.Write(e.T, d, at, data)
	}
}

// same requires that a disk begins with the content of another one, and holds
// zeros after it.
func (e *env) same(want, got cloud.Disk) {
	e.Helper()
	if e.f.Content == nil {
		return
	}
	a, b := e.f.Content(e.T, want), e.f.Content(e.T, got)
	const step = 1 << 20
	x, y := make([]byte, step), make([]byte, step)
	for at := int64(0); at < got.Bytes; at += step {
		n := min(step, got.Bytes-at)
		clear(x)
		if m := min(n, want.Bytes-at); m > 0 {
			_, err := io.ReadFull(io.NewSectionReader(a, at, m), x[:m])
			require.NoError(e, err)
		}
		_, err := io.ReadFull(io.NewSectionReader(b, at, n), y[:n])
		require.NoError(e, err)
		if string(x[:n]) != string(y[:n]) {
			require.Failf(e, "contents differ", "disk %s and disk %s after byte %d", want.ID, got.ID, at)
		}
	}
}
