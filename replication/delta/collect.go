package delta

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"

	"golang.org/x/sync/errgroup"
)

// Spool keeps what was collected until it is sent: a file that nobody else writes to.
type Spool interface {
	io.ReaderAt
	io.WriterAt
}

// Collect reads, with all cores, what a pass would send, and keeps it in a spool, from its
// beginning. Nothing is sent. The pass that it gives sends exactly that, from the spool: so a server
// needs to stand still only while its changes are read. Errors of the spool are
// ErrNoSpace where it is full.
//
// Memory is 24 bytes for each run of changed pieces, besides 256 KiB a core.
func (s *Sender) Collect(ctx context.Context, p Pass, spool Spool) (Pass, error) {
	workers := runtime.GOMAXPROCS(0)
	run, spans := s.prepare(p)
	run.plan = newPlan(spans, workers)
	used := new(atomic.Int64)
	collectors := make([]*collector, workers)
	g, ctx := errgroup.WithContext(ctx)
	for i := range collectors {
		c := &collector{run: run, spool: spool, used: used, found: make([][]spoolRun, len(s.disks)), buf: volume.Buffer(chunkSize)}
		c.reader = lane{pass: run, id: i}
		collectors[i] = c
		g.Go(func() error { return c.work(ctx, i) })
	}
	if err := g.Wait(); err != nil {
		return Pass{}, err
	}
	out := Pass{Changed: make([][]volume.Extent, len(s.disks))}
	for disk := range s.disks {
		v := &spooled{spool: spool, size: s.geos[disk].Size}
		for _, c := range collectors {
			v.runs = append(v.runs, c.found[disk]...)
		}
		slices.SortFunc(v.runs, func(a, b spoolRun) int { return cmp.Compare(a.off, b.off) })
		out.Volumes = append(out.Volumes, v)
		out.Changed[disk] = v.extents()
	}
	return out, nil
}

// collector is one goroutine of Collect. It finds its way through the volumes as a lane does.
type collector struct {
	run    *pass
	reader lane
	spool  Spool
	used   *atomic.Int64 // of the spool, by all
	buf    []byte
	found  [][]spoolRun // by disk
}

// work collects regions until none is left.
func (c *collector) work(ctx context.Context, id int) error {
	for {
		seg, region := c.run.plan.current(id)
		if seg == nil {
			return nil
		}
		next, err := c.reader.next(seg.disk, region)
		if err != nil {
			return err
		}
		if !c.run.plan.claim(seg, next) {
			continue
		}
		if err := c.region(seg.disk, next); err != nil {
			return err
		}
		c.run.plan.settled(seg, next)
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
}

// region collects the pieces of a region that differ; all of them where it is not known what the
// target has, because a pass will look at all of them.
func (c *collector) region(disk int, region int64) error {
	l := &c.reader
	l.disk = disk
	if err := l.s.disks[disk].Index.Region(region, &l.rec); err != nil {
		return err
	}
	want := blockSet{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	if l.changed[disk] != nil && l.rec.DigestsKnown {
		want = l.changed[disk].blocks(region)
	}
	size := l.s.geos[disk].RegionBytes(region)
	for at := 0; at < size; at += chunkSize {
		if err := c.chunk(region*block.Region+int64(at), min(chunkSize, size-at), want[at/chunkSize]); err != nil {
			return err
		}
	}
	return nil
}

// chunk looks at the wanted pieces of up to chunkSize bytes; neighbours are read at once.
func (c *collector) chunk(off int64, n int, want uint64) error {
	wanted := func(at int) bool { return at < n && uint16(want>>(at/block.Size)) != 0 }
	for at := 0; at < n; at += block.Piece {
		if !wanted(at) {
			continue
		}
		hole, err := c.hole(off + int64(at))
		if err != nil {
			return err
		}
		if hole {
			if err := c.zero(off+int64(at), min(block.Piece, n-at)); err != nil {
				return err
			}
			continue
		}
		end := at + block.Piece
		for ; wanted(end); end += block.Piece {
			if hole, err := c.hole(off + int64(end)); err != nil || hole {
				break // what is wrong shows in the next round
			}
		}
		if err := c.pieces(off+int64(at), c.buf[:min(end, n)-at]); err != nil {
			return err
		}
		at = end - block.Piece
	}
	return nil
}

// hole tells that a piece has no data.
func (c *collector) hole(off int64) (bool, error) {
	start, _, err := c.reader.dataAt(c.reader.disk, off)
	return err == nil && start >= off+block.Piece, err
}

// zero takes a piece that is a hole, unless the target has zeros there.
func (c *collector) zero(off int64, n int) error {
	rec := &c.reader.rec
	if rec.DigestsKnown && rec.Pieces[off/block.Piece%block.PiecesPerRegion].IsZero() {
		return nil
	}
	c.add(spoolRun{off: off, n: int64(n), at: zeroRunAt})
	return nil
}

// pieces reads and compares neighbouring pieces.
func (c *collector) pieces(off int64, b []byte) error {
	if err := c.reader.read(b, off); err != nil {
		return err
	}
	for at := 0; at < len(b); at += block.Piece {
		piece := b[at:min(at+block.Piece, len(b))]
		if !c.differs(off+int64(at), piece) {
			continue
		}
		run := spoolRun{off: off + int64(at), n: int64(len(piece)), at: zeroRunAt}
		if !block.IsZero(piece) {
			run.at = c.used.Add(run.n) - run.n
			if _, err := c.spool.WriteAt(piece, run.at); err != nil {
				return SpaceError("spool of the source", err)
			}
		}
		c.add(run)
	}
	return nil
}

// differs tells that the target has, or may have, something else.
func (c *collector) differs(off int64, b []byte) bool {
	rec := &c.reader.rec
	i := int(off / block.Piece % block.PiecesPerRegion)
	if !rec.DigestsKnown || !rec.Pieces[i].Known() {
		return true
	}
	for k := range block.Blocks(len(b)) {
		if block.DigestOf(b[k*block.Size:min((k+1)*block.Size, len(b))]) != rec.Digests[i*block.PerPiece+k] {
			return true
		}
	}
	return false
}

func (c *collector) add(r spoolRun) {
	runs := c.found[c.reader.disk]
	if k := len(runs) - 1; k >= 0 && runs[k].joins(r) {
		runs[k].n += r.n
		return
	}
	c.found[c.reader.disk] = append(runs, r)
}

// spoolRun is a range of a volume, and where it is in the spool.
type spoolRun struct{ off, n, at int64 }

// zeroRunAt is the place of zeros, which are not in the spool.
const zeroRunAt = -1

// joins tells that o follows at both places.
func (r spoolRun) joins(o spoolRun) bool {
	if r.off+r.n != o.off {
		return false
	}
	return r.at == zeroRunAt && o.at == zeroRunAt || r.at != zeroRunAt && o.at == r.at+r.n
}

// spooled is a volume of which only what was collected can be read.
type spooled struct {
	spool Spool
	size  int64
	runs  []spoolRun // ascending
}

// extents are the ranges that can be read; never nil.
func (v *spooled) extents() []volume.Extent {
	out := make([]volume.Extent, 0, len(v.runs))
	for _, r := range v.runs {
		out = append(out, volume.Extent{Offset: r.off, Length: r.n})
	}
	return out
}

// Size implements volume.Source.
func (v *spooled) Size() int64 { return v.size }

// Close does nothing: the spool is its owner's.
func (v *spooled) Close() error { return nil }

// NextData implements volume.Source. There are no holes, so that whatever is looked at is read, and
// what was not collected is noticed.
func (v *spooled) NextData(off int64) (start, end int64, err error) {
	if off >= v.size {
		return 0, 0, io.EOF
	}
	return off, v.size, nil
}

// ReadAt reads what was collected; anything else is an error, and never zeros.
func (v *spooled) ReadAt(p []byte, off int64) (n int, err error) {
	i, found := slices.BinarySearchFunc(v.runs, off, func(r spoolRun, off int64) int { return cmp.Compare(r.off, off) })
	if !found {
		i--
	}
	for n < len(p) {
		if i < 0 || i >= len(v.runs) || off < v.runs[i].off || off >= v.runs[i].off+v.runs[i].n {
			return n, fmt.Errorf("offset %d is not in the spool", off)
		}
		r := v.runs[i]
		part := p[n:min(len(p), n+int(min(r.off+r.n-off, int64(len(p)))))]
		if r.at == zeroRunAt {
			clear(part)
		} else if err := volume.ReadFull(v.spool, part, r.at+off-r.off); err != nil {
			return n, err
		}
		n, off, i = n+len(part), off+int64(len(part)), i+1
	}
	return n, nil
}
