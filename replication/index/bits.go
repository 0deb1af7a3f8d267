package index

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// What is remembered of pages of level 0, by chunks of 32768 pages (256 GiB of volume).
const (
	chunkBytes = 4096
	chunkWords = chunkBytes / 8
	chunkPages = chunkBytes * 8
)

// chunk has four bits for each page. All but verified are changed under Index.mu only.
type chunk struct {
	// unknown: nothing is known of the page, whatever is at its place.
	unknown [chunkWords]uint64
	// held: not unknown any more, but still marked on disk, until the page is durable.
	held [chunkWords]uint64
	// dirty: changed since Commit, so the entry above is old. What is on disk is believed.
	dirty [chunkWords]uint64
	// verified: matched its entry since Open. Set by readers.
	verified [chunkWords]uint64

	anyHeld, anyDirty bool
}

// chunk gives a chunk, reading its bitmap when it is first needed.
func (x *Index) chunk(c int64) (*chunk, error) {
	if k := x.chunks[c].Load(); k != nil {
		return k, nil
	}
	k := new(chunk)
	b := unsafe.Slice((*byte)(unsafe.Pointer(&k.unknown)), chunkBytes)
	if err := x.tree.read(b, x.chunkOffset(c)); err != nil {
		return nil, err
	}
	if !x.chunks[c].CompareAndSwap(nil, k) {
		k = x.chunks[c].Load()
	}
	return k, nil
}

// writeChunk stores a chunk's bitmap.
func (x *Index) writeChunk(c int64, k *chunk) error {
	var out [chunkWords]uint64
	for i := range out {
		out[i] = k.unknown[i] | k.held[i]
	}
	return x.tree.write(unsafe.Slice((*byte)(unsafe.Pointer(&out)), chunkBytes), x.chunkOffset(c))
}

// flags of one page.
type flags struct{ unknown, dirty, verified bool }

func (x *Index) flags(n int64) (flags, error) {
	k, err := x.chunk(n / chunkPages)
	if err != nil {
		return flags{}, err
	}
	w, bit := n%chunkPages/64, uint64(1)<<(n%64)
	return flags{
		unknown:  k.unknown[w]&bit != 0,
		dirty:    k.dirty[w]&bit != 0,
		verified: atomic.LoadUint64(&k.verified[w])&bit != 0,
	}, nil
}

func (x *Index) setVerified(n int64) {
	k := x.chunks[n/chunkPages].Load()
	atomic.OrUint64(&k.verified[n%chunkPages/64], uint64(1)<<(n%64))
}

// marks is what eachWord's callers do to the bits of mask in word w.
type marks func(k *chunk, w int, mask uint64)

// eachWord goes over the words that have the pages from lo up to, without, hi. With store
// the bitmaps are written.
func (x *Index) eachWord(lo, hi int64, store bool, do marks) error {
	for lo < hi {
		c := lo / chunkPages
		end := min(hi, (c+1)*chunkPages)
		k, err := x.chunk(c)
		if err != nil {
			return err
		}
		for lo < end {
			stop := min(end, (lo/64+1)*64)
			mask := ^uint64(0) << (lo % 64)
			if stop%64 != 0 {
				mask &= 1<<(stop%64) - 1
			}
			do(k, int(lo%chunkPages/64), mask)
			lo = stop
		}
		if store {
			if err := x.writeChunk(c, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *Index) markDirty(lo, hi int64) error {
	x.dirty = true
	return x.eachWord(lo, hi, false, func(k *chunk, w int, mask uint64) {
		k.dirty[w] |= mask
		k.anyDirty = true
	})
}

// markUnknown makes whole pages unknown; with lost only those that did not change since
// Commit, whose entries cannot be read any more.
func (x *Index) markUnknown(lo, hi int64, lost bool) error {
	x.dirty = true
	return x.eachWord(lo, hi, true, func(k *chunk, w int, mask uint64) {
		if lost {
			mask &^= k.dirty[w]
		}
		k.unknown[w] |= mask
		k.held[w] &^= mask
		k.dirty[w] |= mask
		k.anyDirty = true
	})
}

// markStored says that pages are at their places now. On disk they stay unknown
// until Sync.
func (x *Index) markStored(lo, hi int64) error {
	return x.eachWord(lo, hi, false, func(k *chunk, w int, mask uint64) {
		if mask &= k.unknown[w]; mask != 0 {
			k.unknown[w] &^= mask
			k.held[w] |= mask
			k.anyHeld, x.held = true, true
		}
	})
}

// releaseHeld clears on disk the bits of pages that are durable by now.
func (x *Index) releaseHeld() error {
	for c := range x.chunks {
		k := x.chunks[c].Load()
		if k == nil || !k.anyHeld {
			continue
		}
		k.held, k.anyHeld = [chunkWords]uint64{}, false
		if err := x.writeChunk(int64(c), k); err != nil {
			return err
		}
	}
	x.held = false
	return nil
}

// markCommitted turns dirty into verified.
func (x *Index) markCommitted() {
	for c := range x.chunks {
		k := x.chunks[c].Load()
		if k == nil || !k.anyDirty {
			continue
		}
		for w, d := range k.dirty {
			k.verified[w] |= d
		}
		k.dirty, k.anyDirty = [chunkWords]uint64{}, false
	}
	x.dirty = false
}

// nextDirty gives the first dirty page from lo on, or hi; with unknown the first that
// is both.
func (x *Index) nextDirty(lo, hi int64, unknown bool) int64 {
	for lo < hi {
		k := x.chunks[lo/chunkPages].Load()
		end := min(hi, (lo/chunkPages+1)*chunkPages)
		if k == nil || !k.anyDirty {
			lo = end
			continue
		}
		for lo < end {
			w := lo % chunkPages / 64
			word := k.dirty[w]
			if unknown {
				word &= k.unknown[w]
			}
			if word &= ^uint64(0) << (lo % 64); word != 0 {
				return min(hi, lo/64*64+int64(bits.TrailingZeros64(word)))
			}
			lo = (lo/64 + 1) * 64
		}
		lo = min(lo, end)
	}
	return hi
}
