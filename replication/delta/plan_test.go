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

func TestRegionsThatAreFoundFromTheEndOfPagesMakeFewSpans(t *testing.T) {
	t.Parallel()
	var spans []Span
	for _, region := range []int64{3, 2, 1, 1, 7, 6, 5, 4} { // two pages, and the second joins the first
		spans = AppendSpan(spans, 0, region)
	}
	spans = AppendSpan(spans, 1, 8)
	require.Equal(t, []Span{{Disk: 0, First: 1, End: 4}, {Disk: 0, First: 4, End: 8}, {Disk: 1, First: 8, End: 9}}, spans)
}
