package delta

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What a sender can wait for, in words.
const (
	WaitsForDisk   = "source disk"
	WaitsForCPU    = "CPU"
	WaitsForLink   = "link"
	WaitsForLimit  = "bandwidth limit"
	WaitsForTarget = "target"
)

// Sample is what can be measured of a sender at one moment.
type Sample struct {
	At time.Time
	Counters
	// CPU is what this process used so far.
	CPU time.Duration
	// LinkBusy and LinkStalled are the times of all connections: with something to send, and
	// of that with a target that took no more.
	LinkBusy, LinkStalled time.Duration
}

// TakeSample measures now.
func TakeSample(m *Meter, l *Links) Sample {
	s := Sample{At: time.Now(), Counters: m.Read(), CPU: cpuTime()}
	s.LinkBusy, s.LinkStalled = l.times()
	return s
}

// cpuTime is what this process used so far; 0 where that cannot be told.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Bottleneck says what the lanes spent most of their time with since an earlier sample; empty if
// nothing moved. A lane reads and computes, or waits for its connection, or for the target to
// acknowledge. While it reads and computes, the time of the CPU tells which. While it waits for
// the connection, the kernel knows whether the other end did not take more. limit is the
// bandwidth limit in bytes a second, 0 is none; local says that the other end is in this process.
func (s Sample) Bottleneck(was Sample, lanes int, limit int64, local bool) string {
	took := s.At.Sub(was.At)
	target, link := s.WaitTarget-was.WaitTarget, s.WaitLink-was.WaitLink
	sent := s.Sent - was.Sent
	if took <= 0 || lanes <= 0 || sent == 0 && s.Scanned == was.Scanned && target == 0 && link == 0 {
		return ""
	}
	own := max(time.Duration(lanes)*took-target-link, 0)
	switch {
	case own >= link && own >= target:
		if cpu := s.CPU - was.CPU; cpu*10 >= min(own, took)*7 {
			return WaitsForCPU
		}
		return WaitsForDisk
	case target >= link:
		return WaitsForTarget
	case limit > 0 && float64(sent) >= 0.9*float64(limit)*took.Seconds():
		return WaitsForLimit
	}
	stalled := s.LinkStalled - was.LinkStalled
	if local || stalled > 0 && stalled*2 >= s.LinkBusy-was.LinkBusy {
		return WaitsForTarget
	}
	return WaitsForLink
}

// Links are the connections of a sender, of which the kernel is asked why they are slow. The zero
// value has none.
type Links struct {
	mu   sync.Mutex
	open []*net.TCPConn
}

// Add notes a connection; only those of TCP count.
func (l *Links) Add(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open = append(l.open, t)
	}
}

// times sums up how long there was something to send, and how much of that the other end took
// no more. Connections that are closed no longer count.
func (l *Links) times() (busy, stalled time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.open[:0]
	for _, c := range l.open {
		raw, err := c.SyscallConn()
		if err != nil {
			continue
		}
		var info *unix.TCPInfo
		if cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); cerr != nil || err != nil {
			continue
		}
		kept = append(kept, c)
		busy += time.Duration(info.Busy_time) * time.Microsecond
		stalled += time.Duration(info.Rwnd_limited) * time.Microsecond
	}
	clear(l.open[len(kept):])
	l.open = kept
	return busy, stalled
}
