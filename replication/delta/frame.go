package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// A frame is a header of 24 bytes and a body:
//
//	magic "LB" (2), version (1), type (1), flags (1), zero (3),
//	body length on the wire (4), body length unpacked (4),
//	XXH3-64 of header bytes 0 to 15 and the body on the wire (8)
//
// All numbers are little endian.
const (
	frameVersion    = 2
	frameHeaderSize = 24
	// maxBody bounds a body, packed and unpacked.
	maxBody = 1 << 20

	flagZstd = 1 << 0
)

type frameType byte

// The types of frames; docs/replication.md says who sends which when.
const (
	frameHello frameType = iota + 1
	frameWelcome
	frameError
	framePing
	frameJoin
	framePageWanted
	framePage
	frameAck
	frameFlush
	frameFinish
	frameFinished
	frameBlocksWanted
	frameBlocks
	frameTypeEnd
)

// frame is a decoded frame; the body is unpacked.
type frame struct {
	typ  frameType
	body []byte
}

// wireFrame is a frame ready to be sent.
type wireFrame struct {
	head [frameHeaderSize]byte
	body []byte
}

// encodeFrame makes a frame; with pack it is compressed if that saves a tenth.
func encodeFrame(typ frameType, body []byte, pack bool) (*wireFrame, error) {
	if len(body) > maxBody {
		return nil, fmt.Errorf("%w: frame of %d bytes is beyond the limit of %d", ErrProtocol, len(body), maxBody)
	}
	w := &wireFrame{body: body}
	h := w.head[:]
	h[0], h[1], h[2], h[3] = 'L', 'B', frameVersion, byte(typ)
	if pack && len(body) >= 256 {
		if packed := encoder().EncodeAll(body, make([]byte, 0, len(body)/2)); len(packed) < len(body)-len(body)/10 {
			w.body = packed
			h[4] |= flagZstd
		}
	}
	binary.LittleEndian.PutUint32(h[8:], uint32(len(w.body)))
	binary.LittleEndian.PutUint32(h[12:], uint32(len(body)))
	binary.LittleEndian.PutUint64(h[16:], frameSum(h[:16], w.body))
	return w, nil
}

func frameSum(head, body []byte) uint64 {
	return xxh3.HashSeed(body, xxh3.Hash(head))
}

// readFrame reads one frame. limit bounds its body, so that a stranger cannot make
// us allocate; errors are io errors or ErrCorruptFrame.
func readFrame(r io.Reader, limit int) (frame, int, error) {
	var h [frameHeaderSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, 0, err
	}
	n, raw, err := parseFrameHeader(h[:], limit)
	if err != nil {
		return frame{}, 0, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, 0, err
	}
	if binary.LittleEndian.Uint64(h[16:]) != frameSum(h[:16], body) {
		return frame{}, 0, fmt.Errorf("%w: type %d fails its checksum", ErrCorruptFrame, h[3])
	}
	if h[4]&flagZstd != 0 {
		if body, err = decoder().DecodeAll(body, make([]byte, 0, raw)); err != nil {
			return frame{}, 0, fmt.Errorf("%w: type %d: %w", ErrCorruptFrame, h[3], err)
		}
	}
	if len(body) != raw {
		return frame{}, 0, fmt.Errorf("%w: type %d unpacks to %d bytes instead of %d", ErrCorruptFrame, h[3], len(body), raw)
	}
	return frame{typ: frameType(h[3]), body: body}, frameHeaderSize + n, nil
}

func parseFrameHeader(h []byte, limit int) (n, raw int, err error) {
	if h[0] != 'L' || h[1] != 'B' {
		return 0, 0, fmt.Errorf("%w: no frame starts here", ErrCorruptFrame)
	}
	if h[2] != frameVersion {
		return 0, 0, fmt.Errorf("%w: frame version %d, this program knows %d; run the same version at both ends", ErrProtocol, h[2], frameVersion)
	}
	if h[3] == 0 || h[3] >= byte(frameTypeEnd) || h[4]&^flagZstd != 0 || h[5]|h[6]|h[7] != 0 {
		return 0, 0, fmt.Errorf("%w: unknown type %d or flags", ErrCorruptFrame, h[3])
	}
	wire, unpacked := binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
	if wire > uint32(limit) || unpacked > uint32(limit) {
		return 0, 0, fmt.Errorf("%w: type %d with %d bytes is beyond the limit of %d", ErrCorruptFrame, h[3], max(wire, unpacked), limit)
	}
	return int(wire), int(unpacked), nil
}
