package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	bolt "go.etcd.io/bbolt"

	"lifeboat/replication/block"
)

// cachedPages bounds the pages that a reader keeps, of at most 5 KiB each.
const cachedPages = 128

// tree reads pieces below a page.
type tree struct {
	s    *Store
	what string // in errors
	geo  block.Geometry

	mu    sync.Mutex
	cache map[block.Hash]*node
}

func newTree(s *Store, what string, size int64) *tree {
	return &tree{s: s, what: what, geo: block.Geometry{Size: size}, cache: map[block.Hash]*node{}}
}

// topLevel is the level of the page at the top.
func (t *tree) topLevel() int { return t.geo.Levels() - 1 }

var errUncached = errors.New("not cached")

// pageGetter gives a page.
type pageGetter func(level int, h block.Hash) (*node, error)

// walk runs fn on cached pages, and again on the index if they are not enough.
func (t *tree) walk(fn func(get pageGetter) error) error {
	err := fn(t.cached)
	if !errors.Is(err, errUncached) {
		return err
	}
	return t.s.view(func(tx *bolt.Tx) error { return fn(t.getter(tx)) })
}

func (t *tree) cached(_ int, h block.Hash) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.cache[h]; n != nil {
		return n, nil
	}
	return nil, errUncached
}

// getter gives pages of a transaction, and keeps them.
func (t *tree) getter(tx *bolt.Tx) pageGetter {
	return func(level int, h block.Hash) (*node, error) {
		if n, err := t.cached(level, h); err == nil {
			return n, nil
		}
		n, err := nodeIn(tx, level, h)
		if err != nil {
			return nil, err
		}
		t.keep(h, n)
		return n, nil
	}
}

func (t *tree) keep(h block.Hash, n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.cache) >= cachedPages {
		clear(t.cache)
	}
	t.cache[h] = n
}

// follow takes over what a change did to pages. A page that was left may come again with its
// pieces in other slots.
func (t *tree) follow(c *change) {
	t.mu.Lock()
	if c.dropped {
		clear(t.cache)
	}
	for _, h := range c.left {
		delete(t.cache, h)
	}
	t.mu.Unlock()
	for h, n := range c.made {
		t.keep(h, n)
	}
}

// leaf gives the page of level 0 with a number; nil where all is zeros.
func (t *tree) leaf(get pageGetter, top block.Hash, number int64) (*node, error) {
	h := top
	for level := t.topLevel(); ; level-- {
		if h.IsZero() {
			return nil, nil
		}
		n, err := get(level, h)
		if err != nil || level == 0 {
			return n, err
		}
		h = n.hashes[number*block.Fanout/width(level-1)%block.Fanout]
	}
}

// next finds the first piece from one on, below a page, that is not zeros; -1 is none.
func (t *tree) next(get pageGetter, level int, number int64, h block.Hash, from int64) (int64, error) {
	if h.IsZero() || (number+1)*width(level) <= from {
		return -1, nil
	}
	n, err := get(level, h)
	if err != nil {
		return -1, err
	}
	for i, child := range n.hashes {
		at := number*block.Fanout + int64(i)
		if child.IsZero() {
			continue
		}
		if level == 0 {
			if at >= from {
				return at, nil
			}
			continue
		}
		if p, err := t.next(get, level-1, at, child, from); p >= 0 || err != nil {
			return p, err
		}
	}
	return -1, nil
}

// data gives the next run of pieces that are not zeros, at most to the end of their page;
// io.EOF when there is none.
func (t *tree) data(top block.Hash, from int64) (first, end int64, err error) {
	err = t.walk(func(get pageGetter) error {
		first, err = t.next(get, t.topLevel(), 0, top, from)
		if err != nil {
			return err
		}
		if first < 0 {
			return io.EOF
		}
		n, err := t.leaf(get, top, first/block.Fanout)
		if err != nil {
			return err
		}
		end = first + 1
		for end%block.Fanout != 0 && !n.hashes[end%block.Fanout].IsZero() {
			end++
		}
		return nil
	})
	if errors.Is(err, errLost) {
		return 0, 0, &Damage{What: t.what, Offset: from * block.Piece, File: t.s.index.Path(), Slot: -1, Cause: err}
	}
	return first, end, err
}

// piece reads one into p, which has its length, and checks it.
func (t *tree) piece(top block.Hash, number int64, p []byte) error {
	var n *node
	err := t.walk(func(get pageGetter) (err error) {
		n, err = t.leaf(get, top, number/block.Fanout)
		return err
	})
	if errors.Is(err, errLost) {
		return &Damage{What: t.what, Offset: number * block.Piece, File: t.s.index.Path(), Slot: -1, Cause: err}
	}
	if err != nil {
		return err
	}
	i := number % block.Fanout
	if n == nil || n.hashes[i].IsZero() {
		clear(p)
		return nil
	}
	return t.stored(n.hashes[i], n.slots[i], number, p)
}

// stored reads a slot.
func (t *tree) stored(want block.Hash, at slot, number int64, p []byte) error {
	path := t.s.packPath(at.pack(), true)
	file, err := t.s.files.use(at.pack(), path)
	if err == nil {
		_, err = file.ReadAt(p, at.offset())
		err = errors.Join(err, t.s.files.done(file))
	}
	if err == nil && block.OfBytes(p) == want {
		return nil
	}
	t.s.noteDamage(want, at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: piece at byte %d: %w", t.what, number*block.Piece, err)
	}
	return &Damage{What: t.what, Offset: number * block.Piece, File: path, Slot: at.place(), Cause: err}
}
