package local

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
	"lifeboat/replication/store/txfile"
)

// Content is the unchanging content of a snapshot, or that of a disk. Bytes
// outside the extents that NextData returns are zero. ReadAt never reads beyond Size.
type Content interface {
	io.ReaderAt
	io.Closer
	// Size is the length in bytes.
	Size() int64
	// NextData returns the first extent with data that ends after off, at most up
	// to Size; start == end == Size when there is none.
	NextData(off int64) (start, end int64, err error)
}

// fileContent is the content of a sparse file or a block device.
type fileContent struct {
	*os.File
	size  int64
	dense bool // the file system cannot tell holes
}

// openFileContent opens a file or block device for reading. A file that is
// longer than size counts up to size only; size 0 = all of it.
func openFileContent(path string, size int64) (*fileContent, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	length, err := file.Seek(0, io.SeekEnd) // also right for block devices
	if err != nil {
		file.Close()
		return nil, err
	}
	if size == 0 {
		size = length
	}
	if length < size {
		file.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return &fileContent{File: file, size: size}, nil
}

func (c *fileContent) Size() int64 { return c.size }

func (c *fileContent) NextData(off int64) (start, end int64, err error) {
	if off >= c.size {
		return c.size, c.size, nil
	}
	if !c.dense {
		start, err = unix.Seek(int(c.Fd()), off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return c.size, c.size, nil
		case err == nil && start >= c.size:
			return c.size, c.size, nil
		case err == nil:
			if end, err = unix.Seek(int(c.Fd()), start, unix.SEEK_HOLE); err != nil {
				return 0, 0, err
			}
			return start, min(end, c.size), nil
		}
		c.dense = true // block devices
	}
	return off, c.size, nil
}

// cloneFile makes to a clone of from that shares its extents. It returns false
// when the file systems cannot do that for these two.
func cloneFile(to, from *os.File) (bool, error) {
	err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
	if isAny(err, unix.EOPNOTSUPP, unix.EXDEV, unix.EINVAL, unix.ENOTTY, unix.ENOSYS, unix.EBADF) {
		return false, nil
	}
	return err == nil, err
}

// probeClones tells whether files in dir can share extents, and fails when dir
// cannot be written.
func probeClones(dir string) (bool, error) {
	from, err := namelessFile(dir)
	if err != nil {
		return false, err
	}
	defer from.Close()
	if _, err := from.Write(make([]byte, 4096)); err != nil {
		return false, err
	}
	to, err := namelessFile(dir)
	if err != nil {
		return false, err
	}
	defer to.Close()
	return cloneFile(to, from)
}

// namelessFile makes a file that is gone when it is closed.
func namelessFile(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// copyStep is how much copySparse moves between two calls of progress.
const copyStep = 16 << 20

// copySparse writes the data of from into to, a new file of the same length,
// and leaves holes and zero blocks out. progress gets the position.
func copySparse(ctx context.Context, to *os.File, from Content, progress func(done int64) error) error {
	buffer := make([]byte, block.Piece)
	reported := int64(0)
	for off := int64(0); ; {
		start, end, err := from.NextData(off)
		if err != nil {
			return err
		}
		if start >= from.Size() {
			return progress(from.Size())
		}
		for at := start; at < end; {
			n := min(block.Piece-at%block.Piece, end-at)
			if _, err := from.ReadAt(buffer[:n], at); err != nil {
				return err
			}
			if !block.IsZero(buffer[:n]) {
				if _, err := to.WriteAt(buffer[:n], at); err != nil {
					return err
				}
			}
			at += n
			if at-reported >= copyStep {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := progress(at); err != nil {
					return err
				}
				reported = at
			}
		}
		off = end
	}
}

// newFile makes an empty file of a length, in place of what an interrupted
// attempt left under the name.
func newFile(path string, length int64) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(length); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// publish puts a file on stable storage and gives it its final name.
func publish(file *os.File, dir, path string) error {
	if err := file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return txfile.SyncDirectory(dir)
}

// remove deletes files that may be gone already and makes that durable.
func remove(dir string, paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return txfile.SyncDirectory(dir)
}
