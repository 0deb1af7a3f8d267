package replication_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"lifeboat/replication"

	"github.com/stretchr/testify/require"
)

// scrubbing lets the target read its replicas all the time.
func scrubbing(p *pair) {
	p.t.Helper()
	require.NoError(p.t, p.target.Close())
	config := p.targetConfig()
	config.ScrubEvery = 20 * time.Millisecond
	e, err := replication.Open(p.t.Context(), config)
	require.NoError(p.t, err)
	p.target = e
	p.t.Cleanup(func() { _ = e.Close() })
}

// rot changes bytes of a replica behind the back of the engine.
func rot(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("rotten"), off)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestScrubFindsWhatTheDiskLostAndItIsSentAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t, 12<<20, 5<<20)
	scrubbing(p)
	p.settings.Interval = 10 * time.Millisecond
	p.start()
	const off = 3*replication.RegionSize + 5*replication.PieceSize
	before, err := replication.RootOfFile(t.Context(), p.replicas[1])
	require.NoError(t, err)
	rot(t, p.replicas[1], off+77)
	st := p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthResyncing })
	require.Contains(t, st.HealthReason, "disk vdb")
	require.Contains(t, st.HealthReason, fmt.Sprintf("offset %d", off))
	p.waitFor(func(s replication.Status) bool { return s.Health == replication.HealthOK })
	waitStatus(t, p.target, func(s replication.Status) bool { return s.Health == replication.HealthOK })
	p.requireSame(p.mark("mended"))
	after, err := replication.RootOfFile(t.Context(), p.replicas[1])
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// What is written while it is scrubbed is never taken for damage.
func TestScrubDoesNotDisturbASender(t *testing.T) {
	t.Parallel()
	p := newPair(t, 8<<20)
	scrubbing(p)
	p.settings.Interval = time.Millisecond
	p.start()
	stop := counterServer(t, p)
	for i := range 12 {
		p.mark(fmt.Sprint(i))
		st, err := p.target.Status(testStream)
		require.NoError(t, err)
		require.Equal(t, replication.HealthOK, st.Health, st.HealthReason)
	}
	stop()
	p.requireSame(p.mark("still"))
}
