package txfile

import (
	"errors"
	"fmt"
)

// The kinds of Error.
var (
	// ErrDamaged: the file is there and cannot be read, or it is gone although it was written.
	ErrDamaged = errors.New("the state is damaged")
	// ErrNewer: a newer program wrote the file. Nothing was changed.
	ErrNewer = errors.New("the state is of a newer version")
	// ErrBusy: another process held the file for longer than the wait.
	ErrBusy = errors.New("the state is held by another process")
)

// Error says what is wrong with which file, and what to do.
type Error struct {
	Kind    error // one of the kinds above
	Path    string
	Message string
	Mend    string
	Cause   error // may be nil
}

// Error names the file, the cause and the mend.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s", e.Path, e.Message)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	if e.Mend != "" {
		text += "; " + e.Mend
	}
	return text
}

// Unwrap gives kind and cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}
