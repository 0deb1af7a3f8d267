package activities

import (
	"context"
	"errors"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
)

// Explain takes an error apart for people: its type (see the constants of this
// package), what happened, and what can be done. It looks through the errors
// that Temporal wraps around those of activities and children. It is
// deterministic, so that workflows may use it. mend may be empty.
func Explain(err error) (code, message, mend string) {
	if err == nil {
		return "", "", ""
	}
	// The outermost counts: either may wrap the other.
	for e := err; e != nil; e = errors.Unwrap(e) {
		switch e := e.(type) {
		case *temporal.ApplicationError:
			return explainApplication(e)
		case *temporal.TimeoutError:
			message, mend = explainTimeout(e)
			return Timeout, message, mend
		}
	}
	var application *temporal.ApplicationError
	if errors.As(err, &application) { // one of several that were joined
		return explainApplication(application)
	}
	if temporal.IsCanceledError(err) || errors.Is(err, context.Canceled) {
		return Canceled, "canceled", ""
	}
	var terminated *temporal.TerminatedError
	if errors.As(err, &terminated) {
		return Aborted, "terminated from outside, nothing was undone", "look for left-over resources with `lifeboat drill list` and clean them"
	}
	var wrapped *temporal.ActivityError
	if errors.As(err, &wrapped) && wrapped.Unwrap() != nil {
		return string(asContract(err).Code), wrapped.Unwrap().Error(), ""
	}
	e := asContract(err)
	return string(e.Code), sentence(e.Resource, e.Message), e.Mend
}

func explainApplication(err *temporal.ApplicationError) (code, message, mend string) {
	var d ErrorDetails
	if err.HasDetails() && err.Details(&d) == nil && d.Code == err.Type() && d.Message != "" {
		return d.Code, sentence(d.Resource, d.Message), d.Mend
	}
	return err.Type(), err.Message(), ""
}

func sentence(resource, message string) string {
	if resource == "" {
		return message
	}
	return resource + ": " + message
}

func explainTimeout(err *temporal.TimeoutError) (message, mend string) {
	switch err.TimeoutType() {
	case enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START:
		return "no worker took the step", "start lifeboat-worker with the role for this site or agent"
	case enumspb.TIMEOUT_TYPE_HEARTBEAT:
		return "the worker that did the step was lost", "see whether lifeboat-worker runs"
	case enumspb.TIMEOUT_TYPE_START_TO_CLOSE:
		return "the step took too long", "see what the site is doing, then retry"
	}
	if cause := err.Unwrap(); cause != nil {
		_, message, mend = Explain(cause)
		return "the time for the step ran out; at last: " + message, mend
	}
	return "the time for the step ran out", "see what the site is doing, then retry"
}
