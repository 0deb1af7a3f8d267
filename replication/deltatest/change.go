package deltatest

import (
	"math/rand/v2"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"
)

// Size draws the size of a volume of up to most bytes: multiples of a block, a piece or a region,
// one beside them, and odd ones.
func Size(rnd *rand.Rand, most int64) int64 {
	unit := []int64{1, sector, block.Size, block.Piece, block.Region}[rnd.IntN(5)]
	n := (1 + rnd.Int64N(most)) / unit * unit
	return min(max(1, n+[]int64{-1, 0, 0, 0, 1}[rnd.IntN(5)]), most)
}

// Fill makes an image: runs of bytes that differ, of text, of written zeros, and holes.
func Fill(rnd *rand.Rand, d *Disk) {
	for off := int64(0); off < d.Size(); {
		n := min(1+rnd.Int64N(d.Size()/4+block.Piece), d.Size()-off)
		write(rnd, d, off, n)
		off += n
	}
	_ = d.Sync() // a Disk that was not killed does not fail
}

// write puts one kind of content into a range.
func write(rnd *rand.Rand, d *Disk, off, n int64) {
	p := make([]byte, n)
	switch rnd.IntN(5) {
	case 0: // a hole stays as it is, or becomes one
		_ = d.Zero(off, n) // the caller's range is inside, and the disk lives
		return
	case 1: // zeros that were written
	case 2:
		for i := range p {
			p[i] = "the quick brown fox "[i%20] ^ byte(off>>12)
		}
	default:
		var seed [32]byte
		for i := range seed {
			seed[i] = byte(rnd.Uint32())
		}
		_, _ = rand.NewChaCha8(seed).Read(p) // never fails
	}
	_, _ = d.WriteAt(p, off) // as above
}

// Change does one random change of the kinds that copies got wrong before: single bytes and
// blocks, runs, holes, the first, the last and the second-to-last block. It says where.
func Change(rnd *rand.Rand, d *Disk) volume.Extent {
	size := d.Size()
	blocks := (size + block.Size - 1) / block.Size
	b := rnd.Int64N(blocks)
	off, n := b*block.Size, int64(block.Size)
	switch rnd.IntN(8) {
	case 0:
		off = 0
	case 1:
		off = (blocks - 1) * block.Size
	case 2:
		off = max(0, blocks-2) * block.Size
	case 3: // some bytes across blocks
		off, n = rnd.Int64N(size), 1+rnd.Int64N(2*block.Size)
	case 4: // a run
		n = 1 + rnd.Int64N(size/3+1)
	case 5: // whole pieces
		off, n = off&^(block.Piece-1), block.Piece*(1+rnd.Int64N(4))
	}
	n = min(n, size-off)
	write(rnd, d, off, n)
	return volume.Extent{Offset: off, Length: n}
}

// Root is the root of bytes, computed from them alone.
func Root(p block.Proof, b []byte) string {
	geo := block.Geometry{Size: int64(len(b))}
	hashes := make([]block.Hash, geo.Pieces())
	for i := range hashes {
		off := i * block.Piece
		hashes[i] = p.OfPiece(b[off : off+geo.PieceBytes(int64(i))])
	}
	for level := range geo.Levels() {
		above := make([]block.Hash, geo.Pages(level))
		for i := range above {
			var page [block.PageSize]byte
			for k, h := range hashes[i*block.Fanout : min((i+1)*block.Fanout, len(hashes))] {
				copy(page[k*len(h):], h[:])
			}
			above[i] = p.OfPage(level, &page)
		}
		hashes = above
	}
	return p.RootString(p.Root(geo.Size, hashes[0]))
}
