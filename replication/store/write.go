package store

import (
	"errors"
	"fmt"

	"lifeboat/replication/block"
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
