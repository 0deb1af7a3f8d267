package main

import (
	"context"
	"fmt"
	"slices"

	"lifeboat/tools/bench/qemu"
)

// allJobs in the order in which they run.
var allJobs []job

func init() {
	allJobs = []job{
		{name: "full", title: "Full copy to an empty target", open: openFull},
		{name: "inc1", title: "1 % changed, the whole source is read", open: openDelta((*bench).changed1)},
		{name: "inc10", title: "10 % changed, the whole source is read", open: openDelta((*bench).changed10)},
		{name: "same", title: "Nothing changed, the whole source is read", open: openDelta((*bench).unchanged)},
		{name: "tracked1", title: "1 % changed, changes tracked", open: openTracked((*bench).changed1)},
		{name: "tracked10", title: "10 % changed, changes tracked", open: openTracked((*bench).changed10)},
		{name: "tracked0", title: "Nothing changed, changes tracked", open: openTracked((*bench).unchanged)},
		{name: "limits", title: "Limits of the machine", open: openLimits, table: writeLimits},
		{name: "wire", title: "On the wire", open: openWire, table: writeWire},
		{name: "size", title: "Cost against size", open: openSize, table: writeSizes},
		{name: "volumes", title: "Several volumes at once", open: openVolumes, table: writeVolumes},
		{name: "resume", title: "After a kill", open: openResume, table: writeResume},
		{name: "latency", title: "Far away", open: openLatency, table: writeLatency, once: true},
		{name: "coldfull", title: "Full copy, cold disk", open: openColdFull},
		{name: "cold1", title: "1 % changed, scanned, cold disk", open: openCold1},
	}
}

func jobNames() []string {
	var names []string
	for _, j := range allJobs {
		names = append(names, j.name)
	}
	return names
}

func openFull(ctx context.Context, b *bench) ([]contender, func() error, error) {
	return slices.Concat(b.productFull(b.inMemory()), b.fullPeers(b.inMemory()), b.fullFloors()), b.removeTarget, nil
}

func openDelta(v func(*bench) version) func(context.Context, *bench) ([]contender, func() error, error) {
	return func(ctx context.Context, b *bench) ([]contender, func() error, error) {
		v := v(b)
		ours, end := b.productDelta(b.inMemory(), v, false)
		cs := slices.Concat(ours, b.deltaPeers(b.inMemory(), v, 4096, 65536), b.scanFloors(v.image))
		if len(v.extents) > 0 {
			cs = append(cs, b.changeFloors(v)...)
		}
		return cs, joinEnds(end, b.removeTarget), nil
	}
}

func openTracked(v func(*bench) version) func(context.Context, *bench) ([]contender, func() error, error) {
	return func(ctx context.Context, b *bench) ([]contender, func() error, error) {
		v := v(b)
		ours, end := b.productDelta(b.inMemory(), v, true)
		if len(v.extents) == 0 {
			if b.product.here() {
				ours = append(ours, b.startOnly())
			}
			return ours, end, nil
		}
		peers, endPeers, err := b.dirtyBitmaps(ctx, v)
		return slices.Concat(ours, peers, b.changeFloors(v)), joinEnds(end, endPeers, b.removeTarget), err
	}
}

// qemuContenders track v's changes once and copy them over a Unix socket, over
// TCP, and over TCP with fewer requests under way, which is faster there.
func (b *bench) qemuContenders(ctx context.Context, v version) ([]contender, func() error, error) {
	const granularity = 64 << 10 // QEMU's default, and the least that a backup copies
	tracker, err := qemu.Track(ctx, b.dir, v.image, v.extents, granularity)
	if err != nil {
		return nil, nil, err
	}
	var cs []contender
	for _, way := range []struct {
		variant string
		unix    bool
		workers int
	}{
		{"backup to NBD, Unix socket", true, 0},
		{"backup to NBD, TCP", false, 0},
		{fmt.Sprintf("backup to NBD, TCP, max-workers=%d", tunedWorkers), false, tunedWorkers},
	} {
		var target *qemu.Target
		c := b.ontoBase(b.inMemory(), v, "QEMU dirty bitmap", way.variant, func(context.Context) (outcome, error) {
			s, err := target.Backup(way.workers)
			return outcome{Sample: s}, err
		})
		prepare, check := c.prepare, c.check
		c.prepare = func(ctx context.Context) (err error) {
			if err := prepare(ctx); err != nil {
				return err
			}
			target, err = tracker.Serve(ctx, b.target(), way.unix)
			return err
		}
		reset := c.reset
		c.check = func() error { return check() }
		c.reset = func(ctx context.Context) error {
			if err := target.Close(); err != nil {
				return err
			}
			return reset(ctx)
		}
		cs = append(cs, c)
	}
	return cs, tracker.Close, nil
}

// tunedWorkers is the count of requests under way that is fastest over TCP.
const tunedWorkers = 1
