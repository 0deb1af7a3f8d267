package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"
)

var _ volume.Target = (*Head)(nil)

// Head is a volume that is written, and frozen as points. It is a volume.Target. Once a write or Sync
// failed, all that change it fail until it is opened again, as it was last synced.
type Head struct {
	s    *Store
	name string
	tree *tree
	lock *os.File

	mu      sync.Mutex
	moved   *sync.Cond // on mu: a batch has come to its end
	open    *batch     // takes writes
	writing *batch     // is being stored; nil if none
	begun   uint64     // batches that were begun
	ended   uint64
	err     error
	closed  bool

	// stored is held for reading while pieces are read, and for writing while others
	// take their place.
	stored sync.RWMutex
	top    block.Hash

	// Of the goroutine that stores a batch.
	pack  *packWriter
	freed int // slots since the last sweep
	// behind: there are pages to be taken apart.
	behind bool
}

// OpenTarget opens the head of a volume of size bytes for writing. If there is none, it is made: as
// base, a point of the same size, or all zeros if base is "". What a writer that died
// had not synced is gone. ErrBusy says that somebody writes it.
func (s *Store) OpenTarget(name string, size int64, base string) (h *Head, err error) {
	if err := checkName("name", name); err != nil {
		return nil, err
	}
	if size <= 0 || (block.Geometry{Size: size}).Levels()-1 > maxLevel {
		return nil, fmt.Errorf("%w: a head of %d bytes", ErrInvalid, size)
	}
	h = &Head{s: s, name: name, tree: newTree(s, fmt.Sprintf("head %q", name), size), open: newBatch()}
	h.moved = sync.NewCond(&h.mu)
	if h.lock, err = s.lockHead(name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h, err = nil, errors.Join(err, h.lock.Close())
		}
	}()
	if err := s.settleHead(name); err != nil {
		return h, err
	}
	_, err = s.update(func(c *change) error {
		r, err := c.head(name)
		if errors.Is(err, ErrNotFound) {
			r, err = c.makeHead(name, size, base)
		}
		if err != nil {
			return err
		}
		if r.Size != size {
			return fmt.Errorf("%w: head %q has %d bytes, not %d; delete it to begin anew", ErrInvalid, name, r.Size, size)
		}
		h.top = block.Hash(r.Top)
		return nil
	})
	if err != nil {
		return h, err
	}
	h.behind, err = s.reap(reapShare)
	return h, err
}

// Point makes what was written durable and freezes it as a point. That takes the time of a Sync, whatever
// the size of the volume. The call may be repeated; another point with this id is ErrExists. Nothing
// may write at the same time.
func (h *Head) Point(id string, labels map[string]string) (Point, error) {
	if err := checkName("id of a point", id); err != nil {
		return Point{}, err
	}
	if err := h.Sync(); err != nil {
		return Point{}, err
	}
	var p Point
	_, err := h.s.update(func(c *change) error {
		r, err := c.head(h.name)
		if err == nil {
			p, err = c.freeze(h.name, r, id, labels)
		}
		return err
	})
	return p, err
}

// Seal is Point for a head that is not needed any more: the point takes its place, and the head
// is closed, also when there is an error.
func (h *Head) Seal(id string, labels map[string]string) (p Point, err error) {
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := checkName("id of a point", id); err != nil {
		return Point{}, err
	}
	if err := h.Sync(); err != nil {
		return Point{}, err
	}
	_, err = h.s.update(func(c *change) error {
		r, err := c.head(h.name)
		if err != nil {
			return err
		}
		if p, err = c.freeze(h.name, r, id, labels); err != nil {
			return err
		}
		if r.Pack != 0 {
			if err := c.closePack(h.name, r); err != nil {
				return err
			}
		}
		return c.removeHead(h.name, r)
	})
	if err == nil && h.pack != nil {
		err = h.pack.file.Close()
		h.pack = nil
	}
	return p, err
}

// freeze makes a point of a head.
func (c *change) freeze(name string, r *headRecord, id string, labels map[string]string) (Point, error) {
	root := rootOf(r.Size, block.Hash(r.Top))
	old, err := c.s.pointIn(c.tx, id)
	if err == nil {
		if old.Root != root || old.Volume != name || !maps.Equal(old.Labels, labels) {
			return old.Point, fmt.Errorf("point %q: %w; delete it, or choose another", id, ErrExists)
		}
		return old.Point, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return Point{}, err
	}
	p := Point{ID: id, Volume: name, Size: r.Size, Root: root, Labels: labels, Time: time.Now().UTC()}
	raw, err := json.Marshal(pointRecord{Point: p, Top: r.Top})
	if err != nil {
		return p, err
	}
	if err := c.hold(block.Hash(r.Top)); err != nil {
		return p, err
	}
	return p, c.bucket("points").Put([]byte(id), raw)
}

// Root is the root of what is durable.
func (h *Head) Root() string {
	h.stored.RLock()
	defer h.stored.RUnlock()
	return rootOf(h.Size(), h.top)
}

// Size in bytes.
func (h *Head) Size() int64 { return h.tree.geo.Size }

// Close lets others write the head. What was not synced is lost.
func (h *Head) Close() error {
	h.mu.Lock()
	for h.writing != nil {
		h.moved.Wait()
	}
	closed := h.closed
	h.closed = true
	h.err = errors.Join(h.err, fmt.Errorf("head %q: %w", h.name, os.ErrClosed))
	h.open.free(h.s)
	h.open = newBatch()
	h.mu.Unlock()
	if closed {
		return nil
	}
	var err error
	if h.pack != nil {
		err = errors.Join(h.pack.file.Close(), h.s.settleHead(h.name))
	}
	_, rerr := h.s.reap(reapShare)
	return errors.Join(err, rerr, h.lock.Close())
}

// inside checks a range.
func (h *Head) inside(what string, off, n int64) error {
	if off < 0 || n < 0 || off > h.Size() || n > h.Size()-off {
		return fmt.Errorf("%w: %s of %d bytes at %d is beyond the end of head %q (%d bytes)", ErrInvalid, what, n, off, h.name, h.Size())
	}
	return nil
}

// ReadAt sees all writes that are through, synced or not.
func (h *Head) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: read of head %q at %d", ErrInvalid, h.name, off)
	}
	for n < len(p) && off < h.Size() {
		number, at := off/block.Piece, int(off%block.Piece)
		size := h.tree.geo.PieceBytes(number)
		m := min(len(p)-n, size-at)
		if err := h.readPiece(number, p[n:n+m], at, size); err != nil {
			return n, err
		}
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readPiece reads a part of a piece.
func (h *Head) readPiece(number int64, p []byte, at, size int) error {
	h.mu.Lock()
	known, data := h.recent(number)
	if known {
		if data == nil {
			clear(p)
		} else {
			copy(p, data[at:])
		}
	}
	h.mu.Unlock()
	if known {
		return nil
	}
	if len(p) == size {
		return h.fromStore(number, p)
	}
	buf := h.s.buffer()
	defer h.s.release(buf)
	if err := h.fromStore(number, buf[:size]); err != nil {
		return err
	}
	copy(p, buf[at:size])
	return nil
}

// recent looks for a piece in what is not stored yet; nil data are zeros. Under mu.
func (h *Head) recent(number int64) (known bool, data []byte) {
	for _, b := range []*batch{h.open, h.writing} {
		if b == nil {
			continue
		}
		if known, data := b.find(number); known {
			return true, data
		}
	}
	return false, nil
}

func (h *Head) fromStore(number int64, p []byte) error {
	h.stored.RLock()
	defer h.stored.RUnlock()
	return h.tree.piece(h.top, number, p)
}

// NextData gives runs of pieces that may hold data. What is not stored yet counts as it will be.
func (h *Head) NextData(off int64) (start, end int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("%w: data of head %q after %d", ErrInvalid, h.name, off)
	}
	if off >= h.Size() {
		return 0, 0, io.EOF
	}
	// First what is not stored yet: what gets stored in between is then found there.
	from := off / block.Piece
	soon, any := int64(0), false
	h.mu.Lock()
	for _, b := range []*batch{h.open, h.writing} {
		if b == nil {
			continue
		}
		if n, ok := b.next(from); ok && (!any || n < soon) {
			soon, any = n, true
		}
	}
	h.mu.Unlock()
	h.stored.RLock()
	first, last, err := h.tree.data(h.top, from)
	h.stored.RUnlock()
	switch {
	case err != nil && (!errors.Is(err, io.EOF) || !any):
		return 0, 0, err
	case any && (err != nil || soon < first):
		first, last = soon, soon+1
	}
	return max(off, first*block.Piece), min(last*block.Piece, h.Size()), nil
}
