// Package workload makes disk images and changed versions of them, the same
// bytes for the same seed, and compares images byte for byte.
//
// An image looks like a used disk: 40 % data in extents of 64 KiB to 32 MiB
// (60 % of them log-like text, 40 % random bytes), 10 % zeros that are
// allocated, holes for the rest. A changed version differs in a share of its
// 4 KiB blocks: 70 % of them in runs of 1 to 16 MiB, 30 % single, most of
// those in a few hot zones, as a database writes.
package workload

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
)

// Block is the granularity of changes in bytes.
const Block = 4096

const (
	usedShare  = 0.40 // of the image: data
	zeroShare  = 0.10 // of the image: allocated, all zeros
	textShare  = 0.60 // of the data extents: text
	singles    = 0.30 // of the changed blocks: single writes
	hotZones   = 20
	zoneBlocks = 4096
)

// Generate writes the image of size bytes that belongs to seed.
func Generate(path string, size int64, seed uint64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	r := rng(seed, 1)
	buf, zero := make([]byte, 32<<20), make([]byte, 32<<20)
	var pos, used, zeros int64
	for pos < size {
		// The kind whose running share lags most, with some noise: the shares
		// hold over the whole image and the layout is irregular all the same.
		amp := 0.2 / (1 + 24*float64(pos)/float64(size))
		lackUsed := usedShare - float64(used)/float64(pos+1) + amp*r.NormFloat64()
		lackZero := zeroShare - float64(zeros)/float64(pos+1) + amp*r.NormFloat64()
		n := min(logUniform(r, 64<<10, 32<<20), size-pos)
		switch {
		case lackUsed > 0:
			fillData(buf[:n], rng(seed, uint64(pos)+7))
			if _, err := f.WriteAt(buf[:n], pos); err != nil {
				return err
			}
			used += n
		case lackZero > 0:
			if _, err := f.WriteAt(zero[:n], pos); err != nil {
				return err
			}
			zeros += n
		}
		pos += n
	}
	return f.Close()
}

// Mutate copies base to path, changes share of its blocks and returns the
// changed ranges in ascending order.
func Mutate(base, path string, share float64, seed uint64) ([]Extent, error) {
	if err := CopySparse(path, base); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m := mutation{f: f, seed: seed, r: rng(seed, 3), buf: make([]byte, 16<<20)}
	if m.data, err = DataExtents(f, st.Size()); err != nil {
		return nil, err
	}
	m.changed = make([]bool, st.Size()/Block)
	want := int64(math.Round(float64(len(m.changed)) * share))
	if err := m.runs(int64(float64(want) * (1 - singles))); err != nil {
		return nil, err
	}
	if err := m.singles(want); err != nil {
		return nil, err
	}
	return m.extents(), f.Close()
}

// mutation is the state of one Mutate.
type mutation struct {
	f       *os.File
	seed    uint64
	r       *rand.Rand
	data    []Extent
	changed []bool
	done    int64
	buf     []byte
}

// runs changes sequential ranges, up to n blocks in all: files rewritten, logs
// appended, new files in free space.
func (m *mutation) runs(n int64) error {
	blocks := int64(len(m.changed))
	for m.done < n {
		length := min(logUniform(m.r, 1<<20, 16<<20)/Block, n-m.done)
		var b int64
		if m.r.Float64() < 0.6 && len(m.data) > 0 { // over used space
			e := m.data[m.r.IntN(len(m.data))]
			b = e.Offset / Block
			if e.Length/Block > length {
				b += m.r.Int64N(e.Length/Block - length + 1)
			}
		} else {
			b = m.r.Int64N(blocks - length + 1)
		}
		b = min(b, blocks-length)
		if m.touched(b, length) {
			continue
		}
		p := m.buf[:length*Block]
		fillData(p, rng(m.seed, uint64(b)*2+1))
		if _, err := m.f.WriteAt(p, b*Block); err != nil {
			return err
		}
		for i := b; i < b+length; i++ {
			m.changed[i] = true
		}
		m.done += length
	}
	return nil
}

func (m *mutation) touched(b, n int64) bool {
	for _, c := range m.changed[b : b+n] {
		if c {
			return true
		}
	}
	return false
}

// singles changes single blocks until want are changed: 80 % of them in hot
// zones of 16 MiB, the rest anywhere in used space. Half rewrite the whole
// block, half touch 64 to 576 bytes of it.
func (m *mutation) singles(want int64) error {
	hot := make([]int64, hotZones)
	for i := range hot {
		e := m.data[m.r.IntN(len(m.data))]
		hot[i] = (e.Offset + m.r.Int64N(e.Length)) / Block
	}
	old, now := make([]byte, Block), make([]byte, Block)
	for tries := 0; m.done < want && tries < 1<<26; tries++ {
		var b int64
		if m.r.Float64() < 0.8 {
			b = hot[m.r.IntN(len(hot))] + m.r.Int64N(zoneBlocks)
		} else {
			e := m.data[m.r.IntN(len(m.data))]
			b = (e.Offset + m.r.Int64N(e.Length)) / Block
		}
		if b >= int64(len(m.changed)) || m.changed[b] {
			continue
		}
		if _, err := m.f.ReadAt(old, b*Block); err != nil {
			return err
		}
		copy(now, old)
		if m.r.IntN(2) == 0 {
			fillData(now, m.r)
		} else {
			o := m.r.IntN(Block - 576)
			fillRandom(now[o:o+64+m.r.IntN(64)*8], m.r)
		}
		if bytes.Equal(now, old) {
			continue
		}
		if _, err := m.f.WriteAt(now, b*Block); err != nil {
			return err
		}
		m.changed[b] = true
		m.done++
	}
	if m.done < want {
		return fmt.Errorf("workload: only %d of %d blocks could be changed: the image is too small or too empty", m.done, want)
	}
	return nil
}

// extents joins the changed blocks.
func (m *mutation) extents() []Extent {
	var es []Extent
	for i, c := range m.changed {
		if !c {
			continue
		}
		off := int64(i) * Block
		if k := len(es) - 1; k >= 0 && es[k].Offset+es[k].Length == off {
			es[k].Length += Block
		} else {
			es = append(es, Extent{off, Block})
		}
	}
	return es
}
