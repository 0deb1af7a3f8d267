package activities

import (
	"context"
	"slices"

	"lifeboat/activities/cloud"
)

// ownDisks gives a server that was launched from an image disks that exist already, in
// the place of those that came with the launch: an earlier server is brought back as it
// was, with what was written since its recovery point. It may be repeated.
func (c *Cloud) ownDisks(ctx context.Context, p cloud.Provider, servers cloud.Servers, s cloud.Server, in LaunchServerInput) (cloud.Server, error) {
	wanted := slices.DeleteFunc(slices.Clone(in.Disks), func(d DiskInfo) bool {
		return d.DiskID == "" || slices.ContainsFunc(s.Disks, func(has cloud.ServerDisk) bool { return has.DiskID == d.DiskID })
	})
	if len(wanted) > 0 {
		disks, err := cloud.As[cloud.Disks](p, "disks")
		if err != nil {
			return s, err
		}
		if err := servers.StopServer(ctx, s.ID, true); err != nil {
			return s, err
		}
		if s, err = c.reach(ctx, servers, s.ID, cloud.Stopped); err != nil {
			return s, err
		}
		rememberDevices(ctx, s)
		for _, d := range wanted {
			if err := c.swapDisk(ctx, disks, s, d); err != nil {
				return s, err
			}
		}
	}
	if s.State == cloud.Running {
		return s, nil
	}
	if err := servers.StartServer(ctx, s.ID); err != nil {
		return s, err
	}
	return c.reach(ctx, servers, s.ID, cloud.Running)
}

// rememberDevices notes, for a later attempt, where the disks of a server are: one that
// was taken away does not tell any more.
func rememberDevices(ctx context.Context, s cloud.Server) {
	track(ctx, func(p *Progress) {
		if p.Devices == nil {
			p.Devices = map[string]string{}
		}
		for _, d := range s.Disks {
			if _, known := p.Devices[d.Name]; !known {
				p.Devices[d.Name] = d.Device
			}
		}
	})
}

// swapDisk puts a disk into the place of the one of its name, which is deleted.
func (c *Cloud) swapDisk(ctx context.Context, disks cloud.Disks, s cloud.Server, d DiskInfo) error {
	device := progressOf(ctx).Devices[d.Name]
	if i := slices.IndexFunc(s.Disks, func(has cloud.ServerDisk) bool { return has.Name == d.Name }); i >= 0 {
		device = s.Disks[i].Device
		if err := c.takeDisk(ctx, disks, s.Disks[i].DiskID); err != nil {
			return err
		}
	}
	note(ctx, "attaching disk "+d.DiskID+" to "+s.ID)
	if err := disks.StartAttachDisk(ctx, d.DiskID, s.ID, device); err != nil {
		return err
	}
	return c.diskIs(ctx, disks, d.DiskID, cloud.Attached)
}

// diskIs waits until a disk is in a state; the one that it comes from is no failure.
func (c *Cloud) diskIs(ctx context.Context, disks cloud.Disks, id string, want cloud.State) error {
	return c.Timing.until(ctx, func() (bool, error) {
		d, err := disks.Disk(ctx, id)
		note(ctx, "waiting until disk "+id+" is "+string(want)+": it is "+string(d.State))
		return d.State == want, err
	})
}

// takeDisk takes a disk from its server and deletes it: it came with the launch, and
// nothing was written to it that counts.
func (c *Cloud) takeDisk(ctx context.Context, disks cloud.Disks, id string) error {
	if err := disks.StartDetachDisk(ctx, id); err != nil {
		return err
	}
	if err := c.diskIs(ctx, disks, id, cloud.Available); err != nil {
		return err
	}
	return c.Timing.removeAndWait(ctx, diskOps(disks), cloud.KindDisk, id)
}

// dropImages deletes the images that servers of a scope were launched from: they are of no
// more use, and would keep the snapshots of the recovery point from being deleted.
func (c *Cloud) dropImages(ctx context.Context, p cloud.Provider, s Scope) error {
	ledger, err := cloud.As[cloud.Ledger](p, "ledger")
	if err != nil {
		return err
	}
	o, err := opsOf(p, cloud.KindImage)
	if err != nil {
		return err
	}
	entries, err := ledger.Entries(ctx, s.filter())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Kind != cloud.KindImage || e.Deleted != nil || e.ID == "" {
			continue
		}
		if err := c.Timing.removeAndWait(ctx, o, cloud.KindImage, e.ID); err != nil {
			return err
		}
		if err := ledger.Gone(ctx, e.Token); err != nil {
			return err
		}
	}
	return nil
}
