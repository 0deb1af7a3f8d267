package ebs_test

import (
	"testing"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/deltatest"
	"lifeboat/replication/ebs"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

// byCore copies a snapshot into a new one through the delta-transfer core: both ends in this
// process, over loopback. The directory is the core's state.
func byCore(t testing.TB, from *ebs.Client, snapshot string, to *ebs.Client, spec ebs.Spec, pair *deltatest.Pair, changed []volume.Extent) (id, root string) {
	t.Helper()
	source, err := from.Open(t.Context(), snapshot)
	require.NoError(t, err)
	defer source.Close()
	spec.Bytes = source.Size()
	target, err := to.OpenTarget(t.Context(), spec)
	require.NoError(t, err)
	root, err = pair.Run(t.Context(), deltatest.Copy{From: source, To: target, Changed: changed})
	require.NoError(t, err)
	require.NoError(t, target.Complete())
	return target.Snapshot(), root
}

func rootOf(t testing.TB, c *ebs.Client, snapshot string) string {
	t.Helper()
	v, err := c.Open(t.Context(), snapshot)
	require.NoError(t, err)
	defer v.Close()
	root, err := delta.RootOf(t.Context(), v, block.BLAKE3)
	require.NoError(t, err)
	return root
}

func TestTheCoreCopiesSnapshotsAsVolumes(t *testing.T) {
	t.Parallel()
	from, to := newService(), newService()
	a, b := from.client(t, 16, ebs.Options{}), to.client(t, 16, ebs.Options{})
	blocks := many(60)
	first := from.add(1, blocks)
	pair := &deltatest.Pair{Dir: t.TempDir(), Proof: block.BLAKE3}
	spec := ebs.Spec{Token: "1", State: t.TempDir()}
	copied, root := byCore(t, a, first, b, spec, pair, nil)
	require.Equal(t, root, rootOf(t, a, first))
	require.Equal(t, root, rootOf(t, b, copied))

	// The next pass: only what changed, onto the copy before. A quarter of a block changed.
	next := map[int64][]byte{}
	for i, b := range blocks {
		next[i] = b
	}
	next[3] = append(data(99)[:128<<10:128<<10], blocks[3][128<<10:]...)
	delete(next, 5)
	second := from.add(1, next)
	changed, err := a.Changed(t.Context(), first, second)
	require.NoError(t, err)
	gets := from.count("get")
	spec.Token, spec.Parent = "2", copied
	copied2, root2 := byCore(t, a, second, b, spec, pair, changed)
	require.Equal(t, root2, rootOf(t, b, copied2))
	require.Equal(t, root2, rootOf(t, a, second))
	require.Less(t, from.count("get")-gets, 80, "of which 60 for the root")
}
