package delta

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"lifeboat/replication/block"

	"github.com/zeebo/xxh3"
)

// A data frame carries changes of one disk over a lane. All numbers are little endian:
//
//	magic "LD" (2), version (1), flags (1), disk (2), zero (2),
//	count of zero runs (4), count of pieces (4),
//	payload unpacked (4), payload on the wire (4), check (8)
//	zero runs: first piece (8), count of pieces (4)
//	pieces: number (8), blocks in the payload (2), blocks that become zeros (2),
//	        hash of the piece afterwards (16 or 32, as the proof says)
//	payload: the blocks in order, packed if the flag says so
//
// The check is XXH3-64 of all before it, and of the runs and the pieces. With proof Fast the
// digests of the blocks in the payload are part of it: nothing else protects them.
const (
	dataHeaderSize = 32
	zeroRunSize    = 12

	dataZstd  = 1 << 0 // the payload is packed
	dataFlush = 1 << 1 // write now what came so far: the next frame may take a while

	// chunkSize is read and compared at once: it fits into the caches of a core.
	chunkSize = 256 << 10
	// frameBytes is where a frame is closed. One more chunk may be in it.
	frameBytes = 256 << 10
	maxPayload = frameBytes + chunkSize
	// maxItems bounds the zero runs and the pieces of a frame.
	maxItems = 1024
)

type zeroRun struct {
	first int64
	count uint32
}

// dataPiece is one piece of a frame: which of its blocks are in the payload, which
// become zeros, and the hash that it has afterwards.
type dataPiece struct {
	piece int64
	data  uint16
	zero  uint16
	hash  block.Hash
}

func pieceEntrySize(p block.Proof) int { return 12 + p.HashSize() }

// maxTables is the most that header, runs and pieces take.
const maxTables = dataHeaderSize + maxItems*(zeroRunSize+12+32)

// dataHeader is what the first bytes of a frame say.
type dataHeader struct {
	flags     byte
	disk      int
	zeros     int
	pieces    int
	payload   int // unpacked
	wire      int // on the wire
	check     uint64
	headerSum uint64
	tables    int
}

// appendTables puts header, runs and pieces behind b. Digests are the digests of the payload's
// blocks, for proof Fast.
func appendTables(b []byte, p block.Proof, h dataHeader, zeros []zeroRun, pieces []dataPiece, digests []byte) []byte {
	start := len(b)
	b = append(b, 'L', 'D', maxVersion, h.flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.disk))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(zeros)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pieces)))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.payload))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.wire))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, z := range zeros {
		b = binary.LittleEndian.AppendUint64(b, uint64(z.first))
		b = binary.LittleEndian.AppendUint32(b, z.count)
	}
	n := p.HashSize()
	for i := range pieces {
		b = binary.LittleEndian.AppendUint64(b, uint64(pieces[i].piece))
		b = binary.LittleEndian.AppendUint16(b, pieces[i].data)
		b = binary.LittleEndian.AppendUint16(b, pieces[i].zero)
		b = append(b, pieces[i].hash[:n]...)
	}
	check := tablesSum(b[start:])
	if p == block.Fast {
		check = xxh3.HashSeed(digests, check)
	}
	binary.LittleEndian.PutUint64(b[start+24:], check)
	return b
}

// tablesSum is the check of a frame whose payload is protected otherwise.
func tablesSum(frame []byte) uint64 {
	return xxh3.HashSeed(frame[dataHeaderSize:], xxh3.Hash(frame[:24]))
}

// parseDataHeader reads the first dataHeaderSize bytes of a frame.
func parseDataHeader(b []byte, p block.Proof, disks int) (h dataHeader, err error) {
	if b[0] != 'L' || b[1] != 'D' {
		return h, fmt.Errorf("%w: no data frame starts here", ErrCorruptFrame)
	}
	if b[2] < minVersion || b[2] > maxVersion {
		return h, fmt.Errorf("%w: data frame of version %d, this program knows %d to %d; run the same version at both ends", ErrProtocol, b[2], minVersion, maxVersion)
	}
	zeros, pieces := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	payload, wire := binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:])
	disk := binary.LittleEndian.Uint32(b[4:])
	if b[3]&^(dataZstd|dataFlush) != 0 || disk >= uint32(disks) || zeros > maxItems || pieces > maxItems || payload > maxPayload ||
		wire > payload || b[3]&dataZstd == 0 && wire != payload {
		return h, fmt.Errorf("%w: impossible header of a data frame", ErrCorruptFrame)
	}
	return dataHeader{
		flags: b[3], disk: int(disk), zeros: int(zeros), pieces: int(pieces), payload: int(payload), wire: int(wire),
		check: binary.LittleEndian.Uint64(b[24:]), headerSum: xxh3.Hash(b[:24]),
		tables: int(zeros)*zeroRunSize + int(pieces)*pieceEntrySize(p),
	}, nil
}

// dataFrame is a frame that was read and checked. Its slices are views.
type dataFrame struct {
	disk    int
	flush   bool
	zeros   []zeroRun
	pieces  []dataPiece
	payload []byte
}

// parseTables reads runs and pieces, and checks them: ascending, inside the volume, and as
// many bytes as the bitmaps say. zeros and pieces of f are used again.
func (f *dataFrame) parseTables(h dataHeader, b []byte, p block.Proof, geo block.Geometry) error {
	f.disk, f.flush = h.disk, h.flags&dataFlush != 0
	f.zeros, f.pieces = f.zeros[:0], f.pieces[:0]
	pieces := geo.Pieces()
	last := int64(-1)
	for range h.zeros {
		z := zeroRun{int64(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint32(b[8:])}
		if z.first <= last || z.count == 0 || z.first >= pieces || int64(z.count) > pieces-z.first {
			return fmt.Errorf("%w: zeros at piece %d", ErrCorruptFrame, z.first)
		}
		last = z.first + int64(z.count) - 1
		f.zeros, b = append(f.zeros, z), b[zeroRunSize:]
	}
	want, size := 0, pieceEntrySize(p)
	last = -1
	for range h.pieces {
		e := dataPiece{piece: int64(binary.LittleEndian.Uint64(b)), data: binary.LittleEndian.Uint16(b[8:]), zero: binary.LittleEndian.Uint16(b[10:])}
		copy(e.hash[:], b[12:size])
		if e.piece <= last || e.piece >= pieces || e.data&e.zero != 0 || e.data|e.zero == 0 || !e.hash.Known() {
			return fmt.Errorf("%w: piece %d", ErrCorruptFrame, e.piece)
		}
		n := geo.PieceBytes(e.piece)
		if bits.Len16(e.data|e.zero) > block.Blocks(n) {
			return fmt.Errorf("%w: blocks beyond the end of piece %d", ErrCorruptFrame, e.piece)
		}
		last = e.piece
		want += blockBytes(e.data, n)
		f.pieces, b = append(f.pieces, e), b[size:]
	}
	if want != h.payload {
		return fmt.Errorf("%w: %d bytes of data instead of %d", ErrCorruptFrame, h.payload, want)
	}
	return nil
}

// blockBytes counts the bytes of the blocks in a bitmap; the last block of a
// piece of n bytes may be short.
func blockBytes(bitmap uint16, n int) int {
	size := bits.OnesCount16(bitmap) * block.Size
	if last := block.Blocks(n) - 1; bitmap&(1<<last) != 0 {
		size -= block.Blocks(n)*block.Size - n
	}
	return size
}

// payloadDigests appends the digests of the payload's blocks to out.
func (f *dataFrame) payloadDigests(out []byte, geo block.Geometry) []byte {
	rest := f.payload
	for i := range f.pieces {
		n := blockBytes(f.pieces[i].data, geo.PieceBytes(f.pieces[i].piece))
		for part := rest[:n]; len(part) > 0; {
			k := min(block.Size, len(part))
			d := block.DigestOf(part[:k])
			out = append(out, d[:]...)
			part = part[k:]
		}
		rest = rest[n:]
	}
	return out
}

// fullPiece is the bitmap of all blocks of a piece of n bytes.
func fullPiece(n int) uint16 { return uint16(1<<block.Blocks(n) - 1) }
