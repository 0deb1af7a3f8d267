package index

import (
	"fmt"

	"lifeboat/replication/block"
)

// NextNonZero gives the first region from r on with a piece that is not zeros; an unknown one
// counts. Empty space costs nothing.
func (x *Index) NextNonZero(r int64) (region int64, ok bool, err error) {
	if r < 0 {
		return 0, false, x.rangeError("region", r, x.geo.Regions())
	}
	piece, _, ok, err := x.next(r*block.PiecesPerRegion, false)
	return piece / block.PiecesPerRegion, ok, err
}

// Unknown gives the next run of unknown pieces from a piece on. A run is at most 128 pieces,
// and may go on in the next one. What is known costs nothing.
func (x *Index) Unknown(from int64) (first, count int64, ok bool, err error) {
	if from < 0 {
		return 0, 0, false, x.rangeError("piece", from, x.geo.Pieces())
	}
	return x.next(from, true)
}

// next gives the first run of pieces in one page that are unknown, or not zeros.
func (x *Index) next(from int64, unknown bool) (first, count int64, ok bool, err error) {
	for {
		x.mu.RLock()
		first, count, ok, err = x.find(from, unknown)
		x.mu.RUnlock()
		if err == nil {
			return first, count, ok, nil
		}
		if err = x.heal(err); err != nil {
			return 0, 0, false, err
		}
	}
}

func (x *Index) find(from int64, unknown bool) (first, count int64, ok bool, err error) {
	if x.closed {
		return 0, 0, false, ErrClosed
	}
	p := pagePool.Get().(*page)
	defer pagePool.Put(p)
	wanted := func(h *block.Hash) bool {
		if unknown {
			return *h == block.Unknown
		}
		return !h.IsZero()
	}
	for from < x.geo.Pieces() {
		n, err := x.candidate(from/block.Fanout, unknown)
		if err != nil || n >= x.pages[0] {
			return 0, 0, false, err
		}
		from = max(from, n*block.Fanout)
		if err := x.readPage(n, p); err != nil {
			return 0, 0, false, err
		}
		for i := from % block.Fanout; i < block.Fanout; i++ {
			if !wanted(&hashes(p)[i]) {
				continue
			}
			end := i + 1
			for end < block.Fanout && wanted(&hashes(p)[end]) {
				end++
			}
			return n*block.Fanout + i, end - i, true, nil
		}
		from = (n + 1) * block.Fanout
	}
	return 0, 0, false, nil
}

// candidate gives the first page of level 0 from n on that may have what is looked for, or the
// number of pages. The tree answers for pages that did not change since Commit, the
// bits for the others.
func (x *Index) candidate(n int64, unknown bool) (int64, error) {
	best, err := x.changedPage(n)
	if err != nil {
		return 0, err
	}
	found, err := x.descend(x.layout.top(), 0, x.top, n, best, unknown)
	return min(best, found), err
}

// changedPage gives the first dirty page from n on that is not zeros.
func (x *Index) changedPage(n int64) (int64, error) {
	end := x.pages[0]
	for n = x.nextDirty(n, end, false); n < end; n = x.nextDirty(n, end, false) {
		fl, err := x.flags(n)
		if err != nil || fl.unknown {
			return n, err
		}
		data, err := x.nextPage(n)
		if err != nil || data == n {
			return n, err
		}
		n = min(data, x.nextDirty(n+1, end, true))
	}
	return end, nil
}

// descend gives the first page of level 0 from n up to, without, end, that is below a page and did
// not change since Commit, whose entry says that it may have what is looked for; or the number of pages.
func (x *Index) descend(level int, at int64, entry block.Hash, n, end int64, unknown bool) (int64, error) {
	none := x.pages[0]
	lo, hi := x.below(level, at)
	if lo >= end || hi <= n || entry.IsZero() || unknown && !partial(&entry) {
		return none, nil
	}
	if level == 0 {
		fl, err := x.flags(at)
		if err != nil || !fl.dirty {
			return at, err
		}
		return none, nil
	}
	p, err := x.load(level, at)
	if err != nil {
		return 0, err
	}
	span := int64(1)
	for range level - 1 {
		span *= block.Fanout
	}
	first := max(0, n-lo) / span
	for i := first; i < block.Fanout && lo+i*span < min(hi, end); i++ {
		found, err := x.descend(level-1, at*block.Fanout+i, hashes(p)[i], n, end, unknown)
		if err != nil || found < none {
			return found, err
		}
	}
	return none, nil
}

// Page gives a page of a level as hashes, and commits before if needed. Two volumes of one size and
// proof are equal below a page if both have the same hash for it and it is known.
func (x *Index) Page(level int, n int64, out *[block.PageSize]byte) error {
	if level < 0 || level > x.layout.top() || n < 0 || n >= x.pages[level] {
		return fmt.Errorf("index file %s: page %d of level %d is %w; see block.Geometry", x.tree.f.Name(), n, level, ErrRange)
	}
	defer x.lock()()
	if x.closed {
		return ErrClosed
	}
	for {
		if err := x.commit(); err != nil {
			return err
		}
		err := x.committedPage(level, n, out)
		d, ok := err.(*damage)
		if !ok {
			return err
		}
		if err := x.repair(d); err != nil {
			return err
		}
	}
}

func (x *Index) committedPage(level int, n int64, out *page) error {
	if level == 0 {
		return x.readPage(n, out)
	}
	p, err := x.load(level, n)
	if err != nil {
		return err
	}
	for i := range hashes(p) {
		hashes(out)[i] = unsealed(hashes(p)[i])
	}
	return nil
}
