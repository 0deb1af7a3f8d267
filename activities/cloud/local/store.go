package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"lifeboat/activities/cloud"
	"lifeboat/replication/store/txfile"
)

// storeFormat is the version of everything that a site keeps in its stores. A
// store of a higher version is refused, never read by guess.
const storeFormat = 1

const metaBucket = txfile.MetaBucket

// store is a transactional file with errors and values of this package.
type store struct{ file *txfile.File }

// openStore opens the store name.db in dir and makes it when there is none.
func openStore(ctx context.Context, dir, name string, wait time.Duration) (*store, error) {
	f, err := txfile.Open(ctx, dir, name, storeFormat, wait)
	if err != nil {
		return nil, stateError(filepath.Join(dir, name+".db"), err)
	}
	return &store{file: f}, nil
}

// update runs f in a transaction that is written when f returns nil and leaves
// no trace otherwise. f must be short, must not call update or view, and may
// not keep what it got from tx beyond its return.
func (s *store) update(ctx context.Context, f func(*tx) error) error {
	return s.run(ctx, s.file.Update, f)
}

// view runs f in a read-only transaction; several may run at once.
func (s *store) view(ctx context.Context, f func(*tx) error) error {
	return s.run(ctx, s.file.View, f)
}

// run does a transaction. What f returned stays as it is.
func (s *store) run(ctx context.Context, transaction func(context.Context, func(*bolt.Tx) error) error, f func(*tx) error) error {
	var refused error
	err := transaction(ctx, func(b *bolt.Tx) error {
		refused = f(&tx{s: s, b: b})
		return refused
	})
	if refused != nil {
		return refused
	}
	return stateError(s.file.Path(), err)
}

// changed returns a number that differs after each update, without a lock and
// without opening the store. Read it before the content that it stands for.
func (s *store) changed() (uint64, error) {
	n, err := s.file.Generation()
	return n, stateError(s.file.Path(), err)
}

// corrupt is the error for a store that cannot be read.
func (s *store) corrupt(message string, cause error) error {
	return stateError(s.file.Path(), s.file.Damaged(message, cause))
}

// guard runs one call into the embedded database and turns its ways to say
// "damaged", among them panics and memory faults, into errors.
func (s *store) guard(f func() error) error { return stateError(s.file.Path(), s.file.Guard(f)) }

// stateError turns an error of a transactional file into one of the contract.
func stateError(path string, err error) error {
	var e *txfile.Error
	if !errors.As(err, &e) || cloud.CodeOf(err) != "" {
		return osError("State", path, err)
	}
	code := cloud.Corrupt
	switch e.Kind {
	case txfile.ErrNewer:
		code = cloud.NewerState
	case txfile.ErrBusy:
		code = cloud.Unavailable
	}
	return cloud.E(code, "State", "file "+e.Path, e.Message, e.Mend, e.Cause)
}

// tx is one transaction. Values are JSON unless said otherwise.
type tx struct {
	s *store
	b *bolt.Tx
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
