package awstest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
)

// hosts run the instances of a region of an account: a site of the local provider, whose servers are
// processes of this machine. Without Options.Guest there is none, and instances only have states.
//
// A guest listens on the private address of its instance. Subnets within 127.0.0.0/8 are reached by every process of
// this machine, and the ranges of several regions must not meet; others are network namespaces (which need root) that
// only Elastic IPs lead into. A guest finds the volumes that are attached when it starts or is rebooted.
type hosts struct {
	background
	cloud *Cloud
	dir   string

	mu       sync.Mutex
	provider *local.Provider

	routing sync.Mutex // one public address is pointed at a time
}

// guest is the process of an instance.
type guest struct{ server string }

// guestWait bounds how long a process may take to start or to end, also on a busy machine.
const guestWait = 2 * time.Minute

func newHosts(c *Cloud, dir string) *hosts {
	h := &hosts{cloud: c, dir: dir}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// site opens the local site at its first use.
func (h *hosts) site(ctx context.Context) (*local.Provider, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.provider != nil {
		return h.provider, nil
	}
	p, err := local.Open(ctx, cloud.Site{Name: "hosts", Provider: "local", Directory: h.dir}, local.Options{SharedLoopback: true})
	if err == nil {
		h.provider = p
	}
	return p, err
}

// close ends all guests, and removes what ran them; the volumes stay where they are.
func (h *hosts) close() error {
	h.cancel()
	h.work.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.provider == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), guestWait)
	defer cancel()
	return h.provider.Destroy(ctx)
}

// guestSpec is all that starting a process needs, copied while the lock was held.
type guestSpec struct {
	token, subnet, cidr, kind string
	memory                    int64
	cpus                      int
	rootDevice                string
	Guest
}

// guestOf describes an instance for who runs it. The lock is held.
func (c *Call) guestOf(i *instance) guestSpec {
	userData, err := base64.StdEncoding.DecodeString(i.userData)
	if err != nil {
		userData = []byte(i.userData) // RunInstances refused anything else
	}
	i.starts++
	spec := guestSpec{
		token: fmt.Sprintf("%s-%d", i.ID, i.starts), subnet: i.iface.subnet.ID, cidr: i.iface.subnet.cidr.String(), kind: i.kind.name,
		memory: i.kind.memory << 20, cpus: int(i.kind.vcpus), rootDevice: i.rootDevice,
		Guest: Guest{ID: i.ID, PrivateIP: i.iface.ip.String(), UserData: string(userData), Tags: maps.Clone(i.Tags)},
	}
	for _, v := range c.attachedVolumes(i.ID) {
		spec.Disks = append(spec.Disks, GuestDisk{Device: v.attachmentTo(i.ID).device, VolumeID: v.ID, Path: v.path})
	}
	return spec
}

// diskName is how a guest knows a disk: the name that the instance's tag lifeboat-devices gives to the device
// ("root=/dev/xvda,data=/dev/sdf"), or the device without its directory.
func diskName(tags map[string]string, device string) string {
	for pair := range strings.SplitSeq(tags["lifeboat-devices"], ",") {
		if name, at, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && at == device && name != "" {
			return name
		}
	}
	return strings.TrimPrefix(device, "/dev/")
}

// start runs the process of an instance and waits until it runs.
func (h *hosts) start(c *Cloud, r *Region, i *instance) (*guest, error) {
	if c.Guest == nil {
		return nil, nil
	}
	c.mu.Lock()
	spec := c.inside(r.Account, r.Name).guestOf(i)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(h.ctx, guestWait)
	defer cancel()
	p, err := h.site(ctx)
	if err != nil {
		return nil, err
	}
	in, err := h.launch(ctx, p, spec, c.Options.Guest(spec.Guest))
	if err != nil {
		return nil, err
	}
	s, err := p.StartLaunch(ctx, in)
	if err != nil {
		return nil, err
	}
	g := &guest{server: s.ID}
	err = pollGuest(ctx, func() (bool, error) {
		if s, err = p.Server(ctx, g.server); err != nil {
			return false, err
		}
		if s.State != cloud.Running && s.State != cloud.Starting {
			return false, fmt.Errorf("the guest is %s: %s", s.State, s.Message)
		}
		return s.State == cloud.Running, nil
	})
	if err != nil {
		return nil, errors.Join(err, h.end(g, true))
	}
	return g, nil
}

// launch prepares network and disks of a guest.
func (h *hosts) launch(ctx context.Context, p *local.Provider, spec guestSpec, program Program) (in cloud.LaunchServer, err error) {
	in = cloud.LaunchServer{
		Create: cloud.Create{Token: spec.token, Name: spec.ID, Tags: spec.Tags}, Type: spec.kind, CPU: spec.cpus, Memory: spec.memory,
		IP: spec.PrivateIP, Ports: program.Ports, UserData: spec.UserData, Launch: program.Launch,
	}
	network, err := p.StartCreateNetwork(ctx, cloud.CreateNetwork{Create: cloud.Create{Token: spec.subnet, Name: spec.subnet}, CIDR: spec.cidr})
	if err != nil {
		return in, err
	}
	in.Network = network.ID
	for _, d := range spec.Disks {
		disk, err := p.StartCreateDisk(ctx, cloud.CreateDisk{Create: cloud.Create{Token: d.VolumeID, Name: d.VolumeID}, Source: d.Path})
		if err != nil {
			return in, err
		}
		in.Disks = append(in.Disks, cloud.ServerDisk{Name: diskName(spec.Tags, d.Device), DiskID: disk.ID, Device: d.Device, Boot: d.Device == spec.rootDevice})
	}
	return in, nil
}

// end ends a guest, by force or in good order, and waits until it is gone; none is nil.
func (h *hosts) end(g *guest, force bool) error {
	if g == nil {
		return nil
	}
	if h.ctx.Err() != nil {
		return nil // close ends them all
	}
	ctx, cancel := context.WithTimeout(h.ctx, guestWait)
	defer cancel()
	p, err := h.site(ctx)
	if err != nil {
		return err
	}
	if !force {
		if err := p.StopServer(ctx, g.server, false); err != nil {
			return cloud.IgnoreNotFound(err)
		}
		err := pollGuest(ctx, func() (bool, error) {
			s, err := p.Server(ctx, g.server)
			return s.State == cloud.Stopped || s.State == cloud.Failing, err
		})
		if err != nil {
			return cloud.IgnoreNotFound(err)
		}
	}
	if err := p.TerminateServer(ctx, g.server); err != nil {
		return cloud.IgnoreNotFound(err)
	}
	return pollGuest(ctx, func() (bool, error) {
		_, err := p.Server(ctx, g.server)
		return cloud.IsNotFound(err), cloud.IgnoreNotFound(err)
	})
}

// pollGuest polls a condition until it holds or ctx ends.
func pollGuest(ctx context.Context, holds func() (bool, error)) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		ok, err := holds()
		if err != nil || ok {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// allocate reserves a public address.
func (h *hosts) allocate(ctx context.Context, token string) (id, public string, err error) {
	p, err := h.site(ctx)
	if err != nil {
		return "", "", err
	}
	a, err := p.AllocateAddress(ctx, cloud.Create{Token: token})
	return a.ID, a.Public, err
}

// release gives a public address back.
func (h *hosts) release(ctx context.Context, a *elasticIP) error {
	if err := h.route(ctx, a); err != nil {
		return err
	}
	p, err := h.site(ctx)
	if err != nil {
		return err
	}
	return p.ReleaseAddress(ctx, a.local)
}

// route points a public address to the process of the instance that has it, or nowhere. The lock is
// not held: whoever comes last sees what was decided last.
func (h *hosts) route(ctx context.Context, a *elasticIP) error {
	h.routing.Lock()
	defer h.routing.Unlock()
	h.cloud.mu.Lock()
	server := ""
	if a.iface != nil && a.iface.instance != nil && a.iface.instance.guest != nil {
		server = a.iface.instance.guest.server
	}
	h.cloud.mu.Unlock()
	p, err := h.site(ctx)
	if err != nil {
		return err
	}
	if server == "" {
		return p.DisassociateAddress(ctx, a.local)
	}
	// An instance that ends at this moment takes its process along.
	return cloud.IgnoreNotFound(p.AssociateAddress(ctx, a.local, server, true))
}

// reroute makes the public address of an instance lead to it as it runs now. The lock is not held.
func (s *computeState) reroute(c *Cloud, i *instance) {
	c.mu.Lock()
	a := s.addressOf(i.iface)
	c.mu.Unlock()
	if a == nil || c.Guest == nil || s.hosts.ctx.Err() != nil {
		return
	}
	if err := s.hosts.route(s.hosts.ctx, a); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		i.reasonCode, i.reason = "Server.InternalError", "the public address does not lead to the instance: "+err.Error()
	}
}

// dropGuestNetwork forgets the network of a subnet that is deleted. The lock is held, so that it is done later.
func (s *computeState) dropGuestNetwork(id string) {
	h := s.hosts
	h.work.Go(func() {
		h.mu.Lock()
		p := h.provider
		h.mu.Unlock()
		if p == nil {
			return
		}
		if n, err := p.Network(h.ctx, id); err == nil {
			_ = p.DeleteNetwork(h.ctx, n.ID) // what is left is removed with the site
		}
	})
}
