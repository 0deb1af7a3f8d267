package replication

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// storeFormat is the version of everything in engine.db.
const storeFormat = 1

const storeFile = "engine.db"

// The buckets of engine.db.
var (
	bucketMeta    = []byte("meta")
	bucketSources = []byte("sources")
	bucketTargets = []byte("targets")
	bucketPoints  = []byte("points") // one bucket a stream in it
)

// store is the transactional state of an engine: what streams there are and
// which points. Every value carries its format and a checksum.
type store struct {
	path string
	db   *bbolt.DB
}

func openStore(path string) (s *store, err error) {
	defer func() { err = recovered(path, recover(), err) }()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("state %s is in use by another process; stop that agent, or give this one a directory of its own", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w; restore the file from a copy", ErrDamagedState, path, err)
	}
	s = &store{path: path, db: db}
	err = s.update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketSources, bucketTargets, bucketPoints} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// recovered turns the panics that bbolt answers damaged pages with into an
// error that names the file.
func recovered(path string, r any, err error) error {
	if r == nil {
		return err
	}
	return fmt.Errorf("%w: %s: %v; restore the file from a copy", ErrDamagedState, path, r)
}

func (s *store) close() error { return s.db.Close() }

func (s *store) update(fn func(*bbolt.Tx) error) (err error) {
	defer func() { err = recovered(s.path, recover(), err) }()
	err = s.db.Update(fn)
	return spaceErrorOnly("state "+s.path, err)
}

func (s *store) view(fn func(*bbolt.Tx) error) (err error) {
	defer func() { err = recovered(s.path, recover(), err) }()
	return s.db.View(fn)
}

// spaceErrorOnly keeps errors as they are, except that a full disk is marked.
func spaceErrorOnly(what string, err error) error {
	if marked := spaceError(what, err); errors.Is(marked, ErrNoSpace) {
		return marked
	}
	return err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal gives the stored form of a value: format (4 bytes), CRC-32C of the rest
// (4 bytes), JSON.
func seal(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 8, 8+len(body))
	binary.LittleEndian.PutUint32(out, storeFormat)
	binary.LittleEndian.PutUint32(out[4:], crc32.Checksum(body, castagnoli))
	return append(out, body...), nil
}

// unseal reads a stored value; what names it in errors.
func unseal(what string, raw []byte, v any) error {
	if len(raw) < 8 {
		return fmt.Errorf("%w: %s is cut short; restore the file from a copy", ErrDamagedState, what)
	}
	if format := binary.LittleEndian.Uint32(raw); format != storeFormat {
		if format > storeFormat && format < 1<<16 {
			return fmt.Errorf("%w: %s has format %d, this program knows %d; run the newer program", ErrNewerState, what, format, storeFormat)
		}
		return fmt.Errorf("%w: %s has the impossible format %d; restore the file from a copy", ErrDamagedState, what, format)
	}
	if binary.LittleEndian.Uint32(raw[4:]) != crc32.Checksum(raw[8:], castagnoli) {
		return fmt.Errorf("%w: %s fails its checksum; restore the file from a copy", ErrDamagedState, what)
	}
	if err := json.Unmarshal(raw[8:], v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamagedState, what, err)
	}
	return nil
}

// put stores a value in a top-level bucket.
func (s *store) put(bucket []byte, key string, v any) error {
	raw, err := seal(v)
	if err != nil {
		return err
	}
	return s.update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(key), raw) })
}

func (s *store) remove(bucket []byte, key string) error {
	return s.update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(key)) })
}

// get reads a value; ok is false when there is none.
func (s *store) get(bucket []byte, key string, v any) (ok bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		raw := tx.Bucket(bucket).Get([]byte(key))
		if raw == nil {
			return nil
		}
		ok = true
		return unseal(s.path+": "+string(bucket)+"/"+key, raw, v)
	})
	return ok, err
}

// each calls fn with every value of a bucket.
func each[T any](s *store, bucket []byte, fn func(key string, v *T) error) error {
	return s.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, raw []byte) error {
			v := new(T)
			if err := unseal(s.path+": "+string(bucket)+"/"+string(k), raw, v); err != nil {
				return err
			}
			return fn(string(k), v)
		})
	})
}
