package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/internal/dial"
	"lifeboat/workflows"
	"lifeboat/workflows/plan"
)

// Exit statuses: contract, section 4. This file is the one place that decides.
const (
	statusDone        = 0
	statusFailed      = 1
	statusUsage       = 2
	statusRefused     = 3
	statusWaitOver    = 4
	statusUnreachable = 5
	statusInterrupted = 130
)

// statusError is an error that knows its exit status.
type statusError struct {
	status  int
	message string
	err     error
}

func (e *statusError) Error() string { return e.message }
func (e *statusError) Unwrap() error { return e.err }

var errInterrupted = &statusError{status: statusInterrupted, message: "interrupted; what was accepted goes on"}

// usagef makes an error of wrong usage.
func usagef(format string, args ...any) error {
	return &statusError{status: statusUsage, message: fmt.Sprintf(format, args...)}
}

// asUsage makes an error of flags or arguments one of usage, with the way to write it.
func asUsage(cmd *cobra.Command, err error) error {
	var known *statusError
	if err == nil || errors.As(err, &known) {
		return err
	}
	name := ""
	if cmd.HasParent() {
		name = strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ") + ": "
	}
	usage := "see `" + cmd.Root().Name() + " --help`"
	if cmd.Runnable() && !cmd.HasSubCommands() {
		usage = "usage: " + cmd.UseLine()
	}
	return &statusError{status: statusUsage, message: name + err.Error() + " (" + usage + ")", err: err}
}

// failf makes an error of an operation that failed.
func failf(format string, args ...any) error {
	return &statusError{status: statusFailed, message: fmt.Sprintf(format, args...)}
}

// unreachablef makes an error of Temporal or workers that do not answer.
func unreachablef(err error, format string, args ...any) error {
	return &statusError{status: statusUnreachable, message: fmt.Sprintf(format, args...), err: err}
}

// errWaitOver says that --timeout ran out.
func errWaitOver(after time.Duration, err error) error {
	return &statusError{status: statusWaitOver, err: err,
		message: fmt.Sprintf("not done after %s; what was accepted goes on (see `lifeboat status`, or wait longer with --timeout)", after)}
}

// severalErrors are the errors of a command that acted on several servers.
type severalErrors []error

func (e severalErrors) Error() string   { return e[len(e)-1].Error() }
func (e severalErrors) Unwrap() []error { return e }

// exitStatus gives the exit status of a command that ended with err.
func exitStatus(err error) int {
	var several severalErrors
	if errors.As(err, &several) {
		return commonStatus(several)
	}
	var known *statusError
	if errors.As(err, &known) {
		return known.status
	}
	var (
		invalid     plan.Errors
		unreachable *dial.UnreachableError
		unavailable *serviceerror.Unavailable
		application *temporal.ApplicationError
	)
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, context.Canceled):
		return statusInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return statusWaitOver
	case errors.As(err, &invalid), cloud.CodeOf(err) == cloud.InvalidInput:
		return statusUsage
	case errors.As(err, &unreachable), errors.As(err, &unavailable):
		return statusUnreachable
	case errors.As(err, &application) && application.Type() == workflows.ErrRefused:
		return statusRefused
	case errors.As(err, &application) && application.Type() == workflows.ErrInvalid:
		return statusUsage
	}
	return statusFailed
}

// commonStatus is the status that all errors share, else that of a failure.
func commonStatus(errs []error) int {
	status := exitStatus(errs[0])
	for _, err := range errs[1:] {
		if exitStatus(err) != status {
			return statusFailed
		}
	}
	return status
}

// explain gives the lines that tell a person about err: thing, cause, mend.
func explain(err error) []string {
	var several severalErrors
	var invalid plan.Errors
	switch {
	case err == nil:
		return nil
	case errors.As(err, &several):
		var lines []string
		for _, e := range several {
			lines = append(lines, explain(e)...)
		}
		return lines
	case errors.As(err, &invalid):
		var lines []string
		for _, e := range invalid {
			lines = append(lines, e.Error())
		}
		return lines
	}
	return []string{"lifeboat: " + strings.Join(strings.Fields(oneLine(err)), " ")}
}

// oneLine is the message of an error without what Temporal wraps around it.
func oneLine(err error) string {
	var known *statusError
	if errors.As(err, &known) {
		return known.message
	}
	prefix := ""
	var named *subjectError
	if errors.As(err, &named) {
		prefix = named.subject + ": "
	}
	var application *temporal.ApplicationError
	var activity *temporal.ActivityError
	if !errors.As(err, &application) && !errors.As(err, &activity) {
		if named != nil {
			err = named.err
		}
		return prefix + strings.TrimPrefix(err.Error(), prefix)
	}
	var refusal workflows.Refusal
	if application == nil || application.Type() != workflows.ErrRefused || !application.HasDetails() || application.Details(&refusal) != nil {
		_, message, mend := activities.Explain(err)
		if mend != "" {
			message += " (" + mend + ")"
		}
		return prefix + strings.TrimPrefix(message, prefix)
	}
	text := refusal.Subject + ": " + refusal.Reason
	if len(refusal.Allowed) == 0 {
		return text
	}
	return text + " (legal now: " + strings.Join(refusal.Allowed, ", ") + ")"
}

// subjectError names the plan or server that a command failed for.
type subjectError struct {
	subject string
	err     error
}

func (e *subjectError) Error() string { return e.subject + ": " + oneLine(e.err) }
func (e *subjectError) Unwrap() error { return e.err }

// about names the subject of an error, unless it is nil or names it already.
func about(subject string, err error) error {
	if err == nil || strings.HasPrefix(oneLine(err), subject+":") {
		return err
	}
	var known *statusError
	if errors.As(err, &known) {
		return &statusError{status: known.status, message: subject + ": " + known.message, err: err}
	}
	return &subjectError{subject: subject, err: err}
}
