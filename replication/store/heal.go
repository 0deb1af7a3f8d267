package store

import (
	"errors"
	"fmt"
	"os"
	"sync"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
)

// damagedMost bounds how many damaged pieces are remembered.
const damagedMost = 1 << 16

// damages are the pieces that could not be read. When one is written again, its slot is.
type damages struct {
	mu    sync.Mutex
	slots map[block.Hash]slot
}

func (s *Store) noteDamage(h block.Hash, at slot) {
	s.bad.mu.Lock()
	defer s.bad.mu.Unlock()
	if s.bad.slots == nil {
		s.bad.slots = map[block.Hash]slot{}
	}
	if len(s.bad.slots) < damagedMost {
		s.bad.slots[h] = at
	}
}

// damagedSlot tells where a piece is that the store has, and could not read.
func (s *Store) damagedSlot(tx *bolt.Tx, h block.Hash) (slot, bool) {
	s.bad.mu.Lock()
	defer s.bad.mu.Unlock()
	at, bad := s.bad.slots[h]
	if !bad {
		return 0, false
	}
	n, err := decodeNumber(tx.Bucket([]byte("blocks")).Get(h[:]))
	if err != nil || slot(n) != at {
		delete(s.bad.slots, h) // it was let go meanwhile
		return 0, false
	}
	return at, true
}

// healSlot writes to a slot what should be there, durably.
func (s *Store) healSlot(at slot, piece []byte) error {
	path := s.packPath(at.pack(), true)
	// A pack that is missing is made anew: its other pieces are as damaged as before.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(piece, at.offset())
	if err == nil {
		err = unix.Fdatasync(int(file.Fd()))
	}
	if err := errors.Join(err, file.Close(), s.files.forget(at.pack())); err != nil {
		return fmt.Errorf("slot %d of %s: %w", at.place(), path, err)
	}
	s.bad.mu.Lock()
	defer s.bad.mu.Unlock()
	for h, bad := range s.bad.slots {
		if bad == at {
			delete(s.bad.slots, h)
		}
	}
	return nil
}
