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
	require.Equal(t, []delta.Span{{Disk: 0, First: 0, End: 9}, {Disk: 1, First: 40, End: 41}}, delta.JoinSpans(d.spans))
	require.False(t, d.many)
	require.Equal(t, []Extent{{Offset: 40 * RegionSize, Length: RegionSize}}, d.extents(1))
	require.Empty(t, d.extents(2))
	for region := range int64(maxDoubts) {
		d.add(1, (100+2*region)*perRegion)
	}
	require.True(t, d.many)
	require.Len(t, d.spans, maxDoubts)
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
