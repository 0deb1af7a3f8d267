package awstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
)

// guestServer finds the process of an instance that runs. The lock is not held.
func (c *Cloud) guestServer(ctx context.Context, instanceID string) (*local.Provider, string, error) {
	c.mu.Lock()
	var h *hosts
	server := ""
	for _, r := range c.regions {
		s := part[computeState](r)
		if i := s.instances[instanceID]; i != nil && i.guest != nil {
			h, server = s.hosts, i.guest.server
		}
	}
	c.mu.Unlock()
	if h == nil {
		return nil, "", fmt.Errorf("awstest: instance %s has no process: it does not run, or Options.Guest is not set: %w", instanceID, os.ErrNotExist)
	}
	p, err := h.site(ctx)
	return p, server, err
}

// KillGuest ends the process of an instance as a crash does: the API goes on to say that the instance runs, and
// its status checks fail.
func (c *Cloud) KillGuest(ctx context.Context, instanceID string) error {
	p, server, err := c.guestServer(ctx, instanceID)
	if err != nil {
		return err
	}
	if err := p.StopServer(ctx, server, true); err != nil {
		return err
	}
	return pollGuest(ctx, func() (bool, error) {
		s, err := p.Server(ctx, server)
		return s.State == cloud.Stopped, err
	})
}

// guestAlive tells whether the process of an instance runs. Without Options.Guest a running instance always does.
func (c *Cloud) guestAlive(ctx context.Context, instanceID string) bool {
	if c.Guest == nil {
		return true
	}
	p, server, err := c.guestServer(ctx, instanceID)
	if err != nil {
		return false
	}
	s, err := p.Server(ctx, server)
	return err == nil && s.State == cloud.Running
}

// pauseLimit is longer than any snapshot takes.
const pauseLimit = 30 * time.Second

// guestScript begins to run a script on the guest of an instance, as its most privileged user; poll tells how far it
// is. The same token never runs twice. The lock is not held.
func guestScript(ctx context.Context, c *Cloud, instanceID, token, content string, env map[string]string, timeout time.Duration) (poll func(context.Context) (cloud.ScriptRun, error), err error) {
	p, server, err := c.guestServer(ctx, instanceID)
	if err != nil {
		return nil, err
	}
	run, err := p.StartScript(ctx, cloud.RunScript{Token: token, Server: server, Content: content, Env: env, Timeout: timeout})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (cloud.ScriptRun, error) { return p.ScriptRun(ctx, run.ID) }, nil
}

// restart ends the process of an instance in good order, calls between, and starts it again. The lock is not held.
func (s *computeState) restart(c *Cloud, r *Region, i *instance, between func() error) error {
	i.turn.Lock()
	defer i.turn.Unlock()
	c.mu.Lock()
	running := i.state == "running"
	g := i.guest
	c.mu.Unlock()
	err := s.hosts.end(g, false)
	if err == nil {
		err = between()
	}
	if !running {
		return err
	}
	g, serr := s.hosts.start(c, r, i)
	c.mu.Lock()
	i.guest = g
	c.mu.Unlock()
	s.reroute(c, i)
	return errors.Join(err, serr)
}

func init() {
	pauseGuest = func(c *Call, instanceID string) func() {
		c.mu.Lock()
		i := c.compute().instances[instanceID]
		c.mu.Unlock()
		if i == nil {
			return nil
		}
		i.turn.Lock() // nobody starts it meanwhile
		ctx := c.HTTP.Context()
		// Once more as long as it runs: it may not come to rest in time on a busy machine.
		for i.guest != nil && ctx.Err() == nil && c.guestAlive(ctx, instanceID) {
			p, server, err := c.guestServer(ctx, instanceID)
			if err != nil {
				break
			}
			if resume, err := p.PauseServer(ctx, server, pauseLimit); err == nil {
				return func() {
					_ = resume() // a guest that died meanwhile has nothing to resume
					i.turn.Unlock()
				}
			}
		}
		return i.turn.Unlock // nothing writes
	}
	restartGuest = func(c *Call, instanceID string, between func() error) error {
		c.mu.Lock()
		s := c.compute()
		i := s.instances[instanceID]
		c.mu.Unlock()
		if i == nil {
			return between()
		}
		return s.restart(c.Cloud, c.Region, i, between)
	}
}
