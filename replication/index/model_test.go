package index_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
)

// model is what an index should know, held in memory.
type model struct {
	geo     block.Geometry
	proof   block.Proof
	pieces  []block.Hash
	digests map[block.Hash]*[block.PerRegion]block.Digest // by the hashes of the region, see key
	meta    []byte
}

func newModel(size int64, proof block.Proof) *model {
	geo := block.Geometry{Size: size}
	return &model{geo: geo, proof: proof, pieces: make([]block.Hash, geo.Pieces()),
		digests: map[block.Hash]*[block.PerRegion]block.Digest{}}
}

// region gives the hashes of a region.
func (m *model) region(r int64) (out [block.PiecesPerRegion]block.Hash) {
	copy(out[:], m.pieces[r*block.PiecesPerRegion:])
	return out
}

func key(r int64, pieces [block.PiecesPerRegion]block.Hash) block.Hash {
	b := binary.LittleEndian.AppendUint64(nil, uint64(r))
	for _, h := range pieces {
		b = append(b, h[:]...)
	}
	return block.OfBytes(b)
}

// level computes the hashes of a level by the definition.
func (m *model) level(level int) []block.Hash {
	hashes := m.pieces
	for l := range level {
		var up []block.Hash
		for first := 0; first < len(hashes); first += block.Fanout {
			var page [block.PageSize]byte
			for i, h := range hashes[first:min(first+block.Fanout, len(hashes))] {
				copy(page[i*32:], h[:])
			}
			up = append(up, m.proof.OfPage(l, &page))
		}
		hashes = up
	}
	return hashes
}

func (m *model) root() block.Hash {
	top := block.Hash{}
	if hashes := m.level(m.geo.Levels()); len(hashes) > 0 {
		top = hashes[0]
	}
	return m.proof.Root(m.geo.Size, top)
}

// randomHash is zeros, unknown, or some hash.
func randomHash(rnd *rand.Rand) (h block.Hash) {
	switch rnd.IntN(6) {
	case 0:
		return block.Hash{}
	case 1:
		return block.Unknown
	}
	for i := range h {
		h[i] = byte(rnd.Uint32())
	}
	return h
}

func randomRegion(rnd *rand.Rand, rec *index.Region) {
	some := rnd.IntN(3) > 0 // most regions of a disk are known in whole
	for i := range rec.Pieces {
		rec.Pieces[i] = randomHash(rnd)
		if some && !rec.Pieces[i].Known() {
			rec.Pieces[i] = block.Hash{1: byte(rnd.Uint32())}
		}
	}
	for i := range rec.Digests {
		binary.LittleEndian.PutUint64(rec.Digests[i][:], rnd.Uint64())
	}
	rec.DigestsKnown = rnd.IntN(4) > 0
}

// world is an index and its model, driven at random.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	path    string
	o       index.Options
	x       *index.Index
	m       *model
	damaged bool // some was done to the files: what is known may have become unknown
}

func newWorld(t *testing.T, seed uint64, size int64, proof block.Proof) *world {
	t.Logf("seed %d, size %d, %v", seed, size, proof)
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), path: filepath.Join(t.TempDir(), "vol"),
		o: index.Options{Size: size, Proof: proof, Digests: true}, m: newModel(size, proof)}
	rep := w.open()
	require.True(t, rep.New)
	return w
}

func (w *world) open() index.Report {
	x, rep, err := index.OpenOn(w.path, w.o, unsynced)
	require.NoError(w.t, err)
	w.x = x
	w.t.Cleanup(func() { _ = x.Abandon() })
	return rep
}

func (w *world) put(r int64) {
	var rec index.Region
	randomRegion(w.rnd, &rec)
	require.NoError(w.t, w.x.PutRegion(r, &rec))
	n := copy(w.m.pieces[r*block.PiecesPerRegion:], rec.Pieces[:])
	clear(rec.Pieces[n:])
	if rec.DigestsKnown {
		w.m.digests[key(r, rec.Pieces)] = &rec.Digests
	}
}

func (w *world) setPieces() {
	updates := make([]index.PieceHash, w.rnd.IntN(200))
	for i := range updates {
		updates[i] = index.PieceHash{Piece: w.rnd.Int64N(w.m.geo.Pieces()), Hash: randomHash(w.rnd)}
		w.m.pieces[updates[i].Piece] = updates[i].Hash
	}
	require.NoError(w.t, w.x.SetPieces(updates))
}

func (w *world) setRange(h block.Hash, set func(first, count int64) error) {
	pieces := w.m.geo.Pieces()
	first := w.rnd.Int64N(pieces)
	count := w.rnd.Int64N(min(pieces-first, []int64{20, 300, 1 << 40}[w.rnd.IntN(3)])) + 1
	if w.rnd.IntN(8) == 0 {
		first, count = 0, pieces
	}
	require.NoError(w.t, set(first, count))
	for i := range count {
		w.m.pieces[first+i] = h
	}
}

// step does one thing.
func (w *world) step() {
	regions := w.m.geo.Regions()
	switch w.rnd.IntN(16) {
	case 0, 1, 2, 3:
		w.put(w.rnd.Int64N(regions))
	case 4, 5, 6:
		w.setPieces()
	case 7:
		w.setRange(block.Unknown, w.x.SetUnknown)
	case 8:
		w.setRange(block.Hash{}, w.x.SetZero)
	case 9:
		w.checkRoot()
	case 10:
		require.NoError(w.t, w.x.Sync())
	case 11:
		w.checkFind(w.rnd.Int64N(w.m.geo.Pieces()))
	case 12, 13:
		w.checkRegion(w.rnd.Int64N(regions))
	case 14:
		w.m.meta = fmt.Appendf(nil, "meta %d", w.rnd.Uint32())
		require.NoError(w.t, w.x.SetMeta(w.m.meta))
	case 15:
		w.reopen()
	}
}

// reopen closes, or ends as a killed process would: what was written is in the files.
func (w *world) reopen() {
	clean := w.rnd.IntN(2) == 0
	if clean {
		require.NoError(w.t, w.x.Close())
	} else {
		require.NoError(w.t, w.x.Sync())
		if w.rnd.IntN(2) == 0 {
			_, err := w.x.Commit()
			require.NoError(w.t, err)
		}
		require.NoError(w.t, w.x.Abandon())
	}
	rep := w.open()
	require.False(w.t, rep.New, rep.Damaged)
	if clean {
		require.False(w.t, rep.Unclean)
	}
	require.Equal(w.t, w.m.meta, w.x.Meta())
}

// checkRegion compares one region. After damage an unknown hash is right as well, and so is
// not to know digests; a wrong one never is.
func (w *world) checkRegion(r int64) {
	var rec index.Region
	require.NoError(w.t, w.x.Region(r, &rec))
	want := w.m.region(r)
	for i, h := range rec.Pieces {
		if w.damaged && h == block.Unknown {
			continue
		}
		if h != want[i] {
			require.Equal(w.t, want[i], h, "piece %d of region %d", i, r)
		}
	}
	digests := [block.PerRegion]block.Digest{}
	known := want == [block.PiecesPerRegion]block.Hash{}
	if stored := w.m.digests[key(r, want)]; stored != nil && !known {
		digests = *stored
	}
	switch {
	case !rec.DigestsKnown && known && rec.Pieces == want:
		require.Fail(w.t, "digests of zeros are known", "region %d", r)
	case !rec.DigestsKnown:
		digests = [block.PerRegion]block.Digest{}
	}
	if rec.Digests != digests {
		require.Equal(w.t, digests, rec.Digests, "digests of region %d", r)
	}
}

func (w *world) checkRoot() {
	root, err := w.x.Root()
	require.NoError(w.t, err)
	if w.damaged && root == block.Unknown {
		return
	}
	require.Equal(w.t, w.m.root(), root)
}

// checkFind compares the searches from a piece on.
func (w *world) checkFind(from int64) {
	pieces := w.m.geo.Pieces()
	want := from
	for want < pieces && w.m.pieces[want] != block.Unknown {
		want++
	}
	first, count, ok, err := w.x.Unknown(from)
	require.NoError(w.t, err)
	w.checkFound(want, pieces, first, ok, "unknown piece")
	for i := range count {
		if !w.damaged && w.m.pieces[first+i] != block.Unknown {
			require.Fail(w.t, "a known piece is called unknown", "piece %d", first+i)
		}
	}
	from /= block.PiecesPerRegion
	for want = from; want < w.m.geo.Regions() && w.m.region(want) == [block.PiecesPerRegion]block.Hash{}; {
		want++
	}
	region, ok, err := w.x.NextNonZero(from)
	require.NoError(w.t, err)
	w.checkFound(want, w.m.geo.Regions(), region, ok, "region that is not zeros")
}

// checkFound compares what a search found. After damage it may be something before.
func (w *world) checkFound(want, end, found int64, ok bool, what string) {
	if w.damaged {
		require.True(w.t, want == end || ok && found <= want, "%s: %d, not behind %d", what, found, want)
		return
	}
	require.Equal(w.t, want < end, ok, what)
	if ok {
		require.Equal(w.t, want, found, what)
	}
}

// checkAll compares everything.
func (w *world) checkAll() {
	checks := []func(){
		w.checkPages, w.checkRoot,
		func() { w.checkFind(w.rnd.Int64N(w.m.geo.Pieces())) },
		func() {
			for r := range w.m.geo.Regions() {
				w.checkRegion(r)
			}
		},
	}
	// In any order: each of them may be the first to see a damage.
	w.rnd.Shuffle(len(checks), func(i, j int) { checks[i], checks[j] = checks[j], checks[i] })
	for _, check := range checks {
		check()
	}
}

// checkPages compares all pages, from the highest down.
func (w *world) checkPages() {
	for level := w.m.geo.Levels() - 1; level >= 0; level-- {
		want := w.m.level(level)
		for n := range w.m.geo.Pages(level) {
			var page [block.PageSize]byte
			require.NoError(w.t, w.x.Page(level, n, &page))
			for i := range block.Fanout {
				h, at := block.Hash(page[i*32:(i+1)*32]), int(n)*block.Fanout+i
				right := block.Hash{}
				if at < len(want) {
					right = want[at]
				}
				if h != right && !(w.damaged && h == block.Unknown) {
					require.Equal(w.t, right, h, "entry %d of level %d", at, level)
				}
			}
		}
	}
}

func TestAnIndexKnowsWhatItsModelKnows(t *testing.T) {
	t.Parallel()
	sizes := []int64{1, block.Piece + 1, block.Region, 7*block.Region + 5, 8 * block.Region, 100*block.Region - 1, 1<<30 + 3*block.Region + 4096}
	for i, size := range sizes {
		proof := block.BLAKE3
		if i%2 == 1 {
			proof = block.Fast
		}
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, uint64(i)+1, size, proof)
			for range 400 {
				w.step()
			}
			w.checkAll()
			w.reopen()
			w.checkAll()
		})
	}
}
