package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNotVolume is the error for paths that are neither a file nor a block device.
var ErrNotVolume = errors.New("neither a file nor a block device")

// Option changes how a volume is opened.
type Option func(*options)

type options struct{ direct bool }

// WithDirect reads a file past the page cache (O_DIRECT), where its file system can;
// elsewhere it is read through the cache. Block devices are always read so by Open.
func WithDirect(on bool) Option { return func(o *options) { o.direct = on } }

// file is a raw file or a block device.
type file struct {
	f      *os.File
	size   int64
	device bool
	direct bool
	align  int64 // direct reads and holes of devices start and end at multiples of it

	lost struct {
		sync.Mutex
		err error // of the first Sync that failed
	}
}

// Open opens a raw file or a block device for reading. Devices are read past the page
// cache, which may be older than what is on the disk.
func Open(path string, opts ...Option) (Source, error) {
	o := options{}
	for _, opt := range opts {
		opt(&o)
	}
	return open(path, false, o)
}

// OpenTarget opens a raw file or a block device for writing. A block device that is
// mounted, or that another program holds, is refused; so it can be open only once.
func OpenTarget(path string) (Target, error) { return open(path, true, options{}) }

func open(path string, write bool, o options) (*file, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	v := &file{device: st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0, align: Align}
	switch {
	case !v.device && !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is %w", path, ErrNotVolume)
	case write:
		err = v.openWriting(path)
	default:
		err = v.openReading(path, v.device || o.direct)
	}
	if err != nil {
		return nil, err
	}
	if err = v.measure(); err != nil {
		return nil, errors.Join(err, v.f.Close())
	}
	return v, nil
}

func (v *file) openReading(path string, direct bool) (err error) {
	if direct {
		v.f, err = os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
		v.direct = err == nil
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	v.f, err = os.OpenFile(path, os.O_RDONLY, 0)
	return err
}

func (v *file) openWriting(path string) (err error) {
	flags := os.O_RDWR
	if v.device {
		flags |= os.O_EXCL
	}
	v.f, err = os.OpenFile(path, flags, 0)
	if v.device && errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is mounted, or another program holds it: unmount it or stop that program: %w", path, err)
	}
	return err
}

// measure finds the size, and the blocks of a device.
func (v *file) measure() (err error) {
	if v.size, err = v.f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if !v.device {
		return v.measureDirect()
	}
	return v.control(func(fd int) error {
		n, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
		if err != nil {
			return fmt.Errorf("block size of %s: %w", v.f.Name(), err)
		}
		v.align = max(v.align, int64(n))
		return nil
	})
}

// measureDirect finds what direct reads of a file need. File systems that do not say suit
// Align, or refused O_DIRECT already.
func (v *file) measureDirect() error {
	if !v.direct {
		return nil
	}
	return v.control(func(fd int) error {
		var st unix.Statx_t
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err != nil {
			return fmt.Errorf("blocks of %s: %w", v.f.Name(), err)
		}
		if st.Mask&unix.STATX_DIOALIGN == 0 {
			return nil
		}
		v.align = max(v.align, int64(st.Dio_offset_align))
		if v.direct = st.Dio_offset_align != 0; v.direct {
			return nil
		}
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0) // without O_DIRECT
		return err
	})
}

// control runs a system call on the descriptor, which stays open meanwhile, and again when
// a signal interrupted it.
func (v *file) control(call func(fd int) error) error {
	return onDescriptor(v.f, call)
}

func onDescriptor(f *os.File, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			if failed = call(int(fd)); !errors.Is(failed, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, failed)
}
