// Package block has the units in which a volume is looked at, and how each is
// hashed.
//
//   - A block (4 KiB) is the unit in which a change is found. Its digest is XXH3-128.
//   - A piece (64 KiB) is the unit that is proved. Its hash is what a Proof says.
//   - A region (1 MiB) is the unit of work, of acknowledgement and of resume.
//   - A page is 128 hashes (4 KiB). The hashes of all pieces fill the pages of level 0;
//     the hash of each page is an entry of a page of the next level, up to one
//     page, whose hash is under the root.
//
// Zeros cost nothing: the digest of a block of zeros, the hash of a piece of zeros and
// the hash of a page of zeros are zeros. A hash of ones is Unknown: what is there has to be
// read. It spreads upwards, so that a root is known only if all is known.
package block

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"
)

// Sizes of the parts of a volume, in bytes. They are part of the wire protocol and of
// stored state. 4 KiB is what file systems and databases write; 64 KiB is where
// BLAKE3 reaches its full speed, while one changed block costs only one piece to be hashed; a
// region's 256 digests fill one page of memory.
const (
	Size   = 4 << 10
	Piece  = 64 << 10
	Region = 1 << 20

	PerPiece        = Piece / Size   // blocks of a piece
	PerRegion       = Region / Size  // blocks of a region
	PiecesPerRegion = Region / Piece // pieces of a region

	// PageSize is the size of a page, and Fanout how many hashes are in it.
	PageSize = 4 << 10
	Fanout   = PageSize / 32
)

// Digest is the XXH3-128 of a block; all zeros stands for a block of zeros.
type Digest [16]byte

// Hash is the hash of a piece, of a page, or a root.
type Hash [32]byte

// Unknown is the hash of what has to be read before it is known.
var Unknown = Hash(bytes.Repeat([]byte{0xff}, 32))

// IsZero tells that a hash stands for zeros.
func (h Hash) IsZero() bool { return h == Hash{} }

// Known tells that a hash is one.
func (h Hash) Known() bool { return h != Unknown }

// Proof says what proves that two volumes are equal.
type Proof byte

// The proofs. Their numbers are part of stored state and of the wire protocol.
const (
	// BLAKE3 is cryptographic: pieces are hashed from their bytes.
	BLAKE3 Proof = 1
	// Fast is XXH3-128 over the digests of a piece's blocks. It finds accidents, not
	// attackers, and is for comparisons on loopback.
	Fast Proof = 2
)

// Valid tells that a proof is one of those above.
func (p Proof) Valid() bool { return p == BLAKE3 || p == Fast }

// String names the proof as in roots.
func (p Proof) String() string {
	switch p {
	case BLAKE3:
		return "blake3"
	case Fast:
		return "xxh3"
	}
	return fmt.Sprintf("proof(%d)", byte(p))
}

// HashSize is how many bytes of a Hash are not always zero.
func (p Proof) HashSize() int {
	if p == Fast {
		return 16
	}
	return 32
}

var zeros [Piece]byte

// IsZero tells that all bytes are zero.
func IsZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}

// DigestOf gives the digest of a block; the last of a volume may be short.
func DigestOf(b []byte) Digest {
	if IsZero(b) {
		return Digest{}
	}
	return xxh3.Hash128(b).Bytes()
}

// OfBytes is the hash of a piece with proof BLAKE3.
func OfBytes(piece []byte) Hash {
	if IsZero(piece) {
		return Hash{}
	}
	return blake3.Sum256(piece)
}

// OfDigests is the hash of a piece with proof Fast. A short piece has fewer digests
// that are not zero.
func OfDigests(d *[PerPiece]Digest) Hash {
	if *d == ([PerPiece]Digest{}) {
		return Hash{}
	}
	var flat [PerPiece * 16]byte
	for i := range d {
		copy(flat[i*16:], d[i][:])
	}
	return fast(flat[:], 0)
}

func fast(b []byte, seed uint64) (h Hash) {
	sum := xxh3.Hash128Seed(b, seed).Bytes()
	copy(h[:], sum[:])
	return h
}

// OfPiece is the hash of a piece with either proof, from its bytes.
func (p Proof) OfPiece(piece []byte) Hash {
	if p == BLAKE3 {
		return OfBytes(piece)
	}
	var d [PerPiece]Digest
	for i := 0; i*Size < len(piece); i++ {
		d[i] = DigestOf(piece[i*Size : min((i+1)*Size, len(piece))])
	}
	return OfDigests(&d)
}

// OfPage is the hash of a page of a level: the entry of a page of level+1. The level
// keeps a page of hashes from being taken for one of another level, or for data.
func (p Proof) OfPage(level int, page *[PageSize]byte) Hash {
	if IsZero(page[:]) {
		return Hash{}
	}
	for i := 0; i < PageSize; i += 32 {
		if page[i] == 0xff && Hash(page[i:i+32]) == Unknown {
			return Unknown
		}
	}
	if p == Fast {
		return fast(page[:], uint64(level)+1)
	}
	h := blake3.New()
	_, _ = h.Write([]byte{byte(level) + 1}) // a blake3 hasher never fails
	_, _ = h.Write(page[:])
	return sum(h)
}

func sum(h *blake3.Hasher) (out Hash) {
	h.Sum(out[:0])
	return out
}

// rootContext separates roots from all other hashes.
const rootContext = "lifeboat volume root v2\n"

// Root is the root of a volume of size bytes, whose page of the highest level (see
// Geometry.Levels) has the hash top.
func (p Proof) Root(size int64, top Hash) Hash {
	if top == Unknown {
		return Unknown
	}
	b := make([]byte, 0, 128)
	b = append(b, rootContext...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = append(b, top[:]...)
	if p == Fast {
		return fast(b, 1<<32)
	}
	return blake3.Sum256(b)
}

// RootString is how roots are shown and stored: "blake3:…" or "xxh3:…".
func (p Proof) RootString(root Hash) string {
	if root == Unknown {
		return p.String() + ":unknown"
	}
	return p.String() + ":" + hex.EncodeToString(root[:p.HashSize()])
}

// ParseRoot reads what RootString wrote.
func ParseRoot(s string) (Proof, Hash, error) {
	name, text, _ := strings.Cut(s, ":")
	for _, p := range []Proof{BLAKE3, Fast} {
		raw, err := hex.DecodeString(text)
		if p.String() != name || err != nil || len(raw) != p.HashSize() {
			continue
		}
		var h Hash
		copy(h[:], raw)
		return p, h, nil
	}
	return 0, Hash{}, fmt.Errorf("%q is not a root; one looks like blake3:<64 hex digits>", s)
}

// Geometry answers where the parts of a volume lie.
type Geometry struct {
	// Size of the volume in bytes.
	Size int64
}

// Regions counts the regions; the last may be short.
func (g Geometry) Regions() int64 { return (g.Size + Region - 1) / Region }

// Pieces counts the pieces; the last may be short.
func (g Geometry) Pieces() int64 { return (g.Size + Piece - 1) / Piece }

// RegionBytes is the length of a region.
func (g Geometry) RegionBytes(region int64) int {
	return int(min(g.Size-region*Region, Region))
}

// PieceBytes is the length of a piece.
func (g Geometry) PieceBytes(piece int64) int { return int(min(g.Size-piece*Piece, Piece)) }

// Pages counts the pages of a level.
func (g Geometry) Pages(level int) int64 {
	n := g.Pieces()
	for range level + 1 {
		n = (n + Fanout - 1) / Fanout
	}
	return n
}

// Levels counts the levels of pages; the highest has one page. A volume without
// bytes has one level.
func (g Geometry) Levels() int {
	levels := 1
	for g.Pages(levels-1) > 1 {
		levels++
	}
	return levels
}

// Blocks counts the blocks of n bytes.
func Blocks(n int) int { return (n + Size - 1) / Size }
