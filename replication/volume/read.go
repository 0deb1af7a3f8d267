package volume

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

func (v *file) Size() int64  { return v.size }
func (v *file) Close() error { return v.f.Close() }

func (v *file) ReadAt(p []byte, off int64) (int, error) {
	if !v.direct || isAligned(p) && off%v.align == 0 && int64(len(p))%v.align == 0 {
		return v.f.ReadAt(p, off)
	}
	start := off - off%v.align
	end := (off + int64(len(p)) + v.align - 1) / v.align * v.align
	buf := Buffer(int(end - start))
	n, err := v.f.ReadAt(buf, start)
	n = copy(p, buf[min(off-start, int64(n)):n])
	if n == len(p) {
		return n, nil
	}
	return n, err
}

// NextData asks the file system where data are. Devices do not know: all of them may be
// data.
func (v *file) NextData(off int64) (start, end int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("data of %s after offset %d: %w", v.f.Name(), off, unix.EINVAL)
	}
	if off >= v.size {
		return 0, 0, io.EOF
	}
	if v.device {
		return off, v.size, nil
	}
	err = v.control(func(fd int) (err error) {
		if start, err = unix.Seek(fd, off, unix.SEEK_DATA); err == nil {
			end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
		}
		return err
	})
	switch {
	case err == nil && start >= v.size:
		return 0, 0, io.EOF // it has grown
	case err == nil:
		return start, min(end, v.size), nil
	case errors.Is(err, unix.ENXIO):
		return 0, 0, v.noMoreData()
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP):
		return off, v.size, nil // no such thing on this file system: all may be data
	}
	return 0, 0, fmt.Errorf("data of %s after offset %d: %w", v.f.Name(), off, err)
}

// noMoreData tells a hole up to the end from an end that came nearer: what was cut off
// must not be taken for zeros.
func (v *file) noMoreData() error {
	st, err := v.f.Stat()
	if err != nil {
		return err
	}
	if st.Size() < v.size {
		return fmt.Errorf("%s was cut off from %d to %d bytes while it was read: %w", v.f.Name(), v.size, st.Size(), io.ErrUnexpectedEOF)
	}
	return io.EOF
}

// Prefetch asks the kernel to read a range into the page cache. Volumes that are read
// past the cache have nothing to gain.
func (v *file) Prefetch(off, n int64) error {
	if v.direct || n <= 0 {
		return nil
	}
	return v.control(func(fd int) error {
		if err := unix.Fadvise(fd, off, n, unix.FADV_WILLNEED); err != nil {
			return fmt.Errorf("read ahead of %s: %w", v.f.Name(), err)
		}
		return nil
	})
}
