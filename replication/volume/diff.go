package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// MaxDiffExtents is how many extents Diff gives at most (8 MiB of memory). Where there are
// more, those that are close to each other are joined.
const MaxDiffExtents = 1 << 19

// Diff tells which ranges of the file new may have other bytes than the file old, without
// reading either: both are reflink clones on one btrfs or xfs, or snapshots of a btrfs
// subvolume, and where both maps name the same place on the disk the bytes are the same.
// All else is given as changed, so the answer may have too much in it, never too little;
// what is beyond the end of old is given too. known is false where this file system,
// or this pair, does not tell; then all has to be read.
//
// Nobody may write to either file meanwhile, so new is best a clone as well. What the
// answer says about a target holds only if old still has the bytes that the target got:
// keep its Identity and ask Unchanged.
//
// The cost is that of the two maps, not of the bytes: memory does not grow with them. On
// btrfs, compressed extents are only comparable for root.
func Diff(ctx context.Context, old, new string) (changed []Extent, known bool, err error) {
	a, err := os.Open(old)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := os.Open(new)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	changed, err = diffFiles(ctx, a, b)
	if errors.Is(err, errNoMap) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("changes from %s to %s: %w", old, new, err)
	}
	return changed, true, nil
}

func diffFiles(ctx context.Context, a, b *os.File) ([]Extent, error) {
	fs, err := commonFileSystem(a, b)
	if err != nil {
		return nil, err
	}
	old, err := newMapping(a, fs)
	if err != nil {
		return nil, err
	}
	new, err := newMapping(b, fs)
	if err != nil {
		return nil, err
	}
	return diffMappings(ctx, old, new, MaxDiffExtents)
}

func diffMappings(ctx context.Context, old, new *mapping, limit int) ([]Extent, error) {
	changes := changeList{max: limit}
	if err := compare(ctx, old, new, &changes); err != nil {
		return nil, err
	}
	return changes.extents, old.confirm(ctx)
}

// compare adds where two maps differ, up to the end of new.
func compare(ctx context.Context, old, new *mapping, changes *changeList) error {
	var a, b run
	for off := int64(0); off < new.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if off == a.end && off < old.size {
			if a, err = old.next(); err != nil {
				return err
			}
		}
		if off == b.end {
			if b, err = new.next(); err != nil {
				return err
			}
		}
		if off >= old.size {
			changes.add(off, new.size)
			break
		}
		end := min(a.end, b.end)
		if !a.from(off).same(b.from(off)) {
			changes.add(off, end)
		}
		off = end
	}
	return old.drain(ctx)
}

// changeList collects ranges that ascend.
type changeList struct {
	extents []Extent
	max     int
}

func (c *changeList) add(start, end int64) {
	if n := len(c.extents); n > 0 && start == c.extents[n-1].End() {
		c.extents[n-1].Length = end - c.extents[n-1].Offset
		return
	}
	if c.extents = append(c.extents, Extent{start, end - start}); len(c.extents) > c.max {
		c.thin()
	}
}

// thin joins the ranges that are closest to each other, up to half of them; of those that
// are equally far apart, pairs.
func (c *changeList) thin() {
	gaps := make([]int64, 0, len(c.extents))
	for i, e := range c.extents[1:] {
		gaps = append(gaps, e.Offset-c.extents[i].End())
	}
	slices.Sort(gaps)
	median := gaps[len(gaps)/2]
	kept, joined := c.extents[:1], false
	for _, e := range c.extents[1:] {
		last := &kept[len(kept)-1]
		gap := e.Offset - last.End()
		if joined = gap < median || gap == median && !joined; joined {
			last.Length = e.End() - last.Offset
		} else {
			kept = append(kept, e)
		}
	}
	c.extents = kept
}
