package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

const (
	// ackBytes and ackAge bound what is written but not yet durable and
	// acknowledged: this much is sent again at most after a crash, with what is under way.
	ackBytes = 16 << 20
	ackAge   = 200 * time.Millisecond
	// ackShare is how much of the time may go into checkpoints while less than ackBytes came.
	// Where they are cheap they come often, so that little is left to do at the end.
	ackShare  = 8
	ackAtMost = 20 * time.Millisecond // not more often than that
	// freshPieces is how much of an empty volume one intent opens: 1 GiB.
	freshPieces = 1 << 30 / block.Piece
)

// Replica is one disk of a target: where it is written, and what is known about it.
type Replica struct {
	Name   string
	Volume volume.Target
	Index  *index.Index
}

// receiver writes what lanes bring: intent, data, sync, hashes, acknowledgement; in that
// order.
type receiver struct {
	replicas []Replica
	geos     []block.Geometry
	proof    block.Proof
	intents  *intentLog

	// writing is held for reading from the intents of a batch until its pieces are
	// in pending, so that a checkpoint sees all of a batch or nothing.
	writing sync.RWMutex

	mu      sync.Mutex
	pending []pendingHashes // by disk
	lanes   [maxLanes]uint64
	acked   [maxLanes]uint64 // guarded by checkpointing
	bytes   int
	since   time.Time
	changed bell  // something was written
	due     bell  // so much was written that it is looked at whether to make it durable
	failed  error // why nothing more is made durable

	batching int // lanes that gather batches

	checkpointing sync.Mutex
}

type pendingHashes struct {
	pieces []index.PieceHash
	zeros  []zeroRun
}

// openReceiver takes over replicas, and makes of the intents in dir what they mean.
func openReceiver(dir string, replicas []Replica) (rx *receiver, err error) {
	rx = &receiver{replicas: replicas, pending: make([]pendingHashes, len(replicas))}
	for _, r := range replicas {
		rx.proof = r.Index.Proof()
		rx.geos = append(rx.geos, block.Geometry{Size: r.Index.Size()})
	}
	log, open, complete, err := openIntents(dir)
	if err != nil {
		return nil, err
	}
	rx.intents = log
	if err := rx.distrust(open, complete); err != nil {
		return nil, errors.Join(err, log.close())
	}
	return rx, nil
}

// distrust marks pieces as unknown that were open at the end of the last session.
func (rx *receiver) distrust(open []intent, complete bool) error {
	if !complete {
		open = open[:0]
		for i, g := range rx.geos {
			open = append(open, intent{i, intentPieces, 0, g.Pieces()})
		}
	}
	for _, it := range open {
		if it.disk < 0 || it.disk >= len(rx.replicas) {
			continue // of a disk that is no longer there
		}
		pieces := rx.geos[it.disk].Pieces()
		if it.first < 0 || it.first >= pieces || it.count <= 0 {
			continue
		}
		it.count = min(it.count, pieces-it.first)
		x := rx.replicas[it.disk].Index
		var err error
		if it.kind == intentFresh {
			err = distrustFresh(rx.replicas[it.disk], it.first, it.count)
		} else {
			err = x.SetUnknown(it.first, it.count)
		}
		if err != nil {
			return SpaceError("index of the target", err)
		}
	}
	for i := range rx.replicas {
		if err := rx.replicas[i].settleDown(); err != nil {
			return err
		}
	}
	return rx.intents.reset()
}

// settleDown makes durable what is in a replica and not known, and that it is not known. It is
// going to be read, and what was read is believed: a write that a killed session left to the kernel
// must not be lost after that.
func (r *Replica) settleDown() error {
	_, _, unknown, err := r.Index.Unknown(0)
	if err != nil {
		return SpaceError("index of the target", err) // a page that is damaged is written to
	}
	if unknown {
		if err := r.Volume.Sync(); err != nil {
			return SpaceError(fmt.Sprintf("sync replica of disk %s", r.Name), err)
		}
	}
	return SpaceError("index of the target", r.Index.Sync())
}

// distrustFresh marks the pieces of a range that should be zeros, and are not holes.
func distrustFresh(r Replica, first, count int64) error {
	end := min((first+count)*block.Piece, r.Volume.Size())
	for off := first * block.Piece; off < end; {
		start, stop, err := r.Volume.NextData(off)
		if errors.Is(err, io.EOF) || err == nil && start >= end {
			return nil
		}
		if err != nil {
			return err
		}
		for p := start / block.Piece; p*block.Piece < min(stop, end); p++ {
			h, err := r.Index.Piece(p)
			if err != nil {
				return err
			}
			if h.IsZero() {
				if err := r.Index.SetUnknown(p, 1); err != nil {
					return err
				}
			}
		}
		off = max(stop, off+1)
	}
	return nil
}

// close lets go of the log. The replicas are the handler's.
func (rx *receiver) close() error { return rx.intents.close() }

// wrote notes what a lane has written, up to one of its frames.
func (rx *receiver) wrote(lane int, frames uint64, bytes int) {
	rx.mu.Lock()
	defer rx.mu.Unlock()
	rx.lanes[lane] = frames
	before := rx.bytes
	rx.bytes += bytes
	if before == 0 {
		rx.since = time.Now()
	}
	if before == 0 || rx.bytes >= ackBytes {
		rx.due.ring()
	}
	rx.changed.ring()
}

// hold keeps hashes until what they are about is durable.
func (rx *receiver) hold(disk int, pieces []index.PieceHash, zeros []zeroRun) {
	rx.mu.Lock()
	defer rx.mu.Unlock()
	p := &rx.pending[disk]
	p.pieces = append(p.pieces, pieces...)
	p.zeros = append(p.zeros, zeros...)
}

// reached waits until all lanes have written what a sender says it sent.
func (rx *receiver) reached(ctx context.Context, counts []laneCount) error {
	return waitUntil(ctx, func() (bool, <-chan struct{}) {
		rx.mu.Lock()
		defer rx.mu.Unlock()
		for _, c := range counts {
			if rx.lanes[c.lane] < c.frames {
				return false, rx.changed.heard()
			}
		}
		return true, nil
	})
}

// checkpoints makes what was written durable, whenever there is enough of it or it is
// old enough, and tells the sender.
func (rx *receiver) checkpoints(ctx context.Context, tell func([]laneCount) error) error {
	took := time.Duration(0)
	for {
		rx.mu.Lock()
		age := min(max(ackShare*took, ackAtMost), ackAge)
		more, left := rx.due.heard(), age-time.Since(rx.since)
		idle := rx.bytes == 0
		due := rx.bytes >= ackBytes || !idle && left <= 0
		rx.mu.Unlock()
		if due {
			began := time.Now()
			if err := rx.checkpoint(tell); err != nil {
				return err
			}
			took = time.Since(began)
			continue
		}
		var old <-chan time.Time
		if !idle {
			old = time.After(left)
		}
		select {
		case <-more:
		case <-old:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// fail ends all checkpoints: a batch was written in part, or what a checkpoint took was not
// kept. The intents stay, so that the next session does not believe what they name.
func (rx *receiver) fail(err error) error {
	rx.mu.Lock()
	defer rx.mu.Unlock()
	if err != nil && rx.failed == nil {
		rx.failed = err
	}
	return err
}

// capture takes what was written so far, and lets new intents go elsewhere.
func (rx *receiver) capture() (pending []pendingHashes, counts []laneCount, err error) {
	rx.writing.Lock()
	defer rx.writing.Unlock()
	rx.mu.Lock()
	defer rx.mu.Unlock()
	if rx.failed != nil {
		return nil, nil, rx.failed
	}
	pending, rx.pending = rx.pending, make([]pendingHashes, len(rx.replicas))
	for i, n := range rx.lanes {
		if n > rx.acked[i] {
			counts = append(counts, laneCount{i, n})
		}
	}
	rx.bytes, rx.since = 0, time.Time{}
	return pending, counts, rx.intents.swap()
}

// checkpoint makes everything written durable, then its hashes, then forgets the
// intents, and tells up to which frames the lanes are durable.
func (rx *receiver) checkpoint(tell func([]laneCount) error) error {
	rx.checkpointing.Lock()
	defer rx.checkpointing.Unlock()
	pending, counts, err := rx.capture()
	if err == nil {
		err = rx.keep(pending)
	}
	if err != nil {
		return rx.fail(err)
	}
	for _, c := range counts {
		rx.acked[c.lane] = c.frames
	}
	if len(counts) == 0 {
		return nil
	}
	return tell(counts)
}

// keep makes durable what was captured, and forgets its intents.
func (rx *receiver) keep(pending []pendingHashes) error {
	for i, p := range pending {
		if len(p.pieces)+len(p.zeros) == 0 {
			continue
		}
		if err := rx.replicas[i].keep(p); err != nil {
			return err
		}
	}
	return rx.intents.release()
}

// keep makes what was written to a replica durable, then its hashes.
func (r *Replica) keep(p pendingHashes) error {
	if err := r.Volume.Sync(); err != nil {
		return SpaceError(fmt.Sprintf("sync replica of disk %s", r.Name), err)
	}
	for _, z := range p.zeros {
		if err := r.Index.SetZero(z.first, int64(z.count)); err != nil {
			return SpaceError("index of the target", err)
		}
	}
	if err := r.Index.SetPieces(p.pieces); err != nil {
		return SpaceError("index of the target", err)
	}
	return SpaceError("index of the target", r.Index.Sync())
}

// quiet makes sure that nothing is written that is not durable, and forgets all intents.
func (rx *receiver) quiet(tell func([]laneCount) error) error {
	if err := rx.checkpoint(tell); err != nil {
		return err
	}
	rx.writing.Lock()
	defer rx.writing.Unlock()
	rx.mu.Lock()
	defer rx.mu.Unlock()
	if rx.bytes > 0 {
		return fmt.Errorf("%w: the sender finished while it was sending", ErrProtocol)
	}
	return rx.intents.reset()
}
