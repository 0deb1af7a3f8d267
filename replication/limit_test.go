package replication_test

import (
	"testing"
	"time"

	"lifeboat/replication"

	"github.com/stretchr/testify/require"
)

func TestBandwidthFollowsACalendar(t *testing.T) {
	t.Parallel()
	p := newPair(t, 8<<20)
	p.settings.Calendar = "sun-sat 400KiB/s, else unlimited"
	p.settings.BytesPerSecond = 1 // the calendar counts
	began := time.Now()
	p.prepareAndStart()
	p.waitFor(func(s replication.Status) bool { return s.BytesSent > 500<<10 })
	require.Greater(t, time.Since(began), time.Second, "the limit holds")
	require.NoError(t, p.source.Close())
	p.openSource()
	require.NoError(t, p.source.Set(testStream, replication.Settings{Interval: time.Hour, AutoResume: true, Calendar: "unlimited"}))
	p.waitFor(func(s replication.Status) bool { return s.LastPoint != nil })

	err := p.source.Set(testStream, replication.Settings{Calendar: "mon-fri fast"})
	require.ErrorIs(t, err, replication.ErrInvalidSpec)
	require.ErrorContains(t, err, testStream)
	for _, rate := range []string{"20MiB", "-1B/s", "9999999999TiB/s", "xB/s", "MiB/s"} {
		require.ErrorIs(t, p.source.Set(testStream, replication.Settings{Calendar: rate}), replication.ErrInvalidSpec, rate)
	}
}
