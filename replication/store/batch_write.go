package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
	"lifeboat/replication/store/txfile"
)

// store makes a batch durable.
func (h *Head) store(b *batch) error {
	hashes := h.hashes(b)
	w := &batchWriter{h: h, b: b, fresh: map[block.Hash]slot{}}
	for {
		err := w.attempt(b.spans(hashes))
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

// hashes computes those of all pieces of a batch.
func (h *Head) hashes(b *batch) map[int64]block.Hash {
	numbers := make([]int64, 0, len(b.data))
	for n := range b.data {
		numbers = append(numbers, n)
	}
	sums := make([]block.Hash, len(numbers))
	var group errgroup.Group
	workers := min(runtime.GOMAXPROCS(0), len(numbers))
	for w := range workers {
		group.Go(func() error {
			for i := w; i < len(numbers); i += workers {
				sums[i] = block.OfBytes(b.data[numbers[i]][:h.tree.geo.PieceBytes(numbers[i])])
			}
			return nil
		})
	}
	_ = group.Wait() // nothing fails
	out := make(map[int64]block.Hash, len(numbers))
	for i, n := range numbers {
		out[n] = sums[i]
	}
	return out
}

// batchWriter stores one batch.
type batchWriter struct {
	h     *Head
	b     *batch
	fresh map[block.Hash]slot // written to the pack
	heals map[slot]int64      // damaged, with a piece that has what should be there
}

// attempt writes the pieces that the store does not have, and then the pages that refer to them.
func (w *batchWriter) attempt(spans []span) error {
	h := w.h
	spans, missing, err := w.compare(spans)
	if err == nil {
		err = w.heal()
	}
	if err != nil || len(spans) == 0 {
		return err
	}
	if err := w.write(missing); err != nil {
		return err
	}
	// Readers stay out from when pages may go until the new ones are known.
	h.stored.Lock()
	var top block.Hash
	c, err := h.s.update(func(c *change) error {
		c.fresh = w.fresh
		r, err := c.head(h.name)
		if err != nil {
			return err
		}
		if top, err = c.rewrite(h.tree.geo.Pieces(), h.tree.topLevel(), 0, block.Hash(r.Top), true, spans); err != nil {
			return err
		}
		r.Top = hashText(top)
		return c.putHead(h.name, r)
	})
	if err == nil {
		h.top = top
		h.tree.follow(c)
	}
	h.stored.Unlock()
	if err != nil {
		return err
	}
	return w.tidy(c)
}

// sweepAfter is how many free slots a head lets come together: 64 MiB.
const sweepAfter = 1024

// tidy gives space back, now and then, and ends a pack that is full.
func (w *batchWriter) tidy(c *change) error {
	h := w.h
	if h.freed += c.freed; c.dropped || h.behind || h.freed >= sweepAfter {
		h.freed = 0
		var err error
		if h.behind, err = h.s.reap(reapShare); err != nil {
			return err
		}
	}
	if h.pack != nil && h.pack.next >= packSlots {
		err := errors.Join(h.pack.file.Close(), h.s.settleHead(h.name))
		h.pack = nil
		return err
	}
	return nil
}

// compare drops spans that change nothing, and finds the pieces that the store lacks.
func (w *batchWriter) compare(spans []span) (changed, missing []span, err error) {
	t := w.h.tree
	top := w.h.top // only this goroutine changes it
	err = t.s.view(func(tx *bolt.Tx) error {
		changed, missing, w.heals = nil, nil, map[slot]int64{}
		get := t.getter(tx)
		for _, s := range spans {
			if at, bad := t.s.damagedSlot(tx, s.hash); bad {
				w.heals[at] = s.first
			}
			same, err := t.holds(get, top, s)
			if err != nil {
				return err
			}
			if same {
				continue
			}
			changed = append(changed, s)
			if _, mine := w.fresh[s.hash]; !s.hash.IsZero() && !mine && tx.Bucket([]byte("blocks")).Get(s.hash[:]) == nil {
				missing = append(missing, s)
				w.fresh[s.hash] = 0 // the same piece again in this batch is not missing
			}
		}
		return nil
	})
	if errors.Is(err, errLost) {
		err = t.s.index.Damaged(t.what+": a page is missing or damaged", err)
	}
	return changed, missing, err
}

// holds tells that a tree is as a span says.
func (t *tree) holds(get pageGetter, top block.Hash, s span) (bool, error) {
	if s.hash.IsZero() {
		n, err := t.next(get, t.topLevel(), 0, top, s.first)
		return n < 0 || n >= s.end, err
	}
	n, err := t.leaf(get, top, s.first/block.Fanout)
	return n != nil && n.hashes[s.first%block.Fanout] == s.hash, err
}

// heal writes pieces again that were found damaged: to the same slot, so that it helps all who
// refer to it.
func (w *batchWriter) heal() error {
	for at, number := range w.heals {
		p := w.b.data[number]
		clear(p[w.h.tree.geo.PieceBytes(number):])
		if err := w.h.s.healSlot(at, p); err != nil {
			return err
		}
	}
	return nil
}

// packWriter is the pack that a head writes.
type packWriter struct {
	number uint64
	file   *os.File
	next   int // slot
}

// write appends pieces to the pack and makes them durable.
func (w *batchWriter) write(missing []span) error {
	if len(missing) == 0 {
		return nil
	}
	h := w.h
	if h.pack != nil && h.pack.next+len(missing) > packMost {
		return fmt.Errorf("pack %s takes no more; too many attempts", packName(h.pack.number))
	}
	if err := h.openPack(); err != nil {
		return err
	}
	first := h.pack.next
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range missing {
		group.Go(func() error {
			p := w.b.data[s.first]
			clear(p[h.tree.geo.PieceBytes(s.first):])
			n, err := h.pack.file.WriteAt(p, int64(first+i)*block.Piece)
			if err == nil && n < len(p) {
				err = io.ErrShortWrite
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, s := range missing {
		w.fresh[s.hash] = slotOf(h.pack.number, first+i)
	}
	h.pack.next += len(missing)
	if err := unix.Fdatasync(int(h.pack.file.Fd())); err != nil {
		return fmt.Errorf("sync of %s: %w", h.pack.file.Name(), err)
	}
	return nil
}

// openPack begins a pack. It is registered before its file is made, so that no file is ever
// unknown to the index.
func (h *Head) openPack() error {
	if h.pack != nil {
		return nil
	}
	var number uint64
	_, err := h.s.update(func(c *change) error {
		r, err := c.head(h.name)
		if err != nil {
			return err
		}
		if number, err = c.bucket("packs").NextSequence(); err != nil {
			return err
		}
		if err := c.putPack(number, &packRecord{open: true}); err != nil {
			return err
		}
		r.Pack = number
		return c.putHead(h.name, r)
	})
	if err != nil {
		return err
	}
	file, err := os.OpenFile(h.s.packPath(number, true), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	h.pack = &packWriter{number: number, file: file}
	return txfile.SyncDirectory(h.s.packPath(0, false))
}
