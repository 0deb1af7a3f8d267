// Package numbers is a small program with a real database, used by the demo and
// by the fault campaign to see what a recovery lost. Its server acknowledges
// numbered, time-stamped writes only after they are on two disks; its client
// remembers what was acknowledged; Measure compares the two after a recovery.
package numbers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/zeebo/xxh3"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// ErrFull is returned by [Store.Write] when the database has no room left on its disk.
var ErrFull = errors.New("the disk of the database is full: use a larger disk or a smaller payload")

// pageSize of the database. It is fixed, so that a disk moves between machines.
const pageSize = 4096

// maxPayload bounds one write.
const maxPayload = 1 << 20

var numbersBucket = []byte("numbers")

// Number is one acknowledged write.
type Number struct {
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"` // when the server accepted it
	Sum    uint64    `json:"sum"`  // XXH3 of the payload
}

// Store is the database: a bbolt file at the head of one raw disk of fixed
// size, and, where there is a second disk, a log that every write reaches
// first. So at every instant the log is at the number of the database or
// exactly one ahead: two disks that were not cut at one instant are found out.
type Store struct {
	db   *bolt.DB
	log  *ring // nil without a second disk
	keep uint64

	mu     sync.Mutex // one writer; held by Check, too
	newest Number
}

// OpenStore opens the database on the raw disk dataPath, formatting it when its
// head is all zero, and the log on logPath ("" = none). It keeps the newest
// keep numbers; 0 keeps as many as a quarter of the disk takes with payload
// bytes each. The disks never change their size.
func OpenStore(dataPath, logPath string, keep uint64, payload int) (*Store, error) {
	size, err := format(dataPath)
	if err != nil {
		return nil, err
	}
	db, err := bolt.Open(dataPath, 0o600, &bolt.Options{Timeout: 5 * time.Second, PageSize: pageSize, MaxSize: int(size)})
	if err != nil {
		return nil, fmt.Errorf("open the database on disk %s: %w", dataPath, err)
	}
	db.AllocSize = pageSize // growing is only moving a mark within the disk
	if keep == 0 {
		keep = max(16, uint64(size)/4/uint64(payload+128))
	}
	s := &Store{db: db, keep: keep}
	if err := s.load(logPath); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// load finds the newest number. Only a new database is written to: a server that
// nobody writes to leaves its disks as they are, bit for bit.
func (s *Store) load(logPath string) error {
	isNew := false
	err := s.db.View(func(tx *bolt.Tx) (err error) {
		b := tx.Bucket(numbersBucket)
		if isNew = b == nil; isNew {
			return nil
		}
		if k, v := b.Cursor().Last(); k != nil {
			s.newest, _, err = decode(k, v)
		}
		return err
	})
	if isNew && err == nil {
		err = s.db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket(numbersBucket)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("read the newest number of %s: %w", s.db.Path(), err)
	}
	if logPath == "" {
		return nil
	}
	s.log, err = openRing(logPath)
	return err
}

// format writes an empty database to the head of a raw disk that is all zero
// there. A database cannot make itself at home on a disk that has a size
// already: it would take the zeros for a damaged database.
func format(path string) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("open the data disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("data disk %s is not a file: give the server a disk that is a raw file", path)
	}
	size = info.Size()
	if size < 1<<20 {
		return 0, fmt.Errorf("data disk %s has %d bytes: give it at least 1 MiB", path, size)
	}
	head := make([]byte, 4*pageSize)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), head); err != nil {
		return 0, fmt.Errorf("read the head of %s: %w", path, err)
	}
	if len(bytes.Trim(head, "\x00")) != 0 {
		return size, nil
	}
	empty, err := emptyDatabase()
	if err != nil {
		return 0, err
	}
	if _, err := f.WriteAt(empty, 0); err != nil {
		return 0, fmt.Errorf("format %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("format %s: %w", path, err)
	}
	return size, nil
}

func emptyDatabase() ([]byte, error) {
	dir, err := os.MkdirTemp("", "numbers-")
	if err != nil {
		return nil, fmt.Errorf("make an empty database: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "empty")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: pageSize})
	if err != nil {
		return nil, fmt.Errorf("make an empty database: %w", err)
	}
	if err := db.Close(); err != nil {
		return nil, fmt.Errorf("make an empty database: %w", err)
	}
	return os.ReadFile(path)
}

// Close closes the disks. Everything acknowledged is on them already.
func (s *Store) Close() error {
	err := s.db.Close()
	if s.log != nil {
		err = errors.Join(err, s.log.close())
	}
	return err
}

// Write appends the next number with a payload and returns when it is on both
// disks: first in the log, then in the database. [ErrFull] leaves everything as it was.
func (s *Store) Write(payload []byte) (Number, error) {
	if len(payload) > maxPayload {
		return Number{}, fmt.Errorf("payload of %d bytes: the most is %d", len(payload), maxPayload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := Number{Number: s.newest.Number + 1, Time: time.Now().UTC(), Sum: xxh3.Hash(payload)}
	if s.log != nil {
		if err := s.log.write(n); err != nil {
			return Number{}, err
		}
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(numbersBucket)
		if err := b.Put(encode(n, payload)); err != nil {
			return err
		}
		if n.Number <= s.keep {
			return nil
		}
		return b.Delete(key(n.Number - s.keep))
	})
	switch {
	case errors.Is(err, berrors.ErrMaxSizeReached):
		return Number{}, ErrFull
	case err != nil:
		return Number{}, fmt.Errorf("write number %d: %w", n.Number, err)
	}
	s.newest = n
	return n, nil
}

// Newest returns the newest number; zero in an empty database.
func (s *Store) Newest() Number {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// Numbers returns at most limit numbers of the database, from number from on.
func (s *Store) Numbers(from uint64, limit int) ([]Number, error) {
	numbers := []Number{}
	err := s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(numbersBucket).Cursor()
		for k, v := c.Seek(key(from)); k != nil && len(numbers) < limit; k, v = c.Next() {
			n, _, err := decode(k, v)
			if err != nil {
				return err
			}
			numbers = append(numbers, n)
		}
		return nil
	})
	return numbers, err
}

func key(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

func encode(n Number, payload []byte) (k, v []byte) {
	v = make([]byte, 0, 16+len(payload))
	v = binary.BigEndian.AppendUint64(v, uint64(n.Time.UnixNano()))
	v = binary.BigEndian.AppendUint64(v, n.Sum)
	return key(n.Number), append(v, payload...)
}

func decode(k, v []byte) (n Number, payload []byte, err error) {
	if len(k) != 8 || len(v) < 16 {
		return n, nil, fmt.Errorf("an entry of %d and %d bytes is not a number", len(k), len(v))
	}
	n = Number{
		Number: binary.BigEndian.Uint64(k),
		Time:   time.Unix(0, int64(binary.BigEndian.Uint64(v))).UTC(),
		Sum:    binary.BigEndian.Uint64(v[8:]),
	}
	return n, v[16:], nil
}
