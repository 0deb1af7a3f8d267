package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
	"lifeboat/internal/demo/numbers"
)

// World is what is outside Lifeboat: the sites as their owner sees them, the
// zone of the server's name, and the client that writes.
type World struct {
	Primary, Recovery, Names *local.Provider
	Resolver                 string // of the server's name
	History                  *numbers.History
	acks                     string
	stopClient               func() error
}

// OpenWorld opens the three sites in a directory. executable is the program whose
// helpers run servers and forwarders; empty = the running one.
func OpenWorld(ctx context.Context, sites, executable string) (*World, error) {
	return openWorld(ctx, sites, executable, "primary", "recovery", "names")
}

// OpenNames opens the site of names alone: the other two are elsewhere.
func OpenNames(ctx context.Context, sites, executable string) (*World, error) {
	return openWorld(ctx, sites, executable, "names")
}

func openWorld(ctx context.Context, sites, executable string, wanted ...string) (*World, error) {
	w := &World{acks: filepath.Join(filepath.Dir(sites), "client.log")}
	w.History = numbers.NewHistory(w.acks)
	for _, s := range []struct {
		name string
		to   **local.Provider
	}{{"primary", &w.Primary}, {"recovery", &w.Recovery}, {"names", &w.Names}} {
		if !slices.Contains(wanted, s.name) {
			continue
		}
		p, err := local.Open(ctx, cloud.Site{Name: s.name, Provider: "local", Directory: filepath.Join(sites, s.name)}, local.Options{Executable: executable})
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		*s.to = p
	}
	return w, nil
}

// Sites lists the open sites.
func (w *World) Sites() []*local.Provider {
	var all []*local.Provider
	for _, p := range []*local.Provider{w.Primary, w.Recovery, w.Names} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

// Close lets go of the sites; what runs there goes on.
func (w *World) Close() error {
	var errs []error
	for _, p := range w.Sites() {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// Destroy deletes everything at the sites.
func (w *World) Destroy(ctx context.Context) error {
	var errs []error
	for _, p := range w.Sites() {
		errs = append(errs, p.Destroy(ctx))
	}
	return errors.Join(errs...)
}

// PointName points the server's name to an address, as its owner has done long
// before anybody thought of disasters.
func (w *World) PointName(ctx context.Context, ip string) error {
	change, err := w.Names.StartSetRecords(ctx, Zone, "demo-"+ip, []cloud.Record{{Name: Record, Type: "A", TTL: time.Second, Values: []string{ip}}})
	if err != nil {
		return err
	}
	err = Poll(ctx, 20*time.Second, func() (bool, error) {
		change, err = w.Names.Change(ctx, change.ID)
		return err == nil && change.State == cloud.Available, err
	})
	if err != nil {
		return fmt.Errorf("point %s to %s: %w", Record, ip, err)
	}
	w.Resolver, err = w.Names.Resolver(ctx, Zone)
	return err
}

// StartClient begins to write through the name.
// allow, when not nil, says to which servers it writes now.
func (w *World) StartClient(ctx context.Context, every time.Duration, bytes int, allow func(ip string) bool) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		ended <- numbers.RunClient(ctx, numbers.ClientOptions{Name: Record, Resolver: w.Resolver, Port: Port,
			Every: every, Bytes: bytes, Log: w.acks, Allow: allow})
	}()
	w.stopClient = func() error { cancel(); return <-ended }
}

// StopClient ends the client, when there is one.
func (w *World) StopClient() error {
	if w.stopClient == nil {
		return nil
	}
	stop := w.stopClient
	w.stopClient = nil
	return stop()
}

// WaitAcks waits until the client was told of n more writes.
func (w *World) WaitAcks(ctx context.Context, n int) (numbers.Ack, error) {
	newest, err := w.History.Update()
	if err != nil {
		return newest, err
	}
	goal := w.History.Acked() + n
	err = Poll(ctx, 30*time.Second, func() (bool, error) {
		newest, err = w.History.Update()
		return w.History.Acked() >= goal, err
	})
	if err != nil {
		return newest, fmt.Errorf("wait for %d acknowledged writes: %w", n, err)
	}
	return newest, nil
}

// URL of the server that the name points to now.
func (w *World) URL(ctx context.Context) (string, error) {
	ip, err := numbers.Resolve(ctx, w.Resolver, Record)
	return "http://" + net.JoinHostPort(ip, strconv.Itoa(Port)), err
}

// Inside gives a client that stands in a network of a site.
func Inside(p *local.Provider, network string) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return p.Dial(ctx, network, address)
		},
	}}
}

// KillServing kills the server that the name points to, as a power cut would.
func (w *World) KillServing(ctx context.Context) (pid int, at time.Time, err error) {
	url, err := w.URL(ctx)
	if err != nil {
		return 0, at, err
	}
	health, err := numbers.AskHealth(ctx, http.DefaultClient, url)
	if err != nil {
		return 0, at, err
	}
	at = time.Now().UTC()
	return health.PID, at, unix.Kill(health.PID, unix.SIGKILL)
}
