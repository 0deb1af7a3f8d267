package delta

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"

	"github.com/zeebo/xxh3"
)

// batchBytes is how much a lane gathers before it says, for all of it at once, what it is going
// to overwrite. The sender's flush ends a batch earlier.
const batchBytes = 2 << 20

// batchesBytes is about what all lanes of a session gather, if they are many: far targets have
// many lanes, and memory is bounded.
const batchesBytes = 8 << 20

// batchRoom is how much one more lane gathers.
func (rx *receiver) batchRoom() int {
	rx.mu.Lock()
	defer rx.mu.Unlock()
	rx.batching++
	return roundUp(min(batchBytes, batchesBytes/rx.batching))
}

// laneReader takes frames from a connection and writes them to the replicas.
type laneReader struct {
	rx     *receiver
	id     int
	stream *laneStream
	r      *bufio.Reader // on stream
	frames uint64        // read

	arena  []byte // where the frames of a batch are
	used   int
	batch  []*dataFrame
	free   []*dataFrame
	bytes  int    // on the wire, of the batch
	packed []byte // a payload as it came
	sums   []byte
	piece  []byte // for reading back
	hashes []index.PieceHash
}

// frameRoom is what the largest frame takes in the arena.
var frameRoom = roundUp(maxTables + maxPayload)

func newLaneReader(rx *receiver, id int, stream *laneStream) *laneReader {
	return &laneReader{
		rx: rx, id: id, stream: stream, r: bufio.NewReaderSize(stream, 4<<10),
		arena: volume.Buffer(frameRoom),
	}
}

// run writes what comes until the connection ends.
func (l *laneReader) run(ctx context.Context) error {
	for {
		f, err := l.next()
		if err != nil {
			return err
		}
		l.batch = append(l.batch, f)
		fresh := len(l.batch) == 1 && l.fresh(f)
		if !fresh && !f.flush && l.used < len(l.arena)-frameRoom {
			continue
		}
		if err := l.write(fresh); err != nil {
			return err
		}
		if !fresh && len(l.arena) == frameRoom {
			l.arena = volume.Buffer(l.rx.batchRoom() + frameRoom) // frames into an empty volume need no batches
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
}

// next reads and checks one frame.
func (l *laneReader) next() (*dataFrame, error) {
	if _, err := l.r.Peek(1); err != nil {
		return nil, err // EOF between frames is the end of the session
	}
	l.stream.inFrame = true
	defer func() { l.stream.inFrame = false }()
	head := l.arena[l.used : l.used+dataHeaderSize]
	if _, err := io.ReadFull(l.r, head); err != nil {
		return nil, err
	}
	h, err := parseDataHeader(head, l.rx.proof, len(l.rx.geos))
	if err != nil {
		return nil, err
	}
	// The payload begins on a page, for the sake of direct I/O.
	tables := l.arena[l.used : l.used+h.tables]
	begin := roundUp(l.used + h.tables)
	payload := l.arena[begin : begin+h.payload]
	if err := l.readBody(h, tables, payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	f := l.frame()
	f.payload = payload
	geo := l.rx.geos[h.disk]
	if err := f.parseTables(h, tables, l.rx.proof, geo); err != nil {
		return nil, err
	}
	check := xxh3.HashSeed(tables, h.headerSum)
	if l.rx.proof == block.Fast {
		l.sums = f.payloadDigests(l.sums[:0], geo)
		check = xxh3.HashSeed(l.sums, check)
	}
	if check != h.check {
		return nil, fmt.Errorf("%w: data of disk %s fails its check", ErrCorruptFrame, l.rx.replicas[h.disk].Name)
	}
	l.frames++
	l.used = begin + h.payload
	l.bytes += dataHeaderSize + h.tables + h.wire
	return f, nil
}

func (l *laneReader) frame() *dataFrame {
	if n := len(l.free); n > 0 {
		f := l.free[n-1]
		l.free = l.free[:n-1]
		return f
	}
	return new(dataFrame)
}

func (l *laneReader) readBody(h dataHeader, tables, payload []byte) error {
	if _, err := io.ReadFull(l.r, tables); err != nil {
		return err
	}
	if h.flags&dataZstd == 0 {
		_, err := io.ReadFull(l.r, payload)
		return err
	}
	if l.packed == nil {
		l.packed = make([]byte, maxPayload)
	}
	if _, err := io.ReadFull(l.r, l.packed[:h.wire]); err != nil {
		return err
	}
	out, err := decoder().DecodeAll(l.packed[:h.wire], payload[:0:len(payload)])
	if err != nil || len(out) != len(payload) || len(out) > 0 && &out[0] != &payload[0] {
		return fmt.Errorf("%w: payload does not unpack to %d bytes: %w", ErrCorruptFrame, len(payload), errors.Join(err))
	}
	return nil
}

// fresh tells that all pieces of a frame were zeros so far and lie in a range that was opened as
// such; it opens the range if need be. Such a frame needs no intent of its own.
func (l *laneReader) fresh(f *dataFrame) bool {
	if len(f.zeros) > 0 || len(f.pieces) == 0 {
		return false
	}
	x := l.rx.replicas[f.disk].Index
	for i := 0; i < len(f.pieces); {
		first, n := f.pieces[i].piece, 1
		for i+n < len(f.pieces) && f.pieces[i+n].piece == first+int64(n) {
			n++
		}
		if zero, err := x.AreZero(first, int64(n)); err != nil || !zero {
			return false
		}
		i += n
	}
	return true
}

// intents are the ranges that a batch is going to change.
func (l *laneReader) intents(fresh bool) (out []intent) {
	if fresh {
		f := l.batch[0]
		first := f.pieces[0].piece
		if l.rx.intents.isFresh(f.disk, first, f.pieces[len(f.pieces)-1].piece-first+1) {
			return nil
		}
		return []intent{{f.disk, intentFresh, first, freshPieces}}
	}
	for _, f := range l.batch {
		for _, z := range f.zeros {
			out = append(out, intent{f.disk, intentPieces, z.first, int64(z.count)})
		}
		begin := len(out)
		for i := range f.pieces {
			p := f.pieces[i].piece
			if k := len(out) - 1; k >= begin && out[k].first+out[k].count == p {
				out[k].count++
				continue
			}
			out = append(out, intent{f.disk, intentPieces, p, 1})
		}
	}
	return out
}

// write applies the batch, once what it changes is known durably.
func (l *laneReader) write(fresh bool) error {
	l.rx.writing.RLock()
	defer l.rx.writing.RUnlock()
	if err := l.rx.intents.add(l.intents(fresh)); err != nil {
		return l.rx.fail(err)
	}
	for _, f := range l.batch {
		if err := l.apply(f); err != nil {
			return l.rx.fail(err)
		}
	}
	l.free = append(l.free, l.batch...)
	l.batch = l.batch[:0]
	l.rx.wrote(l.id, l.frames, l.bytes)
	l.bytes, l.used = 0, 0
	return nil
}

// apply writes a frame: neighbouring blocks at once.
func (l *laneReader) apply(f *dataFrame) error {
	r := &l.rx.replicas[f.disk]
	geo := l.rx.geos[f.disk]
	for _, z := range f.zeros {
		off := z.first * block.Piece
		if err := r.Volume.Zero(off, min(int64(z.count)*block.Piece, geo.Size-off)); err != nil {
			return r.failed("zero", off, err)
		}
	}
	if err := r.writeBlocks(f, geo); err != nil {
		return err
	}
	l.hashes = l.hashes[:0]
	rest := f.payload
	for i := range f.pieces {
		p := &f.pieces[i]
		n := blockBytes(p.data, geo.PieceBytes(p.piece))
		if l.rx.proof == block.BLAKE3 {
			if err := l.prove(r, p, rest[:n], geo); err != nil {
				return err
			}
		}
		rest = rest[n:]
		l.hashes = append(l.hashes, index.PieceHash{Piece: p.piece, Hash: p.hash})
	}
	l.rx.hold(f.disk, l.hashes, f.zeros)
	return nil
}

// prove compares the hash of a piece. Where the frame has only some of its blocks, the piece is
// read back.
func (l *laneReader) prove(r *Replica, p *dataPiece, data []byte, geo block.Geometry) error {
	size := geo.PieceBytes(p.piece)
	if len(data) != size {
		if l.piece == nil {
			l.piece = volume.Buffer(block.Piece)
		}
		data = l.piece[:size]
		if err := volume.ReadFull(r.Volume, data, p.piece*block.Piece); err != nil {
			return r.failed("read back", p.piece*block.Piece, err)
		}
	}
	if block.OfBytes(data) != p.hash {
		return fmt.Errorf("%w: disk %s, piece at %d; both ends are compared and the difference is sent again", ErrMismatch, r.Name, p.piece*block.Piece)
	}
	return nil
}

func (r *Replica) failed(what string, off int64, err error) error {
	return SpaceError(fmt.Sprintf("%s replica of disk %s at %d", what, r.Name, off), fmt.Errorf("%w: %w", ErrTarget, err))
}

// writeBlocks writes the payload of a frame in runs as long as possible, and zeros the blocks
// that became zeros.
func (r *Replica) writeBlocks(f *dataFrame, geo block.Geometry) error {
	rest := f.payload
	begin, length := int64(0), 0 // a run that is not written yet
	flush := func() error {
		if length == 0 {
			return nil
		}
		if _, err := r.Volume.WriteAt(rest[:length], begin); err != nil {
			return r.failed("write", begin, err)
		}
		rest, length = rest[length:], 0
		return nil
	}
	for i := range f.pieces {
		p := &f.pieces[i]
		size := geo.PieceBytes(p.piece)
		for b := 0; b < block.Blocks(size); {
			bitmap := p.data
			if p.zero&(1<<b) != 0 {
				bitmap = p.zero
			}
			run := bits.TrailingZeros16(^(bitmap >> b))
			if run == 0 {
				b++
				continue
			}
			off := p.piece*block.Piece + int64(b*block.Size)
			n := min(run*block.Size, size-b*block.Size)
			b += run
			if bitmap == p.zero {
				if err := r.Volume.Zero(off, int64(n)); err != nil {
					return r.failed("zero", off, err)
				}
				continue
			}
			if off != begin+int64(length) {
				if err := flush(); err != nil {
					return err
				}
				begin = off
			}
			length += n
		}
	}
	return flush()
}
