package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"

	"golang.org/x/sync/errgroup"
)

// compareHashes has each end hash its volume, and looks closer where hashes differ.
func (c *CompareConfig) compareHashes(ctx context.Context, a, b *comparedSide, size int64, res *Comparison) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range []*comparedSide{a, b} {
		g.Go(func() error {
			if s.volume == nil {
				// The session outlives the group.
				if err := s.connect(ctx, c.Proof, size); err != nil {
					return err
				}
				return s.sender.Compare(nil)
			}
			if err := s.openIndex(c.Proof, size); err != nil {
				return err
			}
			return c.hashVolume(gctx, s.volume, s.index)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var pieces []int64
	flush := func() error {
		err := c.compareBlocks(a, b, pieces, res)
		pieces = pieces[:0]
		return errors.Join(err, context.Cause(ctx))
	}
	top := pageID{level: block.Geometry{Size: size}.Levels() - 1}
	err := differingPieces(a.index, b.index, top, func(piece int64) error {
		pieces = append(pieces, piece)
		if len(pieces) < pagesInFlight {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// hashVolume puts the hashes of the pieces of a volume into an index.
func (c *CompareConfig) hashVolume(ctx context.Context, v volume.Source, x *index.Index) error {
	const span = block.Fanout * block.Piece // what one page is about
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for off := int64(0); off < x.Size(); off += span {
		start, _, err := v.NextData(off)
		if errors.Is(err, io.EOF) || err == nil && start >= x.Size() {
			break
		}
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		off = max(start, off) / span * span
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return c.hashPage(ctx, v, x, off, min(off+span, x.Size())) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	_, err := x.Commit()
	return err
}

// hashPage hashes the pieces of a range.
func (c *CompareConfig) hashPage(ctx context.Context, v volume.Source, x *index.Index, off, end int64) error {
	var updates []index.PieceHash
	buf := volume.Buffer(compareRead)
	for off < end {
		start, err := firstData(off, end, v)
		if err != nil {
			return err
		}
		if off = start &^ (block.Piece - 1); off >= end {
			break
		}
		p := buf[:min(compareRead-off%compareRead, end-off)]
		if err := errors.Join(c.read(v, "here", p, off), context.Cause(ctx)); err != nil {
			return err
		}
		for i := 0; i < len(p); i += block.Piece {
			updates = append(updates, index.PieceHash{Piece: (off + int64(i)) / block.Piece, Hash: x.Proof().OfPiece(p[i:min(i+block.Piece, len(p))])})
		}
		off += int64(len(p))
	}
	return SpaceError("index of the comparison", x.SetPieces(updates))
}

// differingPieces walks down two indexes where they differ, in ascending order.
func differingPieces(a, b *index.Index, at pageID, fn func(piece int64) error) error {
	var pa, pb [block.PageSize]byte
	if err := errors.Join(a.Page(at.level, at.page, &pa), b.Page(at.level, at.page, &pb)); err != nil {
		return err
	}
	for i := range block.Fanout {
		if bytes.Equal(pa[i*32:(i+1)*32], pb[i*32:(i+1)*32]) {
			continue
		}
		child := at.page*block.Fanout + int64(i)
		var err error
		if at.level == 0 {
			err = fn(child)
		} else {
			err = differingPieces(a, b, pageID{level: at.level - 1, page: child}, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compareBlocks compares the blocks of pieces whose hashes differ.
func (c *CompareConfig) compareBlocks(a, b *comparedSide, pieces []int64, res *Comparison) error {
	if len(pieces) == 0 {
		return nil
	}
	digestsA, err := c.blocks(a, pieces)
	if err != nil {
		return err
	}
	digestsB, err := c.blocks(b, pieces)
	if err != nil {
		return err
	}
	geo := a.index.Geometry()
	for i, piece := range pieces {
		n, found := geo.PieceBytes(piece), false
		for k := range block.Blocks(n) {
			if digestsA[i][k] != digestsB[i][k] {
				found = true
				res.add(piece*block.Piece+int64(k*block.Size), int64(min(block.Size, n-k*block.Size)), c.Most)
			}
		}
		if !found { // the digests of blocks are not cryptographic: something differs all the same
			res.add(piece*block.Piece, int64(n), c.Most)
		}
	}
	return nil
}

type blockDigests = [block.PerPiece]block.Digest

// blocks gives the digests of the blocks of pieces.
func (c *CompareConfig) blocks(s *comparedSide, pieces []int64) ([]blockDigests, error) {
	if s.volume == nil {
		return s.sender.blocksOf(0, pieces)
	}
	out := make([]blockDigests, len(pieces))
	buf := volume.Buffer(block.Piece)
	for i, piece := range pieces {
		p := buf[:s.index.Geometry().PieceBytes(piece)]
		if err := c.read(s.volume, s.name, p, piece*block.Piece); err != nil {
			return nil, err
		}
		for k := range block.Blocks(len(p)) {
			out[i][k] = block.DigestOf(p[k*block.Size : min((k+1)*block.Size, len(p))])
		}
	}
	return out, nil
}

// blocksOf asks for the digests of the blocks that the target has of pieces, read from its disk now.
// They are asked for at once, so that the distance to the target counts once. There may be up to
// pagesInFlight.
func (s *Sender) blocksOf(disk int, pieces []int64) ([]blockDigests, error) {
	at := make(map[blocksID]int, len(pieces))
	for i, piece := range pieces {
		id := blocksID{disk, piece}
		at[id] = i
		if err := s.link.send(frameBlocksWanted, id.marshal(), false); err != nil {
			return nil, s.cause(err)
		}
	}
	out := make([]blockDigests, len(pieces))
	for len(at) > 0 {
		f, err := s.reply(frameBlocks)
		if err != nil {
			return nil, err
		}
		id, rest, err := parseBlocksID(f.body, s.geos)
		if err != nil {
			return nil, err
		}
		i, asked := at[id]
		if !asked || len(rest) != block.PerPiece*16 {
			return nil, fmt.Errorf("%w: blocks that were not asked for", ErrProtocol)
		}
		delete(at, id)
		for k := range out[i] {
			out[i][k] = block.Digest(rest[k*16:])
		}
	}
	return out, nil
}
