package delta

import (
	"bytes"
	"context"
	"errors"
	"io"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"

	"golang.org/x/sync/errgroup"
)

// compareWindow is what a worker compares at once; compareRead is read at once.
const (
	compareWindow = 64 << 20
	compareRead   = 1 << 20
)

// compareHere compares two volumes byte for byte, two windows at a time.
func (c *CompareConfig) compareHere(ctx context.Context, a, b volume.Source, size int64, res *Comparison) error {
	// Windows are compared in any order, and told in theirs.
	queue := make(chan chan []volume.Extent, 2*readers)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers + 1)
	g.Go(func() error {
		defer close(queue)
		for off := int64(0); off < size; off += compareWindow {
			start, err := firstData(off, size, a, b)
			if err != nil {
				return err
			}
			if off = start - start%compareWindow; off >= size {
				return nil
			}
			done := make(chan []volume.Extent, 1)
			select {
			case queue <- done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			g.Go(func() error {
				ranges, err := c.window(ctx, a, b, off, min(off+compareWindow, size))
				done <- ranges
				return err
			})
		}
		return nil
	})
	for done := range queue {
		for _, e := range <-done {
			res.add(e.Offset, e.Length, c.Most)
		}
	}
	return g.Wait()
}

// firstData gives the first offset from off on where one of the volumes has data, or size.
func firstData(off, size int64, volumes ...volume.Source) (int64, error) {
	first := size
	for _, v := range volumes {
		start, _, err := v.NextData(off)
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return 0, err
		}
		first = min(first, max(start, off))
	}
	return first, nil
}

// window compares a range of two volumes.
func (c *CompareConfig) window(ctx context.Context, a, b volume.Source, off, end int64) (ranges []volume.Extent, err error) {
	bufA, bufB := volume.Buffer(compareRead), volume.Buffer(compareRead)
	for off < end {
		start, err := firstData(off, end, a, b)
		if err != nil || start >= end {
			return ranges, err
		}
		off = start &^ (block.Size - 1)
		n := min(compareRead-off%compareRead, end-off)
		pa, pb := bufA[:n], bufB[:n]
		if err := errors.Join(c.read(a, "A", pa, off), c.read(b, "B", pb, off), context.Cause(ctx)); err != nil {
			return nil, err
		}
		if !bytes.Equal(pa, pb) {
			ranges = appendDiffering(ranges, pa, pb, off)
		}
		off += n
	}
	return ranges, nil
}

func (c *CompareConfig) read(v volume.Source, name string, p []byte, off int64) error {
	if err := volume.ReadFull(v, p, off); err != nil {
		return &ReadError{Disk: name, Offset: off, Length: len(p), Err: err}
	}
	c.Meter.Scanned.Add(int64(len(p)))
	return nil
}

// appendDiffering adds the blocks that differ, neighbours as one range.
func appendDiffering(ranges []volume.Extent, a, b []byte, off int64) []volume.Extent {
	for at := 0; at < len(a); at += block.Size {
		end := min(at+block.Size, len(a))
		if bytes.Equal(a[at:end], b[at:end]) {
			continue
		}
		begin := off + int64(at)
		if k := len(ranges) - 1; k >= 0 && ranges[k].End() == begin {
			ranges[k].Length += int64(end - at)
			continue
		}
		ranges = append(ranges, volume.Extent{Offset: begin, Length: int64(end - at)})
	}
	return ranges
}
