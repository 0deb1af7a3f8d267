package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
	points "lifeboat/replication/store"
)

// Destroy ends everything that runs at the site and deletes all that the site
// made: servers, scripts, daemon, network namespaces, disks, snapshots, state.
// Files that were adopted as disks stay, wherever they are. It may be called
// again after it was interrupted. The provider cannot be used afterwards.
func (p *Provider) Destroy(ctx context.Context) error {
	if err := p.endServers(ctx); err != nil {
		return err
	}
	if err := p.endDaemon(ctx); err != nil {
		return err
	}
	networks, err := p.Networks(ctx, cloud.Filter{})
	if err != nil {
		return err
	}
	for _, n := range networks {
		if err := p.DeleteNetwork(ctx, n.ID); cloud.IgnoreNotFound(err) != nil {
			return err
		}
	}
	keep := map[string]bool{}
	err = p.store.view(ctx, func(t *tx) error {
		return t.each(diskBucket, func(id string, raw []byte) error {
			var r diskRecord
			err := t.decode(diskBucket, id, raw, &r)
			if r.Adopted {
				keep[r.Path] = true
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	if err := p.destroyDisks(ctx); err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		return err
	}
	// The state goes last: with it an interrupted call can be made again.
	names := append([]string{diskDir, snapshotDir, runDir, jobsFile}, points.Files()...)
	for _, name := range append(names, stateName+".db", stateName+".lock") {
		if err := removeExcept(p.path(name), keep); err != nil {
			return osError("Destroy", p.path(name), err)
		}
	}
	// What others have put there stays, and so does a mount point.
	if err := os.Remove(p.site.Directory); err != nil && !isAny(err, unix.ENOTEMPTY, unix.EEXIST, unix.EBUSY, fs.ErrNotExist) {
		return osError("Destroy", p.site.Directory, err)
	}
	return nil
}

// endServers terminates all servers and scripts and waits until they are gone.
func (p *Provider) endServers(ctx context.Context) error {
	servers, err := p.Servers(ctx, cloud.Filter{})
	if err != nil {
		return err
	}
	for _, s := range servers {
		if err := p.TerminateServer(ctx, s.ID); cloud.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return until(ctx, "Destroy", "site "+p.site.Name, "its servers do not end", func() (bool, error) {
		left, err := p.Servers(ctx, cloud.Filter{})
		if err != nil || len(left) > 0 {
			return false, err
		}
		return p.scriptsEnded()
	})
}

// scriptsEnded tells whether no supervisor of a script is left.
func (p *Provider) scriptsEnded() (bool, error) {
	entries, err := os.ReadDir(p.path(runDir, "scripts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, e := range entries {
		held, err := isLocked(filepath.Join(p.scriptDir(e.Name()), lockFile))
		if err != nil || held {
			return false, err
		}
	}
	return true, nil
}

// endDaemon ends the daemon and sees to it that nobody starts it again.
func (p *Provider) endDaemon(ctx context.Context) error {
	err := p.store.update(ctx, func(t *tx) error {
		config, err := p.daemonConfig(t)
		if err != nil {
			return err
		}
		config.Seq = 0
		return t.put(daemonBucket, configKey, config)
	})
	if err != nil {
		return err
	}
	return until(ctx, "Destroy", "site "+p.site.Name, "its daemon does not end", func() (bool, error) {
		held, err := isLocked(filepath.Join(p.daemonDir(), lockFile))
		if err != nil || !held {
			return err == nil && p.helpersLeft() == 0, err
		}
		var status daemonStatus
		if _, err := readJSON(filepath.Join(p.daemonDir(), statusFile), &status); err != nil {
			return false, err
		}
		return false, status.Process.signal(unix.SIGTERM)
	})
}

// until polls a condition until it holds or ctx ends.
func until(ctx context.Context, op, resource, problem string, holds func() (bool, error)) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		ok, err := holds()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return cloud.E(cloud.NotReady, op, resource, problem, "", ctx.Err())
		case <-time.After(pause):
		}
	}
}

// removeExcept removes a file or a tree, but for some files and what holds them.
func removeExcept(path string, keep map[string]bool) error {
	for kept := range keep {
		if kept == path {
			return nil
		}
		if !strings.HasPrefix(kept, path+string(filepath.Separator)) {
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := removeExcept(filepath.Join(path, e.Name()), keep); err != nil {
				return err
			}
		}
		return nil
	}
	return os.RemoveAll(path)
}
