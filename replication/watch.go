package replication

import (
	"context"
	"fmt"
	"time"

	"lifeboat/replication/delta"
)

// watch computes rates, time left and lag once a second.
func (s *sourceStream) watch(ctx context.Context) {
	const alpha = 0.3 // of an exponentially weighted mean
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := delta.TakeSample(&s.meter, &s.links)
	lastDone, doneRate, rate := int64(0), 0.0, 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := delta.TakeSample(&s.meter, &s.links)
		dt := now.At.Sub(last.At).Seconds()
		rate += alpha * (float64(now.Sent-last.Sent)/dt - rate)
		bottleneck := now.Bottleneck(last, int(s.lanes.Load()), s.throttle.Limit(), false)
		s.hub.update(func(st *Status) {
			s.fill(st, now.Counters)
			st.RateBytesPerSecond = rate
			if st.BytesDone >= lastDone {
				doneRate += alpha * (float64(st.BytesDone-lastDone)/dt - doneRate)
			}
			lastDone, st.ETA = st.BytesDone, 0
			if left := st.BytesTotal - st.BytesDone; st.Stage == StageFull && left > 0 && doneRate > 1 {
				st.ETA = time.Duration(float64(left) / doneRate * float64(time.Second))
			}
			if bottleneck != "" {
				st.Bottleneck = bottleneck
			}
			s.lagging(st)
		})
		last = now
	}
}

// fill copies the counters into a status.
func (s *sourceStream) fill(st *Status, c delta.Counters) {
	st.BytesScanned, st.BytesChanged, st.BytesSent, st.BytesSkipped = c.Scanned, c.Changed, c.Sent, c.Skipped
	st.Durable = c.Durable
}

// lagging says that points grow older than three intervals although the link works.
func (s *sourceStream) lagging(st *Status) {
	interval := s.snapshot().Spec.Settings.interval()
	if st.Stage != StageRealTime || st.Health != HealthOK && st.Health != HealthLagging {
		return
	}
	if st.Lag > 3*interval+2*time.Second {
		if st.Health == HealthOK {
			st.Health = HealthLagging
			st.HealthReason = fmt.Sprintf("the newest point is older than three intervals of %v; waiting for: %s", interval, orUnknown(st.Bottleneck))
		}
		return
	}
	s.mu.Lock()
	outrun := s.outrun
	s.mu.Unlock()
	if st.Health == HealthLagging && outrun == "" {
		st.Health, st.HealthReason = HealthOK, ""
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// judge compares, after a pass, how fast the server writes with how fast the pass sent.
func (s *sourceStream) judge(before delta.Counters, took time.Duration, point *Point) {
	after := s.meter.Read()
	interval := s.snapshot().Spec.Settings.interval()
	s.mu.Lock()
	since := point.Time.Sub(s.lastCut)
	if s.lastCut.IsZero() {
		since = 0
	}
	s.lastCut, s.outrun = point.Time, ""
	waited := after.WaitLink - before.WaitLink + after.WaitTarget - before.WaitTarget // by all lanes
	if since > 0 && took > interval && waited > took/2 {
		changed := float64(after.Changed - before.Changed)
		s.outrun = fmt.Sprintf("writes %s, link %s", megabytes(changed/since.Seconds()), megabytes(changed/took.Seconds()))
	}
	outrun := s.outrun
	s.mu.Unlock()
	s.hub.update(func(st *Status) {
		s.fill(st, after)
		switch {
		case st.Stage == StageStopped:
		case outrun != "":
			st.Health, st.HealthReason = HealthLagging, outrun
		default:
			st.Health, st.HealthReason = HealthOK, ""
			s.lagging(st)
		}
	})
}

func megabytes(bytesPerSecond float64) string {
	if bytesPerSecond < 10e6 {
		return fmt.Sprintf("%.1f MB/s", bytesPerSecond/1e6)
	}
	return fmt.Sprintf("%.0f MB/s", bytesPerSecond/1e6)
}
