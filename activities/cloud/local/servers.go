package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lifeboat/activities/cloud"
)

const serverBucket = "servers"

// wish is what a server has been told to be. What it is is seen in its files
// (observeRun); whoever asks for its state brings both together (settle).
type wish string

const (
	wishRunning wish = "running"
	wishStopped wish = "stopped"
	wishGone    wish = "gone"
)

// serverRecord is a server as it is stored. Its disks are in the disk records,
// its public address is in the address records.
type serverRecord struct {
	cloud.Server
	Token    string `json:"token"`
	UserData string `json:"user_data,omitempty"`
	Wish     wish   `json:"wish"`
	Force    bool   `json:"force,omitempty"` // do not wait for the server when stopping it
	Run      int    `json:"run"`             // number of the run that is wished, see runInfo
}

// serverDir is where the files of a server are while it exists.
func (p *Provider) serverDir(id string) string { return p.path(runDir, "servers", id) }

// LaunchSource says that servers are launched from disks.
func (p *Provider) LaunchSource() cloud.LaunchSource { return cloud.FromDisks }

// StartLaunch begins to launch a server from disks that are there. Launch has
// the settings of the runtime, see docs/local-sites.md.
func (p *Provider) StartLaunch(ctx context.Context, in cloud.LaunchServer) (cloud.Server, error) {
	const op = "StartLaunch"
	if err := p.checkLaunch(op, in); err != nil {
		return cloud.Server{}, err
	}
	var id string
	err := p.store.update(ctx, func(t *tx) (err error) {
		var old bool
		id, old, err = t.claim(op, cloud.KindServer, in.Token, in)
		if err != nil || old {
			return err
		}
		network, err := t.findNetwork(op, in.Network)
		if err != nil {
			return err
		}
		ip, err := t.pickAddress(op, network, in.IP)
		if err != nil {
			return err
		}
		for _, d := range in.Disks {
			if err := attachDisk(t, op, id, d); err != nil {
				return err
			}
		}
		r := serverRecord{Token: in.Token, UserData: in.UserData, Wish: wishRunning, Run: 1, Server: cloud.Server{
			Resource: cloud.Resource{ID: id, Name: in.Name, State: cloud.Starting, Tags: in.Tags, Created: time.Now().UTC()},
			Type:     in.Type, CPU: in.CPU, Memory: in.Memory, Network: network.ID, IP: ip.String(), Ports: in.Ports, Launch: in.Launch,
		}}
		return t.put(serverBucket, id, r)
	})
	if err != nil {
		return cloud.Server{}, err
	}
	return p.Server(ctx, id)
}

// checkLaunch refuses what can never be launched.
func (p *Provider) checkLaunch(op string, in cloud.LaunchServer) error {
	resource := "server " + cmp.Or(in.Name, in.Token)
	if in.Image != "" {
		return cloud.E(cloud.Unsupported, op, resource, "a local site starts servers from disks, not from an image", "make disks from the snapshots of the image and launch from them", nil)
	}
	for i, port := range in.Ports {
		if port < 1 || port > 65535 || slices.Contains(in.Ports[:i], port) {
			return invalid(op, resource, fmt.Sprintf("port %d is not valid or is there twice", port), "name each port once, from 1 to 65535")
		}
	}
	seen := map[string]bool{}
	for _, d := range in.Disks {
		if d.DiskID == "" || seen[d.DiskID] || (d.Name != "" && seen["name "+d.Name]) {
			return invalid(op, resource, "a disk has no identifier, or a disk or its name is there twice", "name each disk once")
		}
		seen[d.DiskID], seen["name "+d.Name] = true, true
	}
	if in.CPU < 0 || in.Memory < 0 {
		return invalid(op, resource, "the number of CPUs or the memory is negative", "leave it out for the default")
	}
	r, err := runtimeOf(in.Launch)
	if err != nil {
		return invalid(op, resource, err.Error(), "see docs/local-sites.md")
	}
	return r.check(op, resource, in)
}

// launchRuntime is a way to run servers.
type launchRuntime interface {
	// check refuses settings that this runtime could never start.
	check(op, resource string, in cloud.LaunchServer) error
	// program prepares a run; it is called in the supervisor.
	program(l launch) (program, error)
}

// launch is what a runtime is told about the server it runs.
type launch struct {
	serverRecord
	disks   []placedDisk
	network networkRecord
	dir     string
}

func runtimeOf(settings map[string]string) (launchRuntime, error) {
	switch settings["runtime"] {
	case "", "process":
		return processRuntime{}, nil
	case "qemu":
		return qemuRuntime{}, nil
	}
	return nil, fmt.Errorf("there is no runtime %q: choose process or qemu", settings["runtime"])
}

// Server returns a server as it is now. It also brings it nearer to what it
// was told to be, so that polling alone completes what a killed caller began.
func (p *Provider) Server(ctx context.Context, id string) (cloud.Server, error) {
	return p.settle(ctx, "Server", id)
}

// Servers lists the servers that satisfy the filter.
func (p *Provider) Servers(ctx context.Context, f cloud.Filter) ([]cloud.Server, error) {
	var ids []string
	err := p.store.view(ctx, func(t *tx) error {
		return t.each(serverBucket, func(id string, raw []byte) error {
			var r serverRecord
			err := t.decode(serverBucket, id, raw, &r)
			if err == nil && f.Match(r.Tags) {
				ids = append(ids, id)
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	all := []cloud.Server{}
	for _, id := range ids {
		s, err := p.settle(ctx, "Servers", id)
		if cloud.IsNotFound(err) {
			continue // gone since the listing began
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// loadServer reads a server with what belongs to it.
func (p *Provider) loadServer(ctx context.Context, op, id string) (l launch, public string, err error) {
	err = p.store.view(ctx, func(t *tx) error {
		found, err := t.get(serverBucket, id, &l.serverRecord)
		if err != nil {
			return err
		}
		if !found {
			return notFound(op, cloud.KindServer, id)
		}
		if l.disks, err = serverDisks(t, id); err != nil {
			return err
		}
		if l.network, err = t.findNetwork(op, l.Network); err != nil {
			return err
		}
		a, found, err := t.addressOf(id)
		if found {
			public = a.Public
		}
		return err
	})
	l.dir = p.serverDir(id)
	return l, public, err
}

// settle compares what a server is with what it was told to be, does the next
// step towards it, and returns what callers see.
func (p *Provider) settle(ctx context.Context, op, id string) (cloud.Server, error) {
	if err := p.reviveDaemon(ctx); err != nil {
		return cloud.Server{}, err
	}
	l, public, err := p.loadServer(ctx, op, id)
	if err != nil {
		return cloud.Server{}, err
	}
	o, err := observeRun(l.dir, l.Run)
	if err != nil {
		return cloud.Server{}, err
	}
	s := l.Server
	s.Public, s.Disks = public, []cloud.ServerDisk{}
	for _, d := range l.disks {
		s.Disks = append(s.Disks, d.ServerDisk)
	}
	if o.phase == phaseLost {
		// What its supervisor could not kill any more must not write to its disks.
		if err := killFamily(o.run.Child, 0, killWait); err != nil {
			return cloud.Server{}, err
		}
	}
	if l.Wish != wishRunning && (o.phase == phaseStarting || o.phase == phaseRunning) {
		s.State = cloud.Stopping
		if l.Wish == wishGone {
			s.State = cloud.Deleting
		}
		return s, o.ask(l.Force)
	}
	switch {
	case l.Wish == wishGone:
		gone, err := p.forgetServer(ctx, l, o)
		if err == nil && gone {
			err = notFound(op, cloud.KindServer, id)
		}
		s.State = cloud.Deleting
		return s, err
	case l.Wish == wishStopped:
		s.State = cloud.Stopped
	case o.phase == phaseIdle:
		s.State = cloud.Starting
		return s, p.detach(l.dir, roleServer, id, fmt.Sprint(l.Run))
	default:
		s.State, s.Message, err = stateOf(l.dir, o)
	}
	return s, err
}

// stateOf says what a server is that was told to run.
func stateOf(dir string, o observation) (cloud.State, string, error) {
	switch o.phase {
	case phaseStarting:
		return cloud.Starting, "", nil
	case phaseRunning:
		if o.run.Machine != "" && o.run.Machine != "running" {
			return cloud.Running, "the virtual machine is " + o.run.Machine, nil
		}
		return cloud.Running, "", nil
	case phaseLost:
		return cloud.Stopped, "the server " + lostText, nil
	}
	message := "the server " + o.exit.text()
	output, err := tail(dir+"/"+outputFile, 2048)
	if output = lastLines(output, 5); output != "" {
		message += "; its last output: " + output
	}
	if o.exit.Error != "" {
		return cloud.Failing, message, err
	}
	return cloud.Stopped, message, err
}

// forgetServer removes a server that was told to be gone and does not run. It
// is not gone yet when a helper is just about to notice.
func (p *Provider) forgetServer(ctx context.Context, l launch, o observation) (gone bool, err error) {
	if err := p.endScripts(ctx, l.ID); err != nil {
		return false, err
	}
	lock, free, err := takeLock(filepath.Join(l.dir, lockFile))
	switch {
	case cloud.IsNotFound(err): // never started, or removed by a caller that was killed then
	case err != nil || !free:
		return false, err
	default:
		defer lock.Close()
	}
	if err := killFamily(o.run.Child, 0, killWait); err != nil {
		return false, err
	}
	// A helper that comes late finds no directory, or a lock that is taken.
	trash := p.path(runDir, "trash")
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return false, osError("TerminateServer", trash, err)
	}
	if err := os.Rename(l.dir, filepath.Join(trash, l.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, osError("TerminateServer", l.dir, err)
	}
	err = p.store.update(ctx, func(t *tx) error {
		var r serverRecord
		if found, err := t.get(serverBucket, l.ID, &r); err != nil || !found {
			return err
		}
		if err := detachDisks(t, l.ID); err != nil {
			return err
		}
		if err := t.retire(cloud.KindServer, r.Token); err != nil {
			return err
		}
		return t.del(serverBucket, l.ID)
	})
	if err != nil {
		return false, err
	}
	if err := os.RemoveAll(filepath.Join(trash, l.ID)); err != nil {
		return false, osError("TerminateServer", trash, err)
	}
	return true, nil
}
