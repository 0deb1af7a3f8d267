package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FIEMAP is described in Documentation/filesystems/fiemap.rst of the kernel.
const (
	iocFiemap      = 0xc020660b // _IOWR('f', 11, struct fiemap)
	fiemapSync     = 0x1
	fiemapHeader   = 32 // bytes of struct fiemap
	fiemapExtent   = 56 // bytes of struct fiemap_extent
	fiemapPerCall  = 1024
	flagLast       = 0x1
	flagUnwritten  = 0x800
	flagMerged     = 0x1000
	flagShared     = 0x2000
	flagsOfPlain   = flagLast | flagMerged | flagShared
	flagsOfReserve = flagsOfPlain | flagUnwritten
)

// kind is what is known about the bytes of a run.
type kind byte

const (
	kindZero    kind = iota // a hole, or space that was reserved and never written
	kindData                // bytes that lie at a place on the disk
	kindUnknown             // not written yet, or stored in a way that a place does not tell
)

// run is a range of a file, and where its bytes lie. Two runs of data are the same bytes
// when they are in the same extent at the same place. Extent is 0 where the whole disk
// is one space, and the place a position in it.
type run struct {
	start, end int64
	kind       kind
	extent     uint64
	place      uint64
}

// from is what is left of a run from an offset within it.
func (r run) from(off int64) run {
	if r.kind == kindData {
		r.place += uint64(off - r.start)
	}
	r.start = off
	return r
}

// same tells that two runs that start at one offset have the same bytes.
func (r run) same(o run) bool {
	switch {
	case r.kind != o.kind || r.kind == kindUnknown:
		return false
	case r.kind == kindZero:
		return true
	}
	return r.extent == o.extent && r.place == o.place
}

// errNoMap is the error for files whose map cannot be had, or not be trusted.
var errNoMap = errors.New("the file system does not tell where the bytes of a file lie")

// fiemapReader reads the runs of a file's map by FIEMAP.
type fiemapReader struct {
	f   *os.File
	buf []byte
}

func newFiemapReader(f *os.File) *fiemapReader {
	return &fiemapReader{f: f, buf: make([]byte, fiemapHeader+fiemapPerCall*fiemapExtent)}
}

// read gives the next runs after off without holes between them; none at the end of
// the map. The kernel writes back first what is not on the disk yet.
func (m *fiemapReader) read(off int64) (runs []run, last bool, err error) {
	h := m.buf[:fiemapHeader]
	clear(h)
	binary.NativeEndian.PutUint64(h[0:], uint64(off))
	binary.NativeEndian.PutUint64(h[8:], math.MaxUint64-uint64(off))
	binary.NativeEndian.PutUint32(h[16:], fiemapSync)
	binary.NativeEndian.PutUint32(h[24:], uint32((len(m.buf)-fiemapHeader)/fiemapExtent))
	if err := ioctl(m.f, iocFiemap, m.buf); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EBADR) {
			return nil, false, errNoMap
		}
		return nil, false, fmt.Errorf("map of %s: %w", m.f.Name(), err)
	}
	return parseFiemap(m.buf, off)
}

// parseFiemap checks and converts the answer to a question for what is after off.
func parseFiemap(buf []byte, off int64) (runs []run, last bool, err error) {
	if len(buf) < fiemapHeader {
		return nil, false, errNoMap
	}
	n := int64(binary.NativeEndian.Uint32(buf[20:]))
	if n > int64(len(buf)-fiemapHeader)/fiemapExtent {
		return nil, false, errNoMap
	}
	runs = make([]run, 0, n)
	for e := buf[fiemapHeader:]; n > 0; n, e = n-1, e[fiemapExtent:] {
		logical, physical := binary.NativeEndian.Uint64(e[0:]), binary.NativeEndian.Uint64(e[8:])
		length, flags := binary.NativeEndian.Uint64(e[16:]), binary.NativeEndian.Uint32(e[40:])
		if length == 0 || length > math.MaxInt64 || logical > math.MaxInt64-length || physical > math.MaxUint64-length {
			return nil, false, errNoMap
		}
		r := run{start: int64(logical), end: int64(logical + length), kind: kindOf(flags), place: physical}
		if len(runs) == 0 && r.start < off && off < r.end {
			r = r.from(off) // it began before
		}
		if r.start < off {
			return nil, false, errNoMap // runs overlap: not to be trusted
		}
		runs, off, last = append(runs, r), r.end, flags&flagLast != 0
	}
	return runs, last || len(runs) == 0, nil
}

// kindOf takes only those bytes for data at a place whose flags say nothing else.
// Compressed ones (ENCODED) are not: for an offset within a compressed extent btrfs
// gives the begin of the extent plus the offset, which is a place within the next one.
func kindOf(flags uint32) kind {
	switch {
	case flags&^uint32(flagsOfPlain) == 0:
		return kindData
	case flags&^uint32(flagsOfReserve) == 0:
		return kindZero
	}
	return kindUnknown
}

// ioctl passes a buffer to the kernel.
func ioctl(f *os.File, request uintptr, buf []byte) error {
	return onDescriptor(f, func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(unsafe.SliceData(buf)))); errno != 0 {
			return errno
		}
		return nil
	})
}
