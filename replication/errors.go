package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// The errors that callers tell apart with errors.Is. They come wrapped with the
// name of the stream, the cause and the mend.
var (
	// ErrStaleEpoch says that the stream has moved on to a higher epoch, or was
	// stopped at this one. Do not retry: ask who is active.
	ErrStaleEpoch = errors.New("stale epoch")
	// ErrWrongPeer says that the other end showed another key than the pinned one.
	ErrWrongPeer = errors.New("wrong peer")
	// ErrCorruptFrame says that a frame failed its checksum or its limits.
	ErrCorruptFrame = errors.New("corrupt frame")
	// ErrNewerState says that stored state was written by a newer version.
	ErrNewerState = errors.New("state of a newer version")
	// ErrDamagedState says that stored state cannot be read.
	ErrDamagedState = errors.New("damaged state")
	// ErrNoSpace says that a disk is full; the stream goes on when space is there.
	ErrNoSpace = errors.New("no space")
	// ErrUnknownStream says that this engine has no such stream.
	ErrUnknownStream = errors.New("unknown stream")
	// ErrUnknownPoint says that the stream has no such point.
	ErrUnknownPoint = errors.New("unknown point")
	// ErrPointInUse says that a point is locked or in use and stays.
	ErrPointInUse = errors.New("point in use")
	// ErrConsumed says that the point current-time was used with another token.
	ErrConsumed = errors.New("point already consumed")
	// ErrRootMismatch says that replica and cut differ: the pass is repeated
	// after a comparison of both ends.
	ErrRootMismatch = errors.New("root mismatch")
	// ErrInvalidSpec says that a spec or a setting cannot be used as it is.
	ErrInvalidSpec = errors.New("invalid spec")
	// ErrNoCut says that neither reflinks nor a pause are available, so that no
	// point can be offered.
	ErrNoCut = errors.New("no cut possible")
	// ErrStopped says that the stream has ended (by Final or StopSource).
	ErrStopped = errors.New("stream stopped")
	// ErrReadSource says that a source disk could not be read; see ReadError.
	ErrReadSource = errors.New("source unreadable")
	// ErrProtocol says that the other end speaks, but not as agreed.
	ErrProtocol = errors.New("protocol error")
	// ErrPause says that the server could not be paused, or not be let run again.
	ErrPause = errors.New("pause failed")
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
	return fmt.Sprintf("read disk %s at offset %d (%d bytes): %v; check the disk, the stream goes on when it can be read",
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
	"root-mismatch":  ErrRootMismatch,
	"invalid-spec":   ErrInvalidSpec,
	"protocol":       ErrProtocol,
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

// isLink tells errors of the way to the target from all others.
func isLink(err error) bool {
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

// isOurs tells errors that say more than that the link broke.
func isOurs(err error) bool {
	for _, sentinel := range []error{ErrNoSpace, ErrReadSource, ErrStaleEpoch, ErrWrongPeer, ErrNewerState, ErrDamagedState,
		ErrInvalidSpec, ErrTarget, ErrUnknownStream, ErrProtocol, ErrPause} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// spaceError marks "disk full" and "quota used up" as ErrNoSpace.
func spaceError(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %s: %w; make room, the stream goes on by itself", ErrNoSpace, what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
