package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
)

const (
	// lineEvery is how often progress is told where it cannot be drawn.
	lineEvery = 10 * time.Second
	drawEvery = 250 * time.Millisecond
)

// copyProgress tells on standard error how far a copy is: as a bar on a terminal, as a line
// now and then elsewhere.
type copyProgress struct {
	app      *app
	meter    *delta.Meter
	throttle *delta.Throttle
	links    *links

	lanes atomic.Int64
	// Of the pass that runs: where the meter was when it began, and what there is to read; 0
	// until that is known.
	base, total atomic.Int64

	ended, stopped chan struct{}
}

// startProgress begins to tell; the caller stops it.
func (a *app) startProgress(c *delta.SendConfig, l *links) (stop func()) {
	p := &copyProgress{app: a, meter: c.Meter, throttle: c.Throttle, links: l, ended: make(chan struct{}), stopped: make(chan struct{})}
	c.Began = p.began
	go p.run()
	return func() { close(p.ended); <-p.stopped }
}

// began hears of a pass. What it has to read is counted beside it: that takes a while where
// there are many holes.
func (p *copyProgress) began(pass delta.Pass, lanes int) {
	p.lanes.Store(int64(lanes))
	p.base.Store(p.meter.Scanned.Load())
	p.total.Store(0)
	go func() { p.total.Store(toRead(pass, p.ended)) }()
}

// toRead counts the bytes that a pass of one volume reads; 0 if that cannot be told.
func toRead(pass delta.Pass, ended <-chan struct{}) (total int64) {
	if pass.Changed != nil {
		for _, e := range pass.Changed[0] {
			total += e.Length
		}
		return total
	}
	v := pass.Volumes[0]
	spans := pass.Spans
	if spans == nil {
		spans = []delta.Span{{End: (v.Size() + block.Region - 1) / block.Region}}
	}
	for _, s := range spans {
		end := min(s.End*block.Region, v.Size())
		for off := s.First * block.Region; off < end; {
			select {
			case <-ended:
				return 0
			default:
			}
			start, stop, err := v.NextData(off)
			if errors.Is(err, io.EOF) || err == nil && start >= end {
				break
			}
			if err != nil {
				return 0
			}
			total += min(stop, end) - start
			off = stop
		}
	}
	return total
}

func (p *copyProgress) run() {
	defer close(p.stopped)
	tell, every, finish := p.line, lineEvery, func() {}
	if hasWidth(p.app.Err) {
		tell, finish = p.bar()
		every = drawEvery
	}
	defer finish()
	tick := time.NewTicker(every)
	defer tick.Stop()
	was := p.sample()
	for {
		select {
		case <-p.ended:
			return
		case <-tick.C:
			now := p.sample()
			tell(p.progress(was, now))
			if now.at.Sub(was.at) >= 2*time.Second {
				was = now
			}
		}
	}
}

// line tells progress as a line.
func (p *copyProgress) line(s copyState) { p.app.say("%s  %s", p.app.now().Format(time.TimeOnly), s) }

// bar draws a bar, from the first call on: short copies need none.
func (p *copyProgress) bar() (tell func(copyState), finish func()) {
	var (
		mu    sync.Mutex
		state copyState
		drawn *mpb.Bar
	)
	bars := mpb.New(mpb.WithOutput(p.app.Err), mpb.WithWidth(40), mpb.WithRefreshRate(drawEvery))
	tell = func(s copyState) {
		mu.Lock()
		state = s
		mu.Unlock()
		if drawn == nil {
			drawn = bars.AddBar(0, mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
				mu.Lock()
				defer mu.Unlock()
				return state.String()
			})))
		}
		drawn.SetTotal(barScale, false)
		drawn.SetCurrent(int64(s.percent() * barScale / 100))
	}
	return tell, func() {
		if drawn != nil {
			drawn.Abort(false)
		}
		bars.Wait()
	}
}

// copySample is what can be measured at one moment.
type copySample struct {
	at time.Time
	delta.Counters
	cpu           time.Duration
	busy, stalled time.Duration // of the connections: sending, and kept from it by the target
}

func (p *copyProgress) sample() copySample {
	s := copySample{at: time.Now(), Counters: p.meter.Read(), cpu: cpuTime()}
	s.busy, s.stalled = p.links.times()
	return s
}

func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// copyState is how far a copy is. Rates are bytes a second.
type copyState struct {
	done, total            int64 // bytes read; total is 0 while it is not known
	rate, sending          float64
	changed, sent, skipped int64
	bottleneck             string
}

func (p *copyProgress) progress(was, now copySample) copyState {
	took := max(now.at.Sub(was.at).Seconds(), 1e-3)
	return copyState{
		done: now.Scanned - p.base.Load(), total: p.total.Load(),
		rate: float64(now.Scanned-was.Scanned) / took, sending: float64(now.Sent-was.Sent) / took,
		changed: now.Changed, sent: now.Sent, skipped: now.Skipped,
		bottleneck: p.bottleneck(was, now),
	}
}

func (s copyState) percent() float64 {
	if s.total <= 0 {
		return 0
	}
	return min(100*float64(s.done)/float64(s.total), 100)
}

// String is the state in one line.
func (s copyState) String() string {
	parts := []string{size(s.done) + " read"}
	if s.total > 0 {
		parts = []string{fmt.Sprintf("%.1f %%", s.percent()), size(min(s.done, s.total)) + " of " + size(s.total)}
	}
	parts = append(parts, size(int64(s.rate))+"/s")
	if s.total > s.done && s.rate > 0 {
		parts = append(parts, "left "+seconds(float64(s.total-s.done)/s.rate))
	}
	parts = append(parts, "changed "+size(s.changed), "sent "+size(s.sent), "same "+size(s.skipped))
	if s.bottleneck != "" {
		parts = append(parts, "waits for "+s.bottleneck)
	}
	return strings.Join(parts, "  ")
}

// Bottlenecks, in words.
const (
	waitsForDisk   = "source disk"
	waitsForCPU    = "CPU"
	waitsForLink   = "link"
	waitsForLimit  = "bandwidth limit"
	waitsForTarget = "target"
)

// bottleneck says what the lanes spent most of their time with. A lane reads and computes, or
// waits for its connection, or for the target to acknowledge. While it reads and computes, the
// time of the CPU tells which. While it waits for the connection, the kernel knows
// whether the other end did not take more.
func (p *copyProgress) bottleneck(was, now copySample) string {
	took := now.at.Sub(was.at)
	lanes := time.Duration(p.lanes.Load())
	if lanes == 0 || took <= 0 {
		return ""
	}
	target := now.WaitTarget - was.WaitTarget
	link := now.WaitLink - was.WaitLink
	own := max(lanes*took-target-link, 0)
	switch {
	case own >= link && own >= target:
		if cpu := now.cpu - was.cpu; cpu*10 >= min(own, took)*7 {
			return waitsForCPU
		}
		return waitsForDisk
	case target >= link:
		return waitsForTarget
	}
	if limit := p.limit(); limit > 0 && float64(now.Sent-was.Sent) >= 0.9*limit*took.Seconds() {
		return waitsForLimit
	}
	if p.links.local || (now.stalled-was.stalled)*2 >= now.busy-was.busy && now.stalled > was.stalled {
		return waitsForTarget
	}
	return waitsForLink
}

func (p *copyProgress) limit() float64 {
	if p.throttle == nil {
		return 0
	}
	return float64(p.throttle.Limit())
}

// links are the connections of a copy.
type links struct {
	// local: the other end is in this process.
	local bool
	mu    sync.Mutex
	open  []*net.TCPConn
}

// add notes a connection.
func (l *links) add(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open = append(l.open, t)
	}
}

// times sums up how long there was something to send, and how much of that the other end took
// no more. Connections that are closed no longer count.
func (l *links) times() (busy, stalled time.Duration) {
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
	l.open = kept
	return busy, stalled
}
