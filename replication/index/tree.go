package index

import (
	"errors"
	"fmt"
	"sync"

	"lifeboat/replication/block"
)

// cachePages bounds the memory for pages above level 0 to 1 MiB.
const cachePages = 256

type place struct {
	level int
	n     int64
}

// cache has pages above level 0 that were verified. A page in it is never changed.
type cache struct {
	mu    sync.Mutex
	pages map[place]*page
}

func (c *cache) get(at place) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pages[at]
}

func (c *cache) put(at place, p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pages == nil {
		c.pages = make(map[place]*page, cachePages)
	}
	if _, ok := c.pages[at]; !ok && len(c.pages) >= cachePages {
		for other := range c.pages {
			delete(c.pages, other) // any: the next ones needed are mostly neighbours of this one
			break
		}
	}
	c.pages[at] = p
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.pages)
}

// damage is the error for a page that does not match its entry.
type damage place

func (d *damage) Error() string { return fmt.Sprintf("page %d of level %d is damaged", d.n, d.level) }

// entryOf gives the entry for a page as of the last Commit. Under mu.
func (x *Index) entryOf(level int, n int64) (block.Hash, error) {
	if level == x.layout.top() {
		return x.top, nil
	}
	p, err := x.load(level+1, n/block.Fanout)
	if err != nil {
		return block.Hash{}, err
	}
	return hashes(p)[n%block.Fanout], nil
}

var zeroPage page

// load gives a page above level 0 as of the last Commit, not to be changed. A page of zeros, and
// one below which all is unknown, are not read: they need not be on disk. Under mu.
func (x *Index) load(level int, n int64) (*page, error) {
	at := place{level, n}
	if p := x.cache.get(at); p != nil {
		return p, nil
	}
	entry, err := x.entryOf(level, n)
	if err != nil {
		return nil, err
	}
	if entry.IsZero() {
		return &zeroPage, nil
	}
	p := new(page)
	if entry == x.unknown[level] {
		for i := range hashes(p) {
			hashes(p)[i] = x.unknown[level-1]
		}
	} else if err := x.tree.read(p[:], x.offset(level, n)); err != nil {
		return nil, err
	} else if x.seal(level, p) != entry {
		return nil, &damage{level, n}
	}
	x.cache.put(at, p)
	return p, nil
}

// readPage fills p with a page of level 0. One that did not change since Commit has to
// match its entry, once per Open. Under mu.
func (x *Index) readPage(n int64, p *page) error {
	fl, err := x.flags(n)
	if err != nil {
		return err
	}
	if fl.unknown {
		x.fillUnknown(n, p)
	} else if err := x.tree.read(p[:], x.offset(0, n)); err != nil {
		return err
	}
	if fl.dirty || fl.verified {
		return nil
	}
	entry, err := x.entryOf(0, n)
	if err != nil {
		return err
	}
	if x.seal(0, p) != entry {
		return &damage{0, n}
	}
	x.setVerified(n)
	return nil
}

// heal is called with an error of reading. Of damage it makes unknown knowledge and
// gives nil: the caller reads again. Other errors come back.
func (x *Index) heal(err error) error {
	var d *damage
	if !errors.As(err, &d) {
		return err
	}
	defer x.lock()()
	if x.closed {
		return ErrClosed
	}
	return x.repair(d)
}

// repair makes unknown what is below a damaged page, unless another one has done so. What
// changed since Commit is not affected: it does not depend on the page. Under both locks.
func (x *Index) repair(d *damage) error {
	if err := x.stillDamaged(d); !errors.As(err, new(*damage)) {
		return err
	}
	if err := x.begin(); err != nil {
		return err
	}
	if d.level == 0 {
		return x.lose(d)
	}
	// With one page below it to be changed, commit comes to the damaged page and makes it anew.
	lo, _ := x.below(d.level, d.n)
	if err := x.markUnknown(lo, lo+1, true); err != nil {
		return err
	}
	return x.commit()
}

func (x *Index) stillDamaged(d *damage) error {
	if d.level > 0 {
		_, err := x.load(d.level, d.n)
		return err
	}
	var p page
	return x.readPage(d.n, &p)
}

// lose makes unknown what is below a damaged page and did not change since Commit.
func (x *Index) lose(d *damage) error {
	x.damaged.Add(1)
	lo, hi := x.below(d.level, d.n)
	return x.markUnknown(lo, hi, true)
}

// Commit writes the pages above those that changed since the last one, and gives the root:
// block.Unknown as long as a piece is. It is not durable before Sync or Close.
func (x *Index) Commit() (block.Hash, error) {
	defer x.lock()()
	if x.closed {
		return block.Hash{}, ErrClosed
	}
	if err := x.commit(); err != nil {
		return block.Hash{}, err
	}
	return x.root(), nil
}

// Root gives the root of what is known, and commits before if needed.
func (x *Index) Root() (block.Hash, error) { return x.Commit() }

func (x *Index) root() block.Hash { return x.proof.Root(x.geo.Size, unsealed(x.top)) }

// commit does what Commit says. Where it fails it starts the pages above anew, so that
// another try finds what it needs. Under both locks.
func (x *Index) commit() error {
	if !x.dirty {
		return nil
	}
	c := committing{Index: x}
	top, err := c.page(x.layout.top(), 0)
	if err != nil {
		return errors.Join(err, x.rebuild())
	}
	x.top = top
	x.markCommitted()
	return nil
}

// committing is one commit.
type committing struct {
	*Index
	leaf page
	// Pages of level 0 from holeFrom up to, without, holeTo are a hole.
	holeFrom, holeTo int64
}

// page makes a page anew from the dirty ones below it, and gives its entry.
func (c *committing) page(level int, n int64) (block.Hash, error) {
	if level == 0 {
		return c.leafEntry(n)
	}
	p, err := c.base(level, n)
	if err != nil {
		return block.Hash{}, err
	}
	was := *p == zeroPage
	lo, hi := c.below(level, n)
	for at := c.nextDirty(lo, hi, false); at < hi; {
		child := at
		for range level - 1 {
			child /= block.Fanout
		}
		entry, err := c.page(level-1, child)
		if err != nil {
			return block.Hash{}, err
		}
		hashes(p)[child%block.Fanout] = entry
		_, next := c.below(level-1, child)
		at = c.nextDirty(next, hi, false)
	}
	entry := c.seal(level, p)
	c.cache.put(place{level, n}, p)
	switch {
	case entry == c.unknown[level], entry.IsZero() && was:
		return entry, nil // need not be on disk
	case entry.IsZero():
		return entry, c.tree.zero(c.offset(level, n), block.PageSize)
	}
	return entry, c.tree.write(p[:], c.offset(level, n))
}

// base gives a copy of the page as of the last Commit. If it is damaged, all below becomes
// unknown or is dirty already, and so is made anew.
func (c *committing) base(level int, n int64) (*page, error) {
	out := new(page)
	p, err := c.load(level, n)
	var d *damage
	if errors.As(err, &d) {
		return out, c.lose(d)
	}
	if err != nil {
		return nil, err
	}
	*out = *p
	return out, nil
}

// leafEntry gives the entry for a dirty page of level 0. A page of zeros gives its space back.
func (c *committing) leafEntry(n int64) (block.Hash, error) {
	fl, err := c.flags(n)
	if err != nil {
		return block.Hash{}, err
	}
	if fl.unknown {
		if c.piecesOf(n) == block.Fanout {
			return c.Index.unknown[0], nil
		}
		c.fillUnknown(n, &c.leaf)
		return c.seal(0, &c.leaf), nil
	}
	if n < c.holeFrom || n >= c.holeTo {
		data, err := c.nextPage(n)
		if err != nil {
			return block.Hash{}, err
		}
		c.holeFrom, c.holeTo = n, data
	}
	if n < c.holeTo {
		return block.Hash{}, nil
	}
	if err := c.tree.read(c.leaf[:], c.offset(0, n)); err != nil {
		return block.Hash{}, err
	}
	entry := c.seal(0, &c.leaf)
	if entry.IsZero() {
		err = c.tree.zero(c.offset(0, n), block.PageSize)
	}
	return entry, err
}

// nextPage gives the first page of level 0 from n on that is not in a hole of the file.
func (x *Index) nextPage(n int64) (int64, error) {
	data, err := x.tree.nextData(x.offset(0, n))
	if err != nil {
		return 0, err
	}
	return min(max(n, (data-x.start[0])/block.PageSize), x.pages[0]), nil
}

// rebuild forgets all pages above level 0 and marks what may be other than zeros there as
// dirty. Level 0 is believed as it is. Under both locks.
func (x *Index) rebuild() error {
	above := x.start[0] + x.pages[0]*block.PageSize
	if err := x.tree.zero(above, x.end-above); err != nil {
		return err
	}
	// Behind the last piece has to be zeros, or no other index would have the same root.
	tail := x.start[0] + x.geo.Pieces()*int64(len(block.Hash{}))
	if err := x.tree.zero(tail, above-tail); err != nil {
		return err
	}
	x.top = block.Hash{}
	x.cache.clear()
	err := x.eachWord(0, x.pages[0], false, func(k *chunk, w int, mask uint64) {
		k.verified[w] &^= mask
		if mask &= k.unknown[w]; mask != 0 {
			k.dirty[w] |= mask
			k.anyDirty, x.dirty = true, true
		}
	})
	for n := int64(0); err == nil; {
		if n, err = x.nextPage(n); err != nil || n >= x.pages[0] {
			return err
		}
		var hole int64
		if hole, err = x.tree.nextHole(x.offset(0, n)); err != nil {
			return err
		}
		end := min(max(n+1, (hole-x.start[0]+block.PageSize-1)/block.PageSize), x.pages[0])
		err = x.markDirty(n, end)
		n = end
	}
	return err
}
