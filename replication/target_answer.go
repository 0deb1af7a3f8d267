package replication

import (
	"fmt"

	"golang.org/x/sync/errgroup"
)

// settle reads pieces whose hash is not to be believed and stores what they hold.
func (rx *receiver) settle(disk int, first int64, count int) error {
	r := rx.replicas[disk]
	var g errgroup.Group
	g.SetLimit(writers)
	read := false
	for region := first; region < first+int64(count); region++ {
		if !r.index.isDirty(region) {
			continue
		}
		if !read {
			// What is about to be believed must also survive a power cut.
			if err := r.vol.Sync(); err != nil {
				return spaceError("sync replica of disk "+r.disk.Name, err)
			}
			read = true
		}
		g.Go(func() error { return r.settleRegion(region) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if read {
		return r.index.sync()
	}
	return nil
}

func (r *replica) settleRegion(region int64) error {
	rec, err := r.index.get(region)
	if err != nil {
		return err
	}
	buf := make([]byte, PieceSize)
	for i := range r.index.geo.regionPieces(region) {
		if !rec.dirty.has(i) {
			continue
		}
		off, n := r.index.geo.piece(region, i)
		if err := readFull(r.vol, buf[:n], off); err != nil {
			return fmt.Errorf("%w: read replica of disk %s (%s) at %d: %w", ErrTarget, r.disk.Name, r.disk.Path, off, err)
		}
		rec.pieces[i] = pieceHash(buf[:n])
	}
	rec.dirty = bitmap256{}
	return r.index.put(region, rec)
}

// answerNodes tells the hashes of regions.
func (s *targetSession) answerNodes(f frame) error {
	var m rangeMessage
	if _, err := m.parse(f.body, s.rx.geos); err != nil {
		return err
	}
	if err := s.rx.settle(m.disk, m.first, m.count); err != nil {
		return err
	}
	b := m.marshal()
	for region := m.first; region < m.first+int64(m.count); region++ {
		node := s.rx.replicas[m.disk].index.node(region)
		b = append(b, node[:]...)
	}
	return s.link.send(frameNodes, b, true)
}

// answerPieces tells the hashes of the pieces of a region.
func (s *targetSession) answerPieces(f frame) error {
	var m rangeMessage
	if _, err := m.parse(f.body, s.rx.geos); err != nil {
		return err
	}
	if err := s.rx.settle(m.disk, m.first, 1); err != nil {
		return err
	}
	rec, err := s.rx.replicas[m.disk].index.get(m.first)
	if err != nil {
		return err
	}
	b := m.marshal()
	for i := range rec.pieces {
		b = append(b, rec.pieces[i][:]...)
	}
	return s.link.send(framePieces, b, true)
}

// answerDigests reads pieces and tells the digests of their blocks.
func (s *targetSession) answerDigests(f frame) error {
	var m rangeMessage
	rest, err := m.parse(f.body, s.rx.geos)
	if err != nil {
		return err
	}
	var want bitmap256
	if m.count != 1 || len(rest) != len(want) {
		return fmt.Errorf("%w: digests wanted of %d regions", ErrCorruptFrame, m.count)
	}
	copy(want[:], rest)
	r := s.rx.replicas[m.disk]
	buf := make([]byte, PieceSize)
	rec, err := r.index.get(m.first)
	if err != nil {
		return err
	}
	rotten := false
	b := m.marshal()
	for i := range r.index.geo.regionPieces(m.first) {
		if !want.has(i) {
			continue
		}
		off, n := r.index.geo.piece(m.first, i)
		if err := readFull(r.vol, buf[:n], off); err != nil {
			return fmt.Errorf("%w: read replica of disk %s (%s) at %d: %w", ErrTarget, r.disk.Name, r.disk.Path, off, err)
		}
		it := digestItem{piece: i, hash: pieceHash(buf[:n]), digests: blockDigests(buf[:n])}
		b = it.marshal(b)
		if rec.pieces[i] != it.hash { // somebody else, or the disk, changed it
			rec.pieces[i], rotten = it.hash, true
		}
	}
	if rotten {
		if err := r.index.put(m.first, rec); err != nil {
			return err
		}
	}
	return s.link.send(frameDigests, b, true)
}

// blockDigests gives the digests of the blocks of a piece.
func blockDigests(piece []byte) (d [blocksPerPiece]digest) {
	for i := range blocks(len(piece)) {
		d[i] = blockDigest(piece[i*BlockSize : min((i+1)*BlockSize, len(piece))])
	}
	return d
}

// endPass makes everything durable, compares roots and makes the point.
func (s *targetSession) endPass(f frame) error {
	var m passMessage
	if err := decodeJSON(f, &m); err != nil {
		return err
	}
	if err := s.acknowledge(); err != nil {
		return err
	}
	if len(m.Roots) != len(s.rx.replicas) {
		return fmt.Errorf("%w: %d roots for %d disks", ErrProtocol, len(m.Roots), len(s.rx.replicas))
	}
	for i, r := range s.rx.replicas {
		if n := r.index.anyDirty(); n > 0 {
			return fmt.Errorf("%w: disk %s has %d regions that were not compared", ErrRootMismatch, r.disk.Name, n)
		}
		if root := rootString(r.index.root()); root != m.Roots[i] {
			return fmt.Errorf("%w: disk %s is %s at the target, the cut is %s; both ends are compared and the difference is sent again",
				ErrRootMismatch, r.disk.Name, root, m.Roots[i])
		}
	}
	if err := s.t.markReplicas(); err != nil {
		return err
	}
	done := passDoneMessage{ID: m.ID}
	if m.Point != nil {
		var err error
		if done, err = s.t.makePoint(s.link.ctx, m); err != nil {
			return err
		}
		s.t.hub.update(func(st *Status) { st.LastPoint, st.Stage = done.Point, StageRealTime; st.Passes++ })
	}
	return s.link.sendJSON(framePassDone, done)
}

// markReplicas notes when we last wrote to the replicas, so that writes by others are
// noticed when a later epoch takes the disks over.
func (t *targetStream) markReplicas() error {
	next := t.snapshot()
	marks := make(map[string]replicaMark, len(next.Replicas))
	changed := false
	for _, d := range next.Spec.Disks {
		mark, err := markOf(d.Path)
		if err != nil {
			return err
		}
		marks[d.Name] = mark
		changed = changed || mark != next.Replicas[d.Name]
	}
	if !changed {
		return nil
	}
	return t.change(func(s *targetState) { s.Replicas = marks })
}
