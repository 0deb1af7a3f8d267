package workload

import (
	"errors"
	"fmt"
	"io"
	"os"
)

const spreadPieces = 256

// Spread makes the image to of size bytes with the data of the smaller image
// from: its 256 pieces stand at even distances, holes between them. So images
// of any size hold the same data. Size must be a multiple of from's.
func Spread(to, from string, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if st.Size()%(spreadPieces*Block) != 0 || size%st.Size() != 0 {
		return fmt.Errorf("spread %s of %d bytes over %d: not a multiple", from, st.Size(), size)
	}
	if err := CreateSparse(to, size); err != nil {
		return err
	}
	es, err := DataExtents(in, st.Size())
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, 1<<20)
	for _, e := range Split(es, Block) {
		p := buf[:e.Length]
		if _, err := in.ReadAt(p, e.Offset); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := out.WriteAt(p, spreadOffset(e.Offset, st.Size(), size)); err != nil {
			return err
		}
	}
	return out.Close()
}

// SpreadExtents returns where Spread puts the extents of an image of small
// bytes that is spread over size bytes.
func SpreadExtents(es []Extent, small, size int64) []Extent {
	var out []Extent
	for _, e := range Split(es, Block) {
		off := spreadOffset(e.Offset, small, size)
		if k := len(out) - 1; k >= 0 && out[k].Offset+out[k].Length == off {
			out[k].Length += e.Length
		} else {
			out = append(out, Extent{off, e.Length})
		}
	}
	return out
}

func spreadOffset(off, small, size int64) int64 {
	piece := small / spreadPieces
	return off/piece*(size/spreadPieces) + off%piece
}
