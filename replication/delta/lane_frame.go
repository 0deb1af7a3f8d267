package delta

import (
	"context"
	"time"

	"lifeboat/replication/block"
)

// zeroPiece says that a piece of the source is a hole.
func (l *lane) zeroPiece(piece int64) {
	i := int(piece % block.PiecesPerRegion)
	if l.rec.Pieces[i].IsZero() {
		return
	}
	l.becomesZero(piece)
}

func (l *lane) becomesZero(piece int64) {
	i := int(piece % block.PiecesPerRegion)
	l.rec.Pieces[i] = block.Hash{}
	clear(l.rec.Digests[i*block.PerPiece : (i+1)*block.PerPiece])
	l.touched = true
	l.s.meter.Changed.Add(int64(l.s.geos[l.disk].PieceBytes(piece)))
	if k := len(l.zeros) - 1; k >= 0 && l.zeros[k].first+int64(l.zeros[k].count) == piece {
		l.zeros[k].count++
		return
	}
	l.begin()
	l.zeros = append(l.zeros, zeroRun{piece, 1})
}

// begin notes when the first thing was found that the target does not write yet.
func (l *lane) begin() {
	if !l.open() && l.unflushed == 0 {
		l.since = time.Now()
	}
}

// piece compares a whole piece that was read behind the payload.
func (l *lane) piece(piece int64, b []byte) {
	i := int(piece % block.PiecesPerRegion)
	if l.rec.DigestsKnown && l.rec.Pieces[i].Known() {
		l.compare(piece, b, fullPiece(len(b)))
		return
	}
	// Nothing is known of its blocks: its hash decides.
	l.digestAll(i, b)
	hash := l.hash(i, b)
	if hash == l.rec.Pieces[i] {
		l.s.meter.Skipped.Add(int64(len(b)))
		return
	}
	if hash.IsZero() {
		l.becomesZero(piece)
		return
	}
	e := dataPiece{piece: piece, hash: hash}
	for k := range block.Blocks(len(b)) {
		if l.rec.Digests[i*block.PerPiece+k] == (block.Digest{}) {
			e.zero |= 1 << k
		} else {
			e.data |= 1 << k
		}
	}
	l.add(e, i, b, fullPiece(len(b)))
}

func (l *lane) digestAll(i int, b []byte) {
	d := l.rec.Digests[i*block.PerPiece : (i+1)*block.PerPiece]
	clear(d)
	for k := range block.Blocks(len(b)) {
		d[k] = block.DigestOf(b[k*block.Size : min((k+1)*block.Size, len(b))])
	}
}

// hash is the piece's hash by the session's proof, once its digests are up to date.
func (l *lane) hash(i int, b []byte) block.Hash {
	if l.s.proof == block.BLAKE3 {
		return block.OfBytes(b)
	}
	return block.OfDigests((*[block.PerPiece]block.Digest)(l.rec.Digests[i*block.PerPiece:]))
}

// compare looks at the blocks of a piece that are in b, one after the other, and takes those
// that differ. With a cryptographic proof b is the whole piece.
func (l *lane) compare(piece int64, b []byte, have uint16) {
	i := int(piece % block.PiecesPerRegion)
	known := l.rec.Digests[i*block.PerPiece : (i+1)*block.PerPiece]
	e := dataPiece{piece: piece}
	at := 0
	for k := range block.PerPiece {
		if have&(1<<k) == 0 {
			continue
		}
		n := min(block.Size, len(b)-at)
		d := block.DigestOf(b[at : at+n])
		at += n
		if d == known[k] {
			continue
		}
		known[k] = d
		if d == (block.Digest{}) {
			e.zero |= 1 << k
		} else {
			e.data |= 1 << k
		}
	}
	if e.data|e.zero == 0 {
		l.s.meter.Skipped.Add(int64(len(b)))
		return
	}
	if e.hash = l.hash(i, b); e.hash.IsZero() {
		l.becomesZero(piece)
		return
	}
	l.add(e, i, b, have)
}

// add puts a piece into the frame: its blocks move up to the end of the payload.
func (l *lane) add(e dataPiece, i int, b []byte, have uint16) {
	l.rec.Pieces[i] = e.hash
	l.touched = true
	l.begin()
	l.pieces = append(l.pieces, e)
	before, at := l.n, 0
	for k := range block.PerPiece {
		if have&(1<<k) == 0 {
			continue
		}
		n := min(block.Size, len(b)-at)
		if e.data&(1<<k) != 0 {
			if to := l.buf[headRoom+l.n:]; &to[0] != &b[at] {
				copy(to, b[at:at+n])
			}
			l.n += n
			if l.s.proof == block.Fast {
				d := &l.rec.Digests[i*block.PerPiece+k]
				l.digests = append(l.digests, d[:]...)
			}
		}
		at += n
	}
	l.s.meter.Skipped.Add(int64(len(b) - (l.n - before)))
	l.s.meter.Changed.Add(int64(l.n - before))
}

// flush sends the frame that is being made; with now it also tells the target to write at
// once what came so far.
func (l *lane) flush(ctx context.Context, now bool) error {
	if !l.open() && (!now || l.unflushed == 0) {
		return nil
	}
	size := dataHeaderSize + len(l.zeros)*zeroRunSize + len(l.pieces)*pieceEntrySize(l.s.proof) + l.n
	began := time.Now()
	frame, err := l.s.window.enter(ctx, l.id, size)
	if err != nil {
		return err
	}
	spend(&l.s.meter.WaitTarget, began)
	l.frame = frame
	l.unflushed += size
	now = now || l.unflushed >= flushBytes
	if err := l.send(ctx, now, size-l.n); err != nil {
		return err
	}
	if now {
		l.unflushed, l.regions = 0, 0
	}
	l.zeros, l.pieces, l.digests, l.n = l.zeros[:0], l.pieces[:0], l.digests[:0], 0
	return nil
}

// send writes the frame to the lane's connection.
func (l *lane) send(ctx context.Context, now bool, tables int) error {
	conn, err := l.connection(ctx)
	if err != nil {
		return err
	}
	h := dataHeader{disk: l.disk, payload: l.n, wire: l.n}
	if now {
		h.flags |= dataFlush
	}
	buf := l.buf
	if packed, ok := l.pack.try(l, headRoom); ok {
		buf, h.wire = packed, len(packed)-headRoom
		h.flags |= dataZstd
	}
	out := buf[headRoom-tables : headRoom+h.wire]
	appendTables(out[:0], l.s.proof, h, l.zeros, l.pieces, l.digests)
	began := time.Now()
	if err := l.s.write(ctx, conn, out); err != nil {
		return err
	}
	l.pack.wrote(len(out), time.Since(began))
	spend(&l.s.meter.WaitLink, began)
	return nil
}
