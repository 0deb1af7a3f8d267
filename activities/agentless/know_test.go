package agentless_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/replication"
)

// In a disaster another worker has to use the points of one that is gone, and must not
// ask the source for anything.
func TestAnotherEngineUsesThePointsWithoutTheSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.engine("a")
	w.start(first, w.spec())
	marked := w.mark(first, "marked")
	require.NoError(t, first.Close())
	w.fail("primary", errDown)
	asked := w.asked("primary")

	e := w.engine("b")
	_, err := e.Points(streamName)
	require.ErrorIs(t, err, replication.ErrUnknownStream)
	require.ErrorIs(t, e.Know(t.Context(), "shop/nobody", w.away.Site()), replication.ErrUnknownStream, "nothing is known of it")
	for range 2 {
		require.NoError(t, e.Know(t.Context(), streamName, w.away.Site()))
	}
	require.Equal(t, marked.ID, w.points(e)[0].ID)
	require.NoError(t, e.StopTarget(t.Context(), streamName, 1))
	require.NoError(t, e.UsePoint(streamName, marked.ID, true))
	require.NoError(t, e.TestedPoint(streamName, marked.ID, time.Now()))
	require.True(t, w.points(e)[0].InUse)
	require.Equal(t, asked, w.asked("primary"), "the source was not asked")

	require.NoError(t, e.Close())
	require.Len(t, w.points(w.engine("b")), 2, "it is known also after a restart")
}
