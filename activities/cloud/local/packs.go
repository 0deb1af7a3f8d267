package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lifeboat/activities/cloud"
	points "lifeboat/replication/store"
	"lifeboat/replication/store/txfile"
	"lifeboat/replication/volume"
)

// Snapshots on a file system without reflinks are points of a store: see
// docs/recovery-point-store.md. While one is made, it is a head of the store.
func packHead(snapshot string) string { return "snapshot " + snapshot }

// writePacks stores content as a snapshot. What an interrupted attempt left is removed first.
// The caller holds the job lock of the snapshot.
func (p *Provider) writePacks(ctx context.Context, snapshot string, content Content, progress func(done int64) error) error {
	if err := p.freePacks(snapshot); err != nil {
		return err
	}
	base, err := p.lastPacks(ctx, snapshot)
	if err != nil {
		return err
	}
	head, err := p.points.OpenTarget(packHead(snapshot), content.Size(), base)
	if base != "" && errors.Is(err, points.ErrNotFound) {
		// Deleted meanwhile. It only saves work.
		head, err = p.points.OpenTarget(packHead(snapshot), content.Size(), "")
	}
	if err != nil {
		return storeError("StartSnapshots", snapshot, err)
	}
	if err := head.Fill(ctx, contentSource{content}, progress); err != nil {
		return storeError("StartSnapshots", snapshot, errors.Join(err, head.Close()))
	}
	_, err = head.Seal(snapshot, nil)
	return storeError("StartSnapshots", snapshot, err)
}

// lastPacks gives the newest snapshot of the disk that a snapshot is made of: most of the two
// is the same. "" is none.
func (p *Provider) lastPacks(ctx context.Context, snapshot string) (last string, err error) {
	err = p.store.view(ctx, func(t *tx) error {
		var own snapshotRecord
		if _, err := t.get(snapshotBucket, snapshot, &own); err != nil {
			return err
		}
		newest := time.Time{}
		return t.each(snapshotBucket, func(id string, raw []byte) error {
			var r snapshotRecord
			err := t.decode(snapshotBucket, id, raw, &r)
			if err == nil && r.Disk == own.Disk && r.Bytes == own.Bytes && r.Form == formPacks && r.State == cloud.Available && r.Time.After(newest) {
				last, newest = id, r.Time
			}
			return err
		})
	})
	return last, err
}

// freePacks removes what is stored of a snapshot and what nothing else refers to. It may be
// called again after an interruption. The caller holds the job lock of the snapshot.
func (p *Provider) freePacks(snapshot string) error {
	for _, err := range []error{p.points.DeleteHead(packHead(snapshot)), p.points.Delete(snapshot)} {
		if err != nil && !errors.Is(err, points.ErrNotFound) {
			return storeError("DeleteSnapshot", snapshot, err)
		}
	}
	return nil
}

// openPacks opens a complete snapshot.
func (p *Provider) openPacks(snapshot string) (Content, error) {
	v, err := p.points.OpenPoint(snapshot)
	if errors.Is(err, points.ErrNotFound) {
		return nil, cloud.E(cloud.Corrupt, "OpenSnapshot", "snapshot "+snapshot, "its content is missing", "use another snapshot, and delete this one", err)
	}
	if err != nil {
		return nil, storeError("OpenSnapshot", snapshot, err)
	}
	return &packContent{v, snapshot}, nil
}

// packContent is a point of the store as Content.
type packContent struct {
	volume.Source
	snapshot string
}

// ReadAt reads what was checked.
func (c *packContent) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Source.ReadAt(b, off)
	return n, storeError("Read", c.snapshot, err)
}

// NextData returns the next run of pieces that are not zeros.
func (c *packContent) NextData(off int64) (start, end int64, err error) {
	start, end, err = c.Source.NextData(off)
	if errors.Is(err, io.EOF) {
		return c.Size(), c.Size(), nil
	}
	return start, end, storeError("Read", c.snapshot, err)
}

// contentSource is Content as a source of a copy.
type contentSource struct{ Content }

// NextData says with io.EOF that no data follow.
func (c contentSource) NextData(off int64) (start, end int64, err error) {
	start, end, err = c.Content.NextData(off)
	if err == nil && start >= c.Size() {
		return 0, 0, io.EOF
	}
	return start, end, err
}

// storeError turns an error of the store into one of the contract.
func storeError(op, snapshot string, err error) error {
	var damage *points.Damage
	var state *txfile.Error
	switch {
	case err == nil || errors.Is(err, io.EOF) && !errors.Is(err, points.ErrDamaged):
		return err
	case errors.As(err, &damage):
		place := damage.File
		if damage.Slot >= 0 {
			place += fmt.Sprintf(", slot %d", damage.Slot)
		}
		return cloud.E(cloud.Corrupt, op, "snapshot "+snapshot, fmt.Sprintf("the block at byte %d is damaged in %s", damage.Offset, place),
			"use another snapshot, delete this one, and check the disk that holds "+damage.File, damage.Cause)
	case errors.As(err, &state):
		return stateError(state.Path, err)
	case errors.Is(err, points.ErrNotFound):
		return notFound(op, cloud.KindSnapshot, snapshot)
	}
	return err
}
