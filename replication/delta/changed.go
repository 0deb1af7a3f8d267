package delta

import (
	"cmp"
	"slices"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"
)

// blockSet marks blocks of a region, a word for each chunk of 256 KiB.
type blockSet [block.PerRegion / 64]uint64

// changedList answers which blocks a tracker named.
type changedList struct {
	extents []volume.Extent // ascending, disjoint
	end     int64           // regions of the volume
}

// newChangedList sorts and joins extents, and cuts them at the end of the volume.
func newChangedList(extents []volume.Extent, geo block.Geometry) *changedList {
	sorted := slices.SortedFunc(slices.Values(extents), func(a, b volume.Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	c := &changedList{end: geo.Regions()}
	for _, e := range sorted {
		end := min(e.Offset+e.Length, geo.Size)
		e.Offset = max(e.Offset, 0) &^ (block.Size - 1)
		if end <= e.Offset {
			continue
		}
		if k := len(c.extents) - 1; k >= 0 && e.Offset <= c.extents[k].Offset+c.extents[k].Length {
			last := &c.extents[k]
			last.Length = max(last.Length, end-last.Offset)
			continue
		}
		c.extents = append(c.extents, volume.Extent{Offset: e.Offset, Length: end - e.Offset})
	}
	return c
}

// from gives the index of the first extent that ends behind off.
func (c *changedList) from(off int64) int {
	i, _ := slices.BinarySearchFunc(c.extents, off, func(e volume.Extent, off int64) int {
		if e.Offset+e.Length <= off {
			return -1
		}
		return 1
	})
	return i
}

// next gives the first region at or after one that was named; behind the end if there is none.
func (c *changedList) next(region int64) int64 {
	i := c.from(region * block.Region)
	if i == len(c.extents) {
		return c.end
	}
	return max(region, c.extents[i].Offset/block.Region)
}

// blocks gives the named blocks of a region.
func (c *changedList) blocks(region int64) (s blockSet) {
	begin, end := region*block.Region, (region+1)*block.Region
	for i := c.from(begin); i < len(c.extents) && c.extents[i].Offset < end; i++ {
		e := c.extents[i]
		first := (max(e.Offset, begin) - begin) / block.Size
		last := (min(e.Offset+e.Length, end) - begin + block.Size - 1) / block.Size
		for b := first; b < last; b++ {
			s[b/64] |= 1 << (b % 64)
		}
	}
	return s
}
