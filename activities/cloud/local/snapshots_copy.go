package local

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"lifeboat/activities/cloud"
)

// StartCopySnapshot copies a snapshot of another local site, or of this one.
// Anyone who asks for the copy goes on with it when its maker has died.
func (p *Provider) StartCopySnapshot(ctx context.Context, in cloud.CopySnapshot) (cloud.Snapshot, error) {
	const op = "StartCopySnapshot"
	if in.Key != "" {
		return cloud.Snapshot{}, cloud.E(cloud.Unsupported, op, "snapshot "+in.SnapshotID, "a local site does not encrypt snapshots", "leave the key out, and keep the site on an encrypted file system", nil)
	}
	if err := cloud.CheckToken(op, cloud.KindSnapshot, in.Token); err != nil {
		return cloud.Snapshot{}, err
	}
	var r snapshotRecord
	found, err := p.copied(ctx, op, in, &r)
	if err == nil && !found {
		err = p.newCopy(ctx, op, in, &r)
	}
	if err != nil {
		return cloud.Snapshot{}, err
	}
	return p.settleSnapshot(ctx, r)
}

// copied looks for the copy that an earlier call with the token has made: it is
// the answer also when the original is gone or cannot be reached by now.
func (p *Provider) copied(ctx context.Context, op string, in cloud.CopySnapshot, r *snapshotRecord) (found bool, err error) {
	err = p.store.view(ctx, func(t *tx) error {
		var token tokenRecord
		known, err := t.get(tokenBucket, tokenKey(cloud.KindSnapshot, in.Token), &token)
		if err != nil || !known {
			return err
		}
		if sum, err := digest(in); err != nil || sum != token.Request || token.Deleted != nil {
			return err // claim says what is wrong
		}
		found, err = t.get(snapshotBucket, token.ID, r)
		return err
	})
	return found, err
}

func (p *Provider) newCopy(ctx context.Context, op string, in cloud.CopySnapshot, r *snapshotRecord) error {
	origin, err := p.openOrigin(ctx, op, in.From)
	if err != nil {
		return err
	}
	defer origin.Close()
	var source snapshotRecord
	err = origin.store.view(ctx, func(t *tx) (err error) { source, err = readySnapshot(t, op, in.SnapshotID); return err })
	if err != nil {
		return err
	}
	return p.store.update(ctx, func(t *tx) error {
		id, old, err := t.claim(op, cloud.KindSnapshot, in.Token, in)
		if err != nil {
			return err
		}
		if old {
			_, err := t.get(snapshotBucket, id, r)
			return err
		}
		*r = snapshotRecord{Token: in.Token, From: &copyOrigin{Site: in.From, SnapshotID: in.SnapshotID}, Snapshot: cloud.Snapshot{
			Resource: cloud.Resource{ID: id, Name: in.Name, State: cloud.Creating, Tags: in.Tags, Created: time.Now().UTC()},
			Disk:     source.Disk, Bytes: source.Bytes, Time: source.Time,
		}}
		return t.put(snapshotBucket, id, *r)
	})
}

// openOrigin opens another local site for reading from it; it is not made when
// it is not there.
func (p *Provider) openOrigin(ctx context.Context, op string, site cloud.Site) (*Provider, error) {
	if site.Directory == "" || site.Provider != "" && site.Provider != "local" {
		return nil, cloud.E(cloud.Unsupported, op, "site "+site.Name, "a local site copies from local sites only", "move the data with replication", nil)
	}
	if _, err := os.Stat(filepath.Join(site.Directory, stateName+".db")); err != nil {
		return nil, osError(op, "site directory "+site.Directory, err)
	}
	return Open(ctx, site, p.options)
}

// copySnapshot brings a copy from Creating to Available or Failing, and a
// deleted one to its end. The caller holds its job lock.
func (p *Provider) copySnapshot(ctx context.Context, id string) error {
	r, err := p.snapshotRecord(ctx, "StartCopySnapshot", id)
	if err != nil {
		return cloud.IgnoreNotFound(err)
	}
	if r.State == cloud.Creating {
		form, err := p.copyContent(ctx, r)
		if err == nil {
			err = p.store.update(ctx, func(t *tx) error { return completeSnapshot(t, id, form, r.Time) })
		} else if err = osError("StartCopySnapshot", "snapshot "+id, err); ctx.Err() == nil && cloud.ClassOf(err) != cloud.Retry {
			err = p.failCopy(ctx, id, err)
		}
		if err != nil && !isAny(err, errDeleted) {
			return err
		}
		if r, err = p.snapshotRecord(ctx, "StartCopySnapshot", id); err != nil {
			return cloud.IgnoreNotFound(err)
		}
	}
	if r.State != cloud.Deleting {
		return nil
	}
	return p.eraseSnapshot(ctx, id)
}

// copyContent stores the content of the original here, in the form that this
// site would give it.
func (p *Provider) copyContent(ctx context.Context, r snapshotRecord) (snapshotForm, error) {
	origin, err := p.openOrigin(ctx, "StartCopySnapshot", r.From.Site)
	if err != nil {
		return "", err
	}
	defer origin.Close()
	content, err := origin.OpenSnapshot(ctx, r.From.SnapshotID)
	if err != nil {
		return "", err
	}
	defer content.Close()
	progress := func(done int64) error { return p.copyProgress(ctx, r, done) }
	if !p.clones {
		return formPacks, p.writePacks(ctx, r.ID, content, progress)
	}
	if from, isFile := content.(*fileContent); isFile {
		if cloned, err := p.cloneSnapshot(r, from); err != nil || cloned {
			return formClone, err
		}
	}
	path := p.clonePath(r.ID)
	file, err := newFile(path+".part", r.Bytes)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if err := copySparse(ctx, file, content, progress); err != nil {
		return "", err
	}
	if err := file.Chmod(0o400); err != nil {
		return "", err
	}
	return formClone, publish(file, p.path(snapshotDir), path)
}

// copyProgress records whole percents and notices a deletion.
func (p *Provider) copyProgress(ctx context.Context, r snapshotRecord, done int64) error {
	percent := int(float64(done) / float64(r.Bytes) * 100)
	now, err := p.snapshotRecord(ctx, "StartCopySnapshot", r.ID)
	if cloud.IsNotFound(err) || err == nil && now.State != cloud.Creating {
		return errDeleted
	}
	if err != nil || now.Percent >= min(percent, 99) {
		return err
	}
	return p.store.update(ctx, func(t *tx) error {
		found, err := t.get(snapshotBucket, r.ID, &now)
		if err != nil || !found || now.State != cloud.Creating {
			return err
		}
		now.Percent = min(percent, 99)
		return t.put(snapshotBucket, r.ID, now)
	})
}

// failCopy records why a copy cannot be made and gives its space back.
func (p *Provider) failCopy(ctx context.Context, id string, cause error) error {
	if err := p.eraseContent(ctx, id); err != nil {
		return err
	}
	return p.store.update(ctx, func(t *tx) error {
		var r snapshotRecord
		found, err := t.get(snapshotBucket, id, &r)
		if err != nil || !found || r.State != cloud.Creating {
			return err
		}
		r.State, r.Message = cloud.Failing, cause.Error()
		return t.put(snapshotBucket, id, r)
	})
}
