package awstest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// blockSize is the unit of snapshots, in bytes
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-elements.html).
const blockSize = 512 << 10

// gib is a GiB in bytes, the unit of volumes.
const gib = 1 << 30

// blockID names a block by the SHA-256 of its content.
type blockID [sha256.Size]byte

// zeroBlock is the block of zeros, which nobody has to keep.
var zeroBlock = blockID(sha256.Sum256(make([]byte, blockSize)))

// manifest is the content of a snapshot: its blocks by index. What was never written is absent,
// and reads as zeros.
type manifest map[int]blockID

func (m manifest) indexes() []int { return slices.Sorted(maps.Keys(m)) }

// blockStore keeps every block once, as a file, for all snapshots of all accounts and regions.
// It has a lock of its own, so that many requests hash and write at the same time.
type blockStore struct {
	dir  string
	mu   sync.Mutex
	refs map[blockID]int
}

// blocks is the store of a double. The lock of the double is held.
func (c *Cloud) blocks() *blockStore {
	s := part[blockStore](c.region("", ""))
	if s.refs == nil {
		s.dir, s.refs = filepath.Join(c.Directory, "blocks"), map[blockID]int{}
	}
	return s
}

func (s *blockStore) path(id blockID) string {
	name := hex.EncodeToString(id[:])
	return filepath.Join(s.dir, name[:2], name)
}

// put keeps a block until it is released as often as it was put or held.
func (s *blockStore) put(data []byte) (blockID, error) {
	id := blockID(sha256.Sum256(data))
	return id, s.keep(id, data)
}

// keep is put for a block whose hash is known.
func (s *blockStore) keep(id blockID, data []byte) error {
	s.hold(id)
	if id == zeroBlock {
		return nil
	}
	path := s.path(id)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	// Somebody else may be writing the same block now: both write the same, and the rename is whole.
	if err := writeWhole(path, data); err != nil {
		s.release(id)
		return fmt.Errorf("awstest: a block cannot be kept: %w", err)
	}
	return nil
}

func writeWhole(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// hold says that one more place has these blocks.
func (s *blockStore) hold(ids ...blockID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.refs[id]++
	}
}

// release is the opposite of put and hold; a block that nobody has is removed.
func (s *blockStore) release(ids ...blockID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if s.refs[id]--; s.refs[id] <= 0 {
			delete(s.refs, id)
			_ = os.Remove(s.path(id)) // a block of zeros has no file
		}
	}
}

// drop releases all blocks of a manifest.
func (s *blockStore) drop(m manifest) { s.release(slices.Collect(maps.Values(m))...) }

// share is the manifest for one more snapshot with the same content.
func (s *blockStore) share(m manifest) manifest {
	s.hold(slices.Collect(maps.Values(m))...)
	return maps.Clone(m)
}

// get reads a block that somebody has.
func (s *blockStore) get(id blockID) ([]byte, error) {
	if id == zeroBlock {
		return make([]byte, blockSize), nil
	}
	data, err := os.ReadFile(s.path(id))
	if err == nil && len(data) != blockSize {
		err = fmt.Errorf("%s has %d bytes", s.path(id), len(data))
	}
	if err != nil {
		return nil, fmt.Errorf("awstest: a block cannot be read: %w", err)
	}
	return data, nil
}

// capture keeps the blocks that a file has now, and only reads the file. Blocks of zeros are absent.
func (s *blockStore) capture(f *os.File) (manifest, error) {
	m := manifest{}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, blockSize)
	for off := int64(0); off < info.Size(); off += blockSize {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole until the end
		}
		if err != nil {
			s.drop(m)
			return nil, fmt.Errorf("awstest: %s cannot be searched for data: %w", f.Name(), err)
		}
		off = data - data%blockSize
		clear(buf)
		if _, err := f.ReadAt(buf, off); err != nil && !errors.Is(err, io.EOF) {
			s.drop(m)
			return nil, err
		}
		id := blockID(sha256.Sum256(buf))
		if id == zeroBlock {
			continue
		}
		if err := s.keep(id, buf); err != nil {
			s.drop(m)
			return nil, err
		}
		m[int(off/blockSize)] = id
	}
	return m, nil
}

// fill writes the blocks of a snapshot into a file that has only zeros.
func (s *blockStore) fill(f *os.File, m manifest) error {
	for _, i := range m.indexes() {
		if m[i] == zeroBlock {
			continue
		}
		data, err := s.get(m[i])
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(data, int64(i)*blockSize); err != nil {
			return err
		}
	}
	return nil
}

// volumeFile is where the bytes of a volume are.
func (c *Cloud) volumeFile(r *Region, id string) string {
	return filepath.Join(c.Directory, "volumes", r.Account, r.Name, id+".raw")
}

// newVolumeFile makes a sparse file of zeros.
func newVolumeFile(path string, bytes int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(bytes), f.Close())
}

// VolumePath tells which file has the bytes of a volume, in whatever region and account it is.
func (c *Cloud) VolumePath(id string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.regions {
		if v := part[volumeState](r).volumes[id]; v != nil {
			return v.path, nil
		}
	}
	return "", fmt.Errorf("awstest: volume %s: %w", id, fs.ErrNotExist)
}

// ReadVolume reads bytes of a volume, as a machine it is attached to would.
func (c *Cloud) ReadVolume(id string, p []byte, off int64) error {
	return c.withVolume(id, func(f *os.File) error { _, err := f.ReadAt(p, off); return err })
}

// WriteVolume writes bytes of a volume, as a machine it is attached to would.
func (c *Cloud) WriteVolume(id string, p []byte, off int64) error {
	return c.withVolume(id, func(f *os.File) error {
		if info, err := f.Stat(); err != nil || off+int64(len(p)) > info.Size() {
			return errors.Join(err, fmt.Errorf("awstest: volume %s ends before offset %d", id, off+int64(len(p))))
		}
		_, err := f.WriteAt(p, off)
		return err
	})
}

func (c *Cloud) withVolume(id string, do func(*os.File) error) error {
	path, err := c.VolumePath(id)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

// SnapshotContent is what a snapshot had when it was asked for.
type SnapshotContent struct {
	store *blockStore
	m     manifest
	size  int64
}

// SnapshotReader gives the bytes of a snapshot, in whatever region and account it is. They can be
// read as long as the snapshot is there.
func (c *Cloud) SnapshotReader(id string) (*SnapshotContent, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.regions {
		if s := part[snapshotState](r).snapshots[id]; s != nil {
			return &SnapshotContent{c.blocks(), maps.Clone(s.content), int64(s.size) * gib}, nil
		}
	}
	return nil, fmt.Errorf("awstest: snapshot %s: %w", id, fs.ErrNotExist)
}

// Size is the size of the volume that the snapshot makes, in bytes.
func (s *SnapshotContent) Size() int64 { return s.size }

// Blocks lists the indexes of the 512 KiB blocks that the snapshot has.
func (s *SnapshotContent) Blocks() []int { return s.m.indexes() }

// ReadAt implements io.ReaderAt; absent blocks are zeros.
func (s *SnapshotContent) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("awstest: negative offset")
	}
	n := 0
	for n < len(p) && off < s.size {
		at := off % blockSize
		piece := p[n:min(int64(len(p)), int64(n)+blockSize-at, int64(n)+s.size-off)]
		if id, ok := s.m[int(off/blockSize)]; ok {
			data, err := s.store.get(id)
			if err != nil {
				return n, err
			}
			copy(piece, data[at:])
		} else {
			clear(piece)
		}
		n, off = n+len(piece), off+int64(len(piece))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
