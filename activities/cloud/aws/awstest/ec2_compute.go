package awstest

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// computeState is the compute half of EC2 in a region of an account.
type computeState struct {
	vpcs         map[string]*vpc
	subnets      map[string]*subnet
	groups       map[string]*securityGroup
	interfaces   map[string]*netInterface
	keyPairs     map[string]*keyPair
	instances    map[string]*instance
	addresses    map[string]*elasticIP
	reservations map[string]*capacityReservation
	rootTasks    map[string]*rootTask
	allocating   int // addresses that are on their way
	hosts        *hosts
}

// compute is the compute half of the region that a call asks, made at its first use.
func (c *Call) compute() *computeState {
	s := part[computeState](c.Region)
	if s.vpcs != nil {
		return s
	}
	*s = computeState{
		vpcs: map[string]*vpc{}, subnets: map[string]*subnet{}, groups: map[string]*securityGroup{}, interfaces: map[string]*netInterface{}, keyPairs: map[string]*keyPair{},
		instances: map[string]*instance{}, addresses: map[string]*elasticIP{}, reservations: map[string]*capacityReservation{}, rootTasks: map[string]*rootTask{},
	}
	s.hosts = newHosts(c.Cloud, filepath.Join(c.Directory, "hosts", c.Account+"-"+c.Name))
	c.closers = append(c.closers, s.hosts.close)
	s.addRegionDefaults(c)
	return s
}

// console is a call as people make them, outside of the API; unlock ends it.
func (c *Cloud) console(account, region string) (call *Call, unlock func()) {
	c.mu.Lock()
	return c.inside(account, region), c.mu.Unlock
}

// inside is a call that the double makes itself. The lock is held.
func (c *Cloud) inside(account, region string) *Call {
	return &Call{Cloud: c, Region: c.region(account, region), Now: time.Now()}
}

// wish is what an instance was told to be.
type wish int

const (
	wishRunning wish = iota
	wishStopped
	wishTerminated
)

// wake lets an instance become what it was told to be, in the background. The lock is held.
func (c *Call) wake(s *computeState, i *instance) {
	if i.busy {
		return
	}
	i.busy = true
	region := c.Region
	s.hosts.work.Add(1)
	go func() {
		defer s.hosts.work.Done()
		for s.step(c.Cloud, region, i) {
		}
	}()
}

// step brings an instance nearer to what it was told to be; false says that it is that, or that the
// double ends.
func (s *computeState) step(c *Cloud, r *Region, i *instance) bool {
	c.mu.Lock()
	w, run, force := i.wish, i.run, i.force
	i.busy = s.hosts.ctx.Err() == nil && !i.settled()
	more := i.busy
	c.mu.Unlock()
	if !more {
		return false
	}
	i.turn.Lock()
	defer i.turn.Unlock()
	switch w {
	case wishRunning:
		s.bringUp(c, r, i, run)
		s.reroute(c, i)
	case wishStopped:
		s.hosts.wait(c.Delay("instance"))
		err := s.hosts.end(i.guest, force)
		c.mu.Lock()
		i.guest = nil
		if i.state == types.InstanceStateNameStopping {
			i.state = types.InstanceStateNameStopped
			i.fail(err)
		}
		c.mu.Unlock()
	case wishTerminated:
		s.hosts.wait(c.Delay("instance"))
		// Volumes that stay are to have their bytes, also when nothing ever ran on them.
		err := errors.Join(s.fillVolumes(c, r, i), s.hosts.end(i.guest, true))
		c.mu.Lock()
		s.bury(c.inside(r.Account, r.Name), i, err)
		c.mu.Unlock()
	}
	return true
}

// settled tells whether an instance is what it was told to be.
func (i *instance) settled() bool {
	switch i.wish {
	case wishRunning:
		return i.state == types.InstanceStateNameRunning && i.done == i.run || i.state == types.InstanceStateNameStopped
	case wishStopped:
		return i.state == types.InstanceStateNameStopped
	}
	return i.state == types.InstanceStateNameTerminated
}

// bringUp starts an instance, or starts it again. A failure ends one that is new, and leaves another one
// stopped, with the reason
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html, "Instance terminates immediately").
func (s *computeState) bringUp(c *Cloud, r *Region, i *instance, run int) {
	err := s.fillVolumes(c, r, i)
	c.mu.Lock()
	pending := i.state == types.InstanceStateNamePending
	c.mu.Unlock()
	if pending {
		s.hosts.wait(c.Delay("instance"))
	}
	var g *guest
	if err = errors.Join(err, s.hosts.end(i.guest, false)); err == nil {
		g, err = s.hosts.start(c, r, i)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i.guest, i.done = g, run
	switch {
	case err != nil && s.hosts.ctx.Err() == nil:
		i.fail(err)
		i.wish, i.state = wishStopped, types.InstanceStateNameStopping
		if run == 1 {
			i.wish, i.state = wishTerminated, types.InstanceStateNameShuttingDown
		}
	case i.state == types.InstanceStateNamePending:
		i.state = types.InstanceStateNameRunning
	}
}

// fail notes why an instance is not what it was told to be.
func (i *instance) fail(err error) {
	if err != nil {
		i.reasonCode, i.reason = "Server.InternalError", "Server.InternalError: "+err.Error()
	}
}

// fillVolumes writes the bytes of the volumes that an instance was launched with, and waits for volumes
// that are still on their way.
func (s *computeState) fillVolumes(c *Cloud, r *Region, i *instance) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range i.unfilled {
		call := c.inside(r.Account, r.Name)
		if e := call.fillVolume(v); e != nil {
			err = errors.Join(err, e)
		}
	}
	i.unfilled = nil
	for s.hosts.ctx.Err() == nil && err == nil {
		var at time.Time
		call := c.inside(r.Account, r.Name)
		for _, v := range call.attachedVolumes(i.ID) {
			if v.state(call.Now) == types.VolumeStateError {
				return errors.New("Client.InternalError: volume " + v.ID + ": " + v.problem)
			}
			if v.state(call.Now) == types.VolumeStateCreating && v.ready.After(at) {
				at = v.ready
			}
		}
		if at.IsZero() {
			return nil
		}
		c.mu.Unlock()
		s.hosts.wait(time.Until(at))
		c.mu.Lock()
	}
	return err
}

// bury is the end of an instance: its address is free, its volumes are deleted or free.
func (s *computeState) bury(c *Call, i *instance, err error) {
	i.guest = nil
	for _, v := range c.attachedVolumes(i.ID) {
		a := v.attachmentTo(i.ID)
		if a.deleteOnTermination {
			c.deleteVolume(v)
			continue
		}
		c.detach(a)
		a.gone = c.Now // what has no machine is not being detached any more
	}
	if i.iface.keep {
		i.iface.instance = nil
	} else {
		s.dropInterface(c, i.iface)
	}
	i.iface = nil
	i.state, i.terminated = types.InstanceStateNameTerminated, c.Now
	i.fail(err)
}

// background is work that outlives a call, until the double ends.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// wait lets time pass, unless the double ends.
func (b *background) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-b.ctx.Done():
	}
}
