package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"

	"golang.org/x/sync/errgroup"
)

// pageBytes is how much of a volume is under a page of level 0.
const pageBytes = block.Fanout * block.Piece

// RootOf computes the root of a volume by reading it with all cores: the string that the indexes of
// a volume with these bytes give. Holes are not read. The memory is 64 KiB a core, whatever the
// size.
func RootOf(ctx context.Context, v volume.Source, proof block.Proof) (string, error) {
	type job struct {
		page int64
		hash chan block.Hash
	}
	workers := runtime.GOMAXPROCS(0)
	todo, inOrder := make(chan job), make(chan job, 2*workers)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(todo)
		defer close(inOrder)
		return eachPage(v, func(page int64) error {
			j := job{page, make(chan block.Hash, 1)}
			for _, queue := range []chan job{inOrder, todo} {
				select {
				case queue <- j:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	for range workers {
		g.Go(func() error {
			buf := volume.Buffer(block.Piece)
			for j := range todo {
				h, err := hashPage(v, proof, j.page, buf)
				if err != nil {
					return err
				}
				j.hash <- h
			}
			return nil
		})
	}
	tree := newHashTree(block.Geometry{Size: v.Size()}, proof)
	g.Go(func() error {
		for j := range inOrder {
			select {
			case h := <-j.hash:
				tree.add(1, j.page, h)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return "", err
	}
	return proof.RootString(proof.Root(v.Size(), tree.top())), nil
}

// eachPage names the pages of level 0 that may have other hashes than those of zeros, ascending.
func eachPage(v volume.Source, fn func(page int64) error) error {
	for off := int64(0); ; {
		start, _, err := v.NextData(off)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find data after offset %d: %w", off, err)
		}
		page := max(start, off) / pageBytes
		if err := fn(page); err != nil {
			return err
		}
		off = (page + 1) * pageBytes
	}
}

// hashPage reads the pieces under a page of level 0.
func hashPage(v volume.Source, proof block.Proof, n int64, buf []byte) (block.Hash, error) {
	geo := block.Geometry{Size: v.Size()}
	var page [block.PageSize]byte
	end := min((n+1)*block.Fanout, geo.Pieces())
	for piece := n * block.Fanout; piece < end; piece++ {
		start, _, err := v.NextData(piece * block.Piece)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return block.Hash{}, fmt.Errorf("find data after offset %d: %w", piece*block.Piece, err)
		}
		if piece = max(piece, start/block.Piece); piece >= end {
			break
		}
		b := buf[:geo.PieceBytes(piece)]
		if err := volume.ReadFull(v, b, piece*block.Piece); err != nil {
			return block.Hash{}, fmt.Errorf("read at offset %d: %w", piece*block.Piece, err)
		}
		h := proof.OfPiece(b)
		copy(page[piece%block.Fanout*32:], h[:])
	}
	return proof.OfPage(0, &page), nil
}

// hashTree computes the pages of hashes above those that are added in ascending order. What is
// not added is zeros.
type hashTree struct {
	proof  block.Proof
	levels []treePage
}

// treePage is the page of a level that is being filled.
type treePage struct {
	n    int64
	page [block.PageSize]byte
}

func newHashTree(geo block.Geometry, proof block.Proof) *hashTree {
	return &hashTree{proof: proof, levels: make([]treePage, geo.Levels()+1)}
}

// add puts entry n, the hash of page n of the level below, into a level. One above the highest
// is the top.
func (t *hashTree) add(level int, n int64, h block.Hash) {
	l := &t.levels[level]
	if n/block.Fanout != l.n {
		t.close(level)
		l.n = n / block.Fanout
	}
	copy(l.page[n%block.Fanout*32:], h[:])
}

// close hands the page of a level up.
func (t *hashTree) close(level int) {
	l := &t.levels[level]
	t.add(level+1, l.n, t.proof.OfPage(level, &l.page))
	l.page = [block.PageSize]byte{}
}

// top closes all levels, and gives the hash of the page of the highest.
func (t *hashTree) top() block.Hash {
	for level := 1; level < len(t.levels)-1; level++ {
		t.close(level)
	}
	last := &t.levels[len(t.levels)-1]
	return block.Hash(last.page[:32])
}
