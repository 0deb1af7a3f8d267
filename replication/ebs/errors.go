package ebs

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// The errors that callers tell apart with errors.Is. They come wrapped with the request, the snapshot
// and the error of the SDK.
var (
	// ErrThrottled says that the service took no more requests, for longer than Options.Retry.
	ErrThrottled = errors.New("too many requests")
	// ErrUnavailable says that the service did not answer, or not usefully, for longer than Options.Retry.
	ErrUnavailable = errors.New("the service does not answer")
	// ErrNotFound says that there is no such snapshot, or none that this account may see.
	ErrNotFound = errors.New("no such snapshot")
	// ErrDenied says that a permission is missing, also one for an encryption key.
	ErrDenied = errors.New("access denied")
	// ErrConflict says that a client token was used with other parameters.
	ErrConflict = errors.New("the token was used for another request")
	// ErrInvalid says that the service refuses a request as it is.
	ErrInvalid = errors.New("invalid request")
	// ErrUnrelated says that two snapshots are not of one disk, so that nobody knows what changed.
	ErrUnrelated = errors.New("the snapshots are not of one disk")
	// ErrChecksum says that bytes are not those of their checksum, also when asked for again.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrLost says that the service gave up a pending snapshot, e.g. because nothing was written to it
	// for its timeout. Another attempt begins a new one.
	ErrLost = errors.New("the pending snapshot is lost")
	// ErrProtocol says that the service answered something that its API does not have.
	ErrProtocol = errors.New("unexpected answer")
)

// errStale says that a token of a block or of a page is no longer good: list again.
var errStale = errors.New("token expired")

// errSealed says that a pending snapshot has been completed meanwhile.
var errSealed = errors.New("the snapshot is complete")

// retryable are the errors that the SDK takes for passing ones: connections, 500 to 504, throttling.
var retryable = retry.IsErrorRetryables(retry.DefaultRetryables)

// throttled tells whether the service asks for fewer requests. ServiceQuotaExceededException comes with
// 402 and ConcurrentLimitExceededException with 400; both pass.
func throttled(err error) bool {
	var e smithy.APIError
	if !errors.As(err, &e) {
		return false
	}
	switch e.ErrorCode() {
	case "ServiceQuotaExceededException", "ConcurrentLimitExceededException":
		return true
	}
	_, ok := retry.DefaultThrottleErrorCodes[e.ErrorCode()]
	return ok
}

// classify gives the sentinel for an error of the SDK; nil for one that is none of them.
func classify(err error) error {
	var invalid *types.ValidationException
	var e smithy.APIError
	var status *smithyhttp.ResponseError
	switch {
	case throttled(err):
		return ErrThrottled
	case errors.As(err, &invalid):
		switch invalid.Reason {
		case types.ValidationExceptionReasonInvalidBlockToken, types.ValidationExceptionReasonInvalidPageToken:
			return errStale
		case types.ValidationExceptionReasonUnrelatedSnapshots:
			return ErrUnrelated
		}
		return ErrInvalid
	case errors.As(err, &e):
		switch e.ErrorCode() {
		case "ResourceNotFoundException":
			return ErrNotFound
		case "AccessDeniedException":
			return ErrDenied
		case "ConflictException":
			return ErrConflict
		case "InternalServerException":
			return ErrUnavailable
		}
	}
	if retryable.IsErrorRetryable(err).Bool() || errors.As(err, &status) && status.HTTPStatusCode() >= http.StatusInternalServerError {
		return ErrUnavailable
	}
	return nil
}

// passes tells whether the same request may succeed soon.
func passes(err error) bool {
	return errors.Is(err, ErrThrottled) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrChecksum)
}

// explain wraps an error of a request. An end of the caller's context stays what it is.
func explain(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if passes(err) || errors.Is(err, ErrProtocol) {
		return fmt.Errorf("%s: %w", what, err)
	}
	if kind := classify(err); kind != nil {
		return fmt.Errorf("%s: %w: %w", what, kind, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
