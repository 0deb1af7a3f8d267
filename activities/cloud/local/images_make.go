package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lifeboat/activities/cloud"
)

// imagePause is the longest time that a server is held for an image without a
// reboot; a cut that takes longer is given up.
const imagePause = 2 * time.Minute

// makeImage brings an image from Creating to Available or Failing, and from
// Deleting to its end. The caller holds its job lock; each step may be repeated.
func (p *Provider) makeImage(ctx context.Context, id string) error {
	r, err := p.imageRecord(ctx, "StartCreateImage", id)
	if err != nil {
		return cloud.IgnoreNotFound(err)
	}
	if r.State == cloud.Creating {
		if err := p.fillImage(ctx, r); err != nil && !errors.Is(err, errDeleted) {
			return err
		}
	}
	return p.eraseImage(ctx, id)
}

func (p *Provider) fillImage(ctx context.Context, r imageRecord) error {
	var disks []cloud.ImageDisk
	var err error
	if r.Make != nil {
		disks, err = p.imageOfServer(ctx, r)
	} else {
		disks, err = p.imageCopy(ctx, r)
	}
	failed := err != nil && ctx.Err() == nil && cloud.ClassOf(err) != cloud.Retry && !errors.Is(err, errDeleted)
	if err != nil && !failed {
		return err
	}
	return p.changeImage(ctx, r.ID, func(r *imageRecord) {
		if failed {
			r.State, r.Message = cloud.Failing, err.Error()
			return
		}
		r.Snapshots, r.State, r.Percent = disks, cloud.Available, 100
	})
}

// changeImage changes an image that is being made; errDeleted when it is no more.
func (p *Provider) changeImage(ctx context.Context, id string, change func(*imageRecord)) error {
	return p.store.update(ctx, func(t *tx) error {
		var r imageRecord
		found, err := t.get(imageBucket, id, &r)
		if err != nil {
			return err
		}
		if !found || r.State != cloud.Creating {
			return errDeleted
		}
		change(&r)
		return t.put(imageBucket, id, r)
	})
}

// imageOfServer cuts the disks of a server. A server that was stopped for it is
// started again also when the cut fails.
func (p *Provider) imageOfServer(ctx context.Context, r imageRecord) (disks []cloud.ImageDisk, err error) {
	if r.Make.Restart {
		if err := p.StopServer(ctx, r.Make.Server, false); err != nil {
			return nil, err
		}
		defer func() {
			if ctx.Err() == nil { // else whoever goes on with the image does it
				err = errors.Join(err, cloud.IgnoreNotFound(p.StartServer(ctx, r.Make.Server)))
			}
		}()
		if err := p.waitStopped(ctx, r.Make.Server); err != nil {
			return nil, err
		}
	} else {
		resume, err := p.holdRunning(ctx, r.Make.Server)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, resume()) }()
	}
	began := time.Now()
	in := cloud.CreateSnapshots{Create: cloud.Create{Token: r.ID, Name: r.Name, Tags: r.Tags}}
	for _, d := range r.Make.Disks {
		in.Disks = append(in.Disks, d.DiskID)
	}
	snapshots, err := p.StartSnapshots(ctx, in)
	if err != nil {
		return nil, err
	}
	if !r.Make.Restart && time.Since(began) > imagePause {
		return nil, cloud.E(cloud.Failed, "StartCreateImage", "image "+r.ID,
			fmt.Sprintf("the cut took longer than the %s for which a server may be held", imagePause), "ask for an image with a reboot", nil)
	}
	for i, d := range r.Make.Disks {
		disks = append(disks, cloud.ImageDisk{Device: d.Device, SnapshotID: snapshots[i].ID, Boot: d.Boot || len(in.Disks) == 1})
	}
	return disks, nil
}

// holdRunning pauses a server if it runs.
func (p *Provider) holdRunning(ctx context.Context, server string) (resume func() error, err error) {
	s, err := p.Server(ctx, server)
	if err != nil {
		return nil, err
	}
	if s.State != cloud.Running {
		return func() error { return nil }, nil
	}
	return p.PauseServer(ctx, server, imagePause)
}

func (p *Provider) waitStopped(ctx context.Context, server string) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		s, err := p.Server(ctx, server)
		if err != nil || s.State == cloud.Stopped || s.State == cloud.Failing {
			return err
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// wait returns after a while, or earlier with the error of the context.
func wait(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// imageCopy copies the snapshots of an image of another site and follows them.
func (p *Provider) imageCopy(ctx context.Context, r imageRecord) ([]cloud.ImageDisk, error) {
	source, err := p.originImage(ctx, "StartCopyImage", r.From.Site, r.From.Image)
	if err != nil {
		return nil, err
	}
	disks := append([]cloud.ImageDisk(nil), source.Snapshots...)
	for i, d := range source.Snapshots {
		s, err := p.StartCopySnapshot(ctx, cloud.CopySnapshot{
			Create: cloud.Create{Token: copyToken(r.ID, i), Name: r.Name, Tags: r.Tags}, From: r.From.Site, SnapshotID: d.SnapshotID,
		})
		if err != nil {
			return nil, err
		}
		disks[i].SnapshotID = s.ID
	}
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		sum, done := 0, 0
		for _, d := range disks {
			s, err := p.Snapshot(ctx, d.SnapshotID)
			if err != nil {
				return nil, err
			}
			switch s.State {
			case cloud.Failing:
				return nil, cloud.E(cloud.Failed, "StartCopyImage", "snapshot "+s.ID, s.Message, "delete the image and copy it again", nil)
			case cloud.Available:
				done++
			}
			sum += s.Percent
		}
		if done == len(disks) {
			return disks, nil
		}
		percent := min(sum/len(disks), 99)
		if err := p.changeImage(ctx, r.ID, func(r *imageRecord) { r.Percent = percent }); err != nil {
			return nil, err
		}
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func copyToken(image string, i int) string { return fmt.Sprintf("%s-%d", image, i) }

// eraseImage ends the deletion of an image; one that is not Deleting stays. The
// caller holds its job lock.
func (p *Provider) eraseImage(ctx context.Context, id string) error {
	r, err := p.imageRecord(ctx, "DeleteImage", id)
	if err != nil || r.State != cloud.Deleting {
		return cloud.IgnoreNotFound(err)
	}
	if r.Delete || len(r.Snapshots) == 0 {
		snapshots, err := p.imageSnapshots(ctx, r)
		if err != nil {
			return err
		}
		for _, s := range snapshots {
			err := cloud.IgnoreNotFound(p.DeleteSnapshot(ctx, s))
			if cloud.CodeOf(err) == cloud.InUse && p.imageUses(ctx, s) {
				continue
			}
			if err != nil {
				return err
			}
		}
	}
	return p.store.update(ctx, func(t *tx) error {
		if err := t.retire(cloud.KindImage, r.Token); err != nil {
			return err
		}
		return t.del(imageBucket, id)
	})
}

// imageSnapshots lists the snapshots of an image, also of one that was deleted
// before it was complete: those of its own tokens.
func (p *Provider) imageSnapshots(ctx context.Context, r imageRecord) (ids []string, err error) {
	for _, d := range r.Snapshots {
		ids = append(ids, d.SnapshotID)
	}
	if len(ids) > 0 {
		return ids, nil
	}
	err = p.store.view(ctx, func(t *tx) error {
		return t.each(snapshotBucket, func(id string, raw []byte) error {
			var s snapshotRecord
			if err := t.decode(snapshotBucket, id, raw, &s); err != nil {
				return err
			}
			if s.Token == r.ID || strings.HasPrefix(s.Token, r.ID+"-") {
				ids = append(ids, id)
			}
			return nil
		})
	})
	return ids, err
}

// imageUses tells whether an image that stays refers to a snapshot.
func (p *Provider) imageUses(ctx context.Context, snapshot string) bool {
	images, err := p.Images(ctx, cloud.Filter{})
	if err != nil {
		return false
	}
	for _, image := range images {
		for _, d := range image.Snapshots {
			if d.SnapshotID == snapshot && image.State != cloud.Deleting {
				return true
			}
		}
	}
	return false
}
