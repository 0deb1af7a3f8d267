package cloud

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var allCodes = []Code{NotFound, Conflict, InUse, AddressTaken, TokenMismatch, InvalidInput, Unsupported, Denied, Quota, Billing,
	Capacity, NoSpace, Throttled, Unavailable, NotReady, Failed, NewerState, Corrupt, StaleEpoch}

func TestEveryCodeSaysWhatToDo(t *testing.T) {
	t.Parallel()
	require.Len(t, classes, len(allCodes))
	for _, code := range allCodes {
		cause := errors.New("secret detail")
		err := fmt.Errorf("wrapped: %w", E(code, "Op", "disk d", "cause", "mend", cause))
		require.Contains(t, []Class{Retry, Wait, GiveUp, AskPerson}, ClassOf(err), code)
		require.Equal(t, code, CodeOf(err))
		require.ErrorIs(t, err, cause)
		require.EqualError(t, errors.Unwrap(err), "disk d: cause (mend)", "the underlying error is not shown")
	}
	require.Equal(t, Retry, ClassOf(errors.New("foreign")))
	require.Empty(t, CodeOf(errors.New("foreign")))
	require.NoError(t, IgnoreNotFound(E(NotFound, "", "", "", "", nil)))
	require.Error(t, IgnoreNotFound(E(Denied, "", "", "", "", nil)))
}

type bare struct{}

func (bare) Site() Site   { return Site{Name: "s", Provider: "bare"} }
func (bare) Close() error { return nil }

func TestMissingCapabilityIsUnsupportedAndNamed(t *testing.T) {
	t.Parallel()
	_, err := As[Disks](bare{}, "Disks")
	require.Equal(t, Unsupported, CodeOf(err))
	require.ErrorContains(t, err, "Disks")
	require.ErrorContains(t, err, "bare")
	_, err = As[Provider](bare{}, "Provider")
	require.NoError(t, err)
}

func TestFiltersSelectWhatCarriesAllTags(t *testing.T) {
	t.Parallel()
	tags := map[string]string{"a": "1", "b": "2"}
	require.True(t, Filter{}.Match(nil))
	require.True(t, Filter{Tags: map[string]string{"a": "1"}}.Match(tags))
	require.False(t, Filter{Tags: map[string]string{"a": "1", "b": "3"}}.Match(tags))
	require.False(t, Filter{Tags: map[string]string{"c": ""}}.Match(tags))
	entry := Entry{Plan: "p", Server: "s", Operation: "o", Role: "r"}
	require.True(t, LedgerFilter{Plan: "p", Role: "r"}.Match(entry))
	require.False(t, LedgerFilter{Plan: "p", Server: "other"}.Match(entry))
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "drill/plan/1 disk", strings.Repeat("x", 64)} {
		require.NoError(t, CheckToken("Op", KindDisk, good))
	}
	for _, bad := range []string{"", strings.Repeat("x", 65), "tab\t", "é"} {
		require.Equal(t, InvalidInput, CodeOf(CheckToken("Op", KindDisk, bad)))
	}
}
