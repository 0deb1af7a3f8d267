package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrNotVolume is the error for paths that are neither a file nor a block device.
var ErrNotVolume = errors.New("neither a file nor a block device")

// Option changes how a volume is opened.
type Option func(*options)

type options struct{ direct, ifCold, uncached bool }

// WithDirect reads and writes a file past the page cache (O_DIRECT), where its file system
// can, and where buffers and offsets are multiples of Align; all else goes through the
// cache. It needs the least CPU. Block devices are always read so by Open.
func WithDirect(on bool) Option { return func(o *options) { o.direct = on } }

// WithDirectIfCold reads a file past the page cache where nothing is cached, which is faster,
// and through it where there is. It is for sources.
func WithDirectIfCold(on bool) Option { return func(o *options) { o.ifCold = on } }

// WithUncached reads and writes a file through the page cache, which drops again what it
// did not have before; writes start to go to the disk at once. Kernels before 6.14, and file
// systems that cannot, keep what was read and written as usual; some keep what was
// written over old blocks.
func WithUncached(on bool) Option { return func(o *options) { o.uncached = on } }

// file is a raw file or a block device.
type file struct {
	f      *os.File
	size   int64
	device bool
	direct bool  // f itself is read past the page cache
	align  int64 // direct reads and holes of devices start and end at multiples of it

	past   *os.File    // the same file past the page cache, or nil
	ifCold atomic.Bool // past is for what is not cached
	drop   atomic.Bool // what was not cached is dropped after it was used

	lost struct {
		sync.Mutex
		err error // of the first Sync that failed
	}
}

// Open opens a raw file or a block device for reading. Devices are read past the page
// cache, which may be older than what is on the disk.
func Open(path string, opts ...Option) (Source, error) { return open(path, false, opts) }

// OpenTarget opens a raw file or a block device for writing. A block device that is
// mounted, or that another program holds, is refused; so it can be open only once.
func OpenTarget(path string, opts ...Option) (Target, error) { return open(path, true, opts) }

func open(path string, write bool, opts []Option) (*file, error) {
	o := options{}
	for _, opt := range opts {
		opt(&o)
	}
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
	v.drop.Store(o.uncached && !v.direct)
	if err = v.measure(); err == nil {
		err = v.openPast(path, write, o)
	}
	if err != nil {
		return nil, errors.Join(err, v.Close())
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

// measureDirect finds what direct I/O on a file needs. File systems that do not say suit
// Align, or refused O_DIRECT already.
func (v *file) measureDirect() error {
	if !v.direct {
		return nil
	}
	align, err := directAlign(v.f)
	if err != nil {
		return err
	}
	if align > 0 {
		v.align = max(v.align, align)
		return nil
	}
	v.direct = false
	return v.control(func(fd int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0) // without O_DIRECT
		return err
	})
}

// directAlign gives the blocks of direct I/O on a file; 0 where there is none.
func directAlign(f *os.File) (align int64, err error) {
	err = onDescriptor(f, func(fd int) error {
		var st unix.Statx_t
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err != nil {
			return fmt.Errorf("blocks of %s: %w", f.Name(), err)
		}
		if align = Align; st.Mask&unix.STATX_DIOALIGN != 0 {
			align = int64(st.Dio_offset_align)
		}
		return nil
	})
	return align, err
}

// openPast opens a file a second time, past the page cache, where that is wanted beside the
// way through it.
func (v *file) openPast(path string, write bool, o options) error {
	flags := os.O_RDONLY
	switch {
	case write && o.direct:
		flags = os.O_RDWR
	case write || v.direct || !o.ifCold:
		return nil
	}
	if fs, err := fsType(v.f); err != nil || fs == unix.TMPFS_MAGIC {
		return err // there is nothing but the cache
	}
	past, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return err
	}
	align := v.align
	if !v.device {
		if align, err = directAlign(past); err != nil || align == 0 {
			return errors.Join(err, past.Close())
		}
	}
	v.past, v.align = past, max(v.align, align)
	if !write {
		v.ifCold.Store(true)
		// Without read-ahead, which would make all that follows look cached.
		return v.control(func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM) })
	}
	return nil
}

// fsType gives the number of the file system that a file is on (statfs(2)).
func fsType(f *os.File) (int64, error) {
	var fs unix.Statfs_t
	err := onDescriptor(f, func(fd int) error { return unix.Fstatfs(fd, &fs) })
	return int64(fs.Type), err
}

// control runs a system call on the descriptor, which stays open meanwhile, and again when
// a signal interrupted it.
func (v *file) control(call func(fd int) error) error {
	return onDescriptor(v.f, call)
}

// onDescriptor is control for any file.
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
