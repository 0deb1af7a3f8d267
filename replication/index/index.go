package index

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"

	"lifeboat/replication/block"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrHeld: another Open of the same index, here or in another process, is not closed yet.
	ErrHeld = errors.New("held by another one")
	// ErrClosed: the index was closed or abandoned before.
	ErrClosed = errors.New("index is closed")
	// ErrRange: there is no such region, piece or page in the volume.
	ErrRange = errors.New("not in the volume")
)

// Index is the durable knowledge about one volume. Many goroutines may read while others
// change it; changes wait for each other.
type Index struct {
	layout
	tree    *file
	digests *file // nil if none are kept

	// w is held by who changes anything on disk, mu for writing while readers must not look.
	// w comes first.
	w  sync.Mutex
	mu sync.RWMutex

	chunks []atomic.Pointer[chunk]
	cache  cache
	top    block.Hash // entry of the highest page, as of the last Commit

	head    header // as last written
	slot    int    // where
	inUse   bool   // what is on disk is being changed
	newMeta bool   // head.meta is newer than what is on disk
	dirty   bool   // some page changed since Commit
	held    bool   // some chunk has held bits
	closed  bool
	broken  error // a sync failed: nothing is known of what is on disk
	priming bool  // there is no header yet

	damaged atomic.Int64
}

// Region is what is known about one region.
type Region struct {
	// Pieces are the hashes of the pieces; zeros behind the end of the volume.
	Pieces [block.PiecesPerRegion]block.Hash
	// Digests are those of the blocks.
	Digests [block.PerRegion]block.Digest
	// DigestsKnown is false if Digests mean nothing; they are zeros then. It is true for a
	// region of zeros, and false if a piece is unknown.
	DigestsKnown bool
}

// PieceHash is a piece and what its hash is now.
type PieceHash struct {
	Piece int64
	Hash  block.Hash
}

var (
	pagePool = sync.Pool{New: func() any { return new(page) }}
	slotPool = sync.Pool{New: func() any { return new([slotSize]byte) }}
)

// Region fills rec with what is known about region r.
func (x *Index) Region(r int64, rec *Region) error {
	if r < 0 || r >= x.geo.Regions() {
		return x.rangeError("region", r, x.geo.Regions())
	}
	for {
		x.mu.RLock()
		err := x.region(r, rec)
		x.mu.RUnlock()
		if err == nil {
			return nil
		}
		if err = x.heal(err); err != nil {
			return err
		}
	}
}

func (x *Index) region(r int64, rec *Region) error {
	if err := x.entries(r*block.PiecesPerRegion, rec.Pieces[:]); err != nil {
		return err
	}
	rec.DigestsKnown = false
	if x.digests == nil {
		clear(rec.Digests[:])
		return nil
	}
	switch {
	case block.IsZero(hashBytes(rec.Pieces[:])):
		rec.DigestsKnown = true
	case !slices.Contains(rec.Pieces[:], block.Unknown):
		slot := slotPool.Get().(*[slotSize]byte)
		defer slotPool.Put(slot)
		if err := x.digests.read(slot[:], r*slotSize); err != nil {
			return err
		}
		if [16]byte(slot[digestsSize:]) == slotSums(r, slot[:digestsSize], &rec.Pieces) {
			copy(digestBytes(&rec.Digests), slot[:])
			rec.DigestsKnown = true
			return nil
		}
	}
	clear(rec.Digests[:])
	return nil
}

// slotSums are the two checksums at the end of a slot of the digests file.
func slotSums(r int64, digests []byte, pieces *[block.PiecesPerRegion]block.Hash) (s [16]byte) {
	seed := uint64(r) + 1
	a, b := xxh3.HashSeed(digests, seed), xxh3.HashSeed(hashBytes(pieces[:]), seed)
	for i := range 8 {
		s[i], s[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	return s
}

// entries reads hashes of pieces that lie in one page. Under mu.
func (x *Index) entries(first int64, out []block.Hash) error {
	if x.closed {
		return ErrClosed
	}
	n, at := first/block.Fanout, int(first%block.Fanout)
	fl, err := x.flags(n)
	if err != nil {
		return err
	}
	if !fl.unknown && (fl.dirty || fl.verified) {
		return x.tree.read(hashBytes(out), x.offset(0, n)+int64(at)*int64(len(block.Hash{})))
	}
	p := pagePool.Get().(*page)
	defer pagePool.Put(p)
	if err := x.readPage(n, p); err != nil {
		return err
	}
	copy(out, hashes(p)[at:])
	return nil
}

// Piece gives the hash of a piece, as far as it is known.
func (x *Index) Piece(p int64) (block.Hash, error) {
	if p < 0 || p >= x.geo.Pieces() {
		return block.Hash{}, x.rangeError("piece", p, x.geo.Pieces())
	}
	var out [1]block.Hash
	err := x.read(p, out[:])
	return out[0], err
}

// AreZero tells that all of a range of pieces are known to be zeros.
func (x *Index) AreZero(first, count int64) (bool, error) {
	if first < 0 || count < 0 || first+count > x.geo.Pieces() {
		return false, x.rangeError("pieces", first+count, x.geo.Pieces())
	}
	var out [block.PiecesPerRegion]block.Hash
	for count > 0 {
		n := min(count, block.PiecesPerRegion-first%block.PiecesPerRegion)
		if err := x.read(first, out[:n]); err != nil {
			return false, err
		}
		for i := range n {
			if !out[i].IsZero() {
				return false, nil
			}
		}
		first, count = first+n, count-n
	}
	return true, nil
}

// read is entries, with what is damaged mended.
func (x *Index) read(first int64, out []block.Hash) error {
	for {
		x.mu.RLock()
		err := x.entries(first, out)
		x.mu.RUnlock()
		if err == nil {
			return nil
		}
		if err = x.heal(err); err != nil {
			return err
		}
	}
}

// Size is the size of the volume in bytes.
func (x *Index) Size() int64 { return x.geo.Size }

// Proof says what the hashes are.
func (x *Index) Proof() block.Proof { return x.proof }

// Geometry answers where the parts of the volume lie.
func (x *Index) Geometry() block.Geometry { return x.geo }

// ID was drawn when the index was started anew; another one means another index.
func (x *Index) ID() [16]byte { return x.head.id }

// DamagedPages counts the pages that were found damaged since Open.
// What was below them is unknown since.
func (x *Index) DamagedPages() int64 { return x.damaged.Load() }

// Meta is what SetMeta set, or nil.
func (x *Index) Meta() []byte {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.head.meta)
}

// SetMeta keeps up to MaxMeta bytes of the caller's own. They are durable after the next
// Sync or Close; an unclean end leaves those that were durable before.
func (x *Index) SetMeta(b []byte) error {
	if len(b) > MaxMeta {
		return fmt.Errorf("index file %s: %d bytes of meta, at most %d fit; keep more in a file beside it", x.tree.f.Name(), len(b), MaxMeta)
	}
	defer x.lock()()
	if err := x.begin(); err != nil {
		return err
	}
	x.head.meta, x.newMeta = slices.Clone(b), true
	return nil
}

func (x *Index) rangeError(what string, n, count int64) error {
	return fmt.Errorf("index file %s: %s %d is %w, which has %d; ask for one from 0 on", x.tree.f.Name(), what, n, ErrRange, count)
}

// lock takes both locks, and gives what releases them.
func (x *Index) lock() (unlock func()) {
	x.w.Lock()
	x.mu.Lock()
	return func() {
		x.mu.Unlock()
		x.w.Unlock()
	}
}
