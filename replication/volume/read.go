package volume

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Size in bytes.
func (v *file) Size() int64 { return v.size }

// Close gives back the file.
func (v *file) Close() error {
	err := v.f.Close()
	if v.past != nil {
		err = errors.Join(err, v.past.Close())
	}
	return err
}

// ReadAt reads in the way that the volume was opened for.
func (v *file) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case !v.direct && v.ifCold.Load() && v.suitsDirect(p, off) && v.isCold(off, len(p)):
		return v.past.ReadAt(p, off)
	case !v.direct && v.drop.Load():
		return v.uncached(p, off, unix.Preadv2, v.f.ReadAt)
	case !v.direct || v.suitsDirect(p, off):
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

func (v *file) suitsDirect(p []byte, off int64) bool {
	return isAligned(p) && off%v.align == 0 && int64(len(p))%v.align == 0
}

// probed is how much of a range is looked at to see if it is cached: files are cached
// in long runs, and looking costs time for each page.
const probed = 64 << 10

// isCold tells that less than half of the begin of a range is in the page cache.
func (v *file) isCold(off int64, n int) bool {
	n = min(n, probed)
	var st unix.Cachestat_t
	err := v.control(func(fd int) error {
		return unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &st, 0)
	})
	if err != nil {
		v.ifCold.Store(false) // kernels before 6.5 do not tell: through the cache then
		return false
	}
	return int64(st.Cache)*int64(os.Getpagesize())*2 < int64(n)
}

// uncached reads or writes without leaving pages in the cache, or by usual if the file
// system cannot.
func (v *file) uncached(p []byte, off int64, io2 func(fd int, iovs [][]byte, off int64, flags int) (int, error), usual func([]byte, int64) (int, error)) (n int, err error) {
	for n < len(p) {
		var k int
		err = v.control(func(fd int) (err error) {
			k, err = io2(fd, [][]byte{p[n:]}, off+int64(n), unix.RWF_DONTCACHE)
			return err
		})
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			v.drop.Store(false)
		}
		if err != nil || k <= 0 {
			break
		}
		n += k
	}
	if n == len(p) {
		return n, nil
	}
	// The end of the file, an error or a file system that cannot: the usual way says it.
	k, err := usual(p[n:], off+int64(n))
	return n + k, err
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
	if v.direct || v.ifCold.Load() || n <= 0 {
		return nil
	}
	return v.control(func(fd int) error {
		if err := unix.Fadvise(fd, off, n, unix.FADV_WILLNEED); err != nil {
			return fmt.Errorf("read ahead of %s: %w", v.f.Name(), err)
		}
		return nil
	})
}

// samples is how many places Cold looks at.
const samples = 16

// Cold tells that most of a volume is read from its disk and not from the page cache, judged
// by a few places. It is false where that cannot be told.
func Cold(s Source) bool {
	v, ok := s.(*file)
	if !ok || v.direct {
		return ok
	}
	if !v.ifCold.Load() {
		return false
	}
	cold, seen := 0, 0
	for i := range int64(samples) {
		start, end, err := v.NextData(v.size / samples * i)
		if err != nil {
			break // no data from here on
		}
		seen++
		if v.isCold(start, int(min(end-start, probed))) {
			cold++
		}
	}
	return cold*2 > seen
}
