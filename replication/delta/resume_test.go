package delta_test

import (
	"testing"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/deltatest"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

// A copy that was broken off and goes on reads and sends again at most what was under way. Of a
// copy of 4 GiB that is 1.6 %.
func TestWhatWasAcknowledgedIsNotReadAgain(t *testing.T) {
	t.Parallel()
	const size, used = 4 * gib, 256 << 20
	for _, proof := range []block.Proof{block.BLAKE3, block.Fast} {
		t.Run(proof.String(), func(t *testing.T) {
			t.Parallel()
			source := deltatest.NewScattered(size, []volume.Extent{{Offset: 0, Length: used}})
			p, target := sparsePair(t, size, proof)
			for range 3 {
				before := p.Meter.Read()
				_, err := p.Run(t.Context(), deltatest.Copy{From: source, To: target, Dial: deltatest.CutAfter(used / 4)})
				require.True(t, delta.IsLink(err), err)
				cut := p.Meter.Read()
				require.LessOrEqual(t, cut.Sent-before.Sent-(cut.Durable-before.Durable), int64(resentMost))
			}
			_, err := p.Run(t.Context(), deltatest.Copy{From: source, To: target})
			require.NoError(t, err)
			m := p.Meter.Read()
			t.Logf("read %.3f and sent %.3f times, with 3 cuts", float64(m.Scanned)/used, float64(m.Sent)/used)
			require.LessOrEqual(t, m.Scanned, int64(used+3*resentMost))
			require.LessOrEqual(t, m.Sent, int64(used+3*resentMost))
			require.Equal(t, used/block.Size, target.Blocks())
		})
	}
}
