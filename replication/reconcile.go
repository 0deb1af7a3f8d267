package replication

import (
	"fmt"
	"slices"
)

// reconcile makes the source's indexes equal to what the target really has. Equal
// roots are enough; else regions are compared, then pieces, and what
// differs is taken over from the target, with the digests of its blocks.
func (ss *sourceSession) reconcile(welcome welcomeMessage) error {
	for disk, x := range ss.indexes {
		w := welcome.Disks[disk]
		if w.Unsettled == 0 && x.anyDirty() == 0 && w.Root == rootString(x.root()) {
			continue
		}
		ss.s.hub.update(func(st *Status) {
			if st.Stage != StageStarting {
				st.Health, st.HealthReason = HealthResyncing, fmt.Sprintf("disk %s: comparing both ends after an interruption", ss.spec.Disks[disk].Name)
			}
		})
		if err := ss.compareDisk(disk, w.Unsettled > 0); err != nil {
			return err
		}
		if err := x.sync(); err != nil {
			return err
		}
	}
	return nil
}

// nodesPerReply is how many regions the target is asked for at once while it has to
// read them first: often enough an answer that the link shows life.
const nodesPerReply = 64

func (ss *sourceSession) compareDisk(disk int, unsettled bool) error {
	x := ss.indexes[disk]
	step := int64(maxNodes)
	if unsettled {
		step = nodesPerReply
	}
	for first := int64(0); first < x.geo.regions(); first += step {
		m := rangeMessage{disk: disk, first: first, count: int(min(step, x.geo.regions()-first))}
		if err := ss.link.send(frameNodesWanted, m.marshal(), false); err != nil {
			return err
		}
		body, err := ss.rangeReply(frameNodes, m)
		if err != nil {
			return err
		}
		if len(body) != m.count*32 {
			return fmt.Errorf("%w: %d bytes of nodes for %d regions", ErrCorruptFrame, len(body), m.count)
		}
		var differ []int64
		for i := range m.count {
			if hash(body[i*32:(i+1)*32]) != x.node(first+int64(i)) || x.isDirty(first+int64(i)) {
				differ = append(differ, first+int64(i))
			}
		}
		if err := ss.takeOver(disk, differ); err != nil {
			return err
		}
	}
	return nil
}

// rangeReply waits for an answer about exactly the range that was asked for.
func (ss *sourceSession) rangeReply(typ frameType, asked rangeMessage) ([]byte, error) {
	f, err := ss.reply(typ)
	if err != nil {
		return nil, err
	}
	var m rangeMessage
	body, err := m.parse(f.body, ss.geos)
	if err != nil {
		return nil, err
	}
	if m != asked {
		return nil, fmt.Errorf("%w: answer about other regions than asked for", ErrProtocol)
	}
	return body, nil
}

// regionsInFlight are asked for at once, so that a long link is used.
const regionsInFlight = 32

// takeOver replaces the records of regions by what the target says.
func (ss *sourceSession) takeOver(disk int, regions []int64) error {
	for chunk := range slices.Chunk(regions, regionsInFlight) {
		for _, region := range chunk {
			m := rangeMessage{disk: disk, first: region, count: 1}
			if err := ss.link.send(framePiecesWanted, m.marshal(), false); err != nil {
				return err
			}
		}
		records := map[int64]*record{}
		wanted := map[int64]bitmap256{}
		for _, region := range chunk {
			rec, want, err := ss.takePieces(disk, region)
			if err != nil {
				return err
			}
			records[region] = rec
			if want.any() {
				wanted[region] = want
				m := rangeMessage{disk: disk, first: region, count: 1}
				if err := ss.link.send(frameDigestsWanted, append(m.marshal(), want[:]...), false); err != nil {
					return err
				}
			}
		}
		for _, region := range chunk {
			if want, ok := wanted[region]; ok {
				if err := ss.takeDigests(disk, region, records[region], want); err != nil {
					return err
				}
			}
			if err := ss.indexes[disk].put(region, records[region]); err != nil {
				return err
			}
		}
	}
	return nil
}

// takePieces merges the target's hashes of a region into our record, and says of which
// pieces the digests are needed.
func (ss *sourceSession) takePieces(disk int, region int64) (rec *record, want bitmap256, err error) {
	body, err := ss.rangeReply(framePieces, rangeMessage{disk: disk, first: region, count: 1})
	if err != nil {
		return nil, want, err
	}
	if len(body) != piecesPerRegion*32 {
		return nil, want, fmt.Errorf("%w: pieces of region %d cut short", ErrCorruptFrame, region)
	}
	if rec, err = ss.indexes[disk].get(region); err != nil {
		return nil, want, err
	}
	for i := range rec.pieces {
		theirs := hash(body[i*32 : (i+1)*32])
		if rec.pieces[i] == theirs && !rec.dirty.has(i) {
			continue
		}
		rec.pieces[i] = theirs
		rec.dirty.clear(i)
		if theirs != (hash{}) {
			want.set(i)
			continue
		}
		clear(rec.digests[i*blocksPerPiece : (i+1)*blocksPerPiece])
	}
	return rec, want, nil
}

func (ss *sourceSession) takeDigests(disk int, region int64, rec *record, want bitmap256) error {
	body, err := ss.rangeReply(frameDigests, rangeMessage{disk: disk, first: region, count: 1})
	if err != nil {
		return err
	}
	items, err := parseDigestItems(body)
	if err != nil {
		return err
	}
	for _, it := range items {
		if !want.has(it.piece) {
			return fmt.Errorf("%w: digests of piece %d were not asked for", ErrProtocol, it.piece)
		}
		want.clear(it.piece)
		rec.pieces[it.piece] = it.hash
		copy(rec.digests[it.piece*blocksPerPiece:], it.digests[:])
	}
	if want.any() {
		return fmt.Errorf("%w: digests of region %d are missing", ErrProtocol, region)
	}
	return nil
}
