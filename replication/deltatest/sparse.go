package deltatest

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"
)

var (
	_ volume.Source = (*Scattered)(nil)
	_ volume.Target = (*Sparse)(nil)
)

// Scattered is a source of any size that is never anywhere: its bytes are computed when they are
// read. It may be changed between copies.
type Scattered struct {
	size    int64
	extents []volume.Extent // whole blocks, ascending and apart
	// Version of each extent: another one is other bytes.
	Version []uint64
}

// NewScattered has data in these extents, which ascend, do not touch and are whole blocks.
func NewScattered(size int64, extents []volume.Extent) *Scattered {
	return &Scattered{size: size, extents: extents, Version: make([]uint64, len(extents))}
}

// Extents of the data.
func (s *Scattered) Extents() []volume.Extent { return s.extents }

// Punch makes everything a hole.
func (s *Scattered) Punch() { s.extents, s.Version = nil, nil }

// Size implements volume.Source.
func (s *Scattered) Size() int64 { return s.size }

// Close implements volume.Source.
func (s *Scattered) Close() error { return nil }

// from gives the first extent that ends behind off.
func (s *Scattered) from(off int64) int {
	i, _ := slices.BinarySearchFunc(s.extents, off, func(e volume.Extent, off int64) int {
		if e.End() <= off {
			return -1
		}
		return 1
	})
	return i
}

// NextData implements volume.Source.
func (s *Scattered) NextData(off int64) (start, end int64, err error) {
	i := s.from(off)
	if i == len(s.extents) {
		return 0, 0, io.EOF
	}
	e := s.extents[i]
	return max(off, e.Offset), e.End(), nil
}

// ReadAt implements io.ReaderAt for whole words.
func (s *Scattered) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > s.size {
		return 0, io.ErrUnexpectedEOF
	}
	clear(p)
	for i := s.from(off); i < len(s.extents) && s.extents[i].Offset < off+int64(len(p)); i++ {
		e := s.extents[i]
		to := min(e.End(), off+int64(len(p)))
		for at := max(e.Offset, off); at < to; at += 8 {
			word := (uint64(at) + 1) * (s.Version[i]*0x9e3779b97f4a7c15 | 1)
			binary.LittleEndian.PutUint64(p[at-off:], word^word>>29)
		}
	}
	return len(p), nil
}

// Sparse is a target of any size. Its blocks are in a file, in the order in which they were
// written, so that they need no memory and no file system that could hold them.
type Sparse struct {
	size int64
	file *os.File

	mu     sync.Mutex
	places map[int64]int64 // of blocks in the file
	sorted []int64         // the blocks, for NextData; nil when some changed
	free   []int64
	end    int64
}

// NewSparse makes a target of holes that keeps its blocks in a file.
func NewSparse(size int64, file *os.File) *Sparse {
	return &Sparse{size: size, file: file, places: map[int64]int64{}}
}

// Blocks counts those that are not holes.
func (s *Sparse) Blocks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.places)
}

// Size implements volume.Source.
func (s *Sparse) Size() int64 { return s.size }

// Close implements volume.Source. The file stays open.
func (s *Sparse) Close() error { return nil }

// Sync implements volume.Target.
func (s *Sparse) Sync() error { return nil }

// NextData implements volume.Source.
func (s *Sparse) NextData(off int64) (start, end int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted == nil {
		s.sorted = slices.Sorted(maps.Keys(s.places))
	}
	i, _ := slices.BinarySearch(s.sorted, off/block.Size)
	if i == len(s.sorted) {
		return 0, 0, io.EOF
	}
	first, last := s.sorted[i], s.sorted[i]+1
	for i++; i < len(s.sorted) && s.sorted[i] == last; i++ {
		last++
	}
	return max(off, first*block.Size), min(last*block.Size, s.size), nil
}

// place gives where a block is; with add it gets one.
func (s *Sparse) place(b int64, add bool) (at int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok = s.places[b]; ok || !add {
		return at, ok
	}
	if n := len(s.free); n > 0 {
		at, s.free = s.free[n-1], s.free[:n-1]
	} else {
		at, s.end = s.end, s.end+block.Size
	}
	s.places[b], s.sorted = at, nil
	return at, false
}

// each calls fn for the part of each block in a range; within is where in the block it begins.
func each(p []byte, off int64, fn func(b int64, part []byte, within int64) error) error {
	for len(p) > 0 {
		within := off % block.Size
		n := min(block.Size-within, int64(len(p)))
		if err := fn(off/block.Size, p[:n], within); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (s *Sparse) ReadAt(p []byte, off int64) (int, error) {
	err := each(p, off, func(b int64, part []byte, within int64) error {
		at, ok := s.place(b, false)
		if !ok {
			clear(part)
			return nil
		}
		_, err := s.file.ReadAt(part, at+within)
		return err
	})
	return len(p), err
}

// WriteAt implements io.WriterAt.
func (s *Sparse) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > s.size {
		return 0, fmt.Errorf("write of %d bytes at %d is beyond the end (%d bytes)", len(p), off, s.size)
	}
	err := each(p, off, func(b int64, part []byte, within int64) error {
		at, ok := s.place(b, true)
		if !ok && len(part) < block.Size {
			if _, err := s.file.WriteAt(make([]byte, block.Size), at); err != nil {
				return err
			}
		}
		_, err := s.file.WriteAt(part, at+within)
		return err
	})
	return len(p), err
}

// Zero implements volume.Target for whole blocks.
func (s *Sparse) Zero(off, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sorted = nil
	if n/block.Size > int64(len(s.places)) {
		for b, at := range s.places {
			if b >= off/block.Size && b < (off+n)/block.Size {
				delete(s.places, b)
				s.free = append(s.free, at)
			}
		}
		return nil
	}
	for b := off / block.Size; b < (off+n)/block.Size; b++ {
		if at, ok := s.places[b]; ok {
			delete(s.places, b)
			s.free = append(s.free, at)
		}
	}
	return nil
}
