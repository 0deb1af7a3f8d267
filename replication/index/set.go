package index

import (
	"cmp"
	"slices"

	"lifeboat/replication/block"
)

// PutRegion stores the hashes of region r and, where digests are kept, known and of no unknown
// piece, its digests. Pieces behind the end of the volume are ignored.
func (x *Index) PutRegion(r int64, rec *Region) error {
	if r < 0 || r >= x.geo.Regions() {
		return x.rangeError("region", r, x.geo.Regions())
	}
	pieces := rec.Pieces
	clear(pieces[x.piecesOfRegion(r):])
	defer x.lock()()
	if err := x.begin(); err != nil {
		return err
	}
	first := r * block.PiecesPerRegion
	err := x.edit(first/block.Fanout, func(p *[block.Fanout]block.Hash) {
		copy(p[first%block.Fanout:], pieces[:])
	})
	if err != nil || x.digests == nil || !rec.DigestsKnown {
		return err
	}
	if block.IsZero(hashBytes(pieces[:])) || slices.Contains(pieces[:], block.Unknown) {
		return nil
	}
	slot := slotPool.Get().(*[slotSize]byte)
	defer slotPool.Put(slot)
	copy(slot[:], digestBytes(&rec.Digests))
	sums := slotSums(r, slot[:digestsSize], &pieces)
	copy(slot[digestsSize:], sums[:])
	return x.digests.write(slot[:], r*slotSize)
}

// SetPieces stores hashes of pieces, in any order; of two for one piece the later counts.
// The digests of their regions are unknown from then on, unless a hash is the same as before.
func (x *Index) SetPieces(updates []PieceHash) error {
	if len(updates) == 0 {
		return nil
	}
	byPiece := func(a, b PieceHash) int { return cmp.Compare(a.Piece, b.Piece) }
	if !slices.IsSortedFunc(updates, byPiece) {
		updates = slices.Clone(updates)
		slices.SortStableFunc(updates, byPiece)
	}
	for _, i := range []int{0, len(updates) - 1} {
		if p := updates[i].Piece; p < 0 || p >= x.geo.Pieces() {
			return x.rangeError("piece", p, x.geo.Pieces())
		}
	}
	defer x.lock()()
	if err := x.begin(); err != nil {
		return err
	}
	for len(updates) > 0 {
		n := updates[0].Piece / block.Fanout
		count := 1
		for count < len(updates) && updates[count].Piece/block.Fanout == n {
			count++
		}
		err := x.edit(n, func(p *[block.Fanout]block.Hash) {
			for _, u := range updates[:count] {
				p[u.Piece%block.Fanout] = u.Hash
			}
		})
		if err != nil {
			return err
		}
		updates = updates[count:]
	}
	return nil
}

// SetUnknown says of count pieces from first on that they have to be read. It costs a bit per
// page of 128 pieces, so that it may be said of a whole volume.
func (x *Index) SetUnknown(first, count int64) error {
	return x.setRange(first, count, block.Unknown, func(lo, hi int64) error {
		return x.markUnknown(lo, hi, false)
	})
}

// SetZero says of count pieces from first on that they are zeros. It costs holes, and a bit per
// page, so that it may be said of a whole volume.
func (x *Index) SetZero(first, count int64) error {
	return x.setRange(first, count, block.Hash{}, func(lo, hi int64) error {
		if err := x.markDirty(lo, hi); err != nil {
			return err
		}
		if err := x.tree.zero(x.offset(0, lo), (hi-lo)*block.PageSize); err != nil {
			return err
		}
		if err := x.markStored(lo, hi); err != nil {
			return err
		}
		if x.digests == nil {
			return nil
		}
		from, to := lo*regionsPerPage, min(hi*regionsPerPage, x.geo.Regions())
		return x.digests.zero(from*slotSize, (to-from)*slotSize)
	})
}

// setRange sets pieces to one hash: those of whole pages by pages, the others one by one.
func (x *Index) setRange(first, count int64, h block.Hash, whole func(lo, hi int64) error) error {
	pieces := x.geo.Pieces()
	if count == 0 {
		return nil
	}
	if first < 0 || count < 0 || first >= pieces || count > pieces-first {
		return x.rangeError("range of pieces beginning or ending at", max(first, first+count-1), pieces)
	}
	defer x.lock()()
	if err := x.begin(); err != nil {
		return err
	}
	end := first + count
	lo, hi := (first+block.Fanout-1)/block.Fanout, end/block.Fanout
	if end == pieces {
		hi = x.pages[0] // the last page is whole with fewer pieces
	}
	if lo < hi {
		if err := whole(lo, hi); err != nil {
			return err
		}
	}
	part := func(from, to int64) error {
		if from >= to {
			return nil
		}
		return x.edit(from/block.Fanout, func(p *[block.Fanout]block.Hash) {
			for i := from; i < to; i++ {
				p[i%block.Fanout] = h
			}
		})
	}
	if lo > hi {
		return part(first, end) // inside one page
	}
	if err := part(first, min(lo*block.Fanout, end)); err != nil {
		return err
	}
	return part(max(first, hi*block.Fanout), end)
}

// edit changes entries of one page of level 0. Under both locks.
func (x *Index) edit(n int64, change func(p *[block.Fanout]block.Hash)) error {
	p := pagePool.Get().(*page)
	defer pagePool.Put(p)
	for {
		err := x.readPage(n, p)
		if err == nil {
			break
		}
		d, ok := err.(*damage)
		if !ok {
			return err
		}
		if err := x.repair(d); err != nil {
			return err
		}
	}
	change(hashes(p))
	// Dirty before it is written: a write that fails half-way must not look like damage.
	if err := x.markDirty(n, n+1); err != nil {
		return err
	}
	if err := x.tree.write(p[:], x.offset(0, n)); err != nil {
		return err
	}
	return x.markStored(n, n+1)
}
