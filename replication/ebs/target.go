package ebs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"lifeboat/replication/volume"
)

var _ volume.Target = (*Target)(nil)

// Target is a pending snapshot as a volume. What is written is gathered in blocks; one that is
// complete is put at once, others when there are too many or at Sync, completed from what was there
// before. A pending snapshot cannot be read from the service, so with a Spec.State what was put is
// also kept there, in a sparse file that Complete removes; it has to be there for the snapshot to be
// gone on with. Without, a block that left memory is not written again, and reading it is an error.
type Target struct {
	ctx    context.Context
	p      *pending
	parent *Source // nil: zeros
	spool  *os.File
	size   int64
	most   int

	mu     sync.Mutex
	free   *sync.Cond // a block was put, or is no longer worked on
	blocks map[int64]*gathered
	clock  int64
	puts   sync.WaitGroup
	err    error // of a put; every Sync fails from then on
}

// OpenTarget begins a snapshot, or finds the one that was begun with the token and is still pending;
// ctx bounds its use. With Spec.Parent, what is not written is as there. ErrLost on any call says
// that the service gave the snapshot up: OpenTarget begins another one.
func (c *Client) OpenTarget(ctx context.Context, s Spec) (*Target, error) {
	p, _, err := c.begin(ctx, s, 0)
	if err != nil {
		return nil, err
	}
	if p.sealed || p.sums.sealing() {
		return nil, errors.Join(fmt.Errorf("snapshot %s: %w: it is complete", p.id, ErrConflict), p.sums.close())
	}
	t := &Target{ctx: ctx, p: p, size: p.blocks * BlockSize, most: c.inFlight, blocks: map[int64]*gathered{}}
	t.free = sync.NewCond(&t.mu)
	if s.Parent != "" {
		if t.parent, err = c.Open(ctx, s.Parent); err != nil {
			return nil, errors.Join(err, p.sums.close())
		}
	}
	if s.State != "" {
		t.spool, err = os.OpenFile(filepath.Join(s.State, p.id+".blocks"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("state of the copy: %w", err), t.Close())
		}
	}
	return t, nil
}

// Snapshot is the identifier of what is written.
func (t *Target) Snapshot() string { return t.p.id }

// Size implements volume.Source: that of the volume, in whole GiB.
func (t *Target) Size() int64 { return t.size }

// Close keeps the snapshot pending, for another attempt to go on with. It waits for what is under way:
// end the context before, to give that up.
func (t *Target) Close() error {
	t.puts.Wait()
	errs := []error{t.p.sums.close()}
	if t.spool != nil {
		errs = append(errs, t.spool.Close())
	}
	if t.parent != nil {
		errs = append(errs, t.parent.Close())
	}
	return errors.Join(errs...)
}

// Complete makes everything durable, seals the snapshot and returns when it is completed. The
// target is closed then, whatever the error.
func (t *Target) Complete() error {
	err := t.Sync()
	if err == nil {
		err = t.mend()
	}
	if err == nil {
		err = t.Sync()
	}
	if err == nil {
		err = t.p.seal(t.ctx)
	}
	if (err == nil || errors.Is(err, ErrLost)) && t.spool != nil {
		err = errors.Join(err, os.Remove(t.spool.Name()), os.Remove(t.p.sums.path))
	}
	return errors.Join(err, t.Close())
}

// Sync implements volume.Target.
func (t *Target) Sync() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for now := t.clock; t.err == nil && t.unsettled(now); {
		t.free.Wait()
	}
	return t.err
}

// unsettled puts what was written up to a time, and tells whether not all of that is durable. The
// lock is held.
func (t *Target) unsettled(until int64) (waits bool) {
	for index, g := range t.blocks {
		if g.dirty && g.since <= until {
			t.put(index, g)
			waits = true
		}
	}
	return waits
}

// WriteAt implements volume.Target.
func (t *Target) WriteAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off+int64(len(p)) > t.size {
		return 0, fmt.Errorf("write %d bytes at %d of %s: %w", len(p), off, t.p.id, io.ErrShortWrite)
	}
	for n < len(p) {
		index, within := off/BlockSize, int(off%BlockSize)
		part := p[n:min(len(p), n+BlockSize-within)]
		if err := t.withBlock(index, func(g *gathered) error { return t.fill(index, g, within, part) }); err != nil {
			return n, err
		}
		n, off = n+len(part), off+int64(len(part))
	}
	return n, nil
}

// Zero implements volume.Target. Blocks that were never anything else stay out of the snapshot.
func (t *Target) Zero(off, n int64) error {
	zeros := make([]byte, BlockSize)
	for end := off + n; off < end; {
		index := off / BlockSize
		part := min(end, (index+1)*BlockSize) - off
		has, err := t.has(index)
		if err != nil {
			return err
		}
		if has {
			if _, err := t.WriteAt(zeros[:part], off); err != nil {
				return err
			}
		}
		off += part
	}
	return nil
}

// ReadAt implements volume.Target.
func (t *Target) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off < 0 || off >= t.size {
			return n, io.EOF
		}
		index, within := off/BlockSize, int(off%BlockSize)
		part := p[n:min(len(p), n+BlockSize-within)]
		err := t.withBlock(index, func(g *gathered) error {
			if err := t.complete(index, g); err != nil {
				return err
			}
			copy(part, g.data[within:])
			return nil
		})
		if err != nil {
			return n, err
		}
		n, off = n+len(part), off+int64(len(part))
	}
	return n, nil
}

// NextData implements volume.Target.
func (t *Target) NextData(off int64) (start, end int64, err error) {
	for index := max(off, 0) / BlockSize; index < t.p.blocks; index++ {
		next, err := t.nextBlock(index)
		if err != nil {
			return 0, 0, err
		}
		if next < 0 {
			break
		}
		if index = next; end == 0 {
			start = max(off, index*BlockSize)
		} else if end != index*BlockSize || end-start >= gib {
			return start, end, nil
		}
		end = (index + 1) * BlockSize
	}
	if end == 0 {
		return 0, 0, io.EOF
	}
	return start, end, nil
}

// nextBlock gives the first block at or after an index that may not be zeros, or -1.
func (t *Target) nextBlock(index int64) (int64, error) {
	next, err := t.p.sums.next(index)
	if err != nil {
		return 0, err
	}
	nearer := func(i int64) {
		if i >= index && (next < 0 || i < next) {
			next = i
		}
	}
	if t.parent != nil && index < t.parent.dir.blocks {
		b, ok, err := t.parent.dir.find(t.ctx, index)
		if err != nil {
			return 0, err
		}
		if ok {
			nearer(b.index)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, g := range t.blocks {
		if g.dirty || g.busy {
			nearer(i)
		}
	}
	return next, nil
}

// has tells whether a block may not be zeros.
func (t *Target) has(index int64) (bool, error) {
	next, err := t.nextBlock(index)
	return next == index, err
}

// before reads what a block was before what is gathered of it now. again says that nobody knows
// whether the service has it: it is to be put again.
func (t *Target) before(index int64, buf []byte) (again bool, err error) {
	sum, put := t.p.sums.get(index)
	switch {
	case put && t.spool != nil:
		if err := volume.ReadFull(t.spool, buf, index*BlockSize); err != nil && sum != halfPut {
			return false, fmt.Errorf("state of the copy: block %d: %w", index, err)
		}
		if sum != halfPut && sha256.Sum256(buf) != sum {
			return false, fmt.Errorf("state of the copy: block %d: %w", index, ErrChecksum)
		}
		return sum == halfPut, nil
	case put:
		return false, fmt.Errorf("block %d of %s: %w: it was put and is no longer in memory; give the target a state directory", index, t.p.id, ErrInvalid)
	case t.parent != nil && (index+1)*BlockSize <= t.parent.size:
		return false, volume.ReadFull(t.parent, buf, index*BlockSize)
	}
	clear(buf)
	return false, nil
}

// mend puts again what a killed process was putting.
func (t *Target) mend() error {
	for index := int64(0); ; index++ {
		var err error
		if index, err = t.p.sums.next(index); err != nil || index < 0 {
			return err
		}
		if sum, _ := t.p.sums.get(index); sum != halfPut {
			continue
		}
		if err := t.withBlock(index, func(g *gathered) error { return t.complete(index, g) }); err != nil {
			return err
		}
	}
}
