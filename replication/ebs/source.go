package ebs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"lifeboat/replication/volume"
)

var (
	_ volume.Source     = (*Source)(nil)
	_ volume.Prefetcher = (*Source)(nil)
)

// Source is a completed snapshot as a volume. Blocks that it does not have are zeros. It reads
// ahead of up to 8 readers that ascend.
type Source struct {
	ctx      context.Context
	stop     context.CancelCauseFunc
	c        *Client
	snapshot string
	size     int64
	dir      directory
	reading  sync.WaitGroup

	mu      sync.Mutex
	freed   *sync.Cond // a block is no longer in use
	blocks  map[int64]*cached
	most    int
	clock   int64
	readers [8]reader
}

// cached is a block in memory, or on its way.
type cached struct {
	data []byte
	err  error
	done chan struct{}
	uses int
	used int64 // when, by the clock
}

// reader is somebody who reads one block after the other.
type reader struct {
	next  int64
	depth int64
	used  int64
}

// Open opens a snapshot; ctx bounds its use. It holds up to as many blocks as may be in flight.
func (c *Client) Open(ctx context.Context, snapshot string) (*Source, error) {
	p, err := c.blocksOf(snapshot, pageBlocks).from(ctx, 0)
	if err != nil {
		return nil, err
	}
	s := &Source{
		c: c, snapshot: snapshot, size: p.size, blocks: map[int64]*cached{}, most: max(c.inFlight, 4),
		dir: directory{list: c.blocksOf(snapshot, pageBlocks), blocks: p.size / BlockSize, pages: []page{p}},
	}
	s.ctx, s.stop = context.WithCancelCause(ctx)
	s.freed = sync.NewCond(&s.mu)
	return s, nil
}

// Size implements volume.Source.
func (s *Source) Size() int64 { return s.size }

// Close implements volume.Source.
func (s *Source) Close() error {
	s.stop(errors.New("the snapshot was closed"))
	s.mu.Lock()
	s.freed.Broadcast()
	s.mu.Unlock()
	s.reading.Wait()
	return nil
}

// NextData implements volume.Source.
func (s *Source) NextData(off int64) (start, end int64, err error) {
	b, ok, err := s.dir.find(s.ctx, max(off, 0)/BlockSize)
	if err != nil {
		return 0, 0, err
	}
	if !ok {
		return 0, 0, io.EOF
	}
	start = max(off, b.index*BlockSize)
	for end = (b.index + 1) * BlockSize; ; end += BlockSize {
		next, ok, err := s.dir.find(s.ctx, end/BlockSize)
		if err != nil {
			return 0, 0, err
		}
		if !ok || next.index*BlockSize != end || end-start >= gib {
			return start, end, nil
		}
	}
}

// ReadAt implements volume.Source.
func (s *Source) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d: %w", s.snapshot, off, ErrInvalid)
	}
	for n < len(p) {
		if off >= s.size {
			return n, io.EOF
		}
		index, within := off/BlockSize, off%BlockSize
		part := p[n:min(len(p), n+int(BlockSize-within))]
		if err := s.readBlock(index, int(within), part); err != nil {
			return n, err
		}
		n, off = n+len(part), off+int64(len(part))
	}
	return n, nil
}

// readBlock copies bytes of one block.
func (s *Source) readBlock(index int64, within int, p []byte) error {
	b, ok, err := s.dir.find(s.ctx, index)
	if err != nil {
		return err
	}
	if !ok || b.index != index {
		clear(p)
		return nil
	}
	k := s.fetch(b, true)
	s.ahead(index)
	if k == nil {
		return context.Cause(s.ctx)
	}
	select {
	case <-k.done:
	case <-s.ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.freed.Broadcast()
	k.uses--
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if k.err == nil {
		copy(p, k.data[within:])
	}
	return k.err
}

// Prefetch implements volume.Prefetcher. It takes what fits.
func (s *Source) Prefetch(off, n int64) error {
	return s.prefetch(off/BlockSize, (off+n+BlockSize-1)/BlockSize)
}

func (s *Source) prefetch(from, to int64) error {
	for from < to {
		b, ok, err := s.dir.find(s.ctx, from)
		if err != nil {
			return err
		}
		if !ok || b.index >= to || s.fetch(b, false) == nil {
			return nil
		}
		from = b.index + 1
	}
	return nil
}

// ahead reads on before a reader that ascends: twice as far each time it does.
func (s *Source) ahead(index int64) {
	s.mu.Lock()
	s.clock++
	oldest, live := &s.readers[0], int64(1)
	var r *reader
	for i := range s.readers {
		x := &s.readers[i]
		switch {
		case x.used > 0 && (index == x.next || index == x.next-1):
			r = x
		case x.used < oldest.used:
			oldest = x
		}
		if x.used > 0 && x.depth > 1 {
			live++
		}
	}
	if r == nil {
		*oldest = reader{next: index + 1, depth: 1, used: s.clock}
		s.mu.Unlock()
		return
	}
	if index == r.next {
		r.next, r.depth = index+1, min(2*r.depth, max(1, int64(s.most)/live))
	}
	r.used = s.clock
	from, to := r.next, r.next+r.depth
	s.mu.Unlock()
	// What cannot be listed now is an error when it is read.
	_ = s.prefetch(from, min(to, s.dir.blocks))
}

// fetch finds a block in memory or begins to get it. With wait it is held for the caller, who
// lets go of it, and nil says that the source was closed. Without, nil says that there is no room.
func (s *Source) fetch(b listed, wait bool) *cached {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		s.clock++
		k := s.blocks[b.index]
		if k == nil && s.ctx.Err() == nil {
			if buf, ok := s.room(); ok {
				k = &cached{data: buf, done: make(chan struct{})}
				s.blocks[b.index] = k
				s.reading.Add(1)
				go s.load(b, k)
			}
		}
		if k != nil {
			k.used = s.clock
			if wait {
				k.uses++
			}
			return k
		}
		if !wait || s.ctx.Err() != nil {
			return nil
		}
		s.freed.Wait()
	}
}

// room gives memory for a block: new, or that of the one which was not used for longest. The lock
// is held.
func (s *Source) room() ([]byte, bool) {
	if len(s.blocks) < s.most {
		return make([]byte, BlockSize), true
	}
	oldest := int64(-1)
	for i, k := range s.blocks {
		select {
		case <-k.done:
			if k.uses == 0 && (oldest < 0 || k.used < s.blocks[oldest].used) {
				oldest = i
			}
		default:
		}
	}
	if oldest < 0 {
		return nil, false
	}
	buf := s.blocks[oldest].data
	delete(s.blocks, oldest)
	return buf, true
}

// load gets a block. One that failed is not kept, so that it is asked for again.
func (s *Source) load(b listed, k *cached) {
	defer s.reading.Done()
	_, k.err = s.c.read(s.ctx, s.snapshot, b, k.data)
	close(k.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.err != nil {
		delete(s.blocks, b.index)
	}
	s.freed.Broadcast()
}
