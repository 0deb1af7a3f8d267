package delta

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// takers send by a throttle, in pieces of n bytes each, until the context ends.
func takers(ctx context.Context, th *Throttle, sizes ...int) (sent []*atomic.Int64, wait func()) {
	var wg sync.WaitGroup
	for _, n := range sizes {
		count := new(atomic.Int64)
		sent = append(sent, count)
		wg.Go(func() {
			for ctx.Err() == nil {
				for left := n; left > 0; {
					k, err := th.take(ctx, left)
					if err != nil {
						return
					}
					count.Add(int64(k))
					left -= k
				}
			}
		})
	}
	return sent, wg.Wait
}

func sum(counts []*atomic.Int64) (n int64) {
	for _, c := range counts {
		n += c.Load()
	}
	return n
}

// The limit holds to 5 %, whatever the lanes send, and they share it.
func TestLimitIsAccurateAndShared(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{100 << 10, 20 << 20, 1 << 30} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
			defer stop()
			sent, wait := takers(ctx, NewThrottle(limit), 256<<10, 256<<10, 3000, 1<<20)
			wait()
			require.InEpsilon(t, 10*limit, sum(sent), 0.02, "limit %d", limit)
			// Of frames of the same size, everybody gets as many.
			require.InEpsilon(t, sent[0].Load(), sent[1].Load(), 0.25, "limit %d", limit)
		})
	}
}

// Against the real clock, where goroutines wake up late.
func TestLimitHoldsOnARealClock(t *testing.T) {
	t.Parallel()
	const limit = 40 << 20
	ctx, stop := context.WithCancel(t.Context())
	began := time.Now()
	sent, wait := takers(ctx, NewThrottle(limit), 256<<10, 256<<10)
	<-time.After(2 * time.Second)
	n, took := sum(sent), time.Since(began)
	stop()
	wait()
	require.InEpsilon(t, float64(limit)*took.Seconds(), float64(n), 0.05)
}

func TestLimitChangesWhileItIsUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		th := NewThrottle(10 << 20)
		sent, wait := takers(ctx, th, 256<<10, 256<<10)
		was := int64(0)
		for _, limit := range []int64{10 << 20, 1 << 20, 50 << 20, 3 << 20} {
			th.Set(limit)
			time.Sleep(10 * time.Second)
			now := sum(sent)
			require.InEpsilon(t, 10*limit, now-was, 0.05, "limit %d", limit)
			was = now
		}
		stop()
		wait()
	})
}

func TestNoLimitLetsEverythingThrough(t *testing.T) {
	t.Parallel()
	th := NewThrottle(0)
	n, err := th.take(t.Context(), 1<<30)
	require.NoError(t, err)
	require.Equal(t, 1<<30, n)
	th.Set(1000)
	th.Set(0)
	n, err = th.take(t.Context(), 1<<30)
	require.NoError(t, err)
	require.Equal(t, 1<<30, n)
}

func TestThrottleFollowsACalendar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		// The bubble begins at midnight UTC, which may be any hour here.
		hour := time.Now().Truncate(time.Hour)
		name := func(d time.Duration) string { return hour.Add(d).Format("15:04") }
		c := calendar(t, name(time.Hour)+"-"+name(3*time.Hour)+" 20MiB/s, else 1MiB/s")
		th := NewThrottle(0)
		go th.Follow(ctx, c)
		synctest.Wait()
		require.EqualValues(t, 1<<20, th.Limit())
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		require.EqualValues(t, 1<<20, th.Limit())
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 20<<20, th.Limit())
		time.Sleep(2 * time.Hour)
		require.EqualValues(t, 1<<20, th.Limit())
	})
}
