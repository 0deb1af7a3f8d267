package store

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
)

// BenchmarkWrite measures what a head takes, durably: 256 MiB, of new data, of data that it has
// already, and of 4 KiB in each piece.
func BenchmarkWrite(b *testing.B) {
	const size = 256 << 20
	run := func(name string, bytes int64, prepare bool, fn func(b *testing.B, h *Head, round uint64)) {
		b.Run(name, func(b *testing.B) {
			s := open(b, b.TempDir())
			h := head(b, s, "v", size, "")
			if prepare {
				fill(b, h, 0)
			}
			b.SetBytes(bytes)
			for round := uint64(1); b.Loop(); round++ {
				fn(b, h, round)
				require.NoError(b, h.Sync())
			}
		})
	}
	chunk := random(1, 1<<20)
	run("new", size, false, func(b *testing.B, h *Head, round uint64) {
		for off := int64(0); off < size; off += int64(len(chunk)) {
			stamp(chunk, round<<32|uint64(off))
			write(b, h, chunk, off)
		}
	})
	run("same", size, true, func(b *testing.B, h *Head, _ uint64) { fill(b, h, 0) })
	run("4KiB-of-each-piece", size/16, true, func(b *testing.B, h *Head, round uint64) {
		for off := int64(0); off < size; off += block.Piece {
			stamp(chunk[:block.Size], round<<32|uint64(off))
			write(b, h, chunk[:block.Size], off)
		}
	})
}

// stamp makes the pieces of p unlike all others.
func stamp(p []byte, n uint64) {
	for at := 0; at < len(p); at += block.Piece {
		copy(p[at:], fmt.Sprintf("%016x%016x", n, at))
	}
}

func fill(t testing.TB, h *Head, round uint64) {
	p := random(9, 1<<20)
	for off := int64(0); off < h.Size(); off += int64(len(p)) {
		stamp(p, round<<32|uint64(off))
		write(t, h, p, off)
	}
}

// BenchmarkPoint measures a point of a 100 GiB sparse volume with 2 GiB of data of which 1 %
// changed since the last point: writing that, and the freezing alone.
func BenchmarkPoint(b *testing.B) {
	const runs, length, size = 64, 32 << 20, 100 << 30
	for _, k := range []struct {
		name   string
		pieces int // of a run of changes
	}{{"in-runs", 16}, {"single-pieces", 1}} {
		b.Run(k.name, func(b *testing.B) {
			s := open(b, b.TempDir())
			h := head(b, s, "v", size, "")
			p := random(1, 1<<20)
			for i := range int64(runs) {
				for off := int64(0); off < length; off += int64(len(p)) {
					stamp(p, uint64(i<<32|off))
					write(b, h, p, i*(size/runs)+off)
				}
			}
			_, err := h.Point("first", nil)
			require.NoError(b, err)
			const changed = runs * length / block.Piece / 100
			round := int64(0)
			for b.Loop() {
				round++
				step := int64(runs * length / block.Piece / (changed / k.pieces))
				for i := range int64(changed / k.pieces) {
					at := (i*step + round) % (runs * length / block.Piece)
					off := at/(length/block.Piece)*(size/runs) + at%(length/block.Piece-int64(k.pieces))*block.Piece
					stamp(p, uint64(round<<40|off))
					write(b, h, p[:k.pieces*block.Piece], off)
				}
				require.NoError(b, h.Sync())
				_, err := h.Point(fmt.Sprint("p", round), nil)
				require.NoError(b, err)
			}
			u, err := s.Usage()
			require.NoError(b, err)
			b.ReportMetric(float64(changed)*block.Piece/1e6, "MB-changed")
			b.ReportMetric(100*float64(u.IndexBytes)/float64(u.Pieces)/block.Piece, "%-index")
		})
	}
}
