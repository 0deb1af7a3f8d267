package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/activities/cloud"
)

// Cloud holds the activities that talk to a site's provider; each is idempotent, and
// waits in a way that another attempt, on another worker, can go on with.
type Cloud struct {
	// Open returns the provider of a site; see [Sites].
	Open   OpenFunc
	Timing Timing
	// Now is the clock of what is observed; nil = time.Now.
	Now func() time.Time
}

func (c *Cloud) now() time.Time {
	if c.Now == nil {
		return time.Now().UTC()
	}
	return c.Now().UTC()
}

// capability opens a site and returns one of its capabilities.
func capability[T any](ctx context.Context, c *Cloud, site Site, name string) (T, error) {
	p, err := c.Open(ctx, site)
	if err != nil {
		var none T
		return none, err
	}
	return cloud.As[T](p, name)
}

// CheckSite tells whether a site answers.
func (c *Cloud) CheckSite(ctx context.Context, site Site) error {
	return do(ctx, func(ctx context.Context) error {
		servers, err := capability[cloud.Servers](ctx, c, site, "servers")
		if err != nil {
			return err
		}
		// Any answer will do: nothing carries this token.
		_, err = servers.Servers(ctx, cloud.Filter{Tags: map[string]string{cloud.TagToken: "is-anybody-there"}})
		return err
	})
}

// InspectServer describes a server that is asked for by identifier or by name.
func (c *Cloud) InspectServer(ctx context.Context, in InspectServerInput) (ServerInfo, error) {
	return run(ctx, func(ctx context.Context) (ServerInfo, error) {
		p, err := c.Open(ctx, in.Site)
		if err != nil {
			return ServerInfo{}, err
		}
		servers, err := cloud.As[cloud.Servers](p, "servers")
		if err != nil {
			return ServerInfo{}, err
		}
		s, err := servers.Server(ctx, in.Server)
		if cloud.IsNotFound(err) {
			s, err = serverByName(ctx, servers, in)
		}
		if err != nil {
			return ServerInfo{}, err
		}
		return describeServer(ctx, p, s)
	})
}

func serverByName(ctx context.Context, servers cloud.Servers, in InspectServerInput) (cloud.Server, error) {
	all, err := servers.Servers(ctx, cloud.Filter{})
	if err != nil {
		return cloud.Server{}, err
	}
	var found []cloud.Server
	var names []string
	for _, s := range all {
		if s.Name == in.Server {
			found = append(found, s)
		}
		names = append(names, s.Name+" ("+s.ID+")")
	}
	what := "server " + in.Server
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		slices.Sort(names)
		mend := "site " + in.Site.Name + " has no servers"
		if len(names) > 0 {
			mend = "site " + in.Site.Name + " has " + strings.Join(names, ", ")
		}
		return cloud.Server{}, cloud.E(cloud.NotFound, "InspectServer", what, "no such server", mend, nil)
	}
	return cloud.Server{}, cloud.E(cloud.InvalidInput, "InspectServer", what,
		fmt.Sprintf("%d servers have this name", len(found)), "give the identifier of one", nil)
}

// describeServer puts together what workflows want to know of a server.
func describeServer(ctx context.Context, p cloud.Provider, s cloud.Server) (ServerInfo, error) {
	info := ServerInfo{ID: s.ID, Name: s.Name, State: string(s.State), Message: s.Message, Type: s.Type, CPU: s.CPU, Memory: s.Memory,
		NetworkID: s.Network, IP: s.IP, Public: s.Public, Ports: s.Ports, Launch: s.Launch, Disks: []DiskInfo{}}
	networks, err := cloud.As[cloud.Networks](p, "networks")
	if err != nil {
		return info, err
	}
	n, err := networks.Network(ctx, s.Network)
	if err != nil {
		return info, err
	}
	info.Network, info.CIDR = n.Name, n.CIDR
	disks, err := cloud.As[cloud.Disks](p, "disks")
	if err != nil {
		return info, err
	}
	for _, sd := range s.Disks {
		d, err := disks.Disk(ctx, sd.DiskID)
		if err != nil {
			return info, err
		}
		info.Disks = append(info.Disks, describeDisk(sd.Name, sd.Boot, d))
	}
	return info, nil
}

func describeDisk(name string, boot bool, d cloud.Disk) DiskInfo {
	return DiskInfo{Name: name, DiskID: d.ID, Bytes: d.Bytes, Type: d.Type, Path: d.Path, Boot: boot, Snapshot: d.SnapshotID}
}
