package local

import (
	"context"
	"time"

	"lifeboat/activities/cloud"
)

// destroyDisks deletes all images, snapshots and disks of the site and waits
// until they are gone. Servers are gone before; adopted files and devices stay.
func (p *Provider) destroyDisks(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		left, err := p.destroyRound(ctx)
		if err != nil || left == 0 {
			return err
		}
		if err := wait(ctx, pause); err != nil {
			return osError("Destroy", p.site.Directory, err)
		}
	}
}

// destroyRound deletes what can be deleted at the moment and counts what was there.
func (p *Provider) destroyRound(ctx context.Context) (left int, err error) {
	images, err := p.Images(ctx, cloud.Filter{})
	if err != nil {
		return 0, err
	}
	for _, r := range images {
		if err := cloud.IgnoreNotFound(p.DeleteImage(ctx, r.ID, false)); err != nil {
			return 0, err
		}
	}
	// A disk on its way holds its snapshot: disks first.
	disks, err := p.Disks(ctx, cloud.Filter{})
	if err != nil {
		return 0, err
	}
	for _, r := range disks {
		if err := later(p.DeleteDisk(ctx, r.ID)); err != nil {
			return 0, err
		}
	}
	snapshots, err := p.Snapshots(ctx, cloud.Filter{})
	if err != nil {
		return 0, err
	}
	for _, r := range snapshots {
		if err := later(p.DeleteSnapshot(ctx, r.ID)); err != nil {
			return 0, err
		}
	}
	return len(images) + len(disks) + len(snapshots), nil
}

// later lets errors pass that go away by waiting.
func later(err error) error {
	if cloud.ClassOf(err) == cloud.Wait {
		return nil
	}
	return cloud.IgnoreNotFound(err)
}
