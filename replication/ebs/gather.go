package ebs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
)

// unit is how finely a block is gathered: what is written beside its bounds needs what was
// there before at once.
const unit = 4 << 10

// coverage has a bit for each unit of a block.
type coverage [BlockSize / unit / 64]uint64

func (c *coverage) add(from, to int) {
	for u := from; u < to; u++ {
		c[u/64] |= 1 << (u % 64)
	}
}

func (c *coverage) has(u int) bool { return c[u/64]&(1<<(u%64)) != 0 }

func (c *coverage) full() bool { return *c == coverage{^uint64(0), ^uint64(0)} }

// gathered is a block of a Target in memory.
type gathered struct {
	data    []byte
	covered coverage // what of data is right
	dirty   bool     // data is not durable
	since   int64    // when it became dirty, by the clock
	putting bool     // a put is under way, data is not to be changed
	busy    bool     // somebody works on it
	touched bool     // who works on it, or puts it, made it dirty
	used    int64    // when, by the clock
}

// withBlock lets fn work on a block that nobody else works on.
func (t *Target) withBlock(index int64, fn func(*gathered) error) error {
	g, err := t.hold(index)
	if err != nil {
		return err
	}
	err = fn(g)
	t.mu.Lock()
	defer t.mu.Unlock()
	g.busy = false
	if g.touched && !g.dirty {
		g.dirty, g.since = true, t.clock
	}
	g.touched = false
	if err == nil && g.dirty && g.covered.full() {
		t.put(index, g)
	}
	t.free.Broadcast()
	return err
}

// hold finds a block in memory, or makes room for it.
func (t *Target) hold(index int64) (*gathered, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if t.err != nil {
			return nil, t.err
		}
		if t.ctx.Err() != nil {
			return nil, context.Cause(t.ctx)
		}
		g := t.blocks[index]
		if g == nil {
			if buf, ok := t.room(); ok {
				g = &gathered{data: buf}
				t.blocks[index] = g
			}
		}
		if g != nil && !g.busy && !g.putting {
			t.clock++
			g.busy, g.used = true, t.clock
			return g, nil
		}
		t.free.Wait()
	}
}

// room gives memory for a block. Where there is none, the block that was not used for longest is
// put, if it has to be. The lock is held.
func (t *Target) room() ([]byte, bool) {
	if len(t.blocks) < t.most {
		return make([]byte, BlockSize), true
	}
	var clean, dirty *gathered
	var cleanIndex, dirtyIndex int64
	under := 0
	for i, g := range t.blocks {
		switch {
		case g.putting:
			under++
		case g.busy:
		case g.dirty:
			if dirty == nil || g.used < dirty.used {
				dirty, dirtyIndex = g, i
			}
		case clean == nil || g.used < clean.used:
			clean, cleanIndex = g, i
		}
	}
	if clean != nil {
		delete(t.blocks, cleanIndex)
		return clean.data, true
	}
	if dirty != nil && under == 0 {
		t.put(dirtyIndex, dirty)
	}
	return nil, false
}

// fill writes into a block. The caller holds it.
func (t *Target) fill(index int64, g *gathered, within int, p []byte) error {
	if within%unit != 0 || len(p)%unit != 0 {
		if err := t.complete(index, g); err != nil {
			return err
		}
	}
	copy(g.data[within:], p)
	g.covered.add(within/unit, (within+len(p)+unit-1)/unit)
	g.touched = true
	return nil
}

// complete makes all of a block right. The caller holds it.
func (t *Target) complete(index int64, g *gathered) error {
	if g.covered.full() {
		return nil
	}
	was := g.data
	if g.covered != (coverage{}) {
		was = make([]byte, BlockSize)
	}
	again, err := t.before(index, was)
	if err != nil {
		return err
	}
	g.touched = g.touched || again
	if g.covered != (coverage{}) {
		for u := range BlockSize / unit {
			if !g.covered.has(u) {
				copy(g.data[u*unit:(u+1)*unit], was[u*unit:])
			}
		}
	}
	g.covered.add(0, BlockSize/unit)
	return nil
}

// put begins to write a block. The lock is held; a block that somebody works on is put by them, when
// they are through or at the next Sync.
func (t *Target) put(index int64, g *gathered) {
	if g.busy || g.putting || t.err != nil {
		return
	}
	g.putting = true
	t.puts.Add(1)
	go func() {
		defer t.puts.Done()
		err := t.write(index, g)
		t.mu.Lock()
		defer t.mu.Unlock()
		g.putting, g.touched = false, false
		if err == nil {
			g.dirty = false
		} else if t.err == nil {
			t.err = err
		}
		t.free.Broadcast()
	}()
}

// halfPut is noted for a block while it is put: what was killed then, left the block here as some
// bytes, and at the service as others.
var halfPut = Sum(bytes.Repeat([]byte{0xff}, sha256.Size))

// write makes a block durable: first here, so that it can be read, then at the service.
func (t *Target) write(index int64, g *gathered) error {
	if err := t.complete(index, g); err != nil {
		return err
	}
	if t.spool != nil {
		if err := t.p.sums.set(index, halfPut); err != nil {
			return err
		}
		if _, err := t.spool.WriteAt(g.data, index*BlockSize); err != nil {
			return fmt.Errorf("state of the copy: %w", err)
		}
	}
	err := t.p.put(t.ctx, index, g.data, sha256.Sum256(g.data))
	if err == nil || t.ctx.Err() != nil {
		return err
	}
	if err = t.p.judge(t.ctx, err); errors.Is(err, errSealed) {
		return fmt.Errorf("block %d of %s: %w: it was completed by somebody else", index, t.p.id, ErrConflict)
	}
	return err
}
