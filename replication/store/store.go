package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"lifeboat/replication/block"
	"lifeboat/replication/store/txfile"
)

const (
	// format is the version of everything in a store.
	format    = 1
	indexName = "index"
	packDir   = "packs"
	locksFile = "heads.lock"
)

// Files names what a store has in its directory, for who shares that with others.
func Files() []string { return []string{packDir, indexName + ".db", indexName + ".lock", locksFile} }

// Store is a directory of recovery points. Any number of them may use one directory at once, in one
// process or in several.
type Store struct {
	dir   string
	ctx   context.Context
	index *txfile.File
	files packFiles
	bad   damages
	spare sync.Pool // of buffers for a piece
}

// buffer gives memory for a piece.
func (s *Store) buffer() []byte {
	if b, ok := s.spare.Get().(*[block.Piece]byte); ok {
		return b[:]
	}
	return make([]byte, block.Piece)
}

func (s *Store) release(b []byte) { s.spare.Put((*[block.Piece]byte)(b)) }

// Open opens the store in a directory, and makes it when there is none. wait bounds how long
// a call waits for another process that writes the index; 0 is 30 s.
func Open(ctx context.Context, dir string, wait time.Duration) (*Store, error) {
	if wait <= 0 {
		wait = 30 * time.Second
	}
	s := &Store{dir: dir, ctx: context.WithoutCancel(ctx)}
	if err := os.MkdirAll(s.packPath(0, false), 0o700); err != nil {
		return nil, fmt.Errorf("store in %s: %w", dir, err)
	}
	index, err := txfile.Open(ctx, dir, indexName, format, wait)
	if err != nil {
		return nil, fmt.Errorf("store in %s: %w", dir, err)
	}
	s.index = index
	return s, s.makeBuckets(ctx)
}

func (s *Store) makeBuckets(ctx context.Context) error {
	whole := true
	err := s.index.View(ctx, func(tx *bolt.Tx) error {
		for _, name := range buckets {
			whole = whole && tx.Bucket([]byte(name)) != nil
		}
		return nil
	})
	if err != nil || whole {
		return err
	}
	return s.index.Update(ctx, func(tx *bolt.Tx) error {
		return s.index.Guard(func() error {
			for _, name := range buckets {
				if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Close closes the files that were read. Points that are open must not be read any more.
func (s *Store) Close() error { return s.files.close() }

// view runs fn in a read-only transaction.
func (s *Store) view(fn func(tx *bolt.Tx) error) error {
	return s.index.View(s.ctx, func(tx *bolt.Tx) error {
		return s.index.Guard(func() error { return fn(tx) })
	})
}

func packName(pack uint64) string { return fmt.Sprintf("%016x.pack", pack) }

// packPath is the path of a pack, or of the directory of all.
func (s *Store) packPath(pack uint64, file bool) string {
	if !file {
		return filepath.Join(s.dir, packDir)
	}
	return filepath.Join(s.dir, packDir, packName(pack))
}

// Usage counts what a store holds.
type Usage struct {
	Points, Heads int
	Pages         int
	Pieces        int // stored once each
	Packs         int
	Waiting       int // slots, packs and pages that are to be given back
	IndexBytes    int64
}

// Usage looks at the whole index.
func (s *Store) Usage() (u Usage, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		for name, n := range map[string]*int{"points": &u.Points, "heads": &u.Heads, "nodes": &u.Pages, "blocks": &u.Pieces, "packs": &u.Packs} {
			*n = tx.Bucket([]byte(name)).Stats().KeyN
		}
		for _, name := range []string{"punch", "empty", "doomed"} {
			u.Waiting += tx.Bucket([]byte(name)).Stats().KeyN
		}
		u.IndexBytes = tx.Size()
		return nil
	})
	return u, err
}

// Check holds the index against itself: every reference is counted, and all that is counted is
// there. It reads no pieces. It is for small stores: its memory grows with them.
func (s *Store) Check() error {
	return s.view(func(tx *bolt.Tx) error { return check(tx) })
}

// removeFile removes a file that may be gone.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
