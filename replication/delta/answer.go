package delta

import (
	"context"
	"fmt"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"

	"golang.org/x/sync/errgroup"
)

// readers is how many pages of a replica are read at once for a comparison.
const readers = 2

// answer follows what the sender asks until the link ends.
func (s *Session) answer() error {
	var pages errgroup.Group
	pages.SetLimit(readers)
	defer func() { _ = pages.Wait() }() // errors end the session
	for {
		f, err := s.link.receive(maxBody)
		if err != nil {
			return err
		}
		switch f.typ {
		case framePageWanted, frameBlocksWanted:
			pages.Go(func() error {
				err := s.answerHashes(f)
				if err != nil {
					s.stop(err)
				}
				return err
			})
			continue
		case frameFlush:
			err = s.flush(f)
		case frameFinish:
			err = s.finish(f)
		default:
			err = fmt.Errorf("%w: type %d from the sender", ErrProtocol, f.typ)
		}
		if err != nil {
			return err
		}
	}
}

// flush waits for what was sent and acknowledges it.
func (s *Session) flush(f frame) error {
	counts, err := parseCounts(f.body)
	if err != nil {
		return err
	}
	if err := s.rx.reached(s.work, counts); err != nil {
		return err
	}
	if err := s.rx.checkpoint(s.acknowledge); err != nil {
		return err
	}
	// What finish is going to ask for, while the sender takes in the acknowledgement.
	for _, r := range s.rx.replicas {
		if _, err := r.Index.Commit(); err != nil {
			return SpaceError("index of the target", err)
		}
	}
	return nil
}

// answerHashes tells a page of hashes, or the digests of a piece.
func (s *Session) answerHashes(f frame) error {
	if f.typ == frameBlocksWanted {
		return s.answerBlocks(f.body)
	}
	id, rest, err := parsePageID(f.body, s.rx.geos)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: page wanted with %d bytes too many", ErrCorruptFrame, len(rest))
	}
	r := &s.rx.replicas[id.disk]
	var page [block.PageSize]byte
	if err := r.Index.Page(id.level, id.page, &page); err != nil {
		return err
	}
	if id.level == 0 {
		if err := r.settle(s.work, id.page, &page, s.rx.proof); err != nil {
			return err
		}
	}
	return s.link.send(framePage, append(id.marshal(), page[:]...), true)
}

// settle reads the pieces of a page that are not known, and puts their hashes into page and
// index.
func (r *Replica) settle(ctx context.Context, n int64, page *[block.PageSize]byte, proof block.Proof) error {
	var updates []index.PieceHash
	var buf []byte
	geo := block.Geometry{Size: r.Index.Size()}
	for i := range block.Fanout {
		h := (*block.Hash)(page[i*32:])
		piece := n*block.Fanout + int64(i)
		if h.Known() || piece >= geo.Pieces() {
			continue
		}
		if buf == nil {
			buf = volume.Buffer(block.Piece)
		}
		b := buf[:geo.PieceBytes(piece)]
		if err := volume.ReadFull(r.Volume, b, piece*block.Piece); err != nil {
			return r.failed("read", piece*block.Piece, err)
		}
		*h = proof.OfPiece(b)
		updates = append(updates, index.PieceHash{Piece: piece, Hash: *h})
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	if len(updates) == 0 {
		return nil
	}
	return SpaceError("index of the target", r.Index.SetPieces(updates))
}

// answerBlocks reads a piece and tells the digests of its blocks.
func (s *Session) answerBlocks(body []byte) error {
	id, rest, err := parseBlocksID(body, s.rx.geos)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: blocks wanted with %d bytes too many", ErrCorruptFrame, len(rest))
	}
	r := &s.rx.replicas[id.disk]
	b := volume.Buffer(s.rx.geos[id.disk].PieceBytes(id.piece))
	if err := volume.ReadFull(r.Volume, b, id.piece*block.Piece); err != nil {
		return r.failed("read", id.piece*block.Piece, err)
	}
	out := id.marshal()
	for i := range block.PerPiece {
		var d block.Digest
		if i*block.Size < len(b) {
			d = block.DigestOf(b[i*block.Size : min((i+1)*block.Size, len(b))])
		}
		out = append(out, d[:]...)
	}
	return s.link.send(frameBlocks, out, false)
}

// finish proves that the target has what the source has, and lets the handler act on it.
func (s *Session) finish(f frame) error {
	var m finishMessage
	if err := decodeJSON(f, &m); err != nil {
		return err
	}
	if len(m.Roots) != len(s.rx.replicas) {
		return fmt.Errorf("%w: %d roots for %d disks", ErrProtocol, len(m.Roots), len(s.rx.replicas))
	}
	if err := s.rx.quiet(s.acknowledge); err != nil {
		return err
	}
	for i, r := range s.rx.replicas {
		root, err := r.Index.Commit()
		if err != nil {
			return SpaceError("index of the target", err)
		}
		if got := s.rx.proof.RootString(root); got != m.Roots[i] || !root.Known() {
			return fmt.Errorf("%w: disk %s is %s at the target, the source has %s; both ends are compared and the difference is sent again",
				ErrMismatch, r.Name, got, m.Roots[i])
		}
	}
	reply, err := s.admit.Finish(s.work, m.Roots, m.Body)
	if err != nil {
		return err
	}
	return s.link.sendJSON(frameFinished, reply)
}
