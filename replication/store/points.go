package store

import (
	"errors"
	"fmt"
	"io"
	"sync"

	bolt "go.etcd.io/bbolt"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"
)

// pointsAtOnce bounds a page of a listing.
const pointsAtOnce = 256

// maxName bounds the length of ids and of names of heads.
const maxName = 512

func checkName(what, name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%w: the %s %q has %d bytes; give it 1 to %d", ErrInvalid, what, name, len(name), maxName)
	}
	return nil
}

// Points calls fn with every point, in the order of ids. They are read some at a time, so
// fn may use the store; what comes or goes meanwhile may be seen or not.
func (s *Store) Points(fn func(Point) error) error {
	for after := ""; ; {
		var some []Point
		err := s.view(func(tx *bolt.Tx) error {
			c := tx.Bucket([]byte("points")).Cursor()
			key, raw := c.Seek([]byte(after))
			if string(key) == after {
				key, raw = c.Next()
			}
			for ; key != nil && len(some) < pointsAtOnce; key, raw = c.Next() {
				r, err := decodePoint(string(key), raw)
				if err != nil {
					return s.index.Damaged(fmt.Sprintf("the entry of point %q is damaged", key), err)
				}
				some = append(some, r.Point)
			}
			return nil
		})
		if err != nil || len(some) == 0 {
			return err
		}
		for _, p := range some {
			if err := fn(p); err != nil {
				return err
			}
		}
		after = some[len(some)-1].ID
	}
}

// Point gives one point, or ErrNotFound.
func (s *Store) Point(id string) (Point, error) {
	var r *pointRecord
	err := s.view(func(tx *bolt.Tx) (err error) { r, err = s.pointIn(tx, id); return err })
	if err != nil {
		return Point{}, err
	}
	return r.Point, nil
}

func (s *Store) pointIn(tx *bolt.Tx, id string) (*pointRecord, error) {
	raw := tx.Bucket([]byte("points")).Get([]byte(id))
	if raw == nil {
		return nil, fmt.Errorf("point %q: %w", id, ErrNotFound)
	}
	r, err := decodePoint(id, raw)
	if err != nil {
		return nil, s.index.Damaged(fmt.Sprintf("the entry of point %q is damaged", id), err)
	}
	return r, nil
}

// Delete removes a point, and then what nothing else refers to. The point is gone at once;
// the rest takes a time that grows with what only it had, and is gone on with by the next
// call if this one is broken off. ErrNotFound also says that nothing is left of it.
func (s *Store) Delete(id string) error {
	_, err := s.update(func(c *change) error {
		r, err := s.pointIn(c.tx, id)
		if err != nil {
			return err
		}
		if err := c.release(block.Geometry{Size: r.Size}.Levels()-1, block.Hash(r.Top)); err != nil {
			return err
		}
		return c.bucket("points").Delete([]byte(id))
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return errors.Join(err, s.reapAll())
}

// OpenPoint opens a point for reading. Damage of what is read is ErrDamaged; when the point is
// deleted meanwhile, reads give ErrNotFound.
func (s *Store) OpenPoint(id string) (volume.Source, error) {
	var r *pointRecord
	err := s.view(func(tx *bolt.Tx) (err error) { r, err = s.pointIn(tx, id); return err })
	if err != nil {
		return nil, err
	}
	return &reader{tree: newTree(s, fmt.Sprintf("point %q", id), r.Size), id: id, top: block.Hash(r.Top)}, nil
}

// reader reads a point.
type reader struct {
	tree *tree
	id   string
	top  block.Hash

	// last is the piece that was read last in part: its neighbours come next.
	mu     sync.Mutex
	last   []byte
	number int64
}

// Size in bytes.
func (r *reader) Size() int64 { return r.tree.geo.Size }

// Close lets go of nothing: packs are the store's.
func (r *reader) Close() error { return nil }

// NextData gives pieces that are not zeros.
func (r *reader) NextData(off int64) (start, end int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("data of point %q after offset %d: %w", r.id, off, ErrInvalid)
	}
	if off >= r.Size() {
		return 0, 0, io.EOF
	}
	first, last, err := r.tree.data(r.top, off/block.Piece)
	if err != nil {
		return 0, 0, r.explain(err)
	}
	return max(off, first*block.Piece), min(last*block.Piece, r.Size()), nil
}

// ReadAt reads and checks the pieces of a range.
func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read of point %q at %d: %w", r.id, off, ErrInvalid)
	}
	for n < len(p) && off < r.Size() {
		number, at := off/block.Piece, int(off%block.Piece)
		size := r.tree.geo.PieceBytes(number)
		var m int
		if at == 0 && len(p)-n >= size {
			m, err = size, r.tree.piece(r.top, number, p[n:n+size])
		} else {
			m, err = r.part(number, p[n:], at, size)
		}
		if err != nil {
			return n, r.explain(err)
		}
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *reader) part(number int64, p []byte, at, size int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil || r.number != number {
		if r.last == nil {
			r.last = make([]byte, block.Piece)
		}
		r.number = -1
		if err := r.tree.piece(r.top, number, r.last[:size]); err != nil {
			return 0, err
		}
		r.number = number
	}
	return copy(p, r.last[at:size]), nil
}

// explain tells damage from a point that was deleted under its reader.
func (r *reader) explain(err error) error {
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	gone := r.tree.s.view(func(tx *bolt.Tx) error {
		now, err := r.tree.s.pointIn(tx, r.id)
		if err == nil && block.Hash(now.Top) != r.top {
			return fmt.Errorf("point %q as it was opened: %w", r.id, ErrNotFound)
		}
		return err
	})
	if errors.Is(gone, ErrNotFound) {
		return gone
	}
	return err
}
