package workload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Extent is a range of an image in bytes.
type Extent struct{ Offset, Length int64 }

// Sum returns how many bytes the extents hold.
func Sum(es []Extent) int64 {
	var n int64
	for _, e := range es {
		n += e.Length
	}
	return n
}

// Split cuts the extents into pieces of at most n bytes.
func Split(es []Extent, n int64) []Extent {
	var out []Extent
	for _, e := range es {
		for e.Length > 0 {
			k := min(n, e.Length)
			out = append(out, Extent{e.Offset, k})
			e.Offset += k
			e.Length -= k
		}
	}
	return out
}

// WriteMap writes the extents to a file, a line "OFFSET LENGTH" each.
func WriteMap(path string, es []Extent) error {
	var b bytes.Buffer
	for _, e := range es {
		fmt.Fprintf(&b, "%d %d\n", e.Offset, e.Length)
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// ReadMap reads what WriteMap wrote.
func ReadMap(path string) ([]Extent, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var es []Extent
	for s := bufio.NewScanner(f); s.Scan(); {
		var e Extent
		if _, err := fmt.Sscanf(s.Text(), "%d %d", &e.Offset, &e.Length); err != nil {
			return nil, fmt.Errorf("%s, line %d: want OFFSET LENGTH: %w", path, len(es)+1, err)
		}
		es = append(es, e)
	}
	return es, nil
}

// DataExtents lists the ranges of f below size that are not holes.
func DataExtents(f *os.File, size int64) ([]Extent, error) {
	var es []Extent
	for pos := int64(0); pos < size; {
		data, err := unix.Seek(int(f.Fd()), pos, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("find the holes of %s: %w", f.Name(), err)
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("find the holes of %s: %w", f.Name(), err)
		}
		hole = min(hole, size)
		es = append(es, Extent{data, hole - data})
		pos = hole
	}
	return es, nil
}

// CreateSparse makes path an empty image: one hole of size bytes.
func CreateSparse(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Close()
}

// CopySparse copies from to to; holes stay holes, allocated zeros stay allocated.
func CopySparse(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	es, err := DataExtents(in, st.Size())
	if err != nil {
		return err
	}
	if err := CreateSparse(to, st.Size()); err != nil {
		return err
	}
	return CopyRanges(to, from, es)
}

// CopyPacked copies the image from to to; pieces of zeros become holes.
func CopyPacked(to, from string) error {
	in, size, es, err := openData(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := CreateSparse(to, size); err != nil {
		return err
	}
	var used []Extent
	const piece = 64 << 10
	buf, zero := make([]byte, piece), make([]byte, piece)
	for _, e := range Split(es, piece) {
		if err := readFull(in, buf[:e.Length], e.Offset); err != nil {
			return err
		}
		if !bytes.Equal(buf[:e.Length], zero[:e.Length]) {
			used = append(used, e)
		}
	}
	return CopyRanges(to, from, used)
}

// CopyRanges writes the extents of image from into image to.
func CopyRanges(to, from string, es []Extent) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, 4<<20)
	for _, e := range Split(es, int64(len(buf))) {
		p := buf[:e.Length]
		if _, err := in.ReadAt(p, e.Offset); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := out.WriteAt(p, e.Offset); err != nil {
			return err
		}
	}
	return out.Close()
}
