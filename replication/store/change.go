package store

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"

	"lifeboat/replication/block"
)

// buckets of the index; see doc.go.
var buckets = []string{"points", "heads", "nodes", "refs", "blocks", "packs", "punch", "empty", "doomed"}

// change is one writing transaction on the index. References to slots are gathered and
// written by settle, pack by pack: pieces that are written together are in one pack.
type change struct {
	s      *Store
	tx     *bolt.Tx
	fresh  map[block.Hash]slot // written and synced, not referred to yet
	counts map[slot]*counted

	made map[block.Hash]*node // new pages
	left []block.Hash         // pages that were replaced
	// dropped: whole subtrees were let go, whose pages are not in left.
	dropped bool
	freed   int // slots
}

// counted is how the references of a slot change.
type counted struct {
	hash  block.Hash
	delta int64
}

// update runs fn in a writing transaction.
func (s *Store) update(fn func(c *change) error) (*change, error) {
	var done *change
	err := s.index.Update(s.ctx, func(tx *bolt.Tx) error {
		return s.index.Guard(func() error {
			done = &change{s: s, tx: tx, counts: map[slot]*counted{}, made: map[block.Hash]*node{}}
			if err := fn(done); err != nil {
				return err
			}
			return done.settle()
		})
	})
	return done, err
}

func (c *change) bucket(name string) *bolt.Bucket { return c.tx.Bucket([]byte(name)) }

// damaged is the error for an index that contradicts itself.
func (c *change) damaged(message string, cause error) error { return c.s.index.Damaged(message, cause) }

// load reads a page that may be changed.
func (c *change) load(level int, h block.Hash) (*node, error) {
	if h.IsZero() {
		return &node{level: level}, nil
	}
	n, err := nodeIn(c.tx, level, h)
	if err != nil {
		return nil, c.damaged(fmt.Sprintf("page %x is missing or damaged", h), err)
	}
	return n, nil
}

// nodeIn reads a page and holds it against its name.
func nodeIn(tx *bolt.Tx, level int, h block.Hash) (*node, error) {
	raw := tx.Bucket([]byte("nodes")).Get(h[:])
	if raw == nil {
		return nil, errLost
	}
	n, err := decodeNode(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	if n.level != level || n.hash() != h {
		return nil, errLost
	}
	return n, nil
}

// references of a page.
func (c *change) references(h block.Hash) (uint32, error) {
	raw := c.bucket("refs").Get(h[:])
	if raw == nil {
		return 0, nil
	}
	if len(raw) != 4 || binary.BigEndian.Uint32(raw) == 0 {
		return 0, c.damaged(fmt.Sprintf("the references of page %x are damaged", h), nil)
	}
	return binary.BigEndian.Uint32(raw), nil
}

func (c *change) setReferences(h block.Hash, n uint32) error {
	if n == 0 {
		return c.bucket("refs").Delete(h[:])
	}
	return c.bucket("refs").Put(h[:], binary.BigEndian.AppendUint32(nil, n))
}

// hold adds a reference to a page that is there.
func (c *change) hold(h block.Hash) error {
	if h.IsZero() {
		return nil
	}
	n, err := c.references(h)
	if err != nil {
		return err
	}
	return c.setReferences(h, n+1)
}

// release takes a reference from a page. Without any it is doomed: taken apart later, unless
// it is referred to again before.
func (c *change) release(level int, h block.Hash) error {
	if h.IsZero() {
		return nil
	}
	n, err := c.references(h)
	if err != nil {
		return err
	}
	if n == 0 {
		return c.damaged(fmt.Sprintf("page %x is used without references", h), nil)
	}
	if n == 1 {
		c.dropped = true
		if err := c.bucket("doomed").Put(encodeDoomed(level, h), nil); err != nil {
			return err
		}
	}
	return c.setReferences(h, n-1)
}

// remove deletes a page whose only reference is the caller's, who takes over those to
// its children.
func (c *change) remove(h block.Hash) error {
	if h.IsZero() {
		return nil
	}
	if err := c.setReferences(h, 0); err != nil {
		return err
	}
	return c.bucket("nodes").Delete(h[:])
}

// place says in which slot a piece is.
func (c *change) place(h block.Hash) (slot, error) {
	if raw := c.bucket("blocks").Get(h[:]); raw != nil {
		n, err := decodeNumber(raw)
		if err != nil {
			return 0, c.damaged(fmt.Sprintf("the place of piece %x is damaged", h), err)
		}
		return slot(n), nil
	}
	if s, ok := c.fresh[h]; ok {
		return s, nil
	}
	return 0, errMoved
}

// count adds to the references of a slot.
func (c *change) count(s slot, h block.Hash, delta int64) {
	if e := c.counts[s]; e != nil {
		e.delta += delta
		return
	}
	c.counts[s] = &counted{h, delta}
}

// settle writes the references of slots.
func (c *change) settle() error {
	for h, s := range c.fresh {
		c.count(s, h, 0) // those that somebody else brought in first are free again
	}
	all := slices.SortedFunc(maps.Keys(c.counts), func(a, b slot) int { return cmp.Compare(a, b) })
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].pack() == all[0].pack() {
			n++
		}
		if err := c.settlePack(all[0].pack(), all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func (c *change) settlePack(pack uint64, slots []slot) error {
	r, err := c.packRecord(pack)
	if err != nil {
		return err
	}
	changed := false
	for _, s := range slots {
		e := c.counts[s]
		isNew := c.fresh[e.hash] == s
		for isNew && int64(len(r.refs)) <= s.place() {
			r.refs, changed = append(r.refs, 0), true
		}
		if e.delta == 0 && !isNew {
			continue
		}
		if s.place() >= int64(len(r.refs)) || int64(r.refs[s.place()])+e.delta < 0 {
			return c.damaged(fmt.Sprintf("pack %s does not hold what the index says", packName(pack)), nil)
		}
		r.refs[s.place()] = uint32(int64(r.refs[s.place()]) + e.delta)
		changed = true
		if err := c.settleSlot(s, e.hash, isNew, r.refs[s.place()] > 0); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	return c.putPack(pack, r)
}

// settleSlot makes a piece known, or gives its slot free.
func (c *change) settleSlot(s slot, h block.Hash, isNew, live bool) error {
	switch {
	case live && isNew:
		return c.bucket("blocks").Put(h[:], encodeNumber(uint64(s)))
	case live:
		return nil
	}
	if !isNew {
		if err := c.bucket("blocks").Delete(h[:]); err != nil {
			return err
		}
	}
	c.freed++
	return c.bucket("punch").Put(encodeNumber(uint64(s)), nil)
}

func (c *change) packRecord(pack uint64) (*packRecord, error) {
	raw := c.bucket("packs").Get(encodeNumber(pack))
	if raw == nil {
		return nil, c.damaged(fmt.Sprintf("pack %s is not in the index", packName(pack)), nil)
	}
	r, err := decodePack(raw)
	if err != nil {
		return nil, c.damaged(fmt.Sprintf("the entry of pack %s is damaged", packName(pack)), err)
	}
	return r, nil
}

func (c *change) putPack(pack uint64, r *packRecord) error {
	if !r.open && r.empty() {
		if err := c.bucket("empty").Put(encodeNumber(pack), nil); err != nil {
			return err
		}
	}
	return c.bucket("packs").Put(encodeNumber(pack), r.encode())
}
