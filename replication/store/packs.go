package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"sync"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
	"lifeboat/replication/store/txfile"
)

// openPacks bounds how many packs are open for reading.
const openPacks = 64

// packFiles are the packs that are open for reading.
type packFiles struct {
	mu    sync.Mutex
	files map[uint64]*packFile
}

// packFile is closed when its last reader is through and it is not kept any more.
type packFile struct {
	*os.File
	users int
	kept  bool
}

func (p *packFiles) use(pack uint64, path string) (*packFile, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.files[pack]
	if f == nil {
		if len(p.files) >= openPacks {
			if err := p.closeAll(); err != nil {
				return nil, err
			}
		}
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if p.files == nil {
			p.files = map[uint64]*packFile{}
		}
		f = &packFile{File: file, kept: true}
		p.files[pack] = f
	}
	f.users++
	return f, nil
}

func (p *packFiles) done(f *packFile) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.users--; f.users == 0 && !f.kept {
		return f.Close()
	}
	return nil
}

// forget closes a pack that is gone.
func (p *packFiles) forget(pack uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drop(pack)
}

func (p *packFiles) drop(pack uint64) error {
	f := p.files[pack]
	if f == nil {
		return nil
	}
	delete(p.files, pack)
	f.kept = false
	if f.users == 0 {
		return f.Close()
	}
	return nil
}

func (p *packFiles) closeAll() (err error) {
	for pack := range p.files {
		err = errors.Join(err, p.drop(pack))
	}
	return err
}

func (p *packFiles) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closeAll()
}

const (
	// A transaction takes apart so many pages, or forgets so many free slots and packs.
	reapPages  = 128
	sweepSlots = 8192
	sweepPacks = 256
)

// reapShare is how many transactions a head spends on what others or it left to be taken apart,
// before it goes on: a Sync must not wait for a whole terabyte to go.
const reapShare = 8

// reap takes doomed pages apart, in so many transactions at most, and gives their space back. What it does
// may be broken off; more says that something is left.
func (s *Store) reap(most int) (more bool, err error) {
	for ; ; most-- {
		err := s.view(func(tx *bolt.Tx) error {
			key, _ := tx.Bucket([]byte("doomed")).Cursor().First()
			more = key != nil
			return nil
		})
		if err != nil || !more || most == 0 {
			return more, errors.Join(err, s.sweep())
		}
		if _, err := s.update(func(c *change) error { return c.takeApart(reapPages) }); err != nil {
			return more, err
		}
	}
}

// reapAll leaves nothing.
func (s *Store) reapAll() error {
	_, err := s.reap(-1)
	return err
}

// takeApart deletes doomed pages and takes their references from what is below.
func (c *change) takeApart(most int) error {
	b := c.bucket("doomed")
	var keys [][]byte
	cursor := b.Cursor()
	for key, _ := cursor.First(); key != nil && len(keys) < most; key, _ = cursor.Next() {
		keys = append(keys, bytes.Clone(key))
	}
	for _, key := range keys {
		level, h, err := decodeDoomed(key)
		if err != nil {
			return c.damaged("the list of pages without references is damaged", err)
		}
		if err := b.Delete(key); err != nil {
			return err
		}
		refs, err := c.references(h)
		if err != nil {
			return err
		}
		// It may be in use again, or gone already.
		if refs > 0 || c.bucket("nodes").Get(h[:]) == nil {
			continue
		}
		n, err := c.load(level, h)
		if err != nil {
			return err
		}
		p := &rewriting{c: c, node: n}
		for i := range n.hashes {
			if n.hashes[i].IsZero() {
				continue
			}
			if err := p.child(i, -1); err != nil {
				return err
			}
		}
		if err := c.bucket("nodes").Delete(h[:]); err != nil {
			return err
		}
	}
	return nil
}

// garbage is what can be given back to the file system.
type garbage struct {
	slots []slot
	packs []uint64
}

// sweep gives space back: holes for free slots, whole packs where all are free. All of it may be
// done twice, by several processes at once: slots are never used again.
func (s *Store) sweep() error {
	for {
		g, err := s.garbage()
		if err != nil || len(g.slots)+len(g.packs) == 0 {
			return err
		}
		if err := s.giveBack(g); err != nil {
			return err
		}
		_, err = s.update(func(c *change) error { return c.forgetGarbage(g) })
		if err != nil {
			return err
		}
	}
}

func (s *Store) garbage() (g garbage, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte("empty")).Cursor()
		for key, _ := c.First(); key != nil && len(g.packs) < sweepPacks; key, _ = c.Next() {
			n, err := decodeNumber(key)
			if err != nil {
				return s.index.Damaged("the list of empty packs is damaged", err)
			}
			g.packs = append(g.packs, n)
		}
		c = tx.Bucket([]byte("punch")).Cursor()
		for key, _ := c.First(); key != nil && len(g.slots) < sweepSlots; key, _ = c.Next() {
			n, err := decodeNumber(key)
			if err != nil {
				return s.index.Damaged("the list of free slots is damaged", err)
			}
			g.slots = append(g.slots, slot(n))
		}
		return nil
	})
	return g, err
}

func (s *Store) giveBack(g garbage) error {
	for _, pack := range g.packs {
		if err := errors.Join(s.files.forget(pack), removeFile(s.packPath(pack, true))); err != nil {
			return err
		}
	}
	if len(g.packs) > 0 {
		if err := txfile.SyncDirectory(s.packPath(0, false)); err != nil {
			return err
		}
	}
	for at := 0; at < len(g.slots); {
		n := 1
		for at+n < len(g.slots) && g.slots[at+n].pack() == g.slots[at].pack() {
			n++
		}
		if err := s.punch(g.slots[at].pack(), g.slots[at:at+n]); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// punch makes holes of slots of one pack.
func (s *Store) punch(pack uint64, slots []slot) (err error) {
	file, err := os.OpenFile(s.packPath(pack, true), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for at := 0; at < len(slots); {
		n := 1
		for at+n < len(slots) && slots[at+n] == slots[at]+slot(n) {
			n++
		}
		err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, slots[at].offset(), int64(n)*block.Piece)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			return nil // the space comes back with the whole pack
		}
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

func (c *change) forgetGarbage(g garbage) error {
	for _, pack := range g.packs {
		key := encodeNumber(pack)
		for _, name := range []string{"packs", "empty"} {
			if err := c.bucket(name).Delete(key); err != nil {
				return err
			}
		}
	}
	for _, s := range g.slots {
		if err := c.bucket("punch").Delete(encodeNumber(uint64(s))); err != nil {
			return err
		}
	}
	return nil
}
