package volume

import (
	"errors"
	"io"
	"unsafe"
)

// Extent is a range of a volume, in bytes.
type Extent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// End is the first byte after an extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// Source is a disk that is read. Its methods may be called at once from several
// goroutines.
type Source interface {
	io.ReaderAt
	io.Closer
	// Size in bytes, as it was when the volume was opened.
	Size() int64
	// NextData gives the first range at or after off that may hold other bytes
	// than zeros; io.EOF when there is none.
	NextData(off int64) (start, end int64, err error)
}

// Target is a disk that is written. Two goroutines may write at once where their
// ranges do not overlap.
type Target interface {
	Source
	io.WriterAt
	// Zero makes a range read as zeros, by a hole where that is possible.
	Zero(off, n int64) error
	// Sync makes everything durable that was written before. Once it failed, it
	// fails until the volume is opened again: the kernel forgets what it could not
	// write, so nobody knows any more what is there.
	Sync() error
}

// Flusher is a target that can start to write a range to its disk without waiting for
// it, so that the Sync that follows has little left to do.
type Flusher interface {
	// Flush starts it. Only Sync says whether it went well.
	Flush(off, n int64) error
}

// Prefetcher is a source that can be told what will be read next.
type Prefetcher interface {
	// Prefetch starts to read a range ahead and does not wait for it.
	Prefetch(off, n int64) error
}

// Align suits direct I/O on all devices with logical blocks of up to 4 KiB. Reads of
// aligned buffers at aligned offsets are the fast ones; others work too.
const Align = 4096

// Buffer gives n bytes of memory at an address that is a multiple of Align.
func Buffer(n int) []byte {
	b := make([]byte, n+Align)
	skip := 0
	if r := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) % Align); r != 0 {
		skip = Align - r
	}
	return b[skip : skip+n : skip+n]
}

// isAligned tells that direct I/O accepts p.
func isAligned(p []byte) bool {
	return len(p) > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%Align == 0
}

// ReadFull reads exactly len(p) bytes. Where the volume ends before, the error is
// io.ErrUnexpectedEOF; the error of a disk is given as it is.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
