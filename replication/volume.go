package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SourceVolume is a disk that is read. Its methods may be called at once from
// several goroutines.
type SourceVolume interface {
	io.ReaderAt
	io.Closer
	// Size in bytes.
	Size() int64
	// NextData gives the first range at or after off that may hold other bytes
	// than zeros; io.EOF when there is none.
	NextData(off int64) (start, end int64, err error)
}

// TargetVolume is a disk that is written.
type TargetVolume interface {
	SourceVolume
	io.WriterAt
	// Zero makes a range read as zeros, by a hole where that is possible.
	Zero(off, n int64) error
	// Sync makes everything written durable.
	Sync() error
}

// Extent is a range of a disk.
type Extent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// Changes is the answer of a Tracker. Known false means "read everything".
type Changes struct {
	Known   bool
	Extents []Extent
	// Token names this moment; it is given back as since once the pass that
	// read these extents is verified.
	Token string
}

// Tracker knows which ranges of a disk changed. It may name too many, and where it does
// not know, the disk is scanned; but a changed range that it leaves out is not read. Its
// word counts only while the index is as the last verified pass left it.
type Tracker interface {
	// Changes since the moment that since names; "" is the beginning.
	Changes(ctx context.Context, stream string, disk Disk, since string) (Changes, error)
}

// fileVolume is a raw file or a block device.
type fileVolume struct {
	f      *os.File
	size   int64
	device bool
	direct bool
}

// OpenVolume opens a raw file or a block device for reading. Devices are
// read past the page cache, which may be older than what is on the disk.
func OpenVolume(path string) (SourceVolume, error) { return openFile(path, false) }

// OpenTargetVolume opens a raw file or a block device for writing.
func OpenTargetVolume(path string) (TargetVolume, error) { return openFile(path, true) }

func openFile(path string, write bool) (*fileVolume, error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	v := &fileVolume{device: st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0}
	if !v.device && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is neither a file nor a block device", ErrInvalidSpec, path)
	}
	if v.device && !write {
		if v.f, err = os.OpenFile(path, flags|unix.O_DIRECT, 0); err == nil {
			v.direct = true
		}
	}
	if v.f == nil {
		if v.f, err = os.OpenFile(path, flags, 0); err != nil {
			return nil, err
		}
	}
	if v.size, err = v.f.Seek(0, io.SeekEnd); err != nil {
		return nil, errors.Join(err, v.f.Close())
	}
	return v, nil
}

func (v *fileVolume) Size() int64  { return v.size }
func (v *fileVolume) Close() error { return v.f.Close() }

// directAlign suits all devices with logical blocks of up to 4 KiB.
const directAlign = 4096

func (v *fileVolume) ReadAt(p []byte, off int64) (int, error) {
	if !v.direct {
		return v.f.ReadAt(p, off)
	}
	if aligned(p) && off%directAlign == 0 && len(p)%directAlign == 0 {
		return v.f.ReadAt(p, off)
	}
	start := off &^ (directAlign - 1)
	buf := alignedBuffer(int((off + int64(len(p)) - start + directAlign - 1) &^ (directAlign - 1)))
	n, err := v.f.ReadAt(buf, start)
	n = copy(p, buf[min(off-start, int64(n)):n])
	if n == len(p) {
		return n, nil
	}
	return n, err
}

func (v *fileVolume) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > v.size {
		return 0, fmt.Errorf("write of %d bytes at %d is beyond the end of %s (%d bytes)", len(p), off, v.f.Name(), v.size)
	}
	return v.f.WriteAt(p, off)
}

func (v *fileVolume) NextData(off int64) (start, end int64, err error) {
	if off >= v.size {
		return 0, 0, io.EOF
	}
	if v.device {
		return off, v.size, nil
	}
	fd := int(v.f.Fd())
	start, err = unix.Seek(fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return off, v.size, nil // no such thing on this file system: all may be data
	}
	if end, err = unix.Seek(fd, start, unix.SEEK_HOLE); err != nil {
		end = v.size
	}
	return start, min(end, v.size), nil
}

// Zero punches a hole; devices and file systems without holes are written.
func (v *fileVolume) Zero(off, n int64) error {
	if off < 0 || n < 0 || off+n > v.size {
		return fmt.Errorf("hole of %d bytes at %d is beyond the end of %s", n, off, v.f.Name())
	}
	if err := unix.Fallocate(int(v.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n); err == nil {
		return nil
	}
	for n > 0 {
		k := min(n, int64(len(zeros)))
		if _, err := v.f.WriteAt(zeros[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

func (v *fileVolume) Sync() error { return unix.Fdatasync(int(v.f.Fd())) }

func aligned(p []byte) bool {
	return len(p) > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%directAlign == 0
}

// alignedBuffer gives memory that direct I/O accepts.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+directAlign)
	skip := 0
	if r := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) % directAlign); r != 0 {
		skip = directAlign - r
	}
	return b[skip : skip+n : skip+n]
}

// RootOf computes the root of a volume by reading all its data: the same string as
// in PointDisk.Root when the contents are the same.
func RootOf(ctx context.Context, v SourceVolume) (string, error) {
	geo := geometry{v.Size()}
	buf := alignedBuffer(PieceSize)
	nodes := map[int64]hash{}
	for region := range geo.regions() {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		start, _, err := v.NextData(region * RegionSize)
		if errors.Is(err, io.EOF) || err == nil && start >= (region+1)*RegionSize {
			continue
		}
		if err != nil {
			return "", err
		}
		var pieces [piecesPerRegion]hash
		for p := range geo.regionPieces(region) {
			off, n := geo.piece(region, p)
			if err := readFull(v, buf[:n], off); err != nil {
				return "", fmt.Errorf("read at offset %d: %w", off, err)
			}
			pieces[p] = pieceHash(buf[:n])
		}
		nodes[region] = nodeHash(&pieces)
	}
	return rootString(rootHash(geo.size, func(r int64) hash { return nodes[r] })), nil
}

// RootOfFile is RootOf for a path.
func RootOfFile(ctx context.Context, path string) (string, error) {
	v, err := OpenVolume(path)
	if err != nil {
		return "", err
	}
	root, err := RootOf(ctx, v)
	if err != nil {
		return "", errors.Join(fmt.Errorf("root of %s: %w", path, err), v.Close())
	}
	return root, v.Close()
}

// readFull reads exactly len(p) bytes.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
