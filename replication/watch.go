package replication

import (
	"context"
	"fmt"
	"time"
)

// watch computes rates, time left and lag once a second.
func (s *sourceStream) watch(ctx context.Context) {
	const alpha = 0.3 // of an exponentially weighted mean
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, lastAt := s.meter.snapshot(), time.Now()
	lastDone, doneRate, rate := int64(0), 0.0, 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, at := s.meter.snapshot(), time.Now()
		dt := at.Sub(lastAt).Seconds()
		rate += alpha * (float64(now.sent-last.sent)/dt - rate)
		bottleneck := s.bottleneck(last, now)
		s.hub.update(func(st *Status) {
			s.fill(st, now)
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
		last, lastAt = now, at
	}
}

// fill copies the counters into a status.
func (s *sourceStream) fill(st *Status, c counters) {
	st.BytesScanned, st.BytesChanged, st.BytesSent, st.BytesSkipped = c.scanned, c.changed, c.sent, c.skipped
}

// bottleneck says what the sender waited for most in a span; empty while it was idle.
func (s *sourceStream) bottleneck(a, b counters) string {
	source, link, target := b.source-a.source, b.link-a.link, b.target-a.target
	if b.scanned == a.scanned && b.sent == a.sent {
		return ""
	}
	switch most := max(source, link, target); {
	case most == link && s.throttle.limited.Load():
		return "bandwidth limit"
	case most == link:
		return "link"
	case most == target:
		return "target"
	default:
		return "source disk"
	}
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
func (s *sourceStream) judge(before counters, took time.Duration, point *Point) {
	after := s.meter.snapshot()
	interval := s.snapshot().Spec.Settings.interval()
	s.mu.Lock()
	since := point.Time.Sub(s.lastCut)
	if s.lastCut.IsZero() {
		since = 0
	}
	s.lastCut, s.outrun = point.Time, ""
	if sending := time.Duration(after.link - before.link + after.target - before.target); since > 0 && took > interval && sending > 0 {
		writes := float64(after.changed-before.changed) / since.Seconds()
		link := float64(after.changed-before.changed) / sending.Seconds()
		if sending > took/2 {
			s.outrun = fmt.Sprintf("writes %s, link %s", megabytes(writes), megabytes(link))
		}
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
