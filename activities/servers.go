package activities

import (
	"context"
	"errors"
	"fmt"

	"lifeboat/activities/cloud"
)

// launchTries is how often a server that stops by itself right after its launch is
// started again before the launch counts as failed.
const launchTries = 3

// LaunchServer launches a server on the given disks and waits until it runs. Where
// servers start from images, one is made of the disks' snapshots and deleted again.
func (c *Cloud) LaunchServer(ctx context.Context, in LaunchServerInput) (ServerInfo, error) {
	return run(ctx, func(ctx context.Context) (ServerInfo, error) {
		p, err := c.Open(ctx, in.Scope.Site)
		if err != nil {
			return ServerInfo{}, err
		}
		servers, err := cloud.As[cloud.Servers](p, "servers")
		if err != nil {
			return ServerInfo{}, err
		}
		launch := cloud.LaunchServer{Type: in.Type, CPU: in.CPU, Memory: in.Memory, Network: in.NetworkID, IP: in.IP, Ports: in.Ports, Launch: in.Launch}
		fromImage := servers.LaunchSource() == cloud.FromImage
		if !fromImage {
			if launch.Disks, err = serverDisks(in); err != nil {
				return ServerInfo{}, err
			}
		}
		if len(in.Disks) > 0 {
			launch.DiskType = in.Disks[0].Type
		}
		m := making[cloud.Server]{p: p, t: c.Timing, scope: in.Scope, kind: cloud.KindServer, step: in.Step, name: in.Name,
			start: func(ctx context.Context, create cloud.Create) (cloud.Server, error) {
				launch.Create = create
				if fromImage {
					if launch.Image, err = c.imageFor(ctx, p, in); err != nil {
						return cloud.Server{}, err
					}
				}
				return servers.StartLaunch(ctx, launch)
			},
			get: servers.Server, list: servers.Servers, of: ofServer}
		s, err := c.launched(ctx, servers, m)
		if err == nil && fromImage {
			s, err = c.ownDisks(ctx, p, servers, s, in)
		}
		if err == nil && fromImage {
			err = c.dropImages(ctx, p, in.Scope)
		}
		if err != nil {
			return ServerInfo{}, err
		}
		return describeServer(ctx, p, s)
	})
}

// launched waits until a server runs. One that stops by itself meanwhile is started
// again a few times: its host may have been restarted under it.
func (c *Cloud) launched(ctx context.Context, servers cloud.Servers, m making[cloud.Server]) (cloud.Server, error) {
	r, err := m.begin(ctx)
	if err != nil {
		return cloud.Server{}, err
	}
	for try := 1; ; try++ {
		s, err := m.await(ctx, r, cloud.Running)
		if err == nil || s.State != cloud.Stopped || cloud.CodeOf(err) != cloud.Failed || try == launchTries {
			return s, err
		}
		if err := servers.StartServer(ctx, s.ID); err != nil {
			return s, err
		}
	}
}

// serverDisks are the disks of a launch, in their places.
func serverDisks(in LaunchServerInput) ([]cloud.ServerDisk, error) {
	var disks []cloud.ServerDisk
	for _, d := range in.Disks {
		if d.DiskID == "" {
			return nil, cloud.E(cloud.InvalidInput, "LaunchServer", "server "+in.Name, "disk "+d.Name+" does not exist yet", "create the disks first", nil)
		}
		disks = append(disks, cloud.ServerDisk{Name: d.Name, DiskID: d.DiskID, Boot: d.Boot})
	}
	return disks, nil
}

// imageFor registers an image of the snapshots that the disks are made from.
func (c *Cloud) imageFor(ctx context.Context, p cloud.Provider, in LaunchServerInput) (string, error) {
	images, err := cloud.As[cloud.Images](p, "images")
	if err != nil {
		return "", err
	}
	var disks []cloud.ImageDisk
	for _, d := range in.Disks {
		if d.Snapshot == "" {
			return "", cloud.E(cloud.InvalidInput, "LaunchServer", "server "+in.Name,
				"disk "+d.Name+" was not made from a snapshot, and site "+in.Scope.Site.Name+" launches from images", "snapshot the disk first", nil)
		}
		disks = append(disks, cloud.ImageDisk{Device: d.Name, SnapshotID: d.Snapshot, Boot: d.Boot})
	}
	m := making[cloud.Image]{p: p, t: c.Timing, scope: in.Scope, kind: cloud.KindImage, step: in.Step, name: in.Name,
		start: func(ctx context.Context, create cloud.Create) (cloud.Image, error) {
			return images.RegisterImage(ctx, create, disks)
		},
		get: images.Image, list: images.Images, of: ofImage}
	r, err := m.begin(ctx)
	if err != nil {
		return "", err
	}
	image, err := m.await(ctx, r, cloud.Available)
	return image.ID, err
}

// StartServer starts a stopped server and waits until it runs.
func (c *Cloud) StartServer(ctx context.Context, in ServerInput) (ServerInfo, error) {
	return c.bring(ctx, in, cloud.Running, func(ctx context.Context, servers cloud.Servers) error {
		return servers.StartServer(ctx, in.ServerID)
	})
}

// StopServer stops a server, keeping disks and address, and waits until it is stopped.
func (c *Cloud) StopServer(ctx context.Context, in ServerInput) (ServerInfo, error) {
	return c.bring(ctx, in, cloud.Stopped, func(ctx context.Context, servers cloud.Servers) error {
		return servers.StopServer(ctx, in.ServerID, in.Force)
	})
}

// bring asks a server into a state and waits for it.
func (c *Cloud) bring(ctx context.Context, in ServerInput, want cloud.State, ask func(context.Context, cloud.Servers) error) (ServerInfo, error) {
	return run(ctx, func(ctx context.Context) (ServerInfo, error) {
		p, err := c.Open(ctx, in.Site)
		if err != nil {
			return ServerInfo{}, err
		}
		servers, err := cloud.As[cloud.Servers](p, "servers")
		if err != nil {
			return ServerInfo{}, err
		}
		for try := 1; ; try++ {
			if err := ask(ctx, servers); err != nil {
				return ServerInfo{}, err
			}
			s, err := c.reach(ctx, servers, in.ServerID, want)
			// A server may stop by itself right after its start, and start by itself
			// right before its stop: then it is asked again.
			if err == nil {
				return describeServer(ctx, p, s)
			}
			if cloud.CodeOf(err) != cloud.Failed || s.State == cloud.Failing || try == launchTries {
				return ServerInfo{}, err
			}
		}
	})
}

// reach waits until a server that exists is in a state.
func (c *Cloud) reach(ctx context.Context, servers cloud.Servers, id string, want cloud.State) (cloud.Server, error) {
	var s cloud.Server
	err := c.Timing.until(ctx, func() (bool, error) {
		var err error
		if s, err = servers.Server(ctx, id); err != nil || s.State == want {
			return err == nil, err
		}
		if !passing(s.State) {
			return false, failedState("server "+id, s.Resource, want)
		}
		note(ctx, fmt.Sprintf("waiting until server %s is %s: it is %s", id, want, s.State))
		return false, nil
	})
	return s, err
}

// TerminateServer deletes a server, keeping its disks, and waits until it is gone;
// gone already is fine. The ledger notes it.
func (c *Cloud) TerminateServer(ctx context.Context, in ServerInput) error {
	return do(ctx, func(ctx context.Context) error {
		p, err := c.Open(ctx, in.Site)
		if err != nil {
			return err
		}
		o, err := opsOf(p, cloud.KindServer)
		if err != nil {
			return err
		}
		if err := c.Timing.removeAndWait(ctx, o, cloud.KindServer, in.ServerID); err != nil {
			return err
		}
		return goneByID(ctx, p, cloud.KindServer, in.ServerID)
	})
}

// goneByID notes in the ledger that a resource is deleted; one that Lifeboat did not make is not there.
func goneByID(ctx context.Context, p cloud.Provider, kind cloud.Kind, id string) error {
	ledger, err := cloud.As[cloud.Ledger](p, "ledger")
	if err != nil {
		return err
	}
	entries, err := ledger.Entries(ctx, cloud.LedgerFilter{})
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.Kind == kind && e.ID == id && e.Deleted == nil {
			errs = append(errs, ledger.Gone(ctx, e.Token))
		}
	}
	return errors.Join(errs...)
}
