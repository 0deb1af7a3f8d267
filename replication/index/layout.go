package index

import (
	"unsafe"

	"github.com/zeebo/xxh3"

	"lifeboat/replication/block"
)

// page is a page of any level as it is stored. Entries above level 0 are sealed.
type page = [block.PageSize]byte

// hashes views a page as its entries.
func hashes(p *page) *[block.Fanout]block.Hash {
	return (*[block.Fanout]block.Hash)(unsafe.Pointer(p))
}

func hashBytes(h []block.Hash) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(h))), len(h)*len(block.Hash{}))
}

func digestBytes(d *[block.PerRegion]block.Digest) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(d)), digestsSize)
}

const (
	digestsSize = block.PerRegion * 16
	slotSize    = digestsSize + 16

	regionsPerPage = block.Fanout / block.PiecesPerRegion

	// maxSize of a volume keeps all places below 2^63, and the chunk pointers in 2 MiB.
	maxSize = int64(1) << 56
)

// layout says where things lie in the tree file.
type layout struct {
	geo    block.Geometry
	proof  block.Proof
	pages  []int64 // of each level
	start  []int64 // offset of each level
	chunks int64
	end    int64
	// unknown is the entry of a full page below which all is unknown, by level.
	unknown []block.Hash
}

func newLayout(size int64, proof block.Proof) layout {
	l := layout{geo: block.Geometry{Size: size}, proof: proof}
	l.chunks = (l.geo.Pages(0) + chunkPages - 1) / chunkPages
	at := 2*headerSize + l.chunks*chunkBytes
	for level := range l.geo.Levels() {
		n := l.geo.Pages(level)
		l.pages, l.start = append(l.pages, n), append(l.start, at)
		at += n * block.PageSize

		var p page
		fill := block.Unknown
		if level > 0 {
			fill = l.unknown[level-1]
		}
		for i := range hashes(&p) {
			hashes(&p)[i] = fill
		}
		l.unknown = append(l.unknown, l.seal(level, &p))
	}
	l.end = at
	return l
}

func (l *layout) top() int { return len(l.pages) - 1 }

func (l *layout) offset(level int, n int64) int64 { return l.start[level] + n*block.PageSize }

func (l *layout) chunkOffset(c int64) int64 { return 2*headerSize + c*chunkBytes }

// piecesOf counts the pieces of a page of level 0; the last may have fewer.
func (l *layout) piecesOf(n int64) int {
	return int(min(l.geo.Pieces()-n*block.Fanout, block.Fanout))
}

// piecesOfRegion counts the pieces of a region; the last may have fewer.
func (l *layout) piecesOfRegion(r int64) int {
	return int(min(l.geo.Pieces()-r*block.PiecesPerRegion, block.PiecesPerRegion))
}

// below gives the pages of level 0 below a page: from lo up to, without, hi.
func (l *layout) below(level int, n int64) (lo, hi int64) {
	lo, hi = n, n+1
	for range level {
		lo, hi = lo*block.Fanout, hi*block.Fanout
	}
	return lo, min(hi, l.pages[0])
}

// fillUnknown makes a page of level 0 one of which nothing is known.
func (l *layout) fillUnknown(n int64, p *page) {
	count := l.piecesOf(n)
	for i := range count {
		hashes(p)[i] = block.Unknown
	}
	clear(hashes(p)[count:])
}

// partial tells of an entry above level 0 that something below it is unknown. Such an
// entry is 16 bytes of ones and the XXH3-128 of the page. A hash begins so with
// a chance of 2^-128.
func partial(h *block.Hash) bool {
	return h[0] == 0xff && [16]byte(h[:16]) == [16]byte(block.Unknown[:16])
}

// seal gives the entry for a page. It is the page's hash if all below is known.
func (l *layout) seal(level int, p *page) block.Hash {
	known := true
	for i := range hashes(p) {
		h := &hashes(p)[i]
		if h[0] == 0xff && (*h == block.Unknown || level > 0 && partial(h)) {
			known = false
			break
		}
	}
	if known {
		return l.proof.OfPage(level, p)
	}
	entry := block.Unknown
	sum := xxh3.Hash128Seed(p[:], uint64(level)+1).Bytes()
	copy(entry[16:], sum[:])
	return entry
}

// unsealed is what an entry says to the outside.
func unsealed(h block.Hash) block.Hash {
	if partial(&h) {
		return block.Unknown
	}
	return h
}
