package local

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
	points "lifeboat/replication/store"
	"lifeboat/replication/store/txfile"
)

// Options are settings of the process that uses a site, not of the site.
type Options struct {
	// Executable is the program that is started for the helpers of the site
	// (see RunHelper); empty = the running one.
	Executable string
	// Log gets what happens beside a call (background work); nil = nowhere.
	Log *slog.Logger
	// LockWait bounds how long a call waits for the state of the site while
	// another process writes it; 0 = 30 s.
	LockWait time.Duration
	// SharedLoopback makes networks within 127.0.0.0/8 ranges of the machine's own loopback network
	// also where they could be namespaces: every process of the machine reaches their servers.
	SharedLoopback bool
}

// Provider is a site in a data directory. It implements every capability of
// the contract that a single machine can offer. Any number of them may use one
// site at once, in one process or in several.
type Provider struct {
	site    cloud.Site
	options Options
	log     *slog.Logger
	store   *store        // what exists; see the buckets beside the types that they hold
	points  *points.Store // snapshots, where files do not share extents
	clones  bool          // the file system of the site shares extents between files

	// Work that outlives the call that began it, until Close.
	background context.Context
	stop       context.CancelFunc
	work       sync.WaitGroup
	mu         sync.Mutex // guards closed against work.Add
	closed     bool
}

// directories of a site, below its own.
const (
	diskDir     = "disks"
	snapshotDir = "snapshots"
	runDir      = "run" // sockets, pid files, logs of helpers
	stateName   = "state"
	jobsFile    = "jobs.lock"
)

// Open opens a local site and makes it when its directory is empty or missing.
func Open(ctx context.Context, site cloud.Site, options Options) (*Provider, error) {
	if site.Directory == "" {
		return nil, invalid("Open", "site "+site.Name, "a local site needs a data directory", "give it one")
	}
	dir, err := filepath.Abs(site.Directory)
	if err != nil {
		return nil, osError("Open", site.Directory, err)
	}
	site.Directory, site.Provider = dir, "local"
	if options.LockWait == 0 {
		options.LockWait = 30 * time.Second
	}
	p := &Provider{site: site, options: options, log: options.Log}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if err := p.prepare(); err != nil {
		return nil, err
	}
	if p.store, err = openStore(ctx, dir, stateName, options.LockWait); err != nil {
		return nil, err
	}
	if p.points, err = points.Open(ctx, dir, options.LockWait); err != nil {
		return nil, storeError("Open", dir, err)
	}
	p.background, p.stop = context.WithCancel(context.Background())
	return p, nil
}

// prepare makes the directories of the site and learns what their file system can.
func (p *Provider) prepare() error {
	for _, name := range []string{"", diskDir, snapshotDir, runDir} {
		if err := os.MkdirAll(p.path(name), 0o700); err != nil {
			return p.unusable(err)
		}
	}
	// access(2) would say yes to root on a read-only file system: try it.
	clones, err := probeClones(p.site.Directory)
	if err != nil {
		return p.unusable(err)
	}
	p.clones = clones
	return nil
}

// unusable says what is wrong with the directory of the site.
func (p *Provider) unusable(err error) error {
	dir := p.site.Directory
	if isAny(err, unix.EACCES, unix.EPERM, unix.EROFS) {
		return cloud.E(cloud.Denied, "Open", "site directory "+dir,
			fmt.Sprintf("user %s cannot write to it", userName()),
			"make it writable (chown "+userName()+" "+dir+"), or choose another directory", err)
	}
	return osError("Open", "site directory "+dir, err)
}

// path returns a path below the directory of the site.
func (p *Provider) path(elements ...string) string {
	return filepath.Join(append([]string{p.site.Directory}, elements...)...)
}

// Site tells which place this value acts on.
func (p *Provider) Site() cloud.Site { return p.site }

// Close ends the background work of this value and waits for it; the work goes
// on when somebody asks for the resource again. Resources of the site stay.
func (p *Provider) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.work.Wait()
	return p.points.Close()
}

// spawn runs work for a resource in the background, unless somebody does it
// already in this process or another. The lock of a killed process is free at
// once, so that the next poll begins the work again. onEnd may be nil.
func (p *Provider) spawn(id string, work func(ctx context.Context) error) error {
	release, free, err := p.lockJob(id)
	if err != nil || !free {
		return err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		release()
		return cloud.E(cloud.Unavailable, "Work", id, "this process is ending", "", nil)
	}
	p.work.Add(1)
	p.mu.Unlock()
	go func() {
		defer p.work.Done()
		defer release()
		if err := work(p.background); err != nil && !errors.Is(err, context.Canceled) {
			p.log.Error("background work ended", "resource", id, "error", err)
		}
	}()
	return nil
}

// lockJob takes the lock of the work for a resource; free is false when
// somebody else has it. All are ranges of one file: no lock file is left over.
func (p *Provider) lockJob(id string) (release func(), free bool, err error) {
	path := p.path(jobsFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, osError("Lock", path, err)
	}
	err = txfile.LockByte(file, unix.F_WRLCK, jobRange(id))
	if isAny(err, unix.EAGAIN, unix.EACCES) {
		return nil, false, file.Close()
	}
	if err != nil {
		file.Close()
		return nil, false, osError("Lock", path, err)
	}
	return func() { file.Close() }, true, nil
}

// waitJob is lockJob that waits until the lock is free or ctx ends.
func (p *Provider) waitJob(ctx context.Context, id string) (release func(), err error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		release, free, err := p.lockJob(id)
		if err != nil || free {
			return release, err
		}
		select {
		case <-ctx.Done():
			return nil, osError("Lock", id, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// jobRange maps the identifier of a resource to a place in the file of job locks.
func jobRange(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return int64(binary.BigEndian.Uint64(sum[:8]) >> 2)
}
