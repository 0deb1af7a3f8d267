package local

import (
	"context"
	"errors"

	"lifeboat/activities/cloud"
)

// settleDisk does or begins what a stored state announces: it makes the file of
// an empty disk, fills one from its snapshot in the background, and ends a
// deletion. A disk that is deleted by now is NotFound.
func (p *Provider) settleDisk(ctx context.Context, r diskRecord) (cloud.Disk, error) {
	switch {
	case r.State == cloud.Creating && r.SnapshotID != "":
		return r.Disk, p.spawn(r.ID, func(ctx context.Context) error { return p.makeDisk(ctx, r.ID) })
	case r.State != cloud.Creating && r.State != cloud.Deleting:
		return r.Disk, nil
	}
	release, free, err := p.lockJob(r.ID)
	if err != nil || !free {
		return r.Disk, err
	}
	defer release()
	if err := p.makeDisk(ctx, r.ID); err != nil {
		return r.Disk, err
	}
	now, err := p.diskRecord(ctx, "Disk", r.ID)
	return now.Disk, err
}

// makeDisk brings a disk from Creating to Available or Failing, and from
// Deleting to its end. The caller holds its job lock.
func (p *Provider) makeDisk(ctx context.Context, id string) error {
	r, err := p.diskRecord(ctx, "Disk", id)
	if cloud.IsNotFound(err) {
		return nil
	}
	if err == nil && r.State == cloud.Creating {
		err = p.fillDisk(ctx, r)
		if err != nil && ctx.Err() == nil && cloud.ClassOf(err) != cloud.Retry {
			err = p.failDisk(ctx, id, err)
		}
		if err == nil || errors.Is(err, errDeleted) {
			// The disk may have been deleted while it was filled.
			r, err = p.diskRecord(ctx, "Disk", id)
		}
	}
	if err != nil || r.State != cloud.Deleting {
		return cloud.IgnoreNotFound(err)
	}
	if !r.Adopted {
		if err := remove(p.path(diskDir), r.Path, r.Path+".part"); err != nil {
			return osError("DeleteDisk", r.Path, err)
		}
	}
	return p.store.update(ctx, func(t *tx) error {
		if err := t.retire(cloud.KindDisk, r.Token); err != nil {
			return err
		}
		return t.del(diskBucket, id)
	})
}

// errDeleted ends work on a resource that has been deleted meanwhile.
var errDeleted = errors.New("deleted meanwhile")

// fillDisk makes the file under another name, so that a disk with its name is whole.
func (p *Provider) fillDisk(ctx context.Context, r diskRecord) error {
	err := p.fillFile(ctx, r)
	if err != nil {
		if errors.Is(err, errDeleted) {
			return err
		}
		return osError("StartCreateDisk", r.Path, err)
	}
	return p.store.update(ctx, func(t *tx) error {
		var now diskRecord
		found, err := t.get(diskBucket, r.ID, &now)
		if err != nil || !found || now.State != cloud.Creating {
			return err
		}
		now.State = cloud.Available
		return t.put(diskBucket, r.ID, now)
	})
}

func (p *Provider) fillFile(ctx context.Context, r diskRecord) error {
	file, err := newFile(r.Path+".part", 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if r.SnapshotID != "" {
		content, err := p.OpenSnapshot(ctx, r.SnapshotID)
		if err != nil {
			return err
		}
		defer content.Close()
		cloned := false
		if from, isFile := content.(*fileContent); isFile {
			if cloned, err = cloneFile(file, from.File); err != nil {
				return err
			}
		}
		if err := file.Truncate(r.Bytes); err != nil {
			return err
		}
		if !cloned {
			err := copySparse(ctx, file, content, func(int64) error { return p.stillCreating(ctx, r.ID) })
			if err != nil {
				return err
			}
		}
	}
	if err := file.Truncate(r.Bytes); err != nil {
		return err
	}
	return publish(file, p.path(diskDir), r.Path)
}

func (p *Provider) stillCreating(ctx context.Context, id string) error {
	r, err := p.diskRecord(ctx, "Disk", id)
	if cloud.IsNotFound(err) || err == nil && r.State != cloud.Creating {
		return errDeleted
	}
	return err
}

// failDisk records why a disk cannot be filled and gives its space back.
func (p *Provider) failDisk(ctx context.Context, id string, cause error) error {
	path := p.path(diskDir, id+".raw")
	if err := remove(p.path(diskDir), path+".part"); err != nil {
		return osError("StartCreateDisk", path, err)
	}
	return p.store.update(ctx, func(t *tx) error {
		var r diskRecord
		found, err := t.get(diskBucket, id, &r)
		if err != nil || !found || r.State != cloud.Creating {
			return err
		}
		r.State, r.Message = cloud.Failing, cause.Error()
		return t.put(diskBucket, id, r)
	})
}
