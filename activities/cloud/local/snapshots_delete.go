package local

import (
	"context"

	"lifeboat/activities/cloud"
)

// DeleteSnapshot deletes a snapshot; blocks that others share stay.
func (p *Provider) DeleteSnapshot(ctx context.Context, id string) error {
	const op = "DeleteSnapshot"
	var r snapshotRecord
	err := p.store.update(ctx, func(t *tx) error {
		found, err := t.get(snapshotBucket, id, &r)
		if err == nil && !found {
			return notFound(op, cloud.KindSnapshot, id)
		}
		if err != nil || r.State == cloud.Deleting {
			return err
		}
		if err := snapshotIsUsed(t, op, id); err != nil {
			return err
		}
		r.State = cloud.Deleting
		return t.put(snapshotBucket, id, r)
	})
	if err != nil {
		return err
	}
	_, err = p.settleSnapshot(ctx, r)
	return cloud.IgnoreNotFound(err)
}

// snapshotIsUsed returns InUse when an image or a disk on its way needs it.
func snapshotIsUsed(t *tx, op, id string) error {
	err := t.each(imageBucket, func(image string, raw []byte) error {
		var r imageRecord
		if err := t.decode(imageBucket, image, raw, &r); err != nil {
			return err
		}
		for _, d := range r.Snapshots {
			if d.SnapshotID == id && r.State != cloud.Deleting {
				return cloud.E(cloud.InUse, op, "snapshot "+id, "belongs to image "+image, "delete the image first", nil)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.each(diskBucket, func(disk string, raw []byte) error {
		var r diskRecord
		if err := t.decode(diskBucket, disk, raw, &r); err != nil || r.SnapshotID != id || r.State != cloud.Creating {
			return err
		}
		return cloud.E(cloud.InUse, op, "snapshot "+id, "disk "+disk+" is being filled from it", "wait until the disk is available", nil)
	})
}

// eraseSnapshot removes content and record of a snapshot that is Deleting; the
// caller holds its job lock.
func (p *Provider) eraseSnapshot(ctx context.Context, id string) error {
	if err := p.eraseContent(ctx, id); err != nil {
		return err
	}
	return p.store.update(ctx, func(t *tx) error {
		var r snapshotRecord
		found, err := t.get(snapshotBucket, id, &r)
		if err != nil || !found {
			return err
		}
		if err := t.retire(cloud.KindSnapshot, r.Token); err != nil {
			return err
		}
		return t.del(snapshotBucket, id)
	})
}

func (p *Provider) eraseContent(ctx context.Context, id string) error {
	path := p.clonePath(id)
	if err := remove(p.path(snapshotDir), path, path+".part"); err != nil {
		return osError("DeleteSnapshot", path, err)
	}
	return p.freePacks(id)
}
