package delta

import (
	"context"
	"fmt"
	"sync"

	"lifeboat/replication/index"
)

const (
	// windowBytes is how much may be sent ahead of the acknowledgement. It is also
	// the most that is sent again after a crash. Of what is sent only digests are kept.
	windowBytes = 64 << 20
	// windowRegions bounds those digests: 4.6 KiB a region.
	windowRegions = 2048
)

// sentRegion is a region whose changes were sent: what the index says of it once the frame
// that has its last piece is durable at the target.
type sentRegion struct {
	disk   int
	region int64
	seg    *segment
	rec    index.Region
}

// sent is a frame, or a region that ends with a frame.
type sent struct {
	frame  uint64
	bytes  int
	region *sentRegion
}

// window holds what was sent and not yet acknowledged, by lane and in order.
type window struct {
	mu      sync.Mutex
	lanes   [maxLanes]laneWindow
	bytes   int
	regions int
	changed bell
	free    []*sentRegion
}

type laneWindow struct {
	open  []sent
	sent  uint64
	acked uint64
}

func newWindow() *window { return new(window) }

// region gives an empty record.
func (w *window) region() *sentRegion {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.free); n > 0 {
		r := w.free[n-1]
		w.free = w.free[:n-1]
		return r
	}
	return new(sentRegion)
}

func (w *window) release(regions []*sentRegion) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free = append(w.free, regions...)
}

// enter waits until there is room for a frame, and counts it before it is sent.
func (w *window) enter(ctx context.Context, lane, bytes int) (frame uint64, err error) {
	err = w.wait(ctx, func() bool {
		if w.bytes > 0 && (w.bytes+bytes > windowBytes || w.regions > windowRegions) {
			return false
		}
		l := &w.lanes[lane]
		l.sent++
		frame = l.sent
		l.open = append(l.open, sent{frame: frame, bytes: bytes})
		w.bytes += bytes
		return true
	})
	return frame, err
}

// add says that a region is through with a frame, which may be the next one. It tells whether
// the frame is acknowledged already.
func (w *window) add(lane int, frame uint64, r *sentRegion) (durable bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := &w.lanes[lane]
	if frame <= l.acked {
		return true
	}
	l.open = append(l.open, sent{frame: frame, region: r})
	w.regions++
	return false
}

// acknowledged gives the regions that are durable now, and the bytes.
func (w *window) acknowledged(c laneCount) (regions []*sentRegion, bytes int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := &w.lanes[c.lane]
	if c.frames < l.acked || c.frames > l.sent {
		return nil, 0, fmt.Errorf("%w: %d frames of lane %d acknowledged, %d were sent", ErrProtocol, c.frames, c.lane, l.sent)
	}
	l.acked = c.frames
	n := 0
	for ; n < len(l.open) && l.open[n].frame <= c.frames; n++ {
		bytes += l.open[n].bytes
		if r := l.open[n].region; r != nil {
			regions = append(regions, r)
		}
	}
	l.open = append(l.open[:0], l.open[n:]...)
	w.regions -= len(regions)
	return regions, bytes, nil
}

// leave gives room back, once the regions are in the index.
func (w *window) leave(bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes -= bytes
	w.changed.ring()
}

// counts gives how many frames were sent, by lane.
func (w *window) counts() (counts []laneCount) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.lanes {
		if n := w.lanes[i].sent; n > 0 {
			counts = append(counts, laneCount{i, n})
		}
	}
	return counts
}

// drained waits until everything is acknowledged.
func (w *window) drained(ctx context.Context) error {
	return w.wait(ctx, func() bool { return w.bytes == 0 })
}

func (w *window) wait(ctx context.Context, ready func() bool) error {
	return waitUntil(ctx, func() (bool, <-chan struct{}) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if ready() {
			return true, nil
		}
		return false, w.changed.heard()
	})
}
