package main

import (
	"context"
	"errors"
	"os"

	"lifeboat/tools/bench/floor"
	"lifeboat/tools/bench/measure"
	"lifeboat/tools/bench/workload"
)

// floorName is the name under which floors stand among the contenders.
const floorName = "floor"

func (b *bench) floorOf(variant string, run func() (measure.Sample, error)) contender {
	return contender{who: floorName, variant: variant, run: func(context.Context) (outcome, error) {
		s, err := run()
		return outcome{Sample: s}, err
	}}
}

// scanFloors read and hash an image.
func (b *bench) scanFloors(image string) []contender {
	scan := func(holes bool) func() (measure.Sample, error) {
		return func() (measure.Sample, error) {
			es := []workload.Extent{{Length: b.size}}
			if holes {
				f, err := os.Open(image)
				if err != nil {
					return measure.Sample{}, err
				}
				defer f.Close()
				if es, err = workload.DataExtents(f, b.size); err != nil {
					return measure.Sample{}, err
				}
			}
			return floor.Scan(image, es, 2)
		}
	}
	return []contender{
		b.floorOf("scan every byte", scan(false)),
		b.floorOf("scan, holes skipped", scan(true)),
	}
}

// fullFloors ship the base to an empty target.
func (b *bench) fullFloors() []contender {
	target := b.path("floor.img")
	ship := func(variant string, connections int, proof floor.Proof) contender {
		c := b.floorOf(variant, func() (measure.Sample, error) {
			f, err := os.Open(b.base)
			if err != nil {
				return measure.Sample{}, err
			}
			defer f.Close()
			es, err := workload.DataExtents(f, b.size)
			if err != nil {
				return measure.Sample{}, err
			}
			return floor.Shipment{From: b.base, To: target, Extents: es, Connections: connections, SkipZeros: true, Proof: proof}.Run()
		})
		c.allocates = b.size / 2
		c.prepare = func(context.Context) error { return workload.CreateSparse(target, b.size) }
		c.check = func() error { return workload.Verify(b.base, target) }
		c.reset = func(context.Context) error { return os.Remove(target) }
		return c
	}
	return []contender{
		ship("ship, XXH3 at both ends, 1 connection", 1, floor.Fast),
		ship("ship, XXH3 at both ends, 2 connections", 2, floor.Fast),
		ship("ship, no check, 2 connections", 2, floor.None),
		ship("ship secured: TLS 1.3, BLAKE3 at both ends, 2 connections", 2, floor.Secure),
	}
}

// changeFloors ship the changed ranges of a version to the peers' target.
func (b *bench) changeFloors(v version) []contender {
	ship := func(variant string, connections int, proof floor.Proof) contender {
		f := b.floorOf(variant, func() (measure.Sample, error) {
			return floor.Shipment{From: v.image, To: b.target(), Extents: v.extents, Connections: connections, Proof: proof}.Run()
		})
		return b.ontoBase(b.inMemory(), v, f.who, f.variant, f.run)
	}
	return []contender{
		ship("ship, XXH3 at both ends, 1 connection", 1, floor.Fast),
		ship("ship, XXH3 at both ends, 2 connections", 2, floor.Fast),
		ship("ship secured: TLS 1.3, BLAKE3 at both ends, 2 connections", 2, floor.Secure),
	}
}

// dirtyBitmaps are QEMU's backups of the blocks that a bitmap marks.
func (b *bench) dirtyBitmaps(ctx context.Context, v version) ([]contender, func() error, error) {
	if !b.have("qemu-storage-daemon") || !b.have("qemu-nbd") {
		return nil, nil, nil
	}
	return b.qemuContenders(ctx, v)
}

// joinEnds makes one end of several; nil ones are left out.
func joinEnds(ends ...func() error) func() error {
	return func() error {
		var errs []error
		for _, end := range ends {
			if end != nil {
				errs = append(errs, end())
			}
		}
		return errors.Join(errs...)
	}
}
