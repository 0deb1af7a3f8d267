package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"lifeboat/activities/cloud"
)

// storeFormat is the version of everything that a site keeps in its stores. A
// store of a higher version is refused, never read by guess.
const storeFormat = 1

const metaBucket = "meta"

// store is an embedded transactional store in one file, opened anew for each
// transaction under a lock of its own. So it may be used by several processes
// at once, and a process that is killed leaves neither a lock nor half a
// transaction behind. A transaction is on stable storage when update returns.
type store struct {
	path   string
	lock   *storeLock
	format int
}

// openStore opens the store name.db in dir and makes it when there is none.
func openStore(ctx context.Context, dir, name string, wait time.Duration) (*store, error) {
	s := &store{path: filepath.Join(dir, name+".db"), lock: newStoreLock(filepath.Join(dir, name+".lock"), wait), format: storeFormat}
	// The lock file is made with the first exclusive lock, the store under it.
	release, err := s.lock.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.create(); err != nil {
		return nil, err
	}
	return s, s.viewLocked(func(*tx) error { return nil })
}

// create makes the store under another name and renames it, so that a store
// that is there is whole. A store that is gone although it was written before
// is an error: starting from nothing would lose every resource of the site.
func (s *store) create() error {
	info, err := os.Stat(s.path)
	if err == nil && info.Size() > 0 {
		return nil
	}
	if err != nil && !os.IsNotExist(err) {
		return osError("Open", s.path, err)
	}
	if generation, err := s.lock.generation(); err != nil {
		return err
	} else if generation > 0 || info != nil {
		return s.corrupt("the state of the site is missing or empty", err)
	}
	fresh := s.path + ".new"
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return osError("Open", fresh, err)
	}
	db, err := bolt.Open(fresh, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return osError("Open", fresh, err)
	}
	err = db.Update(func(b *bolt.Tx) error {
		return (&tx{s: s, b: b}).put(metaBucket, "format", s.format)
	})
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(fresh, s.path)
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(s.path))
	}
	if err != nil {
		return osError("Open", s.path, err)
	}
	return s.lock.bump()
}

// update runs f in a transaction that is written when f returns nil and leaves
// no trace otherwise. f must be short, must not call update or view, and may
// not keep what it got from tx beyond its return.
func (s *store) update(ctx context.Context, f func(*tx) error) error {
	release, err := s.lock.exclusive(ctx)
	if err != nil {
		return err
	}
	defer release()
	db, err := s.open(false)
	if err != nil {
		return err
	}
	defer db.Close()
	var b *bolt.Tx
	if err := s.guard(func() (err error) { b, err = db.Begin(true); return err }); err != nil {
		return err
	}
	t := &tx{s: s, b: b}
	defer b.Rollback() //nolint:errcheck // nil or closed after Commit
	if err := t.checkFormat(); err != nil {
		return err
	}
	if err := f(t); err != nil {
		return err
	}
	// Whoever watches the generation sees the new one at the latest together
	// with the new content: it has to take the lock to read.
	if err := s.lock.bump(); err != nil {
		return err
	}
	return s.guard(b.Commit)
}

// view runs f in a read-only transaction; several may run at once.
func (s *store) view(ctx context.Context, f func(*tx) error) error {
	release, err := s.lock.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	return s.viewLocked(f)
}

func (s *store) viewLocked(f func(*tx) error) error {
	db, err := s.open(true)
	if err != nil {
		return err
	}
	defer db.Close()
	var b *bolt.Tx
	if err := s.guard(func() (err error) { b, err = db.Begin(false); return err }); err != nil {
		return err
	}
	defer b.Rollback() //nolint:errcheck // read-only
	t := &tx{s: s, b: b}
	if err := t.checkFormat(); err != nil {
		return err
	}
	return f(t)
}

// changed returns a number that differs after each update, without a lock and
// without opening the store. Read it before the content that it stands for.
func (s *store) changed() (uint64, error) { return s.lock.generation() }

func (s *store) open(readOnly bool) (*bolt.DB, error) {
	var db *bolt.DB
	err := s.guard(func() (err error) {
		if info, err := os.Stat(s.path); err != nil || info.Size() == 0 {
			return s.corrupt("the state of the site is missing or empty", err)
		}
		db, err = bolt.Open(s.path, 0o600, &bolt.Options{ReadOnly: readOnly, Timeout: 5 * time.Second})
		return err
	})
	return db, err
}

// corrupt is the error for a store that cannot be read.
func (s *store) corrupt(message string, cause error) error {
	return cloud.E(cloud.Corrupt, "State", "file "+s.path, message,
		"stop everything that uses the site, then restore "+s.path+" and "+s.lock.path+" from a backup of the site directory, or move the directory away and start with a new one", cause)
}

// guard runs one call into the embedded database and turns its ways to say
// "damaged", among them panics and memory faults, into errors.
func (s *store) guard(f func() error) (err error) {
	defer faultsPanic()()
	defer func() {
		if r := recover(); r != nil {
			err = s.corrupt("the state of the site is damaged", fmt.Errorf("%v", r))
		}
	}()
	err = f()
	switch {
	case err == nil:
		return nil
	case cloud.CodeOf(err) != "":
		return err
	case isAny(err, berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum, berrors.ErrInvalidMapping):
		return s.corrupt("the state of the site is damaged", err)
	case isAny(err, berrors.ErrTimeout):
		return cloud.E(cloud.Unavailable, "State", "file "+s.path, "another program holds the state of the site", "end the program that has it open", err)
	}
	return osError("State", s.path, err)
}

// tx is one transaction. Values are JSON unless said otherwise.
type tx struct {
	s *store
	b *bolt.Tx
}

func (t *tx) checkFormat() error {
	var format int
	found, err := t.get(metaBucket, "format", &format)
	switch {
	case err != nil:
		return err
	case !found || format < 1:
		return t.s.corrupt("the state of the site does not say which format it has", nil)
	case format > t.s.format:
		return cloud.E(cloud.NewerState, "State", "file "+t.s.path,
			fmt.Sprintf("the state has format %d, this program knows formats up to %d; nothing was changed", format, t.s.format),
			"use the newer version of the program that wrote it", nil)
	}
	return nil
}

// bucket returns a bucket for raw access; nil when it is not there in a view.
func (t *tx) bucket(name string) (b *bolt.Bucket, err error) {
	err = t.s.guard(func() (err error) {
		if t.b.Writable() {
			b, err = t.b.CreateBucketIfNotExists([]byte(name))
			return err
		}
		b = t.b.Bucket([]byte(name))
		return nil
	})
	return b, err
}

// raw returns a copy of a stored value, nil when there is none.
func (t *tx) raw(bucket, id string) (value []byte, err error) {
	err = t.s.guard(func() error {
		if b := t.b.Bucket([]byte(bucket)); b != nil {
			value = bytes.Clone(b.Get([]byte(id)))
		}
		return nil
	})
	return value, err
}

// get decodes the value of id into v and tells whether there is one.
func (t *tx) get(bucket, id string, v any) (found bool, err error) {
	raw, err := t.raw(bucket, id)
	if err != nil || raw == nil {
		return false, err
	}
	return true, t.decode(bucket, id, raw, v)
}

// decode reads a value that each or raw returned.
func (t *tx) decode(bucket, id string, raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return t.s.corrupt(fmt.Sprintf("the entry %s/%s is damaged", bucket, id), err)
	}
	return nil
}

// put stores v under id.
func (t *tx) put(bucket, id string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s/%s: %w", bucket, id, err)
	}
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	return t.s.guard(func() error { return b.Put([]byte(id), raw) })
}

// del removes id; it may be gone already.
func (t *tx) del(bucket, id string) error {
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	return t.s.guard(func() error { return b.Delete([]byte(id)) })
}

// each calls f for every entry in the order of the identifiers. f may change
// the bucket: it sees the entries that were there at the start.
func (t *tx) each(bucket string, f func(id string, raw []byte) error) error {
	type entry struct {
		id  string
		raw []byte
	}
	var entries []entry
	err := t.s.guard(func() error {
		b := t.b.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			entries = append(entries, entry{string(k), bytes.Clone(v)})
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := f(e.id, e.raw); err != nil {
			return err
		}
	}
	return nil
}

// next returns a number that the bucket has not given out before, from 1.
func (t *tx) next(bucket string) (n uint64, err error) {
	b, err := t.bucket(bucket)
	if err != nil {
		return 0, err
	}
	err = t.s.guard(func() (err error) { n, err = b.NextSequence(); return err })
	return n, err
}

// digest identifies a request by its content.
func digest(request any) (string, error) {
	raw, err := json.Marshal(request)
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16]), nil
}
