package volume

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
)

// mapping gives the runs of a file one after the other, holes too.
type mapping struct {
	read func(off int64) (runs []run, last bool, err error)
	size int64

	off    int64 // up to which runs were given
	asked  int64 // up to which they were read
	ahead  []run // read and not given yet
	atLast bool
	sum    mapSum // over all that was given
}

func newMappingOf(size int64, read func(off int64) ([]run, bool, error)) *mapping {
	return &mapping{size: size, read: read, sum: mapSum{hash: xxh3.New()}}
}

// newFiemapMapping reads the map of a file by FIEMAP.
func newFiemapMapping(f *os.File) (*mapping, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return newMappingOf(st.Size(), newFiemapReader(f).read), nil
}

// newMapping chooses how the map of a file is read.
func newMapping(f *os.File, fs int64) (*mapping, error) {
	m, err := newFiemapMapping(f)
	if err != nil || fs != unix.BTRFS_SUPER_MAGIC {
		return m, err
	}
	tree, err := newBtrfsReader(f)
	if errors.Is(err, unix.EPERM) {
		return m, nil // only root may; FIEMAP does it for what is not compressed
	}
	if err != nil {
		return nil, err
	}
	m.read = tree.read
	return m, nil
}

// next gives the run that follows; io.EOF at the end of the file.
func (m *mapping) next() (run, error) {
	if m.off >= m.size {
		return run{}, io.EOF
	}
	if len(m.ahead) == 0 && !m.atLast {
		var err error
		if m.ahead, m.atLast, err = m.read(m.asked); err != nil {
			return run{}, err
		}
		if n := len(m.ahead); n > 0 {
			m.asked = m.ahead[n-1].end
		}
	}
	r := run{start: m.off, end: m.size}
	switch {
	case len(m.ahead) == 0: // a hole up to the end
	case m.ahead[0].start > m.off:
		r.end = min(m.size, m.ahead[0].start)
	default:
		r, m.ahead = m.ahead[0], m.ahead[1:]
		r.end = min(m.size, r.end)
	}
	m.off = r.end
	m.sum.add(r)
	return r, nil
}

// mapSum is a sum over a map that does not depend on how its runs are cut into parts: xfs
// cuts them where bytes are shared with other files, which changes with those.
type mapSum struct {
	hash    *xxh3.Hasher
	pending run
}

func (s *mapSum) add(r run) {
	p := s.pending
	if p.end == r.start && p.kind == r.kind && (p.kind != kindData || p.from(p.end).same(r)) {
		s.pending.end = r.end
		return
	}
	s.write()
	s.pending = r
}

func (s *mapSum) write() {
	p := s.pending
	var b []byte
	for _, v := range []uint64{uint64(p.start), uint64(p.end), uint64(p.kind), p.extent, p.place} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	s.hash.Write(b)
}

func (s *mapSum) value() xxh3.Uint128 {
	s.write()
	s.pending = run{}
	return s.hash.Sum128()
}

// drain gives all that is left, for its sum.
func (m *mapping) drain(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := m.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// confirm reads the map once more. The two maps were not read at the same instant: had the
// file system moved the bytes of old in between (balance, defragment), their
// former place may be that of other bytes in new. Where old stayed, both were there at once.
func (m *mapping) confirm(ctx context.Context) error {
	again := newMappingOf(m.size, m.read)
	if err := again.drain(ctx); err != nil {
		return err
	}
	if again.sum.value() != m.sum.value() {
		return errNoMap
	}
	return nil
}

// commonFileSystem gives the type of the file system that both files are on, if it is one
// whose places are to be trusted.
func commonFileSystem(a, b *os.File) (int64, error) {
	var types [2]int64
	var ids [2]any
	for i, f := range []*os.File{a, b} {
		if st, err := f.Stat(); err != nil {
			return 0, err
		} else if !st.Mode().IsRegular() {
			return 0, errNoMap
		}
		var err error
		if types[i], err = fsType(f); err != nil {
			return 0, err
		}
		switch types[i] {
		case unix.BTRFS_SUPER_MAGIC:
			ids[i], err = btrfsID(f)
		case unix.XFS_SUPER_MAGIC:
			ids[i], err = xfsID(f)
		default:
			return 0, errNoMap
		}
		if err != nil {
			return 0, err
		}
	}
	if types[0] != types[1] || ids[0] != ids[1] {
		return 0, errNoMap
	}
	return types[0], nil
}

const (
	iocGetXattr   = 0x801c581f // FS_IOC_FSGETXATTR: _IOR('X', 31, struct fsxattr)
	fsXattrSize   = 28
	xflagRealtime = 0x1
)

// xfsDisk is one of the disks that an xfs has: places count on each of them.
type xfsDisk struct {
	device   uint64
	realtime bool
}

func xfsID(f *os.File) (xfsDisk, error) {
	device, _, err := numbers(f)
	if err != nil {
		return xfsDisk{}, err
	}
	buf := make([]byte, fsXattrSize)
	if err := ioctl(f, iocGetXattr, buf); err != nil {
		return xfsDisk{}, fmt.Errorf("attributes of %s: %w", f.Name(), err)
	}
	return xfsDisk{device, binary.NativeEndian.Uint32(buf)&xflagRealtime != 0}, nil
}

// numbers gives the device and the inode of a file.
func numbers(f *os.File) (device, inode uint64, err error) {
	var st unix.Stat_t
	err = onDescriptor(f, func(fd int) error { return unix.Fstat(fd, &st) })
	return st.Dev, st.Ino, err
}
