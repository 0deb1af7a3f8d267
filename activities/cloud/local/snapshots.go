package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"lifeboat/activities/cloud"
)

const snapshotBucket = "snapshots"

// snapshotForm says how the content of a snapshot is stored.
type snapshotForm string

const (
	formClone snapshotForm = "clone" // a file that shares extents with the disk
	formPacks snapshotForm = "packs" // a manifest of blocks in packs
)

// snapshotRecord is a snapshot as it is stored.
type snapshotRecord struct {
	cloud.Snapshot
	Token string       `json:"token"`
	Form  snapshotForm `json:"form,omitempty"`
	From  *copyOrigin  `json:"from,omitempty"` // set for a copy
}

// job names the lock of the work on a snapshot. For a cut it is known before the
// snapshot is: who sees one that is being made and finds its lock free knows
// that its maker has died.
func (r snapshotRecord) job() string {
	if r.From == nil {
		return cutJob(r.Token)
	}
	return r.ID
}

func cutJob(token string) string { return "cut " + token }

// copyOrigin is the snapshot of another local site that a copy is made from.
type copyOrigin struct {
	Site       cloud.Site `json:"site"`
	SnapshotID string     `json:"snapshot_id"`
}

// StartSnapshots cuts snapshots of several disks. On a file system with
// reflinks it takes milliseconds; elsewhere it reads the data of the disks
// before it returns, so that the caller may let them change again when it has.
// A caller that died is repeated with the same token: the cut is made anew.
func (p *Provider) StartSnapshots(ctx context.Context, in cloud.CreateSnapshots) ([]cloud.Snapshot, error) {
	const op = "StartSnapshots"
	if len(in.Disks) == 0 {
		return nil, invalid(op, "snapshot", "no disks are named", "name at least one")
	}
	release, err := p.waitJob(ctx, cutJob(in.Token))
	if err != nil {
		return nil, err
	}
	defer release()
	var records []snapshotRecord
	err = p.store.update(ctx, func(t *tx) error {
		records = nil
		set, old, err := t.claim(op, cloud.KindSnapshot, in.Token, in)
		if err != nil {
			return err
		}
		for i, disk := range in.Disks {
			id := set
			if i > 0 {
				id = fmt.Sprintf("%s-%d", set, i)
			}
			var r snapshotRecord
			if old {
				found, err := t.get(snapshotBucket, id, &r)
				if err != nil {
					return err
				}
				if !found {
					return notFound(op, cloud.KindSnapshot, id)
				}
			} else if r, err = newSnapshot(t, op, id, disk, in.Create); err != nil {
				return err
			}
			records = append(records, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := p.cut(ctx, records); err != nil {
		return nil, err
	}
	snapshots := make([]cloud.Snapshot, 0, len(records))
	for _, r := range records {
		r, err := p.snapshotRecord(ctx, op, r.ID)
		if err != nil {
			return nil, err
		}
		snapshots = append(snapshots, r.Snapshot)
	}
	return snapshots, nil
}

// newSnapshot puts the record of a snapshot that is to be cut.
func newSnapshot(t *tx, op, id, disk string, in cloud.Create) (snapshotRecord, error) {
	var d diskRecord
	found, err := t.get(diskBucket, disk, &d)
	switch {
	case err != nil:
		return snapshotRecord{}, err
	case !found:
		return snapshotRecord{}, notFound(op, cloud.KindDisk, disk)
	case d.State != cloud.Available && d.State != cloud.Attached:
		return snapshotRecord{}, diskNotReady(op, d)
	}
	r := snapshotRecord{Token: in.Token, Snapshot: cloud.Snapshot{
		Resource: cloud.Resource{ID: id, Name: in.Name, State: cloud.Creating, Tags: in.Tags, Created: time.Now().UTC()},
		Disk:     disk, Bytes: d.Bytes,
	}}
	return r, t.put(snapshotBucket, id, r)
}

// cut makes the content of a set that is not complete yet. The caller holds its
// job lock: who comes later finds it done.
func (p *Provider) cut(ctx context.Context, records []snapshotRecord) error {
	at := time.Now().UTC()
	forms := map[string]snapshotForm{}
	for _, r := range records {
		r, err := p.snapshotRecord(ctx, "StartSnapshots", r.ID)
		if err != nil {
			return err
		}
		if r.State != cloud.Creating {
			continue
		}
		d, err := p.diskRecord(ctx, "StartSnapshots", r.Disk)
		if err != nil {
			return err
		}
		if forms[r.ID], err = p.cutDisk(ctx, r, d); err != nil {
			// What is written so far is of no use, and space may be what is missing.
			erase := p.eraseContent(context.WithoutCancel(ctx), r.ID)
			return errors.Join(osError("StartSnapshots", "snapshot "+r.ID+" of "+d.Path, err), erase)
		}
	}
	if len(forms) == 0 {
		return nil
	}
	return p.store.update(ctx, func(t *tx) error {
		for id, form := range forms {
			if err := completeSnapshot(t, id, form, at); err != nil {
				return err
			}
		}
		return nil
	})
}

// completeSnapshot makes a snapshot Available unless it was deleted meanwhile.
func completeSnapshot(t *tx, id string, form snapshotForm, at time.Time) error {
	var r snapshotRecord
	found, err := t.get(snapshotBucket, id, &r)
	if err != nil || !found {
		return err
	}
	if r.State == cloud.Creating {
		r.State = cloud.Available
	}
	r.Form, r.Percent = form, 100
	if r.From == nil {
		r.Time = at
	}
	return t.put(snapshotBucket, id, r)
}

// cutDisk stores the present content of a disk.
func (p *Provider) cutDisk(ctx context.Context, r snapshotRecord, d diskRecord) (snapshotForm, error) {
	content, err := openFileContent(d.Path, d.Bytes)
	if err != nil {
		return "", err
	}
	defer content.Close()
	cloned, err := p.cloneSnapshot(r, content)
	if err != nil {
		return "", err
	}
	if cloned {
		return formClone, nil
	}
	return formPacks, p.writePacks(ctx, r.ID, content, func(int64) error { return ctx.Err() })
}

// cloneSnapshot stores content as a clone; false when the file system cannot.
func (p *Provider) cloneSnapshot(r snapshotRecord, from *fileContent) (bool, error) {
	if !p.clones {
		return false, nil
	}
	path := p.clonePath(r.ID)
	file, err := newFile(path+".part", 0)
	if err != nil {
		return false, err
	}
	defer file.Close()
	cloned, err := cloneFile(file, from.File)
	if err == nil && !cloned {
		return false, os.Remove(file.Name())
	}
	if err == nil {
		err = file.Truncate(from.size)
	}
	if err == nil {
		err = file.Chmod(0o400)
	}
	if err == nil {
		err = publish(file, p.path(snapshotDir), path)
	}
	return err == nil, err
}

func (p *Provider) clonePath(id string) string { return p.path(snapshotDir, id+".raw") }

// Snapshot returns a snapshot and goes on with a copy or deletion that nobody
// works on. A cut whose maker died is shown as failed until it is asked for
// again with the same token: nobody else knows whether the disks are at rest.
func (p *Provider) Snapshot(ctx context.Context, id string) (cloud.Snapshot, error) {
	r, err := p.snapshotRecord(ctx, "Snapshot", id)
	if err != nil {
		return cloud.Snapshot{}, err
	}
	return p.settleSnapshot(ctx, r)
}

func (p *Provider) snapshotRecord(ctx context.Context, op, id string) (snapshotRecord, error) {
	return record[snapshotRecord](ctx, p.store, op, cloud.KindSnapshot, snapshotBucket, id)
}

// Snapshots lists snapshots.
func (p *Provider) Snapshots(ctx context.Context, f cloud.Filter) ([]cloud.Snapshot, error) {
	return settled(ctx, p.store, snapshotBucket, func(r snapshotRecord) bool { return f.Match(r.Tags) }, p.settleSnapshot)
}

// settleSnapshot does or begins what a stored state announces.
func (p *Provider) settleSnapshot(ctx context.Context, r snapshotRecord) (cloud.Snapshot, error) {
	switch {
	case r.State == cloud.Deleting:
		release, free, err := p.lockJob(r.job())
		if err != nil || !free {
			return r.Snapshot, err
		}
		defer release()
		if err := p.eraseSnapshot(ctx, r.ID); err != nil {
			return r.Snapshot, err
		}
		return r.Snapshot, notFound("Snapshot", cloud.KindSnapshot, r.ID)
	case r.State == cloud.Creating && r.From != nil:
		return r.Snapshot, p.spawn(r.job(), func(ctx context.Context) error { return p.copySnapshot(ctx, r.ID) })
	case r.State == cloud.Creating:
		release, free, err := p.lockJob(r.job())
		if err != nil || !free {
			return r.Snapshot, err
		}
		defer release()
		// Who held the lock may have ended between the two looks.
		now, err := p.snapshotRecord(ctx, "Snapshot", r.ID)
		if err == nil && now.State == cloud.Creating {
			now.State, now.Message = cloud.Failing, "its maker ended before it was complete; ask for it again with the same token, or delete it"
		}
		return now.Snapshot, err
	}
	return r.Snapshot, nil
}

// readySnapshot returns a snapshot that can be read, within a transaction.
func readySnapshot(t *tx, op, id string) (r snapshotRecord, err error) {
	found, err := t.get(snapshotBucket, id, &r)
	switch {
	case err != nil:
		return r, err
	case !found || r.State == cloud.Deleting:
		return r, notFound(op, cloud.KindSnapshot, id)
	case r.State == cloud.Failing:
		return r, cloud.E(cloud.Failed, op, "snapshot "+id, r.Message, "delete it and make another one", nil)
	case r.State != cloud.Available:
		return r, cloud.E(cloud.NotReady, op, "snapshot "+id, "is "+string(r.State), "wait until it is available", nil)
	}
	return r, nil
}

// diskIsRead returns Conflict while a snapshot of a disk is cut.
func diskIsRead(t *tx, op, disk string) error {
	return t.each(snapshotBucket, func(id string, raw []byte) error {
		var r snapshotRecord
		if err := t.decode(snapshotBucket, id, raw, &r); err != nil || r.Disk != disk || r.State != cloud.Creating || r.From != nil {
			return err
		}
		return cloud.E(cloud.Conflict, op, "disk "+disk, "snapshot "+id+" of it is being made", "wait for the snapshot, or delete it", nil)
	})
}

// OpenSnapshot opens the content of a snapshot for reading, for example to
// compute its root. Damaged content is a Corrupt error of the read.
func (p *Provider) OpenSnapshot(ctx context.Context, id string) (Content, error) {
	const op = "OpenSnapshot"
	var r snapshotRecord
	err := p.store.view(ctx, func(t *tx) (err error) { r, err = readySnapshot(t, op, id); return err })
	if err != nil {
		return nil, err
	}
	if r.Form == formPacks {
		return p.openPacks(id)
	}
	content, err := openFileContent(p.clonePath(id), r.Bytes)
	if err == nil {
		return content, nil
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, cloud.E(cloud.Corrupt, op, "snapshot "+id, "its file "+p.clonePath(id)+" is missing", "use another snapshot, and delete this one", err)
	}
	return nil, osError(op, p.clonePath(id), err)
}
