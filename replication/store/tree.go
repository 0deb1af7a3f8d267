package store

import (
	"sort"

	"lifeboat/replication/block"
)

// span gives pieces a new hash: many pieces zeros, or one piece data.
type span struct {
	first, end int64 // pieces
	hash       block.Hash
}

// width is how many pieces a page of a level covers.
func width(level int) int64 {
	n := int64(block.Fanout)
	for range level {
		n *= block.Fanout
	}
	return n
}

// within cuts ascending spans to those that touch a range.
func within(spans []span, first, end int64) []span {
	from := sort.Search(len(spans), func(i int) bool { return spans[i].end > first })
	to := sort.Search(len(spans), func(i int) bool { return spans[i].first >= end })
	return spans[from:max(from, to)]
}

// rewrite puts ascending, disjoint spans into the page number of a level and all below
// it, and gives its new hash. The caller gets one reference to that. If owned, it gives up
// the one that it has to the old page: where that is the only one, the references that
// the old page has to its children go over to the new one, so that a change costs the pages
// on its way only. Otherwise the children are shared from then on.
func (c *change) rewrite(pieces int64, level int, number int64, old block.Hash, owned bool, spans []span) (block.Hash, error) {
	first := number * width(level)
	end := min(first+width(level), pieces)
	if len(spans) == 1 && spans[0].hash.IsZero() && spans[0].first <= first && spans[0].end >= end {
		if owned {
			return block.Hash{}, c.release(level, old)
		}
		return block.Hash{}, nil
	}
	n, err := c.load(level, old)
	if err != nil {
		return old, err
	}
	refs, err := c.references(old)
	if err != nil {
		return old, err
	}
	if !old.IsZero() && refs == 0 {
		return old, c.damaged("a page is used without references", nil)
	}
	p := &rewriting{c: c, node: n, old: old, owned: owned, sole: owned && refs <= 1}
	if level == 0 {
		err = p.pieces(first, end, spans)
	} else {
		err = p.pages(pieces, number, spans)
	}
	if err != nil {
		return old, err
	}
	return p.finish()
}

// rewriting is one page that gets other entries.
type rewriting struct {
	c       *change
	node    *node
	old     block.Hash
	owned   bool
	sole    bool // the references of the old page may be taken over
	touched [block.Fanout]bool
}

// pieces changes entries of level 0.
func (p *rewriting) pieces(first, end int64, spans []span) error {
	n := p.node
	for _, s := range spans {
		for at := max(s.first, first); at < min(s.end, end); at++ {
			i := at - first
			if n.hashes[i] == s.hash {
				continue
			}
			if p.sole && !n.hashes[i].IsZero() {
				p.c.count(n.slots[i], n.hashes[i], -1)
			}
			n.hashes[i], n.slots[i], p.touched[i] = s.hash, 0, true
			if s.hash.IsZero() {
				continue
			}
			place, err := p.c.place(s.hash)
			if err != nil {
				return err
			}
			n.slots[i] = place
			p.c.count(place, s.hash, 1)
		}
	}
	return nil
}

// pages changes entries of a higher level.
func (p *rewriting) pages(pieces, number int64, spans []span) error {
	n := p.node
	below := width(n.level - 1)
	for i := range n.hashes {
		child := number*block.Fanout + int64(i)
		part := within(spans, child*below, min((child+1)*below, pieces))
		if len(part) == 0 {
			continue
		}
		h, err := p.c.rewrite(pieces, n.level-1, child, n.hashes[i], p.sole, part)
		if err != nil {
			return err
		}
		n.hashes[i], p.touched[i] = h, true
	}
	return nil
}

// finish stores the page and sets references right.
func (p *rewriting) finish() (block.Hash, error) {
	c, n := p.c, p.node
	h := n.hash()
	if p.sole && h == p.old {
		return h, nil
	}
	stored := !h.IsZero() && c.bucket("nodes").Get(h[:]) != nil
	for i := range n.hashes {
		var err error
		switch {
		case n.hashes[i].IsZero():
		case stored && (p.sole || p.touched[i]):
			err = p.child(i, -1) // the page that is there has references of its own
		case !stored && !p.sole && !p.touched[i]:
			err = p.child(i, 1)
		}
		if err != nil {
			return h, err
		}
	}
	if h.IsZero() {
		return h, p.leave()
	}
	if !stored {
		if err := c.bucket("nodes").Put(h[:], n.encode()); err != nil {
			return h, err
		}
	}
	c.made[h] = n
	if err := c.hold(h); err != nil {
		return h, err
	}
	return h, p.leave()
}

// child adds to the references of an entry.
func (p *rewriting) child(i int, delta int64) error {
	n := p.node
	switch {
	case n.level == 0:
		p.c.count(n.slots[i], n.hashes[i], delta)
		return nil
	case delta > 0:
		return p.c.hold(n.hashes[i])
	}
	return p.c.release(n.level-1, n.hashes[i])
}

// leave lets the old page go.
func (p *rewriting) leave() error {
	p.c.left = append(p.c.left, p.old)
	if p.sole {
		return p.c.remove(p.old)
	}
	if p.owned {
		return p.c.release(p.node.level, p.old)
	}
	return nil
}
