package replication

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// windowBytes is how much may be sent ahead of the acknowledgement. It is also the
// most that is sent again after a crash. Of what is sent only the hashes are kept.
const windowBytes = 64 << 20

// update is what a data frame changes in the source's index once it is acknowledged.
type update struct {
	disk   int
	region int64
	pieces []pieceUpdate
	bytes  int64
	used   int64
	job    *job
}

type pieceUpdate struct {
	piece   int
	hash    hash
	blocks  uint16 // which digests change
	digests []digest
}

// updateOf derives the update from the frame itself.
func updateOf(m *dataMessage, geo geometry, j *job) *update {
	u := &update{disk: m.disk, region: m.first, bytes: int64(len(m.payload)), used: m.used, job: j}
	payload := m.payload
	for i := range m.pieces {
		p := &m.pieces[i]
		_, size := geo.piece(m.first, p.piece)
		pu := pieceUpdate{piece: p.piece, hash: p.hash, blocks: p.data | p.zero}
		for b := range blocks(size) {
			switch bit := uint16(1) << b; {
			case p.data&bit != 0:
				n := min(BlockSize, size-b*BlockSize)
				pu.digests = append(pu.digests, blockDigest(payload[:n]))
				payload = payload[n:]
			case p.zero&bit != 0:
				pu.digests = append(pu.digests, digest{})
			}
		}
		u.pieces = append(u.pieces, pu)
	}
	return u
}

// apply puts an update into a record.
func (u *update) apply(rec *record) {
	for _, p := range u.pieces {
		rec.pieces[p.piece] = p.hash
		rec.dirty.clear(p.piece)
		k := 0
		for b := range blocksPerPiece {
			if p.blocks&(1<<b) != 0 {
				rec.digests[p.piece*blocksPerPiece+b] = p.digests[k]
				k++
			}
		}
	}
}

// window holds what was sent and not yet acknowledged, in order.
type window struct {
	mu      sync.Mutex
	open    []*update
	acked   uint64 // frames acknowledged so far
	bytes   int64
	changed chan struct{}
}

func newWindow() *window { return &window{changed: make(chan struct{})} }

func (w *window) signal() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// enter waits until the window has room and adds an update, before it is sent.
func (w *window) enter(ctx context.Context, u *update) error {
	return w.wait(ctx, func() bool {
		if len(w.open) > 0 && w.bytes+u.bytes > windowBytes {
			return false
		}
		w.open, w.bytes = append(w.open, u), w.bytes+u.bytes
		return true
	})
}

// drained waits until everything is acknowledged.
func (w *window) drained(ctx context.Context) error {
	return w.wait(ctx, func() bool { return len(w.open) == 0 })
}

func (w *window) wait(ctx context.Context, ready func() bool) error {
	for {
		w.mu.Lock()
		ok, changed := ready(), w.changed
		w.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// peek gives the updates up to an acknowledged frame count.
func (w *window) peek(frames uint64) ([]*update, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if frames < w.acked || frames-w.acked > uint64(len(w.open)) {
		return nil, fmt.Errorf("%w: %d frames acknowledged, %d were sent", ErrProtocol, frames, w.acked+uint64(len(w.open)))
	}
	return w.open[:frames-w.acked], nil
}

// leave removes updates that are in the index now.
func (w *window) leave(updates []*update) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range updates {
		w.bytes -= u.bytes
	}
	w.open = append([]*update(nil), w.open[len(updates):]...)
	w.acked += uint64(len(updates))
	w.signal()
}

// acknowledged takes what the target made durable into the index.
func (ss *sourceSession) acknowledged(frames uint64) error {
	if ss.window == nil {
		return fmt.Errorf("%w: acknowledgement before anything was sent", ErrProtocol)
	}
	updates, err := ss.window.peek(frames)
	if err != nil {
		return err
	}
	records := map[regionKey]*record{}
	var bytes int64
	for _, u := range updates {
		key := regionKey{u.disk, u.region}
		if records[key] == nil {
			if records[key], err = ss.indexes[u.disk].get(u.region); err != nil {
				return err
			}
		}
		u.apply(records[key])
		bytes += u.bytes
	}
	for key, rec := range records {
		if err := ss.indexes[key.disk].put(key.region, rec); err != nil {
			return err
		}
	}
	ss.s.hub.update(func(st *Status) {
		st.Durable += bytes
		if st.Health == HealthStalled && st.CutMethod != CutNone {
			st.Health, st.HealthReason = HealthOK, ""
		}
	})
	for _, u := range updates {
		u.job.acknowledged(u.used)
	}
	ss.window.leave(updates)
	return nil
}

// meter finds out what a pass waits for.
type meter struct {
	source, link, target atomic.Int64 // nanoseconds the sender waited for each
	scanned, changed     atomic.Int64
	skipped, sent        atomic.Int64
}

// spend adds the time since a moment to one of the counters.
func spend(counter *atomic.Int64, since time.Time) { counter.Add(int64(time.Since(since))) }
