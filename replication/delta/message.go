package delta

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"lifeboat/replication/block"
)

// The versions of the protocol that this program speaks; hello and welcome agree on one.
const (
	minVersion = 2
	maxVersion = 2
)

// The control messages are JSON; unknown keys are ignored, so that later versions
// may add some.

// DiskInfo names a disk at both ends.
type DiskInfo struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// Hello is how a sender introduces itself.
type Hello struct {
	MinVersion int        `json:"min_version"`
	MaxVersion int        `json:"max_version"`
	Proof      string     `json:"proof"`
	Disks      []DiskInfo `json:"disks"`
	// Body is for the users of this package: who sends what, in which epoch.
	Body json.RawMessage `json:"body,omitempty"`
}

// proof gives the proof that the sender asks for.
func (h Hello) proof() (block.Proof, error) {
	for _, p := range []block.Proof{block.BLAKE3, block.Fast} {
		if p.String() == h.Proof {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%w: sender wants proof %q, this target knows blake3 and xxh3; update the older end", ErrProtocol, h.Proof)
}

type welcomeMessage struct {
	Version int             `json:"version"`
	Session string          `json:"session"` // what the lanes of this session join with
	Roots   []string        `json:"roots"`
	Body    json.RawMessage `json:"body,omitempty"`
}

// joinMessage is the first frame of a lane.
type joinMessage struct {
	Session string `json:"session"`
	Lane    int    `json:"lane"`
}

type errorMessage struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// finishMessage closes a pass: the roots that the target must have, and what the
// users of this package ask for then.
type finishMessage struct {
	Roots []string        `json:"roots"`
	Body  json.RawMessage `json:"body,omitempty"`
}

func decodeJSON(f frame, v any) error {
	if err := json.Unmarshal(f.body, v); err != nil {
		return fmt.Errorf("%w: type %d: %w", ErrCorruptFrame, f.typ, err)
	}
	return nil
}

// pageID names a page of the hashes of a disk. Its answer is pageID and the page.
type pageID struct {
	disk  int
	level int
	page  int64
}

const pageIDSize = 2 + 2 + 8

func (p pageID) marshal() []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(p.disk))
	b = binary.LittleEndian.AppendUint16(b, uint16(p.level))
	return binary.LittleEndian.AppendUint64(b, uint64(p.page))
}

// parsePageID reads an id, checks that there is such a page, and gives the rest.
func parsePageID(b []byte, geos []block.Geometry) (p pageID, rest []byte, err error) {
	if len(b) < pageIDSize {
		return p, nil, fmt.Errorf("%w: page cut short", ErrCorruptFrame)
	}
	p = pageID{int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:])), int64(binary.LittleEndian.Uint64(b[4:]))}
	if p.disk >= len(geos) || p.level >= geos[p.disk].Levels() || p.page < 0 || p.page >= geos[p.disk].Pages(p.level) {
		return p, nil, fmt.Errorf("%w: no page %d of level %d on disk %d", ErrCorruptFrame, p.page, p.level, p.disk)
	}
	return p, b[pageIDSize:], nil
}

// blocksID asks for the digests of a piece; the answer is blocksID and the digests.
type blocksID struct {
	disk  int
	piece int64
}

const blocksIDSize = 2 + 8

func (p blocksID) marshal() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint16(nil, uint16(p.disk)), uint64(p.piece))
}

func parseBlocksID(b []byte, geos []block.Geometry) (p blocksID, rest []byte, err error) {
	if len(b) < blocksIDSize {
		return p, nil, fmt.Errorf("%w: piece cut short", ErrCorruptFrame)
	}
	p = blocksID{int(binary.LittleEndian.Uint16(b)), int64(binary.LittleEndian.Uint64(b[2:]))}
	if p.disk >= len(geos) || p.piece < 0 || p.piece >= geos[p.disk].Pieces() {
		return p, nil, fmt.Errorf("%w: no piece %d on disk %d", ErrCorruptFrame, p.piece, p.disk)
	}
	return p, b[blocksIDSize:], nil
}

// laneCount says up to which data frame of a lane something holds: sent, in a flush;
// durable, in an acknowledgement.
type laneCount struct {
	lane   int
	frames uint64
}

const laneCountSize = 2 + 8

func marshalCounts(counts []laneCount) []byte {
	b := make([]byte, 0, len(counts)*laneCountSize)
	for _, c := range counts {
		b = binary.LittleEndian.AppendUint16(b, uint16(c.lane))
		b = binary.LittleEndian.AppendUint64(b, c.frames)
	}
	return b
}

func parseCounts(b []byte) ([]laneCount, error) {
	if len(b)%laneCountSize != 0 || len(b) > maxLanes*laneCountSize {
		return nil, fmt.Errorf("%w: counts of %d bytes", ErrCorruptFrame, len(b))
	}
	var out []laneCount
	for ; len(b) > 0; b = b[laneCountSize:] {
		c := laneCount{int(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint64(b[2:])}
		if c.lane >= maxLanes {
			return nil, fmt.Errorf("%w: no lane %d", ErrCorruptFrame, c.lane)
		}
		out = append(out, c)
	}
	return out, nil
}
