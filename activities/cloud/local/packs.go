package local

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/blake3"
)

// Snapshots on a file system without reflinks: see docs/local-snapshots.md.
const (
	blockSize  = 64 << 10               // bytes of a block, the unit that is stored once
	pageBlocks = 256                    // blocks of a page, the unit that manifests share
	pageSize   = blockSize * pageBlocks // bytes of disk that a page describes
	hashSize   = 32
	bitmapSize = pageBlocks / 8
)

// Buckets of the index.
const (
	blockBucket    = "blocks"    // hash of a block → location
	pageBucket     = "pages"     // hash of a page → count of references and the page
	manifestBucket = "manifests" // snapshot / first page → hashes of pages
	packBucket     = "packs"     // pack → packRecord
	punchBucket    = "punch"     // pack and slot of a block to be given back to the file system
)

// hash is the BLAKE3 of a block or a page; the zero value stands for nothing but zeros.
type hash [hashSize]byte

func hashOf(b []byte) hash { return blake3.Sum256(b) }

var zeros [blockSize]byte

// allZero tells whether b, at most a block, holds zeros only.
func allZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// page lists the hashes of 256 consecutive blocks.
type page [pageBlocks]hash

// encode gives the one stored form of a page: a bitmap of the blocks that are
// not zero, and their hashes in order.
func (p *page) encode() []byte {
	out := make([]byte, bitmapSize, bitmapSize+pageBlocks*hashSize)
	for i, h := range p {
		if h != (hash{}) {
			out[i/8] |= 1 << (i % 8)
			out = append(out, h[:]...)
		}
	}
	return out
}

// decodePage reads what encode wrote and nothing else.
func decodePage(raw []byte) (*page, error) {
	if len(raw) < bitmapSize {
		return nil, fmt.Errorf("page of %d bytes is too short", len(raw))
	}
	count := 0
	for _, b := range raw[:bitmapSize] {
		count += bits.OnesCount8(b)
	}
	if len(raw) != bitmapSize+count*hashSize {
		return nil, fmt.Errorf("page of %d bytes names %d blocks", len(raw), count)
	}
	p, rest := new(page), raw[bitmapSize:]
	for i := range p {
		if raw[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		p[i] = hash(rest[:hashSize])
		if p[i] == (hash{}) {
			return nil, fmt.Errorf("block %d of a page has no hash", i)
		}
		rest = rest[hashSize:]
	}
	return p, nil
}

// location is where a block is, and how many places in pages refer to it.
type location struct {
	pack uint64
	slot uint32
	refs uint32
}

func (l location) encode() []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 16), l.pack)
	out = binary.BigEndian.AppendUint32(out, l.slot)
	return binary.BigEndian.AppendUint32(out, l.refs)
}

func decodeLocation(raw []byte) (location, error) {
	if len(raw) != 16 {
		return location{}, fmt.Errorf("location of %d bytes, not 16", len(raw))
	}
	l := location{pack: binary.BigEndian.Uint64(raw), slot: binary.BigEndian.Uint32(raw[8:]), refs: binary.BigEndian.Uint32(raw[12:])}
	if l.pack == 0 || l.refs == 0 {
		return location{}, fmt.Errorf("location without pack or references")
	}
	return l, nil
}

// encodeCounted and decodeCounted store a page with its count of references.
func encodeCounted(refs uint32, encoded []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(encoded)), refs), encoded...)
}

func decodeCounted(raw []byte) (refs uint32, encoded []byte, err error) {
	if len(raw) < 4 {
		return 0, nil, fmt.Errorf("page of %d bytes has no count", len(raw))
	}
	if refs = binary.BigEndian.Uint32(raw); refs == 0 {
		return 0, nil, fmt.Errorf("page without references")
	}
	return refs, raw[4:], nil
}

// manifestKey orders the parts of a snapshot's manifest by their first page.
func manifestKey(snapshot string, first int) []byte {
	return binary.BigEndian.AppendUint32([]byte(snapshot+"/"), uint32(first))
}

// decodeManifestKey is the reverse of manifestKey for one snapshot.
func decodeManifestKey(snapshot string, key []byte) (first int, err error) {
	rest, found := bytes.CutPrefix(key, []byte(snapshot+"/"))
	if !found || len(rest) != 4 {
		return 0, fmt.Errorf("key %q is not part of a manifest", key)
	}
	return int(binary.BigEndian.Uint32(rest)), nil
}

func encodeHashes(hashes []hash) []byte {
	out := make([]byte, 0, len(hashes)*hashSize)
	for _, h := range hashes {
		out = append(out, h[:]...)
	}
	return out
}

func decodeHashes(raw []byte) ([]hash, error) {
	if len(raw)%hashSize != 0 {
		return nil, fmt.Errorf("manifest of %d bytes is cut off", len(raw))
	}
	hashes := make([]hash, len(raw)/hashSize)
	for i := range hashes {
		hashes[i] = hash(raw[i*hashSize:])
	}
	return hashes, nil
}

// packRecord describes one pack: a file of slots of blockSize bytes.
type packRecord struct {
	Owner   string `json:"owner"`             // snapshot that wrote it
	Live    int    `json:"live"`              // slots that the index refers to
	Pending bool   `json:"pending,omitempty"` // not committed: to be removed when its writer is gone
}

func packKey(pack uint64) string { return fmt.Sprintf("%016x", pack) }

func (p *Provider) packPath(pack uint64) string { return p.path(packDir, packKey(pack)+".pack") }

// pagesOf returns how many pages a disk of this size has.
func pagesOf(size int64) int { return int((size + pageSize - 1) / pageSize) }
