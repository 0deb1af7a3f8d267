package volume

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// zeros are written where there are no holes.
var zeros [1 << 20]byte

// inside checks that a range can be written.
func (v *file) inside(what string, off, n int64) error {
	if off < 0 || n < 0 || off > v.size || n > v.size-off {
		return fmt.Errorf("%s of %d bytes at %d is beyond the end of %s (%d bytes)", what, n, off, v.f.Name(), v.size)
	}
	return nil
}

// WriteAt writes in the way that the volume was opened for, and never makes it longer.
func (v *file) WriteAt(p []byte, off int64) (int, error) {
	if err := v.inside("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	switch {
	case v.past != nil && v.suitsDirect(p, off):
		return v.past.WriteAt(p, off)
	case v.drop.Load():
		return v.uncached(p, off, unix.Pwritev2, v.f.WriteAt)
	}
	return v.f.WriteAt(p, off)
}

// Zero punches a hole. A device is asked to forget the range; where it cannot, it is told
// to zero it by itself; where nothing helps, zeros are written.
func (v *file) Zero(off, n int64) error {
	if err := v.inside("hole", off, n); err != nil {
		return err
	}
	if !v.device {
		return v.zeroAligned(off, n)
	}
	// Devices only zero whole blocks by themselves.
	first := min((off+v.align-1)/v.align*v.align, off+n)
	last := max(first, (off+n)/v.align*v.align)
	if off+n == v.size {
		last = off + n // the end is a boundary, whatever the size is
	}
	return errors.Join(v.writeZeros(off, first-off), v.zeroAligned(first, last-first), v.writeZeros(last, off+n-last))
}

func (v *file) zeroAligned(off, n int64) error {
	if n == 0 {
		return nil
	}
	for _, mode := range []uint32{unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE} {
		err := v.control(func(fd int) error {
			return unix.Fallocate(fd, mode|unix.FALLOC_FL_KEEP_SIZE, off, n)
		})
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("hole of %d bytes at %d of %s: %w", n, off, v.f.Name(), err)
		}
	}
	return v.writeZeros(off, n)
}

func (v *file) writeZeros(off, n int64) error {
	for n > 0 {
		k := min(n, int64(len(zeros)))
		if _, err := v.f.WriteAt(zeros[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// Sync is fdatasync: the bytes, and what is needed to find them again.
func (v *file) Sync() error {
	v.lost.Lock()
	defer v.lost.Unlock()
	if v.lost.err != nil {
		return v.lost.err
	}
	if err := v.control(unix.Fdatasync); err != nil {
		v.lost.err = fmt.Errorf("what was written to %s is not durable, and what of it is lost is not known; open it again and check it: %w", v.f.Name(), err)
	}
	return v.lost.err
}

// Flush starts write-back. It never waits for a write, because that would take the error
// of a failed one away from Sync.
func (v *file) Flush(off, n int64) error {
	if n <= 0 {
		return nil // for the kernel, 0 bytes are all that follow
	}
	return v.control(func(fd int) error {
		if err := unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE); err != nil {
			return fmt.Errorf("early write-back of %s: %w", v.f.Name(), err)
		}
		return nil
	})
}
