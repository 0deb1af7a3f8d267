package store

import (
	"cmp"
	"maps"
	"slices"
	"sort"

	"lifeboat/replication/block"
)

const (
	// A batch is stored when it has so many pieces (16 MiB) or zeroed ranges.
	batchPieces = 256
	batchRanges = 1024
)

// batch is what was written and is not stored yet.
type batch struct {
	data  map[int64][]byte // by piece; they count before zeros
	zeros []span           // ascending, disjoint
}

func newBatch() *batch { return &batch{data: map[int64][]byte{}} }

func (b *batch) isEmpty() bool { return len(b.data)+len(b.zeros) == 0 }

func (b *batch) isFull() bool { return len(b.data) >= batchPieces || len(b.zeros) >= batchRanges }

// free gives the buffers back.
func (b *batch) free(s *Store) {
	for _, p := range b.data {
		s.release(p)
	}
}

// find looks for a piece; nil data are zeros.
func (b *batch) find(number int64) (known bool, data []byte) {
	if data, known = b.data[number]; known {
		return true, data
	}
	return len(within(b.zeros, number, number+1)) > 0, nil
}

// next gives the first piece from one on that may hold data.
func (b *batch) next(from int64) (number int64, ok bool) {
	for n := range b.data {
		if n >= from && (!ok || n < number) {
			number, ok = n, true
		}
	}
	return number, ok
}

// zero makes whole pieces zeros.
func (b *batch) zero(first, end int64, s *Store) {
	if end <= first {
		return
	}
	for n, p := range b.data {
		if n >= first && n < end {
			delete(b.data, n)
			s.release(p)
		}
	}
	// Neighbours become one range.
	from := sort.Search(len(b.zeros), func(i int) bool { return b.zeros[i].end >= first })
	to := sort.Search(len(b.zeros), func(i int) bool { return b.zeros[i].first > end })
	if from < to {
		first, end = min(first, b.zeros[from].first), max(end, b.zeros[to-1].end)
	}
	b.zeros = slices.Replace(b.zeros, from, to, span{first: first, end: end})
}

// spans is what a batch does to a tree: zeroed ranges without what was written into
// them later, and data with the hashes given; ascending.
func (b *batch) spans(hashes map[int64]block.Hash) []span {
	data := slices.SortedFunc(maps.Keys(b.data), cmp.Compare[int64])
	var out []span
	for _, z := range b.zeros {
		at := sort.Search(len(data), func(i int) bool { return data[i] >= z.first })
		for ; at < len(data) && data[at] < z.end; at++ {
			if data[at] > z.first {
				out = append(out, span{first: z.first, end: data[at]})
			}
			z.first = data[at] + 1
		}
		if z.first < z.end {
			out = append(out, z)
		}
	}
	for _, n := range data {
		out = append(out, span{n, n + 1, hashes[n]})
	}
	slices.SortFunc(out, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	return out
}
