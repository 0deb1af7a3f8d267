package delta

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpansThatTouchAreJoinedAndNoneIsNotAll(t *testing.T) {
	t.Parallel()
	require.NotNil(t, JoinSpans(nil), "nil spans mean everything")
	given := []Span{{Disk: 1, First: 0, End: 2}, {Disk: 0, First: 5, End: 9}, {Disk: 0, First: 7, End: 8}, {Disk: 0, First: 9, End: 10}, {Disk: 0, First: 11, End: 12}, {Disk: 2, First: 3, End: 3}}
	require.Equal(t, []Span{{Disk: 0, First: 5, End: 10}, {Disk: 0, First: 11, End: 12}, {Disk: 1, First: 0, End: 2}}, JoinSpans(given))
}
