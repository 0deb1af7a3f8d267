package volume

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Identity says which volume a path named, and how it was, at one moment. Times are
// nanoseconds since 1970.
type Identity struct {
	// Device is the number of a block device, or of the one that a file is on, as
	// "major:minor".
	Device string `json:"device"`
	// Block is set for block devices.
	Block bool  `json:"block,omitempty"`
	Size  int64 `json:"size"`

	// Of files. Birth is 0 where the file system does not record it.
	Inode uint64 `json:"inode,omitempty"`
	Birth int64  `json:"birth,omitempty"`
	Mtime int64  `json:"mtime,omitempty"`
	Ctime int64  `json:"ctime,omitempty"`
	// Settled tells that a later write has to show in Mtime or Ctime: the file system is
	// a local one whose times are to be trusted, and both are older than what two writes
	// can be apart and still get the same time.
	Settled bool `json:"settled,omitempty"`

	// Of block devices. DiskSeq rises with each disk that is attached since boot; it is 0
	// on kernels before 5.15. Start is where a partition begins, in sectors.
	DiskSeq uint64 `json:"disk_seq,omitempty"`
	Start   uint64 `json:"start,omitempty"`
}

// settleTime is how old the times of a file must be before an unchanged time means an
// unchanged file. Two writes within one tick of the kernel's clock (up to 10 ms), or of the
// file system's (ext4 with small inodes: 1 s), get the same time; and a write
// is stamped when it begins, which may be a while before its bytes are there.
const settleTime = 2 * time.Second

// SameVolume tells that both are the same file, or the same block device. The number of a
// device can be given to another disk at the next boot, so its contents may be others.
func (i Identity) SameVolume(o Identity) bool {
	if i.Block || o.Block {
		return i.Block == o.Block && i.Device == o.Device && i.DiskSeq == o.DiskSeq && i.Start == o.Start && i.Size == o.Size
	}
	return i.Device == o.Device && i.Inode == o.Inode && i.Birth == o.Birth
}

// Unchanged tells that a file still has the bytes that it had when the earlier identity was
// taken. It is never said of block devices, which do not record writes, of files
// that were written just before the earlier identity was taken, and of network file systems.
// What a program stores through a shared mapping of the file may not show for as long as
// the kernel has not written it back, and on tmpfs never.
func (i Identity) Unchanged(earlier Identity) bool {
	return earlier.Settled && !i.Block && i.SameVolume(earlier) &&
		i.Size == earlier.Size && i.Mtime == earlier.Mtime && i.Ctime == earlier.Ctime
}

// Identify tells which volume a path names, and how it is now.
func Identify(path string) (Identity, error) {
	var looked unix.Timespec
	// The clock by which the kernel stamps files, read before them.
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &looked); err != nil {
		return Identity{}, fmt.Errorf("read the clock: %w", err)
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_SYNC_AS_STAT, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return Identity{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		return identifyDevice(path, fmt.Sprintf("%d:%d", st.Rdev_major, st.Rdev_minor))
	case unix.S_IFREG:
	default:
		return Identity{}, fmt.Errorf("%s is %w", path, ErrNotVolume)
	}
	id := Identity{
		Device: fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor),
		Inode:  st.Ino, Size: int64(st.Size), Mtime: nanoseconds(st.Mtime), Ctime: nanoseconds(st.Ctime),
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Birth = nanoseconds(st.Btime)
	}
	local, err := isLocal(path)
	if err != nil {
		return Identity{}, err
	}
	id.Settled = local && looked.Nano()-max(id.Mtime, id.Ctime) > settleTime.Nanoseconds()
	return id, nil
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

// isLocal tells that the times on a path's file system come from this machine's clock, and
// that nobody else can write there.
func isLocal(path string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	switch int64(fs.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC:
		return true, nil
	}
	return false, nil
}

func identifyDevice(path, number string) (id Identity, err error) {
	id = Identity{Block: true, Device: number}
	f, err := os.Open(path)
	if err != nil {
		return Identity{}, err
	}
	id.Size, err = f.Seek(0, io.SeekEnd)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Identity{}, fmt.Errorf("size of %s: %w", path, err)
	}
	dir, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	if err != nil {
		return Identity{}, fmt.Errorf("what the kernel knows of %s (is /sys mounted?): %w", path, err)
	}
	disk := dir
	if id.Start, err = readNumber(filepath.Join(dir, "start")); err != nil {
		return Identity{}, err
	}
	if _, err = os.Stat(filepath.Join(dir, "partition")); err == nil {
		disk = filepath.Dir(dir)
	}
	id.DiskSeq, err = readNumber(filepath.Join(disk, "diskseq"))
	return id, err
}

// readNumber reads a number of the kernel; 0 where it does not tell.
func readNumber(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}
