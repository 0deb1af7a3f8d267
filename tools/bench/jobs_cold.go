package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"lifeboat/tools/bench/workload"
)

func makeDir(dir string) error { return os.MkdirAll(dir, 0o755) }

// onDisk puts the images that a job reads on a real disk.
func (b *bench) onDisk(names ...string) (place, func() error, error) {
	if os.Geteuid() != 0 {
		return place{}, nil, &missingError{"only root can drop the page cache"}
	}
	dir := filepath.Join(b.disk, "cold")
	end := func() error { return removeAll(dir) }
	if _, err := os.Stat(b.disk); errors.Is(err, os.ErrNotExist) {
		end = func() error { return removeAll(b.disk) }
	}
	if err := makeDir(dir); err != nil {
		return place{}, end, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return place{}, end, err
	}
	if fs.Type == unix.TMPFS_MAGIC {
		return place{}, end, &missingError{b.disk + " is in memory: name a directory on a disk (DISK=/dir)"}
	}
	if have, need := freeSpace(dir), 4*b.size; have < need {
		return place{}, end, &missingError{fmt.Sprintf("%s has %s free, %s are needed (DISK=/dir names another directory)", b.disk, bytesText(have), bytesText(need))}
	}
	image := func(path string) string { return filepath.Join(dir, filepath.Base(path)) }
	for _, name := range names {
		if err := workload.CopySparse(image(name), name); err != nil {
			return place{}, end, err
		}
	}
	return place{target: filepath.Join(dir, "target.img"), image: image, prepare: dropCaches, after: func() error { return syncDisk(dir) }}, end, nil
}

// openColdFull is the full copy from a disk to a disk, with an empty page cache.
func openColdFull(_ context.Context, b *bench) ([]contender, func() error, error) {
	p, end, err := b.onDisk(b.base)
	if err != nil {
		return nil, end, err
	}
	// The others have no goal here, and take long.
	peers := slices.DeleteFunc(b.fullPeers(p), func(c contender) bool { return c.who != "nbdcopy" && c.variant != rsyncPlain })
	return slices.Concat(b.productFull(p), peers), end, nil
}

// openCold1 is the 1 % delta on a disk, with an empty page cache.
func openCold1(_ context.Context, b *bench) ([]contender, func() error, error) {
	p, end, err := b.onDisk(b.base, b.v1)
	if err != nil {
		return nil, end, err
	}
	ours, forget := b.productDelta(p, b.changed1(), false)
	return slices.Concat(ours, b.deltaPeers(p, b.changed1(), 4096)), func() error { return errors.Join(joinEnds(forget)(), end()) }, nil
}
