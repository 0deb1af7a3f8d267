package index

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
)

// disk is what of a file the index needs durable or fails by; tests put faults and power losses
// between the index and its files.
type disk interface {
	Pread(b []byte, off int64) (int, error)
	Pwrite(b []byte, off int64) (int, error)
	// Punch makes a range a hole, or fails with EOPNOTSUPP.
	Punch(off, length int64) error
	Fdatasync() error
}

// wrapper puts something between the index and one of its files.
type wrapper func(name string, d disk) disk

type osDisk int

func (fd osDisk) Pread(b []byte, off int64) (int, error)  { return unix.Pread(int(fd), b, off) }
func (fd osDisk) Pwrite(b []byte, off int64) (int, error) { return unix.Pwrite(int(fd), b, off) }
func (fd osDisk) Fdatasync() error                        { return unix.Fdatasync(int(fd)) }
func (fd osDisk) Punch(off, length int64) error {
	return unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
}

// file is a sparse file with positional access that allocates nothing.
type file struct {
	f    *os.File
	fd   int
	disk disk
	// written tells that there is something for sync to do.
	written bool
}

func openFile(path string, wrap wrapper) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fileError("open", path, err)
	}
	fd := int(f.Fd())
	out := &file{f: f, fd: fd, disk: osDisk(fd)}
	if wrap != nil {
		out.disk = wrap(path, out.disk)
	}
	return out, nil
}

// fileError names the file, and the mend where one is known.
func fileError(what, path string, err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%s index file %s: %w; free space there, or keep the state elsewhere", what, path, err)
	}
	return fmt.Errorf("%s index file %s: %w", what, path, err)
}

func (f *file) fail(what string, err error) error { return fileError(what, f.f.Name(), err) }

// read fills b from off. What is past the end of the file is zeros.
func (f *file) read(b []byte, off int64) error {
	for len(b) > 0 {
		n, err := f.disk.Pread(b, off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return f.fail("read", err)
		case n == 0:
			clear(b)
			return nil
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func (f *file) write(b []byte, off int64) error {
	f.written = true
	for len(b) > 0 {
		n, err := f.disk.Pwrite(b, off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return f.fail("write", err)
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// zero makes a range read as zeros, as a hole where the file system has them.
func (f *file) zero(off, length int64) error {
	if length <= 0 {
		return nil
	}
	f.written = true
	err := f.disk.Punch(off, length)
	for errors.Is(err, unix.EINTR) {
		err = f.disk.Punch(off, length)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return f.overwrite(off, off+length)
	}
	if err != nil {
		return f.fail("make a hole in", err)
	}
	return nil
}

// overwrite writes zeros where there is data, for file systems without holes.
func (f *file) overwrite(off, end int64) error {
	var zeros [block.PageSize]byte
	for off < end {
		data, err := f.nextData(off)
		if err != nil {
			return err
		}
		off = max(off, data)
		if off >= end {
			return nil
		}
		n := min(end-off, int64(len(zeros)))
		if err := f.write(zeros[:n], off); err != nil {
			return err
		}
		off += n
	}
	return nil
}

const noData = int64(1) << 62

// nextData gives the first offset from off on that is not in a hole, or noData.
func (f *file) nextData(off int64) (int64, error) {
	data, err := unix.Seek(f.fd, off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return noData, nil
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP):
		return off, nil // holes cannot be told: all may be data
	case err != nil:
		return 0, f.fail("look for data in", err)
	}
	return data, nil
}

// nextHole gives the first offset from off on that is in a hole, or the end of the file.
func (f *file) nextHole(off int64) (int64, error) {
	hole, err := unix.Seek(f.fd, off, unix.SEEK_HOLE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENXIO) {
		return noData, nil
	}
	if err != nil {
		return 0, f.fail("look for a hole in", err)
	}
	return hole, nil
}

func (f *file) truncate(size int64) error {
	f.written = true
	if err := f.f.Truncate(size); err != nil {
		return f.fail("size", err)
	}
	return nil
}

func (f *file) size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, f.fail("look at", err)
	}
	return info.Size(), nil
}

// sync makes durable what was written, if anything was.
func (f *file) sync() error {
	if f == nil || !f.written {
		return nil
	}
	err := f.disk.Fdatasync()
	for errors.Is(err, unix.EINTR) {
		err = f.disk.Fdatasync()
	}
	if err != nil {
		return f.fail("sync", err)
	}
	f.written = false
	return nil
}

func (f *file) close() error {
	if f == nil {
		return nil
	}
	if err := f.f.Close(); err != nil {
		return f.fail("close", err)
	}
	return nil
}

// lock takes the file for this opening alone.
func (f *file) lock() error {
	err := unix.Flock(f.fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("index file %s: %w; wait until the other copy of this volume is done, or stop it", f.f.Name(), ErrHeld)
	}
	if err != nil {
		return f.fail("lock", err)
	}
	return nil
}

// unlock gives the file back at once. Closing alone does so only once no program that is just
// being started elsewhere in this process has a copy of the descriptor any more.
func (f *file) unlock() error {
	if f == nil {
		return nil
	}
	if err := unix.Flock(f.fd, unix.LOCK_UN); err != nil {
		return f.fail("unlock", err)
	}
	return nil
}
