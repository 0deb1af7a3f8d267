package activities

import (
	"context"

	"lifeboat/activities/cloud"
)

// CreateDisks makes the disks of one server, each from a snapshot or empty, and
// waits until they are available. Where servers are launched from images, disks
// from snapshots are left to the launch: they come back without identifier.
func (c *Cloud) CreateDisks(ctx context.Context, in CreateDisksInput) ([]DiskInfo, error) {
	return run(ctx, func(ctx context.Context) ([]DiskInfo, error) {
		p, err := c.Open(ctx, in.Scope.Site)
		if err != nil {
			return nil, err
		}
		if leave, err := disksComeWithLaunch(p, in.Disks); err != nil || leave {
			return in.Disks, err
		}
		disks, err := cloud.As[cloud.Disks](p, "disks")
		if err != nil {
			return nil, err
		}
		makings := make([]making[cloud.Disk], len(in.Disks))
		begun := make([]made[cloud.Disk], len(in.Disks))
		for i, d := range in.Disks {
			makings[i] = c.makingDisk(p, disks, in, d)
			if begun[i], err = makings[i].begin(ctx); err != nil {
				return nil, err
			}
		}
		infos := make([]DiskInfo, len(in.Disks))
		for i, d := range in.Disks {
			got, err := makings[i].await(ctx, begun[i], cloud.Available, cloud.Attached)
			if err != nil {
				return nil, err
			}
			infos[i] = describeDisk(d.Name, d.Boot, got)
		}
		return infos, nil
	})
}

func (c *Cloud) makingDisk(p cloud.Provider, disks cloud.Disks, in CreateDisksInput, d DiskInfo) making[cloud.Disk] {
	name := d.Name
	if in.Scope.Server != "" {
		name = in.Scope.Server + "-" + d.Name
	}
	return making[cloud.Disk]{p: p, t: c.Timing, scope: in.Scope, kind: cloud.KindDisk, step: in.Step, name: name,
		start: func(ctx context.Context, create cloud.Create) (cloud.Disk, error) {
			return disks.StartCreateDisk(ctx, cloud.CreateDisk{Create: create, Bytes: d.Bytes, Type: d.Type, SnapshotID: d.Snapshot})
		},
		get: disks.Disk, list: disks.Disks, of: ofDisk}
}

// disksComeWithLaunch tells whether the provider makes these disks when it launches.
func disksComeWithLaunch(p cloud.Provider, disks []DiskInfo) (bool, error) {
	servers, err := cloud.As[cloud.Servers](p, "servers")
	if err != nil {
		return false, err
	}
	for _, d := range disks {
		if d.Snapshot == "" {
			return false, nil
		}
	}
	return servers.LaunchSource() == cloud.FromImage, nil
}
