package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"lifeboat/activities/cloud"
)

// sectorSize is what lengths of disks are multiples of.
const sectorSize = 512

// StartCreateDisk makes an empty disk, one with the content of a snapshot, or
// adopts a file or block device. Only the content of a snapshot takes time:
// anyone who asks for the disk goes on with it when its maker has died.
func (p *Provider) StartCreateDisk(ctx context.Context, in cloud.CreateDisk) (cloud.Disk, error) {
	const op = "StartCreateDisk"
	if err := cloud.CheckToken(op, cloud.KindDisk, in.Token); err != nil {
		return cloud.Disk{}, err
	}
	if err := checkCreateDisk(in); err != nil {
		return cloud.Disk{}, err
	}
	request := in
	if in.Source != "" {
		var err error
		if in.Source, in.Bytes, err = adoptable(op, in.Source, in.Bytes); err != nil {
			return cloud.Disk{}, err
		}
	}
	var r diskRecord
	err := p.store.update(ctx, func(t *tx) error {
		id, old, err := t.claim(op, cloud.KindDisk, in.Token, request)
		if err != nil {
			return err
		}
		if old {
			found, err := t.get(diskBucket, id, &r)
			if err == nil && !found {
				return notFound(op, cloud.KindDisk, id)
			}
			return err
		}
		if r, err = p.newDisk(t, op, id, in); err != nil {
			return err
		}
		return t.put(diskBucket, id, r)
	})
	if err != nil {
		return cloud.Disk{}, err
	}
	return p.settleDisk(ctx, r)
}

// checkCreateDisk refuses what can never be made, before anything is changed.
func checkCreateDisk(in cloud.CreateDisk) error {
	const op, resource, mend = "StartCreateDisk", "disk", "give a size in bytes, a snapshot or a file to adopt"
	switch {
	case in.Bytes < 0 || in.Bytes == 0 && in.SnapshotID == "" && in.Source == "":
		return invalid(op, resource, fmt.Sprintf("a disk of %d bytes cannot be made", in.Bytes), mend)
	case in.SnapshotID != "" && in.Source != "":
		return invalid(op, resource, "a snapshot and a file to adopt exclude each other", mend)
	case in.Source == "" && in.Bytes%sectorSize != 0:
		return invalid(op, resource, fmt.Sprintf("%d bytes are not a multiple of %d", in.Bytes, sectorSize), "round the size up")
	case in.Key != "":
		return cloud.E(cloud.Unsupported, op, resource, "a local site does not encrypt disks", "leave the key out, and keep the site on an encrypted file system", nil)
	case in.Type != "" && in.Type != "raw":
		return invalid(op, resource, fmt.Sprintf("disk type %q is unknown here", in.Type), "local sites have raw disks only: leave the type out")
	}
	return nil
}

// adoptable returns the clean path and the length of a file or block device.
func adoptable(op, source string, bytes int64) (path string, size int64, err error) {
	resource := "file " + source
	if !filepath.IsAbs(source) {
		return "", 0, invalid(op, resource, "is not an absolute path", "write the whole path")
	}
	path, err = filepath.EvalSymlinks(source)
	if err != nil {
		return "", 0, osError(op, resource, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, osError(op, resource, err)
	}
	if !info.Mode().IsRegular() && info.Mode().Type() != os.ModeDevice {
		return "", 0, invalid(op, resource, "is neither a regular file nor a block device", "name one that is")
	}
	content, err := openFileContent(path, 0)
	if err != nil {
		return "", 0, osError(op, resource, err)
	}
	defer content.Close()
	switch size = content.Size(); {
	case size == 0:
		return "", 0, invalid(op, resource, "is empty", "give it a size first (truncate -s)")
	case bytes != 0 && bytes != size:
		return "", 0, invalid(op, resource, fmt.Sprintf("has %d bytes, not %d", size, bytes), "leave the size out")
	}
	return path, size, nil
}

// newDisk checks a request against the state of the site.
func (p *Provider) newDisk(t *tx, op, id string, in cloud.CreateDisk) (diskRecord, error) {
	r := diskRecord{Token: in.Token, Disk: cloud.Disk{
		Resource: cloud.Resource{ID: id, Name: in.Name, State: cloud.Creating, Tags: in.Tags, Created: time.Now().UTC()},
		Bytes:    in.Bytes, Type: "raw", SnapshotID: in.SnapshotID, Path: p.path(diskDir, id+".raw"),
	}}
	if in.Source != "" {
		r.Adopted, r.Path, r.State = true, in.Source, cloud.Available
		return r, t.each(diskBucket, func(other string, raw []byte) error {
			var o diskRecord
			if err := t.decode(diskBucket, other, raw, &o); err != nil || o.Path != in.Source {
				return err
			}
			return cloud.E(cloud.InUse, op, "file "+in.Source, "is disk "+other+" of this site already", "use that disk, or delete it first (the file stays)", nil)
		})
	}
	if in.SnapshotID != "" {
		s, err := readySnapshot(t, op, in.SnapshotID)
		if err != nil {
			return r, err
		}
		if r.Bytes == 0 {
			r.Bytes = (s.Bytes + sectorSize - 1) / sectorSize * sectorSize
		}
		if r.Bytes < s.Bytes {
			return r, invalid(op, "disk", fmt.Sprintf("%d bytes are less than the %d of snapshot %s", r.Bytes, s.Bytes, s.ID), "leave the size out, or make it larger")
		}
	}
	return r, nil
}

// Disk returns a disk and goes on with work on it that nobody does.
func (p *Provider) Disk(ctx context.Context, id string) (cloud.Disk, error) {
	r, err := p.diskRecord(ctx, "Disk", id)
	if err != nil {
		return cloud.Disk{}, err
	}
	return p.settleDisk(ctx, r)
}

func (p *Provider) diskRecord(ctx context.Context, op, id string) (diskRecord, error) {
	return record[diskRecord](ctx, p.store, op, cloud.KindDisk, diskBucket, id)
}

// Disks lists disks and goes on with work on them that nobody does.
func (p *Provider) Disks(ctx context.Context, f cloud.Filter) ([]cloud.Disk, error) {
	return settled(ctx, p.store, diskBucket, func(r diskRecord) bool { return f.Match(r.Tags) }, p.settleDisk)
}

// StartAttachDisk attaches a disk to a stopped server, which finds it when it starts.
func (p *Provider) StartAttachDisk(ctx context.Context, disk, server, device string) error {
	const op = "StartAttachDisk"
	r, err := p.diskRecord(ctx, op, disk)
	if err != nil {
		return err
	}
	s, err := p.Server(ctx, server)
	if err != nil {
		return err
	}
	if r.Server != server && s.State != cloud.Stopped {
		return cloud.E(cloud.Conflict, op, "disk "+disk, fmt.Sprintf("server %s is %s; a local server finds its disks when it starts", server, s.State), "stop the server first", nil)
	}
	return p.store.update(ctx, func(t *tx) error {
		return attachDisk(t, op, server, cloud.ServerDisk{DiskID: disk, Device: device})
	})
}

// StartDetachDisk takes a disk from a stopped server.
func (p *Provider) StartDetachDisk(ctx context.Context, disk string) error {
	const op = "StartDetachDisk"
	r, err := p.diskRecord(ctx, op, disk)
	if err != nil || r.Server == "" {
		return err
	}
	s, err := p.Server(ctx, r.Server)
	if cloud.IgnoreNotFound(err) != nil {
		return err
	}
	if err == nil && s.State != cloud.Stopped && s.State != cloud.Failing {
		return cloud.E(cloud.Conflict, op, "disk "+disk, fmt.Sprintf("server %s is %s and uses it", r.Server, s.State), "stop the server first", nil)
	}
	return p.store.update(ctx, func(t *tx) error { return detachDisk(t, disk) })
}

// DeleteDisk deletes a disk; an adopted file or device stays as it is.
func (p *Provider) DeleteDisk(ctx context.Context, id string) error {
	const op = "DeleteDisk"
	var r diskRecord
	err := p.store.update(ctx, func(t *tx) error {
		found, err := t.get(diskBucket, id, &r)
		switch {
		case err != nil:
			return err
		case !found:
			return notFound(op, cloud.KindDisk, id)
		case r.Server != "":
			return cloud.E(cloud.InUse, op, "disk "+id, "is attached to server "+r.Server, "detach it, or terminate the server", nil)
		}
		if err := diskIsRead(t, op, id); err != nil {
			return err
		}
		r.State = cloud.Deleting
		return t.put(diskBucket, id, r)
	})
	if err != nil {
		return err
	}
	_, err = p.settleDisk(ctx, r)
	return cloud.IgnoreNotFound(err)
}
