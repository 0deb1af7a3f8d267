package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

func TestErrorsOfTheContractDecideAboutRetries(t *testing.T) {
	t.Parallel()
	for code, want := range map[cloud.Code]struct{ final, benign bool }{
		cloud.NotFound: {true, false}, cloud.Conflict: {false, true}, cloud.InUse: {false, true}, cloud.AddressTaken: {true, false},
		cloud.TokenMismatch: {true, false}, cloud.InvalidInput: {true, false}, cloud.Unsupported: {true, false}, cloud.Denied: {true, false},
		cloud.Quota: {true, false}, cloud.Billing: {true, false}, cloud.Capacity: {true, false}, cloud.NoSpace: {true, false},
		cloud.Throttled: {false, true}, cloud.Unavailable: {false, false}, cloud.NotReady: {false, true}, cloud.Failed: {true, false},
		cloud.NewerState: {true, false}, cloud.Corrupt: {true, false}, cloud.StaleEpoch: {true, false},
	} {
		e := cloud.E(code, "StartLaunch", "server db", "went wrong", "do something", os.ErrClosed)
		e.RetryAfter = 3 * time.Second
		var a *temporal.ApplicationError
		require.ErrorAs(t, Err(fmt.Errorf("wrapped: %w", e)), &a)
		assert.Equal(t, string(code), a.Type())
		assert.Equal(t, want.final, a.NonRetryable(), "%s", code)
		assert.Equal(t, want.benign, a.Category() == temporal.ApplicationErrorCategoryBenign, "%s", code)
		assert.Equal(t, 3*time.Second, a.NextRetryDelay())
		var d ErrorDetails
		require.NoError(t, a.Details(&d))
		assert.Equal(t, ErrorDetails{Code: string(code), Class: e.Class, Resource: "server db", Message: "went wrong", Mend: "do something"}, d)
	}
}

func TestErrorsOfReplicationHaveTheContractsTypes(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]struct {
		kind  string
		final bool
	}{
		replication.ErrStaleEpoch: {StaleEpoch, true}, replication.ErrWrongPeer: {Denied, true}, replication.ErrNewerState: {NewerState, true},
		replication.ErrDamagedState: {Corrupt, true}, replication.ErrNoSpace: {NoSpace, true}, replication.ErrUnknownStream: {NotFound, true},
		replication.ErrUnknownPoint: {NotFound, true}, replication.ErrPointInUse: {InUse, false}, replication.ErrConsumed: {Conflict, true},
		replication.ErrInvalidSpec: {InvalidInput, true}, replication.ErrNoCut: {Unsupported, true}, replication.ErrStopped: {Conflict, true},
		replication.ErrReadSource: {Unavailable, false}, replication.ErrRootMismatch: {Unavailable, false}, replication.ErrCorruptFrame: {Unavailable, false},
		replication.ErrProtocol: {Unavailable, false}, replication.ErrTarget: {Unavailable, false}, os.ErrClosed: {Unavailable, false},
	} {
		var a *temporal.ApplicationError
		require.ErrorAs(t, Err(fmt.Errorf("stream shop/db: %w", err)), &a)
		assert.Equal(t, want.kind, a.Type(), "%v", err)
		assert.Equal(t, want.final, a.NonRetryable(), "%v", err)
		assert.Contains(t, a.Message(), "stream shop/db")
	}
}

func TestErrorsOfTemporalPassUnchanged(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, temporal.NewCanceledError(), temporal.NewNonRetryableApplicationError("x", Refused, nil)} {
		assert.Equal(t, err, Err(err))
	}
}

func TestExplainSaysWhatHappenedAndWhatToDo(t *testing.T) {
	t.Parallel()
	provider := Err(cloud.E(cloud.Quota, "StartLaunch", "server db", "the vCPU limit is reached", "raise the limit", nil))
	for name, c := range map[string]struct {
		err                 error
		code, message, mend string
	}{
		"nothing":     {nil, "", "", ""},
		"of provider": {provider, Quota, "server db: the vCPU limit is reached", "raise the limit"},
		"joined":      {errors.Join(errors.New("undo"), provider), Quota, "server db: the vCPU limit is reached", "raise the limit"},
		"not Temporal's": {cloud.E(cloud.NoSpace, "", "disk d", "is full", "make room", nil), NoSpace,
			"disk d: is full", "make room"},
		"of workflow": {temporal.NewNonRetryableApplicationError("agent west does not answer", HostLost,
			temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil)), HostLost, "agent west does not answer", ""},
		"lost worker": {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_HEARTBEAT, nil), Timeout, "the worker that did the step was lost", "see whether lifeboat-worker runs"},
		"no worker": {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil), Timeout, "no worker took the step",
			"start lifeboat-worker with the role for this site or agent"},
		"time ran out": {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, provider), Timeout,
			"the time for the step ran out; at last: server db: the vCPU limit is reached", "raise the limit"},
		"cancelled": {temporal.NewCanceledError(), Canceled, "canceled", ""},
		"context":   {context.Canceled, Canceled, "canceled", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, message, mend := Explain(c.err)
			assert.Equal(t, []string{c.code, c.message, c.mend}, []string{code, message, mend})
		})
	}
}

func TestNewestWriteIsTheLastThatCanBeRead(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for output, want := range map[string]*time.Time{
		"": nil, "LIFEBOAT_NEWEST_WRITE=yesterday": nil, "x LIFEBOAT_NEWEST_WRITE=2026-05-06T07:08:09Z": nil,
		"a\nLIFEBOAT_NEWEST_WRITE=2026-05-06T07:08:09Z\nb":                                                  &at,
		"LIFEBOAT_NEWEST_WRITE=2020-01-01T00:00:00Z\n  LIFEBOAT_NEWEST_WRITE=2026-05-06T09:08:09+02:00\r\n": &at,
	} {
		assert.Equal(t, want, newestWriteIn(output), "%q", output)
	}
}

func FuzzNewestWrite(f *testing.F) {
	f.Add("LIFEBOAT_NEWEST_WRITE=2026-05-06T07:08:09Z")
	f.Add("\nLIFEBOAT_NEWEST_WRITE=\nLIFEBOAT_NEWEST_WRITE=9999-12-31T23:59:59.999999999+23:59")
	f.Fuzz(func(t *testing.T, output string) {
		if got := newestWriteIn(output); got != nil {
			assert.Equal(t, got, newestWriteIn(newestWrite+got.Format(time.RFC3339Nano)))
		}
	})
}
