package replication

import (
	"errors"

	"lifeboat/replication/delta"
)

// The errors that callers tell apart with errors.Is. They come wrapped with the
// name of the stream, the cause and the mend. Those of the copy itself are package delta's.
var (
	// ErrStaleEpoch says that the stream has moved on to a higher epoch, or was
	// stopped at this one. Do not retry: ask who is active.
	ErrStaleEpoch = delta.ErrStaleEpoch
	// ErrWrongPeer says that the other end showed another key than the pinned one.
	ErrWrongPeer = delta.ErrWrongPeer
	// ErrCorruptFrame says that a frame failed its checksum or its limits.
	ErrCorruptFrame = delta.ErrCorruptFrame
	// ErrNewerState says that stored state was written by a newer version.
	ErrNewerState = delta.ErrNewerState
	// ErrDamagedState says that stored state cannot be read.
	ErrDamagedState = delta.ErrDamagedState
	// ErrNoSpace says that a disk is full; the stream goes on when space is there.
	ErrNoSpace = delta.ErrNoSpace
	// ErrUnknownStream says that this engine has no such stream.
	ErrUnknownStream = delta.ErrUnknownStream
	// ErrRootMismatch says that replica and cut differ: the pass is repeated
	// after a comparison of both ends.
	ErrRootMismatch = delta.ErrMismatch
	// ErrInvalidSpec says that a spec or a setting cannot be used as it is.
	ErrInvalidSpec = delta.ErrInvalidSpec
	// ErrReadSource says that a source disk could not be read; see ReadError.
	ErrReadSource = delta.ErrReadSource
	// ErrProtocol says that the other end speaks, but not as agreed.
	ErrProtocol = delta.ErrProtocol
	// ErrTarget says that the target failed for a reason of its own.
	ErrTarget = delta.ErrTarget

	// ErrUnknownPoint says that the stream has no such point.
	ErrUnknownPoint = errors.New("unknown point")
	// ErrPointInUse says that a point is locked or in use and stays.
	ErrPointInUse = errors.New("point in use")
	// ErrConsumed says that the point current-time was used with another token.
	ErrConsumed = errors.New("point already consumed")
	// ErrNoCut says that neither reflinks nor a pause are available, so that no
	// point can be offered.
	ErrNoCut = errors.New("no cut possible")
	// ErrStopped says that the stream has ended (by Final or StopSource).
	ErrStopped = errors.New("stream stopped")
	// ErrPause says that the server could not be paused, or not be let run again.
	ErrPause = errors.New("pause failed")
)

// ReadError is a failed read of a source disk. Such a range is never
// replaced by zeros: the pass ends and is tried again.
type ReadError = delta.ReadError

// isLink tells that the way to the target failed, and neither end.
func isLink(err error) bool { return !errors.Is(err, ErrPause) && delta.IsLink(err) }

func spaceError(what string, err error) error { return delta.SpaceError(what, err) }
