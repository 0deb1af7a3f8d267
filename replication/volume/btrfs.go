package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// The map of a file on btrfs, as its tree has it. In contrast to FIEMAP it tells which
// extent compressed bytes are in, and it does not search for who else shares each extent.
// Root may ask for it. The layouts are those of linux/btrfs.h and linux/btrfs_tree.h.
const (
	iocBtrfsFSInfo   = 0x8400941f // _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)
	iocBtrfsSearchV2 = 0xc0709411 // _IOWR(0x94, 17, struct btrfs_ioctl_search_args_v2)

	btrfsFSInfoSize   = 1024
	btrfsSearchArgs   = 112 // bytes of the question, and of the answer before its items
	btrfsSearchHeader = 32  // bytes before each item
	btrfsSearchBuffer = 64 << 10
	btrfsExtentItem   = 53 // bytes of struct btrfs_file_extent_item
	btrfsExtentData   = 108

	btrfsTypeRegular  = 1
	btrfsTypePrealloc = 2
)

// btrfsReader reads the runs of a file's map from the tree of its subvolume.
type btrfsReader struct {
	f     *os.File
	inode uint64
	buf   []byte
}

// newBtrfsReader also makes the tree complete: bytes that are still on their way to the disk
// are not in it. FIEMAP for one byte waits for those of the whole file.
func newBtrfsReader(f *os.File) (*btrfsReader, error) {
	_, inode, err := numbers(f)
	if err != nil {
		return nil, err
	}
	m := &btrfsReader{f: f, inode: inode, buf: make([]byte, btrfsSearchArgs+btrfsSearchBuffer)}
	if _, _, err := (&fiemapReader{f: f, buf: make([]byte, fiemapHeader+fiemapExtent)}).read(0); err != nil {
		return nil, err
	}
	_, _, err = m.read(0)
	return m, err
}

// read gives the next runs after off; none at the end. Without root the error is EPERM.
func (m *btrfsReader) read(off int64) (runs []run, last bool, err error) {
	h := m.buf[:btrfsSearchArgs]
	clear(h)
	// Tree 0 is that of the file. Key: inode, type, offset; the last key with an
	// offset up to off is not asked for, because reads start where a run ended.
	for i, v := range []uint64{0, m.inode, m.inode, uint64(off), math.MaxUint64, 0, math.MaxUint64} {
		binary.NativeEndian.PutUint64(h[8*i:], v)
	}
	for i, v := range []uint32{btrfsExtentData, btrfsExtentData, math.MaxUint32} {
		binary.NativeEndian.PutUint32(h[56+4*i:], v)
	}
	binary.NativeEndian.PutUint64(h[104:], btrfsSearchBuffer)
	if err := ioctl(m.f, iocBtrfsSearchV2, m.buf); err != nil {
		if errors.Is(err, unix.ENOTTY) {
			return nil, false, errNoMap
		}
		return nil, false, fmt.Errorf("map of %s: %w", m.f.Name(), err)
	}
	runs, err = parseBtrfs(m.buf, m.inode, off)
	return runs, len(runs) == 0, err
}

// parseBtrfs checks and converts the answer to a question for what is after off.
func parseBtrfs(buf []byte, inode uint64, off int64) (runs []run, err error) {
	if len(buf) < btrfsSearchArgs {
		return nil, errNoMap
	}
	n, items := binary.NativeEndian.Uint32(buf[64:]), buf[btrfsSearchArgs:]
	for ; n > 0; n-- {
		if len(items) < btrfsSearchHeader {
			return nil, errNoMap
		}
		h := items[:btrfsSearchHeader]
		objectid, offset := binary.NativeEndian.Uint64(h[8:]), binary.NativeEndian.Uint64(h[16:])
		itemType, length := binary.NativeEndian.Uint32(h[24:]), int(binary.NativeEndian.Uint32(h[28:]))
		items = items[btrfsSearchHeader:]
		if length > len(items) || objectid != inode || itemType != btrfsExtentData || offset > math.MaxInt64 {
			return nil, errNoMap
		}
		r, err := parseBtrfsExtent(items[:length], int64(offset))
		if err != nil {
			return nil, err
		}
		if r.start < off {
			return nil, errNoMap // runs overlap: not to be trusted
		}
		runs, off, items = append(runs, r), r.end, items[length:]
	}
	return runs, nil
}

func parseBtrfsExtent(item []byte, start int64) (run, error) {
	if len(item) < 21 {
		return run{}, errNoMap
	}
	memory, compression, kindOfExtent := binary.LittleEndian.Uint64(item[8:]), item[16], item[20]
	if kindOfExtent != btrfsTypeRegular && kindOfExtent != btrfsTypePrealloc {
		// The bytes are in the tree itself. Its length counts in whole blocks.
		if memory == 0 || memory > math.MaxInt64-Align || start > math.MaxInt64-int64(memory)-Align {
			return run{}, errNoMap
		}
		return run{start: start, end: start + int64(memory), kind: kindUnknown}, nil
	}
	if len(item) < btrfsExtentItem {
		return run{}, errNoMap
	}
	disk, offset, length := binary.LittleEndian.Uint64(item[21:]), binary.LittleEndian.Uint64(item[37:]), binary.LittleEndian.Uint64(item[45:])
	if length == 0 || length > math.MaxInt64 || start > math.MaxInt64-int64(length) || disk > math.MaxInt64 || offset > math.MaxInt64 {
		return run{}, errNoMap
	}
	r := run{start: start, end: start + int64(length), kind: kindData, place: disk + offset}
	encrypted := item[17] != 0 || item[18] != 0 || item[19] != 0
	switch {
	case encrypted:
		r.kind = kindUnknown
	case disk == 0 || kindOfExtent == btrfsTypePrealloc:
		r.kind = kindZero
	case compression != 0:
		r.extent, r.place = disk, offset
	}
	return r, nil
}

// btrfsID gives the identity of the whole file system that a file is on; device numbers
// are those of its subvolume.
func btrfsID(f *os.File) (id [16]byte, err error) {
	buf := make([]byte, btrfsFSInfoSize)
	if err := ioctl(f, iocBtrfsFSInfo, buf); err != nil {
		return id, fmt.Errorf("file system of %s: %w", f.Name(), err)
	}
	return [16]byte(buf[16:32]), nil
}
