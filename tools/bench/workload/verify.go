package workload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// Verify compares two images byte for byte and returns an error that says how
// many blocks of 4 KiB differ. Ranges that are holes in both are not read.
func Verify(want, got string) error {
	a, sizeA, dataA, err := openData(want)
	if err != nil {
		return err
	}
	defer a.Close()
	b, sizeB, dataB, err := openData(got)
	if err != nil {
		return err
	}
	defer b.Close()
	if sizeA != sizeB {
		return fmt.Errorf("wrong result: %s has %d bytes, %s has %d", want, sizeA, got, sizeB)
	}
	const piece = 1 << 20
	pieces := Split(union(dataA, dataB), piece)
	var next, bad atomic.Int64
	var errs [2]error
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			x, y := make([]byte, piece), make([]byte, piece)
			for k := next.Add(1) - 1; k < int64(len(pieces)); k = next.Add(1) - 1 {
				e := pieces[k]
				if errs[w] = errors.Join(readFull(a, x[:e.Length], e.Offset), readFull(b, y[:e.Length], e.Offset)); errs[w] != nil {
					return
				}
				bad.Add(differing(x[:e.Length], y[:e.Length]))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if n := bad.Load(); n != 0 {
		return fmt.Errorf("wrong result: %s differs from %s in %d blocks of 4 KiB", got, want, n)
	}
	return nil
}

func openData(path string) (*os.File, int64, []Extent, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, 0, nil, err
	}
	es, err := DataExtents(f, size)
	if err != nil {
		f.Close()
		return nil, 0, nil, err
	}
	return f, size, es, nil
}

func readFull(f *os.File, p []byte, off int64) error {
	if n, err := f.ReadAt(p, off); n < len(p) {
		return fmt.Errorf("read %s at %d: %w", f.Name(), off, err)
	}
	return nil
}

func differing(x, y []byte) int64 {
	if bytes.Equal(x, y) {
		return 0
	}
	var n int64
	for i := 0; i < len(x); i += Block {
		if e := min(i+Block, len(x)); !bytes.Equal(x[i:e], y[i:e]) {
			n++
		}
	}
	return n
}

// union joins two lists of extents into one without overlaps.
func union(a, b []Extent) []Extent {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y Extent) int { return int(min(max(x.Offset-y.Offset, -1), 1)) })
	var out []Extent
	for _, e := range all {
		if k := len(out) - 1; k >= 0 && e.Offset <= out[k].Offset+out[k].Length {
			out[k].Length = max(out[k].Length, e.Offset+e.Length-out[k].Offset)
		} else {
			out = append(out, e)
		}
	}
	return out
}
