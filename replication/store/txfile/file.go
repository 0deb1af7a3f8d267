// Package txfile is an embedded transactional store in one file that several processes use
// at once.
//
// Each transaction opens the file anew under a lock of its own. So a process that is
// killed leaves neither a lock nor half a transaction behind. A transaction is on stable
// storage when Update returns.
package txfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The place of the version in a file, as a number in JSON.
const (
	MetaBucket = "meta"
	FormatKey  = "format"
)

// File is a transactional store.
type File struct {
	path   string
	lock   *lock
	format int
}

// Open opens the store name.db in dir, and makes it when there is none. A store of a format above
// the given one is refused with ErrNewer. wait is how long a transaction waits for other
// processes at most.
func Open(ctx context.Context, dir, name string, format int, wait time.Duration) (*File, error) {
	f := &File{path: filepath.Join(dir, name+".db"), lock: newLock(filepath.Join(dir, name+".lock"), wait), format: format}
	// The lock file is made with the first exclusive lock, the store under it.
	release, err := f.lock.exclusive(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := f.create(); err != nil {
		return nil, err
	}
	return f, f.viewLocked(func(*bolt.Tx) error { return nil })
}

// Path of the file.
func (f *File) Path() string { return f.path }

// create makes the store under another name and renames it, so that a store
// that is there is whole. A store that is gone although it was written before
// is an error: starting from nothing would lose all that it says.
func (f *File) create() error {
	info, err := os.Stat(f.path)
	if err == nil && info.Size() > 0 {
		return nil
	}
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if generation, err := f.lock.generation(); err != nil {
		return err
	} else if generation > 0 || info != nil {
		return f.Damaged("the state is missing or empty", err)
	}
	fresh := f.path + ".new"
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return err
	}
	db, err := bolt.Open(fresh, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(MetaBucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(FormatKey), fmt.Append(nil, f.format))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, f.path); err != nil {
		return err
	}
	if err := SyncDirectory(filepath.Dir(f.path)); err != nil {
		return err
	}
	return f.lock.bump()
}

// Update runs fn in a transaction that is written when fn returns nil and leaves
// no trace otherwise. fn must be short, must not call Update or View, and may
// not keep what it got from tx beyond its return.
func (f *File) Update(ctx context.Context, fn func(*bolt.Tx) error) error {
	release, err := f.lock.exclusive(ctx)
	if err != nil {
		return err
	}
	defer release()
	db, err := f.open(false)
	if err != nil {
		return err
	}
	defer db.Close()
	var tx *bolt.Tx
	if err := f.Guard(func() (err error) { tx, err = db.Begin(true); return err }); err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // nil or closed after Commit
	if err := f.checkFormat(tx); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	// Whoever watches the generation sees the new one at the latest together
	// with the new content: it has to take the lock to read.
	if err := f.lock.bump(); err != nil {
		return err
	}
	return f.Guard(tx.Commit)
}

// View runs fn in a read-only transaction; several may run at once.
func (f *File) View(ctx context.Context, fn func(*bolt.Tx) error) error {
	release, err := f.lock.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	return f.viewLocked(fn)
}

func (f *File) viewLocked(fn func(*bolt.Tx) error) error {
	db, err := f.open(true)
	if err != nil {
		return err
	}
	defer db.Close()
	var tx *bolt.Tx
	if err := f.Guard(func() (err error) { tx, err = db.Begin(false); return err }); err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // read-only
	if err := f.checkFormat(tx); err != nil {
		return err
	}
	return fn(tx)
}

// Hold keeps everybody else out until release is called.
func (f *File) Hold(ctx context.Context) (release func(), err error) { return f.lock.exclusive(ctx) }

// Generation returns a number that differs after each Update, without a lock and
// without opening the store. Read it before the content that it stands for.
func (f *File) Generation() (uint64, error) { return f.lock.generation() }

func (f *File) open(readOnly bool) (*bolt.DB, error) {
	var db *bolt.DB
	err := f.Guard(func() (err error) {
		if info, err := os.Stat(f.path); err != nil || info.Size() == 0 {
			return f.Damaged("the state is missing or empty", err)
		}
		db, err = bolt.Open(f.path, 0o600, &bolt.Options{ReadOnly: readOnly, Timeout: 5 * time.Second, FreelistType: bolt.FreelistMapType})
		return err
	})
	return db, err
}

func (f *File) checkFormat(tx *bolt.Tx) error {
	var raw []byte
	err := f.Guard(func() error {
		if b := tx.Bucket([]byte(MetaBucket)); b != nil {
			raw = append(raw, b.Get([]byte(FormatKey))...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var format int
	if err := json.Unmarshal(raw, &format); err != nil || format < 1 {
		return f.Damaged("the state does not say which format it has", err)
	}
	if format > f.format {
		return &Error{Kind: ErrNewer, Path: f.path,
			Message: fmt.Sprintf("the state has format %d, this program knows formats up to %d; nothing was changed", format, f.format),
			Mend:    "use the newer version of the program that wrote it"}
	}
	return nil
}

// Damaged is the error for a store that cannot be read.
func (f *File) Damaged(message string, cause error) error {
	return &Error{Kind: ErrDamaged, Path: f.path, Message: message, Cause: cause,
		Mend: "stop everything that uses it, then restore " + f.path + " and " + f.lock.path +
			" from a backup of the directory, or move the directory away and start with a new one"}
}

// Guard runs calls into the embedded database and turns its ways to say
// "damaged", among them panics and memory faults, into ErrDamaged.
func (f *File) Guard(fn func() error) (err error) {
	defer faultsPanic()()
	defer func() {
		if r := recover(); r != nil {
			err = f.Damaged("the state is damaged", fmt.Errorf("%v", r))
		}
	}()
	err = fn()
	for _, damage := range []error{berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum, berrors.ErrInvalidMapping} {
		if errors.Is(err, damage) {
			return f.Damaged("the state is damaged", err)
		}
	}
	if errors.Is(err, berrors.ErrTimeout) {
		return &Error{Kind: ErrBusy, Path: f.path, Message: "another program holds the state", Mend: "end the program that has it open", Cause: err}
	}
	return err
}

// faultsPanic makes a fault in mapped memory (a file cut off beneath the map)
// a panic of this goroutine instead of the end of the process, until undone.
func faultsPanic() (undo func()) {
	before := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(before) }
}

// SyncDirectory puts the names in a directory on stable storage.
func SyncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
