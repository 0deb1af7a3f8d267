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

// WriteAt changes pieces. A piece that is written in part is read first, unless it was written a
// moment ago. Batches are stored while others write on; a write waits when two are under way.
func (h *Head) WriteAt(p []byte, off int64) (n int, err error) {
	if err := h.inside("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	for n < len(p) {
		number, at := off/block.Piece, int(off%block.Piece)
		size := h.tree.geo.PieceBytes(number)
		m := min(len(p)-n, size-at)
		if err := h.writePiece(number, p[n:n+m], at, size); err != nil {
			return n, err
		}
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

func (h *Head) writePiece(number int64, p []byte, at, size int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if err := h.room(); err != nil {
			return err
		}
		if data := h.open.data[number]; data != nil {
			copy(data[at:], p)
			return nil
		}
		buf := h.s.buffer()
		if len(p) < size {
			retry, err := h.base(number, buf[:size])
			if err != nil || retry {
				h.s.release(buf)
				if err != nil {
					return err
				}
				continue
			}
		}
		copy(buf[at:], p)
		h.open.data[number] = buf
		if h.open.isFull() && h.writing == nil {
			h.begin()
		}
		return nil
	}
}

// room waits until the open batch takes a write. Under mu.
func (h *Head) room() error {
	for h.err == nil && h.open.isFull() {
		if h.writing == nil {
			h.begin()
		} else {
			h.moved.Wait()
		}
	}
	return h.err
}

// base reads what a piece is before it is written in part. Under mu, which it gives up while it
// reads; retry says that the head moved on meanwhile. That the piece itself was stored in between
// would make what was read old.
func (h *Head) base(number int64, buf []byte) (retry bool, err error) {
	if known, data := h.recent(number); known {
		if data == nil {
			clear(buf)
		} else {
			copy(buf, data)
		}
		return false, nil
	}
	begun, ended := h.begun, h.ended
	h.mu.Unlock()
	err = h.fromStore(number, buf)
	h.mu.Lock()
	return h.open.data[number] != nil || h.begun != begun || h.ended != ended, err
}

// Zero makes a range read as zeros. Whole pieces of it cost nothing.
func (h *Head) Zero(off, n int64) error {
	if err := h.inside("zero", off, n); err != nil {
		return err
	}
	first, end := (off+block.Piece-1)/block.Piece, (off+n)/block.Piece
	if off+n == h.Size() {
		end = h.tree.geo.Pieces() // the last piece may be short
	}
	if end <= first {
		return h.zeroPart(off, n)
	}
	if err := h.zeroPart(off, first*block.Piece-off); err != nil {
		return err
	}
	h.mu.Lock()
	err := h.room()
	if err == nil {
		h.open.zero(first, end, h.s)
	}
	h.mu.Unlock()
	if err != nil {
		return err
	}
	return h.zeroPart(end*block.Piece, off+n-end*block.Piece)
}

var zeros [block.Piece]byte

// zeroPart zeroes less than a piece, or the parts of two.
func (h *Head) zeroPart(off, n int64) error {
	for n > 0 {
		m := min(n, block.Piece-off%block.Piece)
		if _, err := h.WriteAt(zeros[:m], off); err != nil {
			return err
		}
		off, n = off+m, n-m
	}
	return nil
}

// Sync makes everything durable that was written before.
func (h *Head) Sync() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	until := h.begun
	if !h.open.isEmpty() {
		until++
	}
	for h.err == nil && h.ended < until {
		if h.writing == nil {
			h.begin()
		} else {
			h.moved.Wait()
		}
	}
	return h.err
}

// Flush starts to store what was written, and does not wait for it.
func (h *Head) Flush(int64, int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil && h.writing == nil && len(h.open.data) >= batchPieces/2 {
		h.begin()
	}
	return h.err
}

// begin stores the open batch. Under mu, while no other is being stored.
func (h *Head) begin() {
	b := h.open
	h.open, h.writing = newBatch(), b
	h.begun++
	go func() {
		err := h.store(b)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ended++
		h.writing = nil
		if err != nil {
			h.err = errors.Join(h.err, fmt.Errorf("head %q: what was written since the last sync is lost; open it again: %w", h.name, err))
		}
		b.free(h.s)
		h.moved.Broadcast()
	}()
}

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
}

// attempt writes the pieces that the store does not have, and then the pages that refer to them.
func (w *batchWriter) attempt(spans []span) error {
	h := w.h
	spans, missing, err := w.compare(spans)
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
	if h.freed += c.freed; c.dropped || h.freed >= sweepAfter {
		h.freed = 0
		if err := h.s.reap(); err != nil {
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
		changed, missing = nil, nil
		get := t.getter(tx)
		for _, s := range spans {
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
