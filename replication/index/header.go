package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"lifeboat/replication/block"
)

// ErrNewer is wrapped by the error of Open for an index that a newer program wrote.
var ErrNewer = errors.New("index of a newer format")

// A header slot. Every version of the format keeps the magic, the version and the
// checksum at their places, so that a newer one is told from a damaged one.
//
//	0 magic, 8 version, 12 state, 13 proof, 14 length of meta,
//	16 sequence, 24 size of the volume, 32 sizes of block, piece, region,
//	48 id, 64 entry of the highest page, 96 root, 128 meta, 4088 XXH3-64 of all before
const (
	magic      = "LBTREE\r\n"
	version    = 1
	headerSize = 4096

	stateInUse = 1
	stateClean = 2

	metaAt    = 128
	headerSum = headerSize - 8

	// MaxMeta is how many bytes of the user's own fit into an index.
	MaxMeta = 2048
)

var errNoHeader = errors.New("no index header")

type header struct {
	state byte
	proof block.Proof
	seq   uint64
	size  int64
	id    [16]byte
	// top is the entry of the highest page and root the root; both only if clean.
	top, root block.Hash
	meta      []byte
}

func (h *header) marshal() []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	b[12], b[13] = h.state, byte(h.proof)
	binary.LittleEndian.PutUint16(b[14:], uint16(len(h.meta)))
	binary.LittleEndian.PutUint64(b[16:], h.seq)
	binary.LittleEndian.PutUint64(b[24:], uint64(h.size))
	binary.LittleEndian.PutUint32(b[32:], block.Size)
	binary.LittleEndian.PutUint32(b[36:], block.Piece)
	binary.LittleEndian.PutUint32(b[40:], block.Region)
	copy(b[48:], h.id[:])
	copy(b[64:], h.top[:])
	copy(b[96:], h.root[:])
	copy(b[metaAt:], h.meta)
	binary.LittleEndian.PutUint64(b[headerSum:], xxh3.Hash(b[:headerSum]))
	return b
}

// parseHeader reads one slot. Errors are errNoHeader for one that was never written,
// one that wraps ErrNewer, or one that says what is damaged.
func parseHeader(b []byte) (*header, error) {
	if len(b) < headerSize || block.IsZero(b[:headerSize]) {
		return nil, errNoHeader
	}
	if string(b[:8]) != magic {
		return nil, errors.New("the header does not begin as one of an index")
	}
	if binary.LittleEndian.Uint64(b[headerSum:]) != xxh3.Hash(b[:headerSum]) {
		return nil, errors.New("the header fails its checksum")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > version {
		return nil, fmt.Errorf("%w: it has format %d, this program knows %d; run the newer program", ErrNewer, v, version)
	}
	h := &header{
		state: b[12], proof: block.Proof(b[13]),
		seq: binary.LittleEndian.Uint64(b[16:]), size: int64(binary.LittleEndian.Uint64(b[24:])),
		id: [16]byte(b[48:64]), top: block.Hash(b[64:96]), root: block.Hash(b[96:128]),
	}
	n := int(binary.LittleEndian.Uint16(b[14:]))
	if h.size < 0 || !h.proof.Valid() || n > MaxMeta || (h.state != stateInUse && h.state != stateClean) {
		return nil, errors.New("the header has values that no index has")
	}
	if binary.LittleEndian.Uint32(b[32:]) != block.Size || binary.LittleEndian.Uint32(b[36:]) != block.Piece ||
		binary.LittleEndian.Uint32(b[40:]) != block.Region {
		return nil, errors.New("the header is of other block, piece or region sizes")
	}
	h.meta = append([]byte(nil), b[metaAt:metaAt+n]...)
	return h, nil
}

// chooseHeader gives the newest readable header of the two slots, and which slot it is in.
func chooseHeader(slots *[2 * headerSize]byte) (best *header, slot int, err error) {
	err = errNoHeader
	for i := range 2 {
		h, e := parseHeader(slots[i*headerSize : (i+1)*headerSize])
		switch {
		case errors.Is(e, ErrNewer):
			return nil, 0, e
		case e == nil && (best == nil || h.seq > best.seq):
			best, slot = h, i
		case e != nil && !errors.Is(e, errNoHeader):
			err = e
		}
	}
	if best != nil {
		err = nil
	}
	return best, slot, err
}
