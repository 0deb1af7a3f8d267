package activities

import (
	"errors"

	"go.temporal.io/sdk/temporal"

	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

// The closed list of error types, as in temporal.ApplicationError.Type. Workflows
// and commands decide by them.
const (
	// One for each code of the provider contract.
	NotFound      = string(cloud.NotFound)
	Conflict      = string(cloud.Conflict)
	InUse         = string(cloud.InUse)
	AddressTaken  = string(cloud.AddressTaken)
	TokenMismatch = string(cloud.TokenMismatch)
	InvalidInput  = string(cloud.InvalidInput)
	Unsupported   = string(cloud.Unsupported)
	Denied        = string(cloud.Denied)
	Quota         = string(cloud.Quota)
	Billing       = string(cloud.Billing)
	Capacity      = string(cloud.Capacity)
	NoSpace       = string(cloud.NoSpace)
	Throttled     = string(cloud.Throttled)
	Unavailable   = string(cloud.Unavailable)
	NotReady      = string(cloud.NotReady)
	Failed        = string(cloud.Failed)
	NewerState    = string(cloud.NewerState)
	Corrupt       = string(cloud.Corrupt)
	StaleEpoch    = string(cloud.StaleEpoch)

	// Refused: the phase forbids the command.
	Refused = "Refused"
	// Invalid: the request can never be right.
	Invalid = "Invalid"
	// Aborted: a person aborted the operation, and it was undone.
	Aborted = "Aborted"
	// BadCheckpoint: what an earlier attempt left to go on from cannot be read.
	BadCheckpoint = "BadCheckpoint"
	// HostLost: the agent next to the disks does not answer.
	HostLost = "HostLost"
	// SourceUnreachable: the site or agent of the source does not answer.
	SourceUnreachable = "SourceUnreachable"
	// ScriptFailed: a script ended with another status than 0, or not at all.
	ScriptFailed = "ScriptFailed"
	// LeftOver: resources could not be deleted.
	LeftOver = "LeftOver"
	// Yield: the worker is ending; another one goes on at once.
	Yield = "Yield"
	// Timeout and Canceled are what Explain says of Temporal's own errors.
	Timeout  = "Timeout"
	Canceled = "Canceled"
)

// ErrorDetails is the detail of every application error that [Err] makes.
type ErrorDetails struct {
	Code     string      `json:"code"`
	Class    cloud.Class `json:"class"`
	Resource string      `json:"resource,omitempty"`
	Message  string      `json:"message"`
	Mend     string      `json:"mend,omitempty"`
}

// replicationCodes is the one table from errors of the replication engine to the contract's.
var replicationCodes = []struct {
	err   error
	code  cloud.Code
	class cloud.Class // "" = the default of the code
	mend  string
}{
	{replication.ErrStaleEpoch, cloud.StaleEpoch, "", ""},
	{replication.ErrWrongPeer, cloud.Denied, "", "prepare the target again, so that both agents know each other's key"},
	{replication.ErrNewerState, cloud.NewerState, "", "run the version that wrote it, or a newer one"},
	{replication.ErrDamagedState, cloud.Corrupt, "", ""},
	{replication.ErrNoSpace, cloud.NoSpace, "", "make room; the stream goes on by itself"},
	{replication.ErrUnknownStream, cloud.NotFound, "", ""},
	{replication.ErrUnknownPoint, cloud.NotFound, "", ""},
	{replication.ErrPointInUse, cloud.InUse, "", ""},
	{replication.ErrConsumed, cloud.Conflict, cloud.GiveUp, ""},
	{replication.ErrInvalidSpec, cloud.InvalidInput, "", ""},
	{replication.ErrNoCut, cloud.Unsupported, cloud.AskPerson, "use a file system with reflinks (btrfs, xfs), or a runtime that can be paused"},
	{replication.ErrStopped, cloud.Conflict, cloud.GiveUp, ""},
	{replication.ErrReadSource, cloud.Unavailable, "", "check the source disk"},
	{replication.ErrRootMismatch, cloud.Unavailable, "", ""},
	{replication.ErrCorruptFrame, cloud.Unavailable, "", ""},
	{replication.ErrProtocol, cloud.Unavailable, "", ""},
	{replication.ErrTarget, cloud.Unavailable, "", ""},
}

// asContract expresses any error in the terms of the contract.
func asContract(err error) *cloud.Error {
	var e *cloud.Error
	if errors.As(err, &e) {
		return e
	}
	for _, row := range replicationCodes {
		if errors.Is(err, row.err) {
			e = cloud.E(row.code, "", "", err.Error(), row.mend, err)
			if row.class != "" {
				e.Class = row.class
			}
			return e
		}
	}
	return cloud.E(cloud.Unavailable, "", "", err.Error(), "", err)
}

// Err is the one mapping from errors of providers and the replication engine to
// Temporal's: the type is the code, give-up and ask-a-person are not retried,
// and waiting for a state counts as no failure. Errors of Temporal pass.
func Err(err error) error {
	var application *temporal.ApplicationError
	var canceled *temporal.CanceledError
	if err == nil || errors.As(err, &application) || errors.As(err, &canceled) {
		return err
	}
	e := asContract(err)
	options := temporal.ApplicationErrorOptions{
		NonRetryable:   e.Class == cloud.GiveUp || e.Class == cloud.AskPerson,
		NextRetryDelay: e.RetryAfter,
		Details:        []any{ErrorDetails{Code: string(e.Code), Class: e.Class, Resource: e.Resource, Message: e.Message, Mend: e.Mend}},
	}
	if e.Class == cloud.Wait {
		options.Category = temporal.ApplicationErrorCategoryBenign
	}
	return temporal.NewApplicationErrorWithOptions(e.Error(), string(e.Code), options)
}

// fatal makes an error of a type that is not the contract's; it is not retried.
func fatal(kind, resource, message, mend string) error {
	e := cloud.E(cloud.Code(kind), "", resource, message, mend, nil)
	e.Class = cloud.GiveUp
	return Err(e)
}
