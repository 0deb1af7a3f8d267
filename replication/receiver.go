package replication

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	// ackBytes and ackAge bound what is written but not yet durable and
	// acknowledged: this much is sent again at most after a crash.
	ackBytes = 32 << 20
	ackAge   = 200 * time.Millisecond
	// writers hash and write pieces at once.
	writers = 2
)

// replica is one disk of the target, and what is known about it.
type replica struct {
	disk  Disk
	vol   TargetVolume
	index *index
}

// receiver writes what arrives: intent, data, read back and compared, sync,
// hashes, acknowledgement; in that order.
type receiver struct {
	replicas []*replica
	geos     []geometry
	intents  *intentLog

	mu      sync.Mutex
	pending map[regionKey]map[int]hash // written and verified, not yet durable
	bytes   int64                      // of payload that is not yet acknowledged
	frames  uint64                     // data frames handled
	acked   uint64
	since   time.Time
}

type regionKey struct {
	disk   int
	region int64
}

// openReceiver opens the replicas and makes of the intents what they mean.
func (t *targetStream) openReceiver() (rx *receiver, err error) {
	state := t.snapshot()
	rx = &receiver{pending: map[regionKey]map[int]hash{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("stream %s: %w", t.name, err), rx.close())
			rx = nil
		}
	}()
	for _, d := range state.Spec.Disks {
		r, err := t.openReplica(d, state.Replicas[d.Name])
		if err != nil {
			return rx, fmt.Errorf("disk %s: %w", d.Name, err)
		}
		rx.replicas = append(rx.replicas, r)
		rx.geos = append(rx.geos, geometry{d.Size})
	}
	log, open, complete, err := openIntentLog(filepath.Join(t.dir, "intents.log"))
	if err != nil {
		return rx, err
	}
	rx.intents = log
	if !complete {
		t.engine.log.Warn("intent log damaged; the replicas are read anew", zap.String("stream", t.name), zap.String("file", log.path))
	}
	return rx, rx.reopen(open, complete)
}

func (t *targetStream) openReplica(d Disk, known replicaMark) (*replica, error) {
	mark, err := markOf(d.Path)
	if err != nil {
		return nil, err
	}
	if mark.Identity != known.Identity {
		return nil, fmt.Errorf("%w: %s is another disk than the one that was prepared; prepare the target anew", ErrTarget, d.Path)
	}
	vol, err := t.engine.config.OpenTarget(d)
	if err != nil {
		return nil, err
	}
	if vol.Size() < d.Size {
		return nil, errors.Join(fmt.Errorf("%w: %s has %d bytes, the source disk %d; prepare the target anew", ErrTarget, d.Path, vol.Size(), d.Size), vol.Close())
	}
	r := &replica{disk: d, vol: vol}
	x, err := openIndex(t.indexPath(d), d.Size, false, r.distrust)
	if err != nil {
		return nil, errors.Join(err, vol.Close())
	}
	r.index = x
	if x.damaged > 0 {
		t.engine.log.Warn("index damaged; these regions of the replica are read anew",
			zap.String("stream", t.name), zap.String("file", x.path), zap.Int("regions", x.damaged))
	}
	return r, nil
}

// distrust tells a new index that nothing is known about a replica but where it
// has holes.
func (r *replica) distrust(x *index) (unknown bool, err error) {
	for off := int64(0); ; {
		start, end, err := r.vol.NextData(off)
		if errors.Is(err, io.EOF) || err == nil && start >= x.geo.size {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if start == 0 && end >= x.geo.size {
			return true, nil
		}
		for region := start / RegionSize; region*RegionSize < min(end, x.geo.size); region++ {
			rec := &record{}
			for i := range x.geo.regionPieces(region) {
				rec.dirty.set(i)
			}
			if err := x.put(region, rec); err != nil {
				return false, err
			}
			off = (region + 1) * RegionSize
		}
	}
}

// reopen marks the pieces that were open as not to be believed.
func (rx *receiver) reopen(open []intent, complete bool) error {
	if !complete {
		for _, r := range rx.replicas {
			if err := r.index.create(r.distrust); err != nil {
				return err
			}
		}
		return rx.intents.reset()
	}
	if len(open) == 0 {
		return nil
	}
	for _, it := range open {
		if it.disk >= len(rx.replicas) {
			continue // of a disk that the stream no longer has
		}
		if x := rx.replicas[it.disk].index; it.region < x.geo.regions() {
			if err := x.markDirty(it.region, it.pieces); err != nil {
				return err
			}
		}
	}
	for _, r := range rx.replicas {
		if err := r.index.sync(); err != nil {
			return err
		}
	}
	return rx.intents.reset()
}

func (rx *receiver) close() error {
	var errs []error
	for _, r := range rx.replicas {
		errs = append(errs, r.vol.Close(), r.index.close())
	}
	if rx.intents != nil {
		errs = append(errs, rx.intents.close())
	}
	return errors.Join(errs...)
}

// write handles a batch of data frames.
func (rx *receiver) write(batch []frame) error {
	messages := make([]*dataMessage, len(batch))
	intents := make([]intent, 0, len(batch))
	for i, f := range batch {
		m, err := parseData(f.body, rx.geos)
		if err != nil {
			return err
		}
		messages[i] = m
		it := intent{disk: m.disk, region: m.first}
		for _, p := range m.pieces {
			it.pieces.set(p.piece)
		}
		intents = append(intents, it)
	}
	if err := rx.intents.add(intents); err != nil {
		return err
	}
	if rx.since.IsZero() {
		rx.since = time.Now()
	}
	var g errgroup.Group
	g.SetLimit(writers)
	for _, m := range messages {
		g.Go(func() error { return rx.apply(m) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, f := range batch {
		rx.bytes += int64(len(f.body))
	}
	rx.frames += uint64(len(batch))
	return nil
}

// apply writes the pieces of a frame, reads each back and compares its hash.
func (rx *receiver) apply(m *dataMessage) error {
	r := rx.replicas[m.disk]
	buf := make([]byte, PieceSize)
	done := make(map[int]hash, len(m.pieces))
	payload := m.payload
	for i := range m.pieces {
		p := &m.pieces[i]
		off, size := r.index.geo.piece(m.first, p.piece)
		n := dataBytes(p.data, size)
		if err := writePiece(r.vol, off, size, p, payload[:n]); err != nil {
			return spaceError(fmt.Sprintf("write replica of disk %s (%s) at %d", r.disk.Name, r.disk.Path, off), err)
		}
		payload = payload[n:]
		if err := readFull(r.vol, buf[:size], off); err != nil {
			return fmt.Errorf("read back replica of disk %s (%s) at %d: %w", r.disk.Name, r.disk.Path, off, err)
		}
		if pieceHash(buf[:size]) != p.hash {
			return fmt.Errorf("%w: disk %s, piece at %d; both ends are compared and the difference is sent again", ErrRootMismatch, r.disk.Name, off)
		}
		done[p.piece] = p.hash
	}
	rx.mu.Lock()
	defer rx.mu.Unlock()
	key := regionKey{m.disk, m.first}
	if rx.pending[key] == nil {
		rx.pending[key] = done
		return nil
	}
	for piece, h := range done {
		rx.pending[key][piece] = h
	}
	return nil
}

// writePiece writes the blocks of a piece in runs as long as possible.
func writePiece(vol TargetVolume, off int64, size int, p *dataPiece, payload []byte) error {
	if full := uint16(1<<blocks(size) - 1); p.zero == full {
		return vol.Zero(off, int64(size))
	}
	for b := 0; b < blocks(size); {
		bitmap, zero := p.data, false
		if p.zero&(1<<b) != 0 {
			bitmap, zero = p.zero, true
		}
		run := bits.TrailingZeros16(^(bitmap >> b))
		if run == 0 {
			b++
			continue
		}
		at := off + int64(b*BlockSize)
		n := min(run*BlockSize, size-b*BlockSize)
		if zero {
			if err := vol.Zero(at, int64(n)); err != nil {
				return err
			}
		} else {
			if _, err := vol.WriteAt(payload[:n], at); err != nil {
				return err
			}
			payload = payload[n:]
		}
		b += run
	}
	return nil
}

// full says that enough was written to acknowledge it.
func (rx *receiver) full() bool {
	return rx.bytes >= ackBytes || !rx.since.IsZero() && time.Since(rx.since) >= ackAge
}

// ackIn is how long the sender may still wait for an acknowledgement.
func (rx *receiver) ackIn() time.Duration {
	if rx.since.IsZero() {
		return time.Hour
	}
	return max(0, min(ackAge/4, ackAge-time.Since(rx.since)))
}

// checkpoint makes everything written durable, then its hashes, then forgets the
// intents. It gives the count of frames that are durable and how many bytes came with them
// since the last time.
func (rx *receiver) checkpoint() (frames uint64, n int64, err error) {
	if rx.frames == rx.acked {
		return rx.frames, 0, nil
	}
	touched := map[int]bool{}
	for key := range rx.pending {
		touched[key.disk] = true
	}
	for disk := range touched {
		r := rx.replicas[disk]
		if err := r.vol.Sync(); err != nil {
			return 0, 0, spaceError(fmt.Sprintf("sync replica of disk %s (%s)", r.disk.Name, r.disk.Path), err)
		}
	}
	for key, pieces := range rx.pending {
		x := rx.replicas[key.disk].index
		rec, err := x.get(key.region)
		if err != nil {
			return 0, 0, err
		}
		for piece, h := range pieces {
			rec.pieces[piece] = h
			rec.dirty.clear(piece)
		}
		if err := x.put(key.region, rec); err != nil {
			return 0, 0, err
		}
	}
	for disk := range touched {
		if err := rx.replicas[disk].index.sync(); err != nil {
			return 0, 0, err
		}
	}
	if err := rx.intents.reset(); err != nil {
		return 0, 0, err
	}
	n = rx.bytes
	clear(rx.pending)
	rx.bytes, rx.acked, rx.since = 0, rx.frames, time.Time{}
	return rx.frames, n, nil
}
