package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

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
	links    *delta.Links
	local    bool // the other end is in this process

	lanes atomic.Int64
	// Of the pass that runs: where the meter was when it began, and what there is to read; 0
	// until that is known.
	base, total atomic.Int64

	ended, stopped chan struct{}
}

// startProgress begins to tell; the caller stops it.
func (a *app) startProgress(c *delta.SendConfig, w way) (stop func()) {
	p := &copyProgress{app: a, meter: c.Meter, throttle: c.Throttle, links: w.links, local: w.local,
		ended: make(chan struct{}), stopped: make(chan struct{})}
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
	was := delta.TakeSample(p.meter, p.links)
	for {
		select {
		case <-p.ended:
			return
		case <-tick.C:
			now := delta.TakeSample(p.meter, p.links)
			tell(p.progress(was, now))
			if now.At.Sub(was.At) >= 2*time.Second {
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

// copyState is how far a copy is. Rates are bytes a second.
type copyState struct {
	done, total            int64 // bytes read; total is 0 while it is not known
	rate, sending          float64
	changed, sent, skipped int64
	bottleneck             string
}

func (p *copyProgress) progress(was, now delta.Sample) copyState {
	took := max(now.At.Sub(was.At).Seconds(), 1e-3)
	return copyState{
		done: now.Scanned - p.base.Load(), total: p.total.Load(),
		rate: float64(now.Scanned-was.Scanned) / took, sending: float64(now.Sent-was.Sent) / took,
		changed: now.Changed, sent: now.Sent, skipped: now.Skipped,
		bottleneck: now.Bottleneck(was, int(p.lanes.Load()), p.limit(), p.local),
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

// limit is the bandwidth limit now; 0 is none.
func (p *copyProgress) limit() int64 {
	if p.throttle == nil {
		return 0
	}
	return p.throttle.Limit()
}
