package index_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
)

// dense opens an index of 4 GiB with digests of which everything is known and not zeros.
func dense(b *testing.B) (*index.Index, func() *index.Index) {
	path := filepath.Join(b.TempDir(), "vol")
	o := index.Options{Size: 4 << 30, Proof: block.BLAKE3, Digests: true}
	x, _, err := index.Open(path, o)
	require.NoError(b, err)
	rnd := rand.New(rand.NewPCG(1, 1))
	var rec index.Region
	for r := range x.Geometry().Regions() {
		for i := range rec.Pieces {
			rec.Pieces[i] = block.Hash{1: byte(rnd.Uint32()), 2: 1}
		}
		rec.Digests[r%block.PerRegion][3]++
		rec.DigestsKnown = true
		require.NoError(b, x.PutRegion(r, &rec))
	}
	reopen := func() *index.Index {
		require.NoError(b, x.Close())
		x, _, err = index.Open(path, o)
		require.NoError(b, err)
		return x
	}
	b.Cleanup(func() { _ = x.Abandon() })
	return reopen(), reopen
}

// BenchmarkRegion reads all regions of a freshly opened index of 4 GiB.
func BenchmarkRegion(b *testing.B) {
	x, reopen := dense(b)
	var rec index.Region
	b.ReportAllocs()
	r := int64(0)
	for b.Loop() {
		if r == x.Geometry().Regions() {
			b.StopTimer()
			x, r = reopen(), 0
			b.StartTimer()
		}
		if err := x.Region(r, &rec); err != nil || !rec.DigestsKnown {
			b.Fatal(err, rec.DigestsKnown)
		}
		r++
	}
}

func BenchmarkPutRegion(b *testing.B) {
	x, _ := dense(b)
	var rec index.Region
	require.NoError(b, x.Region(0, &rec))
	b.ReportAllocs()
	r := int64(0)
	for b.Loop() {
		if err := x.PutRegion(r%x.Geometry().Regions(), &rec); err != nil {
			b.Fatal(err)
		}
		r++
	}
}

// BenchmarkSetPieces3000 changes 3,000 scattered pieces of 4 GiB and commits.
func BenchmarkSetPieces3000(b *testing.B) {
	rnd := rand.New(rand.NewPCG(2, 1))
	x, reopen := dense(b)
	updates := make([]index.PieceHash, 3000)
	for b.Loop() {
		b.StopTimer()
		for i := range updates {
			updates[i] = index.PieceHash{Piece: rnd.Int64N(x.Geometry().Pieces()), Hash: block.Hash{5: byte(rnd.Uint32()), 6: 1}}
		}
		x = reopen()
		b.StartTimer()
		if err := x.SetPieces(updates); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit3000 commits 3,000 scattered pieces of 4 GiB.
func BenchmarkCommit3000(b *testing.B) {
	rnd := rand.New(rand.NewPCG(2, 1))
	x, _ := dense(b)
	updates := make([]index.PieceHash, 3000)
	for b.Loop() {
		b.StopTimer()
		for i := range updates {
			updates[i] = index.PieceHash{Piece: rnd.Int64N(x.Geometry().Pieces()), Hash: block.Hash{5: byte(rnd.Uint32()), 6: 1}}
		}
		require.NoError(b, x.SetPieces(updates))
		b.StartTimer()
		if _, err := x.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenClose opens and closes an index of 4 GiB that is only looked at.
func BenchmarkOpenClose(b *testing.B) {
	_, reopen := dense(b)
	for b.Loop() {
		if _, err := reopen().Root(); err != nil {
			b.Fatal(err)
		}
	}
}
