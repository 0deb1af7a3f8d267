package ebs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// sums remembers the checksum of each block that a pending snapshot was acknowledged: what need not
// be written again, and what the snapshot is sealed with. It is a sparse file of 32 bytes a block,
// zeros for those that were not written, after a header of 32 bytes. It is not synced: records that
// a loss of power takes away are of blocks that are written again.
type sums struct {
	f      *os.File
	path   string // empty: the file has no name
	blocks int64
}

// sumsMagic begins the header, then the number of blocks (8 bytes, little endian), then 1 where
// the snapshot is being sealed.
var sumsMagic = []byte("lifeboat ebs 1\n\x00")

const sumsHeader = 32

// openSums opens what is known about a pending snapshot. A file that is not about it, or cannot be
// read, is begun anew. Without a directory it lasts as long as the process.
func openSums(dir, snapshot string, blocks int64) (*sums, error) {
	if dir == "" {
		f, err := os.CreateTemp("", "lifeboat-ebs-")
		if err != nil {
			return nil, err
		}
		s := &sums{f: f, blocks: blocks}
		if err := errors.Join(os.Remove(f.Name()), s.reset()); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state of the copy: %w", err)
	}
	path := filepath.Join(dir, snapshot+".sums")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state of the copy: %w", err)
	}
	s := &sums{f: f, path: path, blocks: blocks}
	var header [sumsHeader]byte
	_, err = io.ReadFull(io.NewSectionReader(f, 0, sumsHeader), header[:])
	if err != nil || !s.describes(header) {
		if err := s.reset(); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return s, nil
}

func (s *sums) header(sealing bool) (h [sumsHeader]byte) {
	copy(h[:], sumsMagic)
	binary.LittleEndian.PutUint64(h[len(sumsMagic):], uint64(s.blocks))
	if sealing {
		h[len(sumsMagic)+8] = 1
	}
	return h
}

func (s *sums) describes(h [sumsHeader]byte) bool {
	return h == s.header(false) || h == s.header(true)
}

// reset forgets everything.
func (s *sums) reset() error {
	h := s.header(false)
	if err := s.f.Truncate(0); err != nil {
		return fmt.Errorf("state of the copy: %w", err)
	}
	if err := s.f.Truncate(sumsHeader + s.blocks*sha256.Size); err != nil {
		return fmt.Errorf("state of the copy: %w", err)
	}
	_, err := s.f.WriteAt(h[:], 0)
	return err
}

// sealing tells whether seal was begun.
func (s *sums) sealing() bool {
	var h [sumsHeader]byte
	_, err := s.f.ReadAt(h[:], 0)
	return err == nil && h == s.header(true)
}

// seal notes that from now on nothing is written.
func (s *sums) seal() error {
	h := s.header(true)
	_, err := s.f.WriteAt(h[:], 0)
	return err
}

// get gives the checksum of a block that was written; ok is false for others, and for what cannot
// be read: they are written again.
func (s *sums) get(index int64) (sum Sum, ok bool) {
	_, err := s.f.ReadAt(sum[:], sumsHeader+index*sha256.Size)
	return sum, err == nil && sum != Sum{}
}

func (s *sums) set(index int64, sum Sum) error {
	if _, err := s.f.WriteAt(sum[:], sumsHeader+index*sha256.Size); err != nil {
		return fmt.Errorf("state of the copy: %w", err)
	}
	return nil
}

// next gives the first block at or after an index that was written; -1 when there is none.
func (s *sums) next(index int64) (int64, error) {
	var chunk [128 * sha256.Size]byte
	for index < s.blocks {
		off, err := unix.Seek(int(s.f.Fd()), sumsHeader+index*sha256.Size, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return -1, nil
		}
		if err == nil {
			index = max(index, (off-sumsHeader)/sha256.Size)
		}
		n, err := s.f.ReadAt(chunk[:], sumsHeader+index*sha256.Size)
		if err != nil && !errors.Is(err, io.EOF) {
			return -1, fmt.Errorf("state of the copy: %w", err)
		}
		for b := chunk[:n/sha256.Size*sha256.Size]; len(b) > 0 && index < s.blocks; b, index = b[sha256.Size:], index+1 {
			if !bytes.Equal(b[:sha256.Size], make([]byte, sha256.Size)) {
				return index, nil
			}
		}
		if n == 0 {
			return -1, nil
		}
	}
	return -1, nil
}

// total counts the blocks that were written, and gives the checksum over all of them by the LINEAR
// method: the SHA-256 of their checksums, as bytes, in ascending order of the blocks
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebsapis-using-checksums.html; that it is
// their bytes and not their text is how awslabs/coldsnap does it).
func (s *sums) total() (count int64, sum Sum, err error) {
	h := sha256.New()
	for index := int64(0); ; index++ {
		if index, err = s.next(index); err != nil || index < 0 {
			return count, Sum(h.Sum(nil)), err
		}
		one, ok := s.get(index)
		if !ok {
			return count, sum, fmt.Errorf("state of the copy: the record of block %d cannot be read", index)
		}
		count++
		_, _ = h.Write(one[:]) // a hash never fails
	}
}

// close keeps the file for the next attempt.
func (s *sums) close() error { return s.f.Close() }

// remove is close for a snapshot of which nothing more needs to be known.
func (s *sums) remove() error {
	err := s.f.Close()
	if s.path != "" {
		if rerr := os.Remove(s.path); !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
