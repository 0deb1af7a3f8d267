package replication

import (
	"testing"

	"lifeboat/replication/delta"

	"github.com/stretchr/testify/require"
)

func TestDoubtsAreFewRangesOrAll(t *testing.T) {
	t.Parallel()
	var d doubts
	const perRegion = RegionSize / PieceSize
	for piece := int64(3*perRegion - 1); piece >= 0; piece-- { // as a page is compared
		d.add(0, piece)
	}
	for piece := int64(9*perRegion - 1); piece >= 3*perRegion; piece-- {
		d.add(0, piece)
	}
	d.add(1, 40*perRegion)
	require.Equal(t, []delta.Span{{Disk: 0, First: 0, End: 9}, {Disk: 1, First: 40, End: 41}}, union(d.spans))
	require.False(t, d.many)
	require.Equal(t, []Extent{{Offset: 40 * RegionSize, Length: RegionSize}}, d.extents(1))
	require.Empty(t, d.extents(2))
	for region := range int64(maxDoubts) {
		d.add(1, (100+2*region)*perRegion)
	}
	require.True(t, d.many)
	require.Len(t, d.spans, maxDoubts)
}

func TestUnionOfNothingIsNotAll(t *testing.T) {
	t.Parallel()
	require.NotNil(t, union(nil), "nil spans mean everything")
	got := union([]delta.Span{{Disk: 1, First: 0, End: 2}, {Disk: 0, First: 5, End: 9}, {Disk: 0, First: 7, End: 8}, {Disk: 0, First: 9, End: 10}, {Disk: 0, First: 11, End: 12}})
	require.Equal(t, []delta.Span{{Disk: 0, First: 5, End: 10}, {Disk: 0, First: 11, End: 12}, {Disk: 1, First: 0, End: 2}}, got)
}

func TestLeftOfCountsWhatAPassHasStillToLookAt(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 100, leftOf(nil, 0, 50, 150))
	require.EqualValues(t, 100, leftOf(&passState{}, 0, 50, 150), "nothing is known: all is left")
	pass := &passState{Left: []delta.Span{{Disk: 0, First: 1, End: 2}, {Disk: 0, First: 4, End: 6}}}
	require.EqualValues(t, 2*RegionSize, leftOf(pass, 0, RegionSize/2, 5*RegionSize))
	require.Zero(t, leftOf(pass, 1, 0, 9*RegionSize))
	require.Zero(t, leftOf(&passState{Left: []delta.Span{}}, 0, 0, RegionSize))
}
