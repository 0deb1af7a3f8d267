package replication

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"time"
)

// protocolVersion is negotiated in hello and welcome.
const protocolVersion = 1

// The control messages are JSON; unknown keys are ignored, so that later versions
// may add some.

type helloDisk struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

type helloMessage struct {
	MinVersion int         `json:"min_version"`
	MaxVersion int         `json:"max_version"`
	Stream     string      `json:"stream"`
	Epoch      int64       `json:"epoch"`
	Disks      []helloDisk `json:"disks"`
}

type welcomeDisk struct {
	Root string `json:"root"`
	// Unsettled counts regions that the target has to read before it knows them.
	Unsettled int64 `json:"unsettled"`
}

type welcomeMessage struct {
	Version int           `json:"version"`
	Disks   []welcomeDisk `json:"disks"`
}

type errorMessage struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// passMessage closes a pass. Point is empty for a pass without a cut.
type passMessage struct {
	ID    string        `json:"id"`
	Roots []string      `json:"roots,omitempty"`
	Point *pointMessage `json:"point,omitempty"`
}

// pointMessage asks for a point. All requests get the same one.
type pointMessage struct {
	ID        string        `json:"id"`
	Time      time.Time     `json:"time"`
	Kind      PointKind     `json:"kind"`
	Label     string        `json:"label,omitempty"`
	Requests  []string      `json:"requests,omitempty"`
	CutMethod string        `json:"cut_method"`
	Pause     time.Duration `json:"pause_ns"`
}

// passDoneMessage says that a pass is verified, and which points answer it: the
// one that was made, and for each request the one that it has.
type passDoneMessage struct {
	ID       string           `json:"id"`
	Point    *Point           `json:"point,omitempty"`
	Requests map[string]Point `json:"requests,omitempty"`
}

func decodeJSON(f frame, v any) error {
	if err := json.Unmarshal(f.body, v); err != nil {
		return fmt.Errorf("%w: type %d: %w", ErrCorruptFrame, f.typ, err)
	}
	return nil
}

// The binary messages are about ranges of a disk.

type rangeMessage struct {
	disk  int
	first int64 // region
	count int   // regions; 1 where one region is meant
}

func (m rangeMessage) marshal() []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(m.disk))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.first))
	return binary.LittleEndian.AppendUint32(b, uint32(m.count))
}

const rangeSize = 14

// parse reads the range that all binary messages start with, and gives the rest.
func (m *rangeMessage) parse(body []byte, disks []geometry) ([]byte, error) {
	if len(body) < rangeSize {
		return nil, fmt.Errorf("%w: range cut short", ErrCorruptFrame)
	}
	m.disk = int(binary.LittleEndian.Uint16(body))
	first, count := binary.LittleEndian.Uint64(body[2:]), binary.LittleEndian.Uint32(body[10:])
	if m.disk >= len(disks) {
		return nil, fmt.Errorf("%w: no disk %d in this stream", ErrCorruptFrame, m.disk)
	}
	regions := uint64(disks[m.disk].regions())
	if count == 0 || count > maxNodes || first >= regions || uint64(count) > regions-first {
		return nil, fmt.Errorf("%w: no regions %d+%d on disk %d", ErrCorruptFrame, first, count, m.disk)
	}
	m.first, m.count = int64(first), int(count)
	return body[rangeSize:], nil
}

// maxNodes bounds the regions of a range message.
const maxNodes = 4096

// digestItem is one piece of a digests message.
type digestItem struct {
	piece   int
	hash    hash
	digests [blocksPerPiece]digest
}

const digestItemSize = 1 + 32 + blocksPerPiece*16

func (d *digestItem) marshal(b []byte) []byte {
	b = append(b, byte(d.piece))
	b = append(b, d.hash[:]...)
	for i := range d.digests {
		b = append(b, d.digests[i][:]...)
	}
	return b
}

func parseDigestItems(b []byte) ([]digestItem, error) {
	if len(b)%digestItemSize != 0 || len(b) > piecesPerRegion*digestItemSize {
		return nil, fmt.Errorf("%w: digests cut short", ErrCorruptFrame)
	}
	items := make([]digestItem, len(b)/digestItemSize)
	for i := range items {
		items[i].piece = int(b[0])
		copy(items[i].hash[:], b[1:])
		for j := range items[i].digests {
			copy(items[i].digests[j][:], b[33+16*j:])
		}
		b = b[digestItemSize:]
	}
	return items, nil
}

// dataPiece is one piece of a data frame: which of its blocks are in the frame, which
// become zeros, and the hash that the piece has afterwards.
type dataPiece struct {
	piece int
	hash  hash
	data  uint16
	zero  uint16
}

const dataPieceSize = 1 + 32 + 2 + 2

// dataMessage carries changes of one region: {range, count (2), count pieces,
// blocks in order}.
type dataMessage struct {
	rangeMessage
	pieces  []dataPiece
	payload []byte
	used    int64 // not sent: the used bytes that were read for it
}

func (m *dataMessage) marshal() []byte {
	b := make([]byte, 0, rangeSize+2+len(m.pieces)*dataPieceSize+len(m.payload))
	b = append(b, m.rangeMessage.marshal()...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.pieces)))
	for i := range m.pieces {
		p := &m.pieces[i]
		b = append(b, byte(p.piece))
		b = append(b, p.hash[:]...)
		b = binary.LittleEndian.AppendUint16(b, p.data)
		b = binary.LittleEndian.AppendUint16(b, p.zero)
	}
	return append(b, m.payload...)
}

// parseData reads and checks a data frame: every piece once, ascending, inside the
// volume, and as many bytes as its bitmaps say.
func parseData(body []byte, disks []geometry) (*dataMessage, error) {
	m := &dataMessage{}
	rest, err := m.rangeMessage.parse(body, disks)
	if err != nil {
		return nil, err
	}
	if m.count != 1 || len(rest) < 2 {
		return nil, fmt.Errorf("%w: data of %d regions", ErrCorruptFrame, m.count)
	}
	n := int(binary.LittleEndian.Uint16(rest))
	rest = rest[2:]
	geo := disks[m.disk]
	if n == 0 || n > geo.regionPieces(m.first) || len(rest) < n*dataPieceSize {
		return nil, fmt.Errorf("%w: data of %d pieces", ErrCorruptFrame, n)
	}
	m.pieces = make([]dataPiece, n)
	want, last := 0, -1
	for i := range m.pieces {
		p := &m.pieces[i]
		p.piece = int(rest[0])
		copy(p.hash[:], rest[1:])
		p.data, p.zero = binary.LittleEndian.Uint16(rest[33:]), binary.LittleEndian.Uint16(rest[35:])
		rest = rest[dataPieceSize:]
		if p.piece <= last || p.piece >= geo.regionPieces(m.first) || p.data&p.zero != 0 || p.data|p.zero == 0 {
			return nil, fmt.Errorf("%w: piece %d of region %d", ErrCorruptFrame, p.piece, m.first)
		}
		last = p.piece
		_, size := geo.piece(m.first, p.piece)
		if bits.Len16(p.data|p.zero) > blocks(size) {
			return nil, fmt.Errorf("%w: blocks beyond the end of piece %d of region %d", ErrCorruptFrame, p.piece, m.first)
		}
		want += dataBytes(p.data, size)
	}
	if len(rest) != want {
		return nil, fmt.Errorf("%w: %d bytes of data instead of %d", ErrCorruptFrame, len(rest), want)
	}
	m.payload = rest
	return m, nil
}

// dataBytes counts the bytes of the blocks in a bitmap; the last block of a
// piece of size bytes may be short.
func dataBytes(bitmap uint16, size int) int {
	n := bits.OnesCount16(bitmap) * BlockSize
	if last := blocks(size) - 1; bitmap&(1<<last) != 0 {
		n -= blocks(size)*BlockSize - size
	}
	return n
}

// ackMessage counts the data frames of this connection that are durable.
type ackMessage struct{ frames uint64 }

func (m ackMessage) marshal() []byte { return binary.LittleEndian.AppendUint64(nil, m.frames) }

func parseAck(body []byte) (ackMessage, error) {
	if len(body) != 8 {
		return ackMessage{}, fmt.Errorf("%w: acknowledgement of %d bytes", ErrCorruptFrame, len(body))
	}
	return ackMessage{binary.LittleEndian.Uint64(body)}, nil
}
