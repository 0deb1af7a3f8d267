package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
	"lifeboat/replication/store/txfile"
)

// lockHead takes the lock of a head. All are bytes of one file, so that no file is left over.
func (s *Store) lockHead(name string) (*os.File, error) {
	path := filepath.Join(s.dir, locksFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(name))
	err = txfile.LockByte(file, unix.F_WRLCK, int64(binary.BigEndian.Uint64(sum[:8])>>2))
	if err == nil {
		return file, nil
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = &txfile.Error{Kind: ErrBusy, Path: path, Message: fmt.Sprintf("head %q is being written", name), Mend: "wait for its writer, or end it"}
	}
	return nil, errors.Join(err, file.Close())
}

func (c *change) head(name string) (*headRecord, error) {
	raw := c.bucket("heads").Get([]byte(name))
	if raw == nil {
		return nil, fmt.Errorf("head %q: %w", name, ErrNotFound)
	}
	r, err := decodeHead(name, raw)
	if err != nil {
		return nil, c.damaged(fmt.Sprintf("the entry of head %q is damaged", name), err)
	}
	return r, nil
}

func (c *change) putHead(name string, r *headRecord) error {
	r.Root = rootOf(r.Size, block.Hash(r.Top))
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return c.bucket("heads").Put([]byte(name), raw)
}

func (c *change) makeHead(name string, size int64, base string) (*headRecord, error) {
	r := &headRecord{Size: size}
	if base != "" {
		p, err := c.s.pointIn(c.tx, base)
		if err != nil {
			return nil, err
		}
		if p.Size != size {
			return nil, fmt.Errorf("%w: point %q has %d bytes, the head is to have %d; begin without a base", ErrInvalid, base, p.Size, size)
		}
		r.Top = p.Top
		if err := c.hold(block.Hash(r.Top)); err != nil {
			return nil, err
		}
	}
	return r, c.putHead(name, r)
}

// settleHead ends what the last writer of a head left open: its pack is cut off after the last
// slot that is referred to. The caller has the lock of the head.
func (s *Store) settleHead(name string) error {
	var pack uint64
	var slots int
	err := s.view(func(tx *bolt.Tx) error {
		c := &change{s: s, tx: tx}
		r, err := c.head(name)
		if err != nil || r.Pack == 0 {
			return err
		}
		p, err := c.packRecord(r.Pack)
		if err == nil {
			pack, slots = r.Pack, len(p.refs)
		}
		return err
	})
	if errors.Is(err, ErrNotFound) || err == nil && pack == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Truncate(s.packPath(pack, true), int64(slots)*block.Piece); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_, err = s.update(func(c *change) error {
		r, err := c.head(name)
		if err != nil || r.Pack != pack {
			return err
		}
		return c.closePack(name, r)
	})
	return err
}

// closePack says that nobody writes the pack of a head any more.
func (c *change) closePack(name string, r *headRecord) error {
	p, err := c.packRecord(r.Pack)
	if err != nil {
		return err
	}
	p.open = false
	if err := c.putPack(r.Pack, p); err != nil {
		return err
	}
	r.Pack = 0
	return c.putHead(name, r)
}

// DeleteHead removes a head, and what nothing else refers to. Points of it stay.
func (s *Store) DeleteHead(name string) (err error) {
	lock, err := s.lockHead(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := s.settleHead(name); err != nil {
		return err
	}
	_, err = s.update(func(c *change) error {
		r, err := c.head(name)
		if err != nil {
			return err
		}
		return c.removeHead(name, r)
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return errors.Join(err, s.reapAll())
}

// removeHead forgets a head and what it refers to.
func (c *change) removeHead(name string, r *headRecord) error {
	if err := c.release(block.Geometry{Size: r.Size}.Levels()-1, block.Hash(r.Top)); err != nil {
		return err
	}
	return c.bucket("heads").Delete([]byte(name))
}
