package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

// maxLanes bounds the lanes of a session.
const maxLanes = 16

// flushBytes and flushAge are when a lane tells the target to write what came so far.
const (
	flushBytes = 2 << 20
	flushAge   = 50 * time.Millisecond
)

// lane reads regions, compares them with the index and sends what differs over a
// connection of its own. One goroutine does all that: the kernel's socket buffer is what
// lets reading and sending overlap.
type lane struct {
	*pass
	id int
	// buf has room for the tables, then the payload of the frame that is being made.
	// What is read next is read behind it, so that what differs need not be moved.
	buf     []byte
	n       int // bytes of payload
	disk    int
	at      int64 // the region that is read
	zeros   []zeroRun
	pieces  []dataPiece
	digests []byte
	pack    packer

	frame     uint64    // the last that was sent
	unflushed int       // bytes sent since the target was told to write
	regions   int       // that wait in the window since then
	since     time.Time // of the first thing that is not written

	rec      index.Region
	relearnt bool // digests of rec were missing, and are known now
	touched  bool // something of the region is in a frame
	data     dataRange
}

func newLane(p *pass, id int) *lane {
	return &lane{pass: p, id: id, buf: volume.Buffer(roundUp(maxTables) + maxPayload), frame: p.s.window.lanes[id].sent}
}

// headRoom is where the payload begins: aligned, and behind the largest tables.
var headRoom = roundUp(maxTables)

func roundUp(n int) int { return (n + block.Size - 1) &^ (block.Size - 1) }

// run works until there is nothing left to hand out.
func (l *lane) run(ctx context.Context) error {
	if err := l.s.priority.take(); err != nil {
		return err
	}
	for {
		seg, region := l.plan.current(l.id)
		if seg == nil {
			return l.flush(ctx, true)
		}
		next, err := l.next(seg.disk, region)
		if err != nil {
			return err
		}
		if !l.plan.claim(seg, next) {
			continue
		}
		if err := l.region(ctx, seg, next); err != nil {
			return err
		}
		// If lanes could fill the window with what the target was not told to write, it would
		// never become empty.
		full := l.regions >= windowRegions/l.s.count
		if full || (l.unflushed > 0 || l.open()) && time.Since(l.since) > flushAge {
			if err := l.flush(ctx, true); err != nil {
				return err
			}
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
}

// next gives the first region at or after one that may differ: where the source has
// data, or the target; or what a tracker says.
func (l *lane) next(disk int, region int64) (int64, error) {
	if c := l.changed[disk]; c != nil {
		return c.next(region), nil
	}
	start, _, err := l.dataAt(disk, region*block.Region)
	if err != nil {
		return 0, err
	}
	if start/block.Region <= region {
		return region, nil
	}
	known, ok, err := l.s.disks[disk].Index.NextNonZero(region)
	if err != nil {
		return 0, err
	}
	if !ok {
		return start / block.Region, nil
	}
	return min(known, start/block.Region), nil
}

// dataAt gives the first range at or after off that may have data; behind the end when there
// is none. The last answer is remembered, with the hole before it.
func (l *lane) dataAt(disk int, off int64) (start, end int64, err error) {
	if d := &l.data; d.disk != disk || off < d.from || off >= d.end {
		start, end, err := l.volumes[disk].NextData(off)
		if errors.Is(err, io.EOF) {
			start, err = l.s.geos[disk].Size, nil
			end = start + 1
		}
		if err != nil {
			return 0, 0, &ReadError{Disk: l.s.disks[disk].Name, Offset: off, Err: err}
		}
		*d = dataRange{disk, off, start, end}
	}
	return max(off, l.data.start), l.data.end, nil
}

// dataRange says that a disk has a hole between from and start, and data up to end.
type dataRange struct {
	disk             int
	from, start, end int64
}

// region sends what differs in a region.
func (l *lane) region(ctx context.Context, seg *segment, region int64) error {
	x := l.s.disks[seg.disk].Index
	if err := x.Region(region, &l.rec); err != nil {
		return SpaceError("index of the source", err)
	}
	// A frame is about one disk, and ascends.
	if l.open() && (seg.disk != l.disk || region <= l.at || len(l.zeros) > maxItems-block.PiecesPerRegion) {
		if err := l.flush(ctx, false); err != nil {
			return err
		}
	}
	l.disk, l.at, l.touched, l.relearnt = seg.disk, region, false, !l.rec.DigestsKnown
	if err := l.compareRegion(ctx, region); err != nil {
		return err
	}
	l.rec.DigestsKnown = true
	if !l.touched {
		if l.relearnt {
			if err := x.PutRegion(region, &l.rec); err != nil {
				return SpaceError("index of the source", err)
			}
		}
		l.plan.settled(seg, region)
		return nil
	}
	r := l.s.window.region()
	r.disk, r.region, r.seg, r.rec = seg.disk, region, seg, l.rec
	frame := l.frame
	if l.open() {
		frame++
	}
	if l.s.window.add(l.id, frame, r) {
		return l.s.settle([]*sentRegion{r})
	}
	l.regions++
	return nil
}

// compareRegion reads what may differ of a region, and puts what does into frames.
func (l *lane) compareRegion(ctx context.Context, region int64) error {
	size := l.s.geos[l.disk].RegionBytes(region)
	var want blockSet
	tracked := l.changed[l.disk] != nil && l.rec.DigestsKnown
	if tracked {
		want = l.changed[l.disk].blocks(region)
	}
	for at := 0; at < size; at += chunkSize {
		n := min(chunkSize, size-at)
		var err error
		switch {
		case !tracked || want[at/chunkSize] == ^uint64(0):
			err = l.chunk(ctx, region*block.Region+int64(at), n)
		case want[at/chunkSize] != 0 && l.s.proof == block.Fast:
			err = l.someBlocks(ctx, region*block.Region+int64(at), n, want[at/chunkSize])
		case want[at/chunkSize] != 0:
			err = l.somePieces(ctx, region*block.Region+int64(at), n, want[at/chunkSize])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chunk compares up to chunkSize bytes at off, which is where a chunk begins.
func (l *lane) chunk(ctx context.Context, off int64, n int) error {
	for end := off + int64(n); off < end; {
		start, dataEnd, err := l.dataAt(l.disk, off)
		if err != nil {
			return err
		}
		hole := min(start&^(block.Piece-1), end) // pieces before it have no data
		for ; off < hole; off += block.Piece {
			l.zeroPiece(off / block.Piece)
		}
		if off >= end {
			return nil
		}
		stop := min(end, (dataEnd+block.Piece-1)&^(block.Piece-1))
		if err := l.wholePieces(ctx, off, int(stop-off)); err != nil {
			return err
		}
		off = stop
	}
	return nil
}

// wholePieces reads and compares whole pieces, at most a chunk.
func (l *lane) wholePieces(ctx context.Context, off int64, n int) error {
	if err := l.room(ctx); err != nil {
		return err
	}
	at := headRoom + l.n
	chunk := l.buf[at : at+n]
	if err := l.read(chunk, off); err != nil {
		return err
	}
	for i := 0; i < n; i += block.Piece {
		l.piece(off/block.Piece+int64(i/block.Piece), chunk[i:min(i+block.Piece, n)])
	}
	return nil
}

// somePieces reads the pieces that have wanted blocks: a cryptographic hash needs all of a piece.
func (l *lane) somePieces(ctx context.Context, off int64, n int, want uint64) error {
	for i := 0; i < n; i += block.Piece {
		if uint16(want>>(i/block.Size)) == 0 {
			continue
		}
		if err := l.wholePieces(ctx, off+int64(i), min(block.Piece, n-i)); err != nil {
			return err
		}
	}
	return nil
}

// someBlocks reads only the wanted blocks of a chunk.
func (l *lane) someBlocks(ctx context.Context, off int64, n int, want uint64) error {
	if err := l.room(ctx); err != nil {
		return err
	}
	for i := 0; i < n; i += block.Piece {
		b := uint16(want >> (i / block.Size))
		if b == 0 {
			continue
		}
		size := min(block.Piece, n-i)
		b &= fullPiece(size)
		at := headRoom + l.n
		got := l.buf[at:at]
		for rest := b; rest != 0; {
			first := bits.TrailingZeros16(rest)
			count := bits.TrailingZeros16(^(rest >> first))
			from, to := first*block.Size, min((first+count)*block.Size, size)
			got = got[:len(got)+to-from]
			if err := l.read(got[len(got)-(to-from):], off+int64(i+from)); err != nil {
				return err
			}
			rest &^= uint16(1<<count-1) << first
		}
		l.compare(off/block.Piece+int64(i/block.Piece), got, b)
	}
	return nil
}

// room makes place for a chunk behind the payload.
func (l *lane) room(ctx context.Context) error {
	if l.n < frameBytes && len(l.pieces) < maxItems-chunkSize/block.Piece && len(l.zeros) < maxItems-chunkSize/block.Piece {
		return nil
	}
	return l.flush(ctx, false)
}

// read reads a range; on an error it tries again block by block, and names the bad one.
func (l *lane) read(p []byte, off int64) error {
	l.s.meter.Scanned.Add(int64(len(p)))
	v := l.volumes[l.disk]
	if err := volume.ReadFull(v, p, off); err == nil {
		return nil
	}
	for at := 0; at < len(p); at += block.Size {
		b := p[at:min(at+block.Size, len(p))]
		if err := volume.ReadFull(v, b, off+int64(at)); err != nil {
			return &ReadError{Disk: l.s.disks[l.disk].Name, Offset: off + int64(at), Length: len(b), Err: err}
		}
	}
	return nil
}

// open tells that a frame is being made.
func (l *lane) open() bool { return len(l.zeros)+len(l.pieces) > 0 }

// connection gives the lane's connection, made at the first use.
func (l *lane) connection(ctx context.Context) (*laneConn, error) {
	if c := l.s.lanes[l.id]; c != nil {
		return c, nil
	}
	c, err := l.s.join(ctx, l.id)
	if err != nil {
		return nil, fmt.Errorf("lane %d to the target: %w", l.id, err)
	}
	return c, nil
}
