package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
	"lifeboat/internal/demo/stage"
	"lifeboat/replication"
	"lifeboat/workflows"
)

// localTheatre has two directories of this machine as sites.
type localTheatre struct {
	*campaign
	ground *stage.Ground
}

func (t *localTheatre) open(ctx context.Context) (_ *stage.World, err error) {
	if t.ground, err = stage.PrepareGround(ctx, t.Dir); err != nil {
		return nil, err
	}
	t.Log("sites on %s", t.ground.Words)
	return stage.OpenWorld(ctx, t.ground.Sites, t.Binaries.Lifeboat)
}

func (t *localTheatre) primary() site          { return t.world.Primary }
func (t *localTheatre) recovery() site         { return t.world.Recovery }
func (t *localTheatre) marks() bool            { return false }
func (t *localTheatre) keptBySource() []string { return nil }
func (t *localTheatre) inPlace() bool          { return true }

func (t *localTheatre) cast() (*programs, []victim) {
	if t.ground == nil {
		return nil, localVictims
	}
	at := func(name string) string { return name + "=" + filepath.Join(t.ground.Sites, name) }
	agent := func(v victim, name string) *worker {
		return t.newWorker(v, nil, "--roles", "agent", "--agent", name, "--site", at(name))
	}
	return &programs{
		temporal: newOrchestrator(t.Binaries.Temporal, t.Dir),
		control:  t.newWorker(killWorker, nil, "--roles", "control,cloud", "--site", at("primary"), "--site", at("recovery"), "--site", at("names")),
		primary:  agent(killPrimary, "primary"),
		recovery: agent(killRecovery, "recovery"),
	}, localVictims
}

// createServer makes it with 64 MiB of database.
func (t *localTheatre) createServer(ctx context.Context) (m machine, ip string, err error) {
	a := stage.ChooseAddresses()
	err = t.lifeboat(ctx, "local", "create-server", stage.Server, "--site", "primary", "--site-dir", filepath.Join(t.ground.Sites, "primary"),
		"--network", stage.Network, "--cidr", a.ProductionCIDR, "--ip", a.Production, "--port", fmt.Sprint(stage.Port), "--public",
		"--disk", "data=64MiB", "--disk", "log=4MiB",
		"--command", fmt.Sprintf(`["%s","__numbers-server","--port","%d"]`, t.Binaries.Lifeboat, stage.Port))
	if err != nil {
		return m, "", err
	}
	address, err := t.world.Primary.Address(ctx, stage.Server)
	return machine{t.world.Primary, address.Server}, address.Public, err
}

func (t *localTheatre) plan() (string, error) {
	return stage.WritePlan(t.Dir, t.ground.Sites, t.Binaries.Lifeboat, stage.ChooseAddresses(), 8*time.Second)
}

func (t *localTheatre) kill(ctx context.Context, id string) (bool, error) { return killServer(ctx, id) }

func (t *localTheatre) start(ctx context.Context, p site, id string) error {
	return startServer(ctx, p, id)
}

// revive does nothing: the site says that the server ended.
func (t *localTheatre) revive(context.Context, site, string) error { return nil }

func (t *localTheatre) inside(p site, network string) *http.Client {
	return stage.Inside(p.(*local.Provider), network)
}

// checkDisks compares the disks, and the snapshots behind the point, with the roots of the point.
func (t *localTheatre) checkDisks(ctx context.Context, p site, s cloud.Server, r workflows.ServerReport, point *activities.Point) error {
	if len(s.Disks) != len(r.Roots) {
		return fmt.Errorf("%s has %d disks, its point %d", s.ID, len(s.Disks), len(r.Roots))
	}
	for _, d := range s.Disks {
		disk, err := p.Disk(ctx, d.DiskID)
		if err != nil {
			return err
		}
		root, err := replication.RootOfFile(ctx, disk.Path)
		if err != nil {
			return err
		}
		if root != r.Roots[d.Name] {
			return fmt.Errorf("disk %s of %s has root %s, its point %s has %s", d.Name, s.ID, root, r.Point, r.Roots[d.Name])
		}
	}
	if point == nil {
		return nil
	}
	for _, d := range point.Disks {
		content, err := p.(*local.Provider).OpenSnapshot(ctx, d.Snapshot)
		if err != nil {
			return err
		}
		root, err := replication.RootOf(ctx, volume{content})
		if err := errors.Join(err, content.Close()); err != nil {
			return err
		}
		if root != d.Root {
			return fmt.Errorf("snapshot %s of point %s has root %s instead of %s", d.Snapshot, r.Point, root, d.Root)
		}
	}
	return nil
}

// volume lets a snapshot be read as a source of replication.
type volume struct{ local.Content }

func (v volume) NextData(off int64) (start, end int64, err error) {
	start, end, err = v.Content.NextData(off)
	if err == nil && start == end {
		err = io.EOF
	}
	return start, end, err
}

func (t *localTheatre) outputs() (files []string, err error) {
	for _, p := range t.world.Sites() {
		found, err := filepath.Glob(filepath.Join(p.Site().Directory, "run", "servers", "*", "output.log"))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

func (t *localTheatre) close(ctx context.Context) error {
	if t.ground == nil {
		return nil
	}
	return t.ground.Clear(ctx)
}
