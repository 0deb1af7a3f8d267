package cloud

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Class says what the caller of a failed call should do.
type Class string

const (
	// Retry: the same call may succeed soon (network trouble, server error, eventual consistency).
	Retry Class = "retry"
	// Wait: the same call will succeed once a limit or a state has passed; RetryAfter is a hint.
	Wait Class = "wait"
	// GiveUp: the same call can never succeed (invalid input, resource gone for good).
	GiveUp Class = "give-up"
	// AskPerson: a person has to change something first (permission, quota, money, capacity).
	AskPerson Class = "ask-a-person"
)

// Code names the cause of an error; each code has one default [Class].
type Code string

const (
	NotFound      Code = "NotFound"      // no such resource, or not visible yet
	Conflict      Code = "Conflict"      // another change is in progress, or the state forbids the call
	InUse         Code = "InUse"         // something else still uses the resource
	AddressTaken  Code = "AddressTaken"  // a private address belongs to another server
	TokenMismatch Code = "TokenMismatch" // a client token was used before with other parameters
	InvalidInput  Code = "InvalidInput"  // the request can never be right
	Unsupported   Code = "Unsupported"   // the provider cannot do this
	Denied        Code = "Denied"        // permission is missing
	Quota         Code = "Quota"         // an account limit is reached
	Billing       Code = "Billing"       // the account owes money, or its balance is too low
	Capacity      Code = "Capacity"      // the provider has no room of this kind at the moment
	NoSpace       Code = "NoSpace"       // a disk is full
	Throttled     Code = "Throttled"     // too many requests
	Unavailable   Code = "Unavailable"   // the service did not answer, or answered with a server error
	NotReady      Code = "NotReady"      // the resource is still on its way to the wanted state
	Failed        Code = "Failed"        // the resource ended in a failed state
	NewerState    Code = "NewerState"    // stored state was written by a newer version
	Corrupt       Code = "Corrupt"       // stored state or data is damaged
	StaleEpoch    Code = "StaleEpoch"    // the caller acts for an epoch that has passed
)

// classes is the one table from cause to reaction.
var classes = map[Code]Class{
	NotFound: GiveUp, Conflict: Wait, InUse: Wait, AddressTaken: AskPerson, TokenMismatch: GiveUp, InvalidInput: GiveUp,
	Unsupported: GiveUp, Denied: AskPerson, Quota: AskPerson, Billing: AskPerson, Capacity: AskPerson, NoSpace: AskPerson, Throttled: Wait,
	Unavailable: Retry, NotReady: Wait, Failed: GiveUp, NewerState: AskPerson, Corrupt: AskPerson, StaleEpoch: GiveUp,
}

// Error is the one error type that crosses the contract.
type Error struct {
	Code       Code
	Class      Class         // what to do; the default of Code unless the provider knows better
	Op         string        // the call, e.g. "StartLaunch"
	Resource   string        // kind and name or identifier, e.g. "disk disk-1a2b"
	Message    string        // the cause in words, free of secrets
	Mend       string        // what a person can do about it; may be empty
	RetryAfter time.Duration // hint for Wait and Retry; 0 = caller's back-off
	Err        error         // the underlying error; never shown to users
}

// E makes an error with the default class of its code.
func E(code Code, op, resource, message, mend string, cause error) *Error {
	return &Error{Code: code, Class: classes[code], Op: op, Resource: resource, Message: message, Mend: mend, Err: cause}
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Resource != "" {
		fmt.Fprintf(&b, "%s: ", e.Resource)
	}
	b.WriteString(e.Message)
	if e.Mend != "" {
		fmt.Fprintf(&b, " (%s)", e.Mend)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of an error, or "" when it is not one of the contract's.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// ClassOf returns what to do about an error; errors from outside the contract are retried.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) && e.Class != "" {
		return e.Class
	}
	return Retry
}

// IsNotFound tells whether the resource is not there.
func IsNotFound(err error) bool { return CodeOf(err) == NotFound }

// IgnoreNotFound returns nil when the resource is not there, err otherwise.
func IgnoreNotFound(err error) error {
	if IsNotFound(err) {
		return nil
	}
	return err
}
