package store

import (
	"errors"
	"fmt"

	"lifeboat/replication/store/txfile"
)

// Errors of a store. Those of its index file are the ones of package txfile.
var (
	// ErrNotFound: there is no such point or head.
	ErrNotFound = errors.New("there is no such thing in the store")
	// ErrExists: another point has this id.
	ErrExists = errors.New("the id is taken")
	// ErrInvalid: a request that can never be right.
	ErrInvalid = errors.New("invalid request")
	// ErrBusy: somebody else writes the head, or holds the index.
	ErrBusy = txfile.ErrBusy
	// ErrDamaged: what is stored is not what was written.
	ErrDamaged = txfile.ErrDamaged
)

// errMoved tells that a piece which was there when a batch was begun has been
// deleted by others meanwhile: the batch is written again.
var errMoved = errors.New("a shared piece was deleted meanwhile")

// errLost tells that a page is not there, or not what its name says.
var errLost = errors.New("a page is missing or damaged")

// Damage is what cannot be read. It is ErrDamaged.
type Damage struct {
	What   string // point or head
	Offset int64  // in the volume, in bytes
	File   string
	Slot   int64 // of the file; -1 where it has none
	Cause  error // may be nil
}

// Error says where the damage is and what can be done.
func (d *Damage) Error() string {
	text := fmt.Sprintf("%s: the piece at byte %d is damaged in %s", d.What, d.Offset, d.File)
	if d.Slot >= 0 {
		text += fmt.Sprintf(", slot %d", d.Slot)
	}
	if d.Cause != nil {
		text += ": " + d.Cause.Error()
	}
	return text + "; use another point, delete this one, and check the disk that holds the file"
}

// Unwrap gives ErrDamaged and the cause.
func (d *Damage) Unwrap() []error {
	if d.Cause == nil {
		return []error{ErrDamaged}
	}
	return []error{ErrDamaged, d.Cause}
}
