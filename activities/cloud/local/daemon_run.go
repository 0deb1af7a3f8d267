package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

// daemon serves the public addresses and the DNS zones of one site.
type daemon struct {
	p        *Provider
	status   daemonStatus
	forwards *forwards
	names    *nameServer
}

// daemonState is all that the daemon follows, read in one transaction.
type daemonState struct {
	config daemonConfig
	routes []route
	zones  zones
}

// errNothing ends a daemon that has nothing to serve (any more).
var errNothing = errors.New("nothing to serve")

// runDaemon is the helper process: one for each site, until the site's
// directory is gone or it is told to end.
func runDaemon(site cloud.Site) error {
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer cancel()
	poke := make(chan os.Signal, 1)
	signal.Notify(poke, unix.SIGHUP)
	p, err := Open(ctx, site, Options{})
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // ends with the process
	lock, free, err := takeLock(filepath.Join(p.daemonDir(), lockFile))
	if err != nil || !free {
		return err
	}
	defer lock.Close()
	self, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	d := &daemon{p: p, status: daemonStatus{Process: self}, forwards: newForwards(), names: &nameServer{}}
	defer d.names.close()
	defer d.forwards.set(nil)
	return d.follow(ctx, poke)
}

// follow brings the daemon in line with the store as often as that changes.
func (d *daemon) follow(ctx context.Context, poke <-chan os.Signal) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var seen uint64
	for {
		if _, err := os.Stat(d.p.daemonDir()); errors.Is(err, os.ErrNotExist) {
			return nil // the site is gone
		}
		generation, err := d.p.store.changed()
		if err == nil && (generation != seen || len(d.status.Problems) > 0) {
			err = d.apply(ctx)
			seen = generation
		}
		if errors.Is(err, errNothing) {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			seen = 0 // try again
			fmt.Fprintln(os.Stderr, time.Now().UTC().Format(time.RFC3339), err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		case <-tick.C:
		}
	}
}

// apply reads the store and makes what it says true.
func (d *daemon) apply(ctx context.Context) error {
	state, err := d.p.daemonState(ctx)
	if err != nil {
		return err
	}
	if state.config.Seq == 0 {
		return errNothing
	}
	if state.config.Seq == d.status.Seq && len(d.status.Problems) == 0 {
		return nil // the change of the store was none of ours
	}
	problems := d.forwards.set(state.routes)
	d.names.set(state.zones, state.config)
	if address, err := d.serveNames(ctx, state.config); err != nil {
		problems["resolver"] = err.Error()
	} else {
		d.status.Resolver = address
	}
	d.status.Seq, d.status.Problems = state.config.Seq, problems
	return writeJSON(filepath.Join(d.p.daemonDir(), statusFile), d.status)
}

// serveNames starts the name server unless it runs. Its port is chosen once
// and remembered, so that clients may keep it.
func (d *daemon) serveNames(ctx context.Context, config daemonConfig) (string, error) {
	if d.names.address != "" {
		return d.names.address, nil
	}
	host := fmt.Sprintf("%s.%d", config.Range, resolverHost)
	if config.Port != 0 {
		return d.names.address, d.names.listen(net.JoinHostPort(host, strconv.Itoa(config.Port)))
	}
	var err error
	for port := resolverPort; port < resolverPort+20; port++ {
		if err = d.names.listen(net.JoinHostPort(host, strconv.Itoa(port))); err != nil {
			continue
		}
		return d.names.address, d.p.store.update(ctx, func(t *tx) error {
			config, err := d.p.daemonConfig(t)
			if err != nil {
				return err
			}
			config.Port = port
			return t.put(daemonBucket, configKey, config)
		})
	}
	return "", err
}

// daemonState reads what the daemon is to serve.
func (p *Provider) daemonState(ctx context.Context) (s daemonState, err error) {
	err = p.store.view(ctx, func(t *tx) error {
		if s.config, err = p.daemonConfig(t); err != nil {
			return err
		}
		if s.zones, err = t.allZones(); err != nil {
			return err
		}
		return t.each(addressBucket, func(id string, raw []byte) error {
			var a addressRecord
			if err := t.decode(addressBucket, id, raw, &a); err != nil || a.Server == "" {
				return err
			}
			var server serverRecord
			if found, err := t.get(serverBucket, a.Server, &server); err != nil || !found {
				return err
			}
			network, err := t.findNetwork("Daemon", server.Network)
			if err != nil {
				return err
			}
			for _, port := range server.Ports {
				s.routes = append(s.routes, route{address: id, public: net.JoinHostPort(a.Public, strconv.Itoa(port)),
					target: target{server: server.ID, namespace: network.Namespace, hostport: net.JoinHostPort(server.IP, strconv.Itoa(port))}})
			}
			return nil
		})
	})
	return s, err
}
