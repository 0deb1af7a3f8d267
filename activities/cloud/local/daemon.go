package local

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

const (
	daemonBucket = "daemon"
	configKey    = "config"
	statusFile   = "status.json"
	resolverHost = 254  // last part of the address of the name server
	resolverPort = 5300 // first choice for its port
	daemonWait   = 15 * time.Second
)

// daemonConfig is what the site's daemon keeps for as long as the site lives.
type daemonConfig struct {
	Seq   uint64 `json:"seq"`            // counts changes that the daemon has to follow
	Range string `json:"range"`          // first three parts of the site's loopback addresses
	Port  int    `json:"port,omitempty"` // of the name server; 0 = never started
}

// daemonStatus is what the daemon says about itself, in a file that is
// replaced as often as it has followed a change.
type daemonStatus struct {
	Process  process           `json:"process"`
	Seq      uint64            `json:"seq"`                // the changes up to this one are in effect
	Resolver string            `json:"resolver,omitempty"` // host:port of the name server
	Problems map[string]string `json:"problems,omitempty"` // by address identifier, and for "resolver"
}

func (p *Provider) daemonDir() string { return p.path(runDir, "daemon") }

// daemonConfig reads the configuration; a new site gets a range of loopback
// addresses of its own, so that several sites of one machine do not meet.
func (p *Provider) daemonConfig(t *tx) (c daemonConfig, err error) {
	found, err := t.get(daemonBucket, configKey, &c)
	if err != nil || found {
		return c, err
	}
	sum := sha256.Sum256([]byte(p.site.Directory))
	c.Range = fmt.Sprintf("127.%d.%d", 77+int(sum[0])%50, sum[1])
	if !t.b.Writable() {
		return c, nil
	}
	return c, t.put(daemonBucket, configKey, c)
}

// bumpDaemon counts a change that the daemon has to follow. The configuration
// is there: whatever it follows needed a range first, or makes one with bump.
func (t *tx) bumpDaemon() error {
	var c daemonConfig
	found, err := t.get(daemonBucket, configKey, &c)
	if err != nil {
		return err
	}
	if !found {
		return t.s.corrupt("the configuration of the site's daemon is missing", nil)
	}
	c.Seq++
	return t.put(daemonBucket, configKey, c)
}

// reviveDaemon starts the daemon again when it was started before and is dead.
func (p *Provider) reviveDaemon(ctx context.Context) error {
	held, err := isLocked(filepath.Join(p.daemonDir(), lockFile))
	if err != nil || held {
		return err
	}
	config, err := p.readConfig(ctx)
	if err != nil || config.Seq == 0 {
		return err
	}
	return p.detach(p.daemonDir(), roleDaemon)
}

func (p *Provider) readConfig(ctx context.Context) (c daemonConfig, err error) {
	err = p.store.view(ctx, func(t *tx) error {
		c, err = p.daemonConfig(t)
		return err
	})
	return c, err
}

// pokeDaemon makes the daemon look at the store at once.
func (p *Provider) pokeDaemon(ctx context.Context) error {
	if err := p.reviveDaemon(ctx); err != nil {
		return err
	}
	var status daemonStatus
	if _, err := readJSON(filepath.Join(p.daemonDir(), statusFile), &status); err != nil {
		return err
	}
	return status.Process.signal(unix.SIGHUP)
}

// followed returns the status of a living daemon that has followed all changes
// up to seq; ok is false when there is none yet.
func (p *Provider) followed(seq uint64) (status daemonStatus, ok bool, err error) {
	if _, err := readJSON(filepath.Join(p.daemonDir(), statusFile), &status); err != nil {
		return status, false, err
	}
	return status, status.Seq >= seq && status.Process.alive(), nil
}

// awaitDaemon waits until the daemon has followed all changes that are stored.
func (p *Provider) awaitDaemon(ctx context.Context, op string) (daemonStatus, error) {
	config, err := p.readConfig(ctx)
	if err != nil {
		return daemonStatus{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, daemonWait)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		status, ok, err := p.followed(config.Seq)
		if err != nil || ok {
			return status, err
		}
		if err := p.pokeDaemon(ctx); err != nil {
			return status, err
		}
		select {
		case <-ctx.Done():
			return status, cloud.E(cloud.NotReady, op, "site "+p.site.Name, "its daemon (addresses and DNS) does not answer",
				"try again; its log is "+filepath.Join(p.daemonDir(), "helper.log"), ctx.Err())
		case <-time.After(pause):
		}
	}
}

// KeepDaemon keeps the site's daemon (public addresses and DNS) alive until
// ctx ends: whoever runs beside the site for long calls it, so that the daemon
// is back within a second also when nobody calls the provider.
func (p *Provider) KeepDaemon(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := p.reviveDaemon(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
