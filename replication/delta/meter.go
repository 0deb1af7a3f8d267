package delta

import (
	"sync/atomic"
	"time"
)

// Meter counts what a sender does. It may be read at any time.
type Meter struct {
	// Scanned, Changed and Skipped are bytes of the volume: read, found to differ, and
	// found equal. Sent are bytes on the wire.
	Scanned, Changed, Skipped, Sent atomic.Int64
	// Durable are bytes on the wire that the target acknowledged as synced.
	Durable atomic.Int64
	// WaitLink and WaitTarget are nanoseconds that lanes waited for the link, and for
	// the target to acknowledge; Busy is what all lanes took in all.
	WaitLink, WaitTarget, Busy atomic.Int64
}

// spend adds the time since a moment to a counter.
func spend(counter *atomic.Int64, since time.Time) { counter.Add(int64(time.Since(since))) }

// Counters of a Meter at one moment.
type Counters struct {
	Scanned, Changed, Skipped, Sent, Durable int64
	WaitLink, WaitTarget, Busy               time.Duration
}

// Read gives all counters.
func (m *Meter) Read() Counters {
	return Counters{
		Scanned: m.Scanned.Load(), Changed: m.Changed.Load(), Skipped: m.Skipped.Load(), Sent: m.Sent.Load(), Durable: m.Durable.Load(),
		WaitLink: time.Duration(m.WaitLink.Load()), WaitTarget: time.Duration(m.WaitTarget.Load()), Busy: time.Duration(m.Busy.Load()),
	}
}
