package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"time"

	"lifeboat/replication/block"
)

// slot is a place for a piece: the number of a pack and the place in it.
type slot uint64

const (
	slotBits = 11
	// A pack takes slots until it has packSlots, and then the rest of its batch.
	packSlots = 1024
	packMost  = 1 << slotBits
)

func slotOf(pack uint64, place int) slot { return slot(pack<<slotBits | uint64(place)) }

func (s slot) pack() uint64  { return uint64(s >> slotBits) }
func (s slot) place() int64  { return int64(s & (packMost - 1)) }
func (s slot) offset() int64 { return s.place() * block.Piece }

func encodeNumber(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func decodeNumber(raw []byte) (uint64, error) {
	if len(raw) != 8 {
		return 0, fmt.Errorf("number of %d bytes, not 8", len(raw))
	}
	return binary.BigEndian.Uint64(raw), nil
}

// node is a page of a tree. Pages of level 0 also say where the pieces are.
type node struct {
	level  int
	hashes [block.Fanout]block.Hash
	slots  [block.Fanout]slot
}

func (n *node) hash() block.Hash {
	var page [block.PageSize]byte
	for i := range n.hashes {
		copy(page[i*len(block.Hash{}):], n.hashes[i][:])
	}
	return block.BLAKE3.OfPage(n.level, &page)
}

// Stored form of a page: level, a bitmap of the entries that are not zero, their hashes and, at
// level 0, their slots.
const (
	bitmapSize = block.Fanout / 8
	nodeHeader = 1 + bitmapSize
	maxLevel   = 8
)

func (n *node) encode() []byte {
	out := make([]byte, nodeHeader, nodeHeader+block.Fanout*40)
	out[0] = byte(n.level)
	for i, h := range n.hashes {
		if !h.IsZero() {
			out[1+i/8] |= 1 << (i % 8)
			out = append(out, h[:]...)
		}
	}
	for i, h := range n.hashes {
		if n.level == 0 && !h.IsZero() {
			out = binary.BigEndian.AppendUint64(out, uint64(n.slots[i]))
		}
	}
	return out
}

// decodeNode reads what encode wrote and nothing else.
func decodeNode(raw []byte) (*node, error) {
	if len(raw) < nodeHeader || raw[0] > maxLevel {
		return nil, fmt.Errorf("page of %d bytes has no header", len(raw))
	}
	n, count := &node{level: int(raw[0])}, 0
	for _, b := range raw[1:nodeHeader] {
		count += bits.OnesCount8(b)
	}
	size := len(block.Hash{})
	want := count * size
	if n.level == 0 {
		want += count * 8
	}
	hashes := raw[nodeHeader:]
	if len(hashes) != want || count == 0 {
		return nil, fmt.Errorf("page of %d bytes names %d pieces", len(raw), count)
	}
	slots := hashes[count*size:]
	for i := range n.hashes {
		if raw[1+i/8]&(1<<(i%8)) == 0 {
			continue
		}
		n.hashes[i] = block.Hash(hashes[:size])
		hashes = hashes[size:]
		if n.hashes[i].IsZero() {
			return nil, fmt.Errorf("entry %d of a page has no hash", i)
		}
		if n.level == 0 {
			n.slots[i] = slot(binary.BigEndian.Uint64(slots))
			slots = slots[8:]
			if n.slots[i].pack() == 0 {
				return nil, fmt.Errorf("entry %d of a page has no place", i)
			}
		}
	}
	return n, nil
}

// packRecord says how often each slot of a pack is referred to.
type packRecord struct {
	open bool // a head writes it
	refs []uint32
}

func (r *packRecord) empty() bool {
	for _, n := range r.refs {
		if n > 0 {
			return false
		}
	}
	return true
}

func (r *packRecord) encode() []byte {
	out := make([]byte, 1, 1+4*len(r.refs))
	if r.open {
		out[0] = 1
	}
	for _, n := range r.refs {
		out = binary.BigEndian.AppendUint32(out, n)
	}
	return out
}

func decodePack(raw []byte) (*packRecord, error) {
	if len(raw)%4 != 1 || len(raw) > 1+4*packMost || raw[0] > 1 {
		return nil, fmt.Errorf("entry of a pack with %d bytes", len(raw))
	}
	r := &packRecord{open: raw[0] == 1, refs: make([]uint32, len(raw)/4)}
	for i := range r.refs {
		r.refs[i] = binary.BigEndian.Uint32(raw[1+4*i:])
	}
	return r, nil
}

// Point is a volume as it was when Head.Point froze it.
type Point struct {
	ID     string `json:"id"`
	Volume string `json:"volume"` // name of its head
	Size   int64  `json:"size"`   // in bytes
	// Root is the cryptographic root of the volume, as a copy of it has it (block.Proof.Root).
	Root   string            `json:"root"`
	Labels map[string]string `json:"labels,omitempty"`
	Time   time.Time         `json:"time"`
}

// pointRecord is a point as it is stored. The root is a checksum of size and top.
type pointRecord struct {
	Point
	Top hashText `json:"top"`
}

func decodePoint(id string, raw []byte) (*pointRecord, error) {
	r := new(pointRecord)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, err
	}
	if r.ID != id || r.Size < 0 || r.Root != rootOf(r.Size, block.Hash(r.Top)) {
		return nil, fmt.Errorf("the entry of point %q contradicts itself", id)
	}
	return r, nil
}

func rootOf(size int64, top block.Hash) string {
	return block.BLAKE3.RootString(block.BLAKE3.Root(size, top))
}

// headRecord is a head as it is stored.
type headRecord struct {
	Size int64    `json:"size"`
	Top  hashText `json:"top"`
	Root string   `json:"root"`           // checksum of size and top
	Pack uint64   `json:"pack,omitempty"` // being written; 0 = none
}

func decodeHead(name string, raw []byte) (*headRecord, error) {
	r := new(headRecord)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, err
	}
	if r.Size <= 0 || r.Root != rootOf(r.Size, block.Hash(r.Top)) {
		return nil, fmt.Errorf("the entry of head %q contradicts itself", name)
	}
	return r, nil
}

// hashText is a hash in JSON: hex digits.
type hashText block.Hash

// MarshalText implements encoding.TextMarshaler.
func (h hashText) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%x", h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hashText) UnmarshalText(text []byte) error {
	_, parsed, err := block.ParseRoot("blake3:" + string(text))
	*h = hashText(parsed)
	return err
}

// Keys of doomed pages: level and hash.
func encodeDoomed(level int, h block.Hash) []byte { return append([]byte{byte(level)}, h[:]...) }

func decodeDoomed(raw []byte) (level int, h block.Hash, err error) {
	if len(raw) != 1+len(h) || raw[0] > maxLevel {
		return 0, h, fmt.Errorf("doomed page of %d bytes", len(raw))
	}
	return int(raw[0]), block.Hash(raw[1:]), nil
}
