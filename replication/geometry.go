package replication

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"

	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"
)

// Sizes of the parts of a volume, in bytes. They are part of the wire protocol
// and of stored state. 4 KiB is what file systems and databases write; 64 KiB is
// where BLAKE3 reaches its full speed while one changed block costs only one piece to
// be hashed; a region's record of 8 KiB makes it cheap to store and compare.
const (
	BlockSize  = 4 << 10
	PieceSize  = 64 << 10
	RegionSize = 16 << 20

	blocksPerPiece  = PieceSize / BlockSize
	piecesPerRegion = RegionSize / PieceSize
	blocksPerRegion = RegionSize / BlockSize
)

// hash is the BLAKE3 hash of a piece, the node of a region, or a root.
// All zeros stands for contents of zeros only.
type hash [32]byte

// digest is the XXH3-128 of a block; all zeros stands for a block of zeros.
type digest [16]byte

var zeros [PieceSize]byte

func isZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}

// pieceHash is BLAKE3 of the bytes of a piece, or zero for zeros.
func pieceHash(p []byte) hash {
	if isZero(p) {
		return hash{}
	}
	return blake3.Sum256(p)
}

// blockDigest is XXH3-128 of the bytes of a block, or zero for zeros.
func blockDigest(b []byte) digest {
	if isZero(b) {
		return digest{}
	}
	return xxh3.Hash128(b).Bytes()
}

// nodeHash is BLAKE3(0x01 || hashes of the 256 pieces), zero if all are zero;
// pieces behind the end of the volume count as zero.
func nodeHash(pieces *[piecesPerRegion]hash) hash {
	var zero [piecesPerRegion]hash
	if *pieces == zero {
		return hash{}
	}
	h := blake3.New()
	_, _ = h.Write([]byte{1}) // a blake3 hasher never fails
	for i := range pieces {
		_, _ = h.Write(pieces[i][:])
	}
	var out hash
	h.Sum(out[:0])
	return out
}

// rootContext separates roots from all other uses of BLAKE3.
const rootContext = "lifeboat volume root v1\n"

// rootHash is BLAKE3(rootContext || size as 8 bytes little endian || nodes of
// all regions in order).
func rootHash(size int64, node func(region int64) hash) hash {
	h := blake3.New()
	_, _ = h.WriteString(rootContext)
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(size))
	_, _ = h.Write(b[:])
	for r := range (geometry{size}).regions() {
		n := node(r)
		_, _ = h.Write(n[:])
	}
	var out hash
	h.Sum(out[:0])
	return out
}

// rootString is how roots are shown and stored.
func rootString(h hash) string { return "blake3:" + hex.EncodeToString(h[:]) }

// geometry answers where the parts of a volume lie.
type geometry struct{ size int64 }

func (g geometry) regions() int64 { return (g.size + RegionSize - 1) / RegionSize }

// regionPieces counts the pieces of a region; the last region may have fewer.
func (g geometry) regionPieces(region int64) int {
	n := min(g.size-region*RegionSize, RegionSize)
	return int((n + PieceSize - 1) / PieceSize)
}

// piece gives offset and length of a piece; the last may be short.
func (g geometry) piece(region int64, piece int) (off int64, n int) {
	off = region*RegionSize + int64(piece)*PieceSize
	return off, int(min(g.size-off, PieceSize))
}

// blocks counts the blocks of n bytes.
func blocks(n int) int { return (n + BlockSize - 1) / BlockSize }

// bitmap256 marks pieces of a region.
type bitmap256 [piecesPerRegion / 8]byte

func (b *bitmap256) set(i int)      { b[i/8] |= 1 << (i % 8) }
func (b *bitmap256) clear(i int)    { b[i/8] &^= 1 << (i % 8) }
func (b *bitmap256) has(i int) bool { return b[i/8]&(1<<(i%8)) != 0 }
func (b *bitmap256) any() bool      { return *b != bitmap256{} }
func (b *bitmap256) or(o bitmap256) {
	for i := range b {
		b[i] |= o[i]
	}
}
