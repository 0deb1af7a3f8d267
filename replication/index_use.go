package replication

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// note remembers what a record means for its region. The caller holds x.mu or
// is alone.
func (x *index) note(region int64, rec *record) {
	chunk := x.nodes[region/nodesPerChunk]
	node := nodeHash(&rec.pieces)
	if chunk == nil && node != (hash{}) {
		chunk = new([nodesPerChunk]hash)
		x.nodes[region/nodesPerChunk] = chunk
	}
	if chunk != nil {
		chunk[region%nodesPerChunk] = node
	}
	if rec.dirty.any() {
		x.dirty[region] = struct{}{}
	} else {
		delete(x.dirty, region)
	}
	if x.present != nil {
		x.present[region/64] |= 1 << (region % 64)
	}
}

// get gives the record of a region, never nil. Damaged records and regions
// without one of which nothing is known come all dirty.
func (x *index) get(region int64) (*record, error) {
	rec, err := x.read(region)
	if err != nil && !errors.Is(err, ErrDamagedState) {
		return nil, err
	}
	if rec == nil {
		rec = &record{}
		if x.digests {
			rec.digests = make([]digest, blocksPerRegion)
		}
		if x.unknown {
			for i := range x.geo.regionPieces(region) {
				rec.dirty.set(i)
			}
		}
	}
	return rec, nil
}

// put stores the record of a region; it is durable after sync.
func (x *index) put(region int64, rec *record) error {
	if _, err := x.f.WriteAt(rec.marshal(region), x.offset(region)); err != nil {
		return spaceError("write index "+x.path, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.note(region, rec)
	return nil
}

func (x *index) sync() error {
	if err := unix.Fdatasync(int(x.f.Fd())); err != nil {
		return spaceError("sync index "+x.path, err)
	}
	return nil
}

// node is the hash of a region as far as it is known.
func (x *index) node(region int64) hash {
	x.mu.Lock()
	defer x.mu.Unlock()
	if chunk := x.nodes[region/nodesPerChunk]; chunk != nil {
		return chunk[region%nodesPerChunk]
	}
	return hash{}
}

// isDirty tells whether a region has pieces whose hash is not to be believed.
func (x *index) isDirty(region int64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.dirty[region]; ok {
		return true
	}
	return x.present != nil && x.present[region/64]&(1<<(region%64)) == 0
}

// anyDirty counts the regions for which isDirty holds.
func (x *index) anyDirty() int64 {
	n := int64(0)
	for region := range x.geo.regions() {
		if x.isDirty(region) {
			n++
		}
	}
	return n
}

// root is the root of the volume as this index knows it.
func (x *index) root() hash { return rootHash(x.geo.size, x.node) }

// markDirty says that the hashes of some pieces of a region are not to be believed.
func (x *index) markDirty(region int64, pieces bitmap256) error {
	if region < 0 || region >= x.geo.regions() {
		return fmt.Errorf("%w: index %s has no region %d", ErrDamagedState, x.path, region)
	}
	rec, err := x.get(region)
	if err != nil {
		return err
	}
	rec.dirty.or(pieces)
	return x.put(region, rec)
}

func (x *index) close() error { return x.f.Close() }
