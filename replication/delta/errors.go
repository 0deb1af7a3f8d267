package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The errors that callers tell apart with errors.Is. They come wrapped with the
// thing, the cause and the mend.
var (
	// ErrStaleEpoch says that the sender's epoch is over. Do not retry: ask who is active.
	ErrStaleEpoch = errors.New("stale epoch")
	// ErrWrongPeer says that the other end showed another key than the pinned one.
	ErrWrongPeer = errors.New("wrong peer")
	// ErrCorruptFrame says that a frame failed its checksum or its limits.
	ErrCorruptFrame = errors.New("corrupt frame")
	// ErrNewerState says that stored state was written by a newer version.
	ErrNewerState = errors.New("state of a newer version")
	// ErrDamagedState says that stored state cannot be read.
	ErrDamagedState = errors.New("damaged state")
	// ErrNoSpace says that a disk is full; the copy goes on when space is there.
	ErrNoSpace = errors.New("no space")
	// ErrUnknownStream says that the receiver expects no such stream.
	ErrUnknownStream = errors.New("unknown stream")
	// ErrMismatch says that what the target has is not what the source has: both ends are
	// to be compared, and the difference is sent again.
	ErrMismatch = errors.New("root mismatch")
	// ErrInvalidSpec says that a spec or a setting cannot be used as it is.
	ErrInvalidSpec = errors.New("invalid spec")
	// ErrReadSource says that a source disk could not be read; see ReadError.
	ErrReadSource = errors.New("source unreadable")
	// ErrProtocol says that the other end speaks, but not as agreed.
	ErrProtocol = errors.New("protocol error")
	// ErrBusy says that another session holds the volume; it may end soon.
	ErrBusy = errors.New("volume in use")
	// ErrTarget says that the target failed for a reason of its own.
	ErrTarget = errors.New("target failed")
)

// ReadError is a failed read of a source disk. Such a range is never
// replaced by zeros: the pass ends and is tried again.
type ReadError struct {
	Disk   string
	Offset int64
	Length int
	Err    error
}

// Error names disk and offset.
func (e *ReadError) Error() string {
	return fmt.Sprintf("read disk %s at offset %d (%d bytes): %v; check the disk, the copy goes on when it can be read",
		e.Disk, e.Offset, e.Length, e.Err)
}

// Unwrap gives the cause, and makes errors.Is(err, ErrReadSource) true.
func (e *ReadError) Unwrap() []error { return []error{ErrReadSource, e.Err} }

// wireCodes are the errors that one end may tell the other, by name.
var wireCodes = map[string]error{
	"stale-epoch":    ErrStaleEpoch,
	"wrong-peer":     ErrWrongPeer,
	"corrupt-frame":  ErrCorruptFrame,
	"newer-state":    ErrNewerState,
	"damaged-state":  ErrDamagedState,
	"no-space":       ErrNoSpace,
	"unknown-stream": ErrUnknownStream,
	"root-mismatch":  ErrMismatch,
	"invalid-spec":   ErrInvalidSpec,
	"protocol":       ErrProtocol,
	"busy":           ErrBusy,
	"target":         ErrTarget,
}

// codeOf gives the wire name of an error; unknown ones are the target's own.
func codeOf(err error) string {
	for code, sentinel := range wireCodes {
		if sentinel != ErrTarget && errors.Is(err, sentinel) {
			return code
		}
	}
	return "target"
}

// remoteError turns a wire name back into an error.
func remoteError(code, message string) error {
	sentinel, ok := wireCodes[code]
	if !ok {
		sentinel = ErrTarget
	}
	return fmt.Errorf("%w (said by the target): %s", sentinel, message)
}

// IsLink tells errors of the way to the target from all others: the other end may be
// well, and a new connection is worth a try.
func IsLink(err error) bool {
	for _, own := range wireCodes {
		if own != ErrCorruptFrame && errors.Is(err, own) {
			return false
		}
	}
	if errors.Is(err, ErrReadSource) {
		return false
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return true
	}
	for _, sentinel := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded, os.ErrDeadlineExceeded, ErrCorruptFrame} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// SpaceError marks "disk full" and "quota used up" as ErrNoSpace.
func SpaceError(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %s: %w; make room, the copy goes on by itself", ErrNoSpace, what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
