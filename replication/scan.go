package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// readSize is read at once: it fits into the caches of a core.
	readSize = 4 * PieceSize
	// frameBytes is where a data frame is closed.
	frameBytes = 1 << 20
	// scanners read and hash regions at once.
	scanners = 2
)

// job is one region of a pass.
type job struct {
	disk   int
	region int64
	pass   *progress
	used   int64 // bytes of data read since the last frame

	// guarded by pass.mu
	open    int // frames that are not acknowledged
	scanned bool
}

// progress knows up to where a pass is acknowledged, and how many used bytes that is.
type progress struct {
	mu   sync.Mutex
	jobs []*job // in order, from the first that is not complete
	done func(used int64)
}

func (p *progress) add(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs = append(p.jobs, j)
}

func (j *job) sent() {
	j.pass.mu.Lock()
	defer j.pass.mu.Unlock()
	j.open++
}

// acknowledged says that a frame, for which so many used bytes were read, is durable.
func (j *job) acknowledged(used int64) { j.settle(used, func() { j.open-- }) }

// finished says that the region was read to its end.
func (j *job) finished() { j.settle(j.used, func() { j.scanned = true }) }

func (j *job) settle(used int64, change func()) {
	p := j.pass
	p.mu.Lock()
	change()
	if j.scanned && j.open == 0 {
		for len(p.jobs) > 0 && p.jobs[0].scanned && p.jobs[0].open == 0 {
			p.jobs = p.jobs[1:]
		}
	}
	p.mu.Unlock()
	if used > 0 {
		p.done(used)
	}
}

// watermark gives the first region that is not complete; ok is false when all are that
// were begun.
func (p *progress) watermark() (disk int, region int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.jobs) == 0 {
		return 0, 0, false
	}
	return p.jobs[0].disk, p.jobs[0].region, true
}

// scan is one reading of all disks: it compares with the index and hands on what
// differs.
type scan struct {
	disks   []Disk
	vols    []SourceVolume
	indexes []*index
	meter   *meter
	pass    *progress
	// only, where not nil, gives the regions of a disk that a tracker says may differ.
	only []map[int64]bool
	// disk and region to begin with.
	disk   int
	region int64
	// emit takes a frame of changes. It may block; it copies what it keeps.
	emit func(ctx context.Context, m *dataMessage, j *job) error
}

// run scans with several goroutines, regions in ascending order.
func (sc *scan) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan *job)
	g.Go(func() error {
		defer close(jobs)
		for disk := sc.disk; disk < len(sc.vols); disk++ {
			first := int64(0)
			if disk == sc.disk {
				first = sc.region
			}
			if err := sc.plan(ctx, disk, first, jobs); err != nil {
				return err
			}
		}
		return nil
	})
	for range scanners {
		g.Go(func() error {
			rs := &regionScan{scan: sc, payload: make([]byte, 0, frameBytes+PieceSize)}
			buf := alignedBuffer(readSize)
			for j := range jobs {
				if err := rs.scanRegion(ctx, j, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// plan hands out the regions of a disk that have data, at the source or the target.
func (sc *scan) plan(ctx context.Context, disk int, first int64, jobs chan<- *job) error {
	x, vol := sc.indexes[disk], sc.vols[disk]
	data := int64(-1) // the next region with data
	for region := first; region < x.geo.regions(); region++ {
		if sc.only != nil && sc.only[disk] != nil && !sc.only[disk][region] {
			continue
		}
		if data < region {
			start, _, err := vol.NextData(region * RegionSize)
			switch {
			case errors.Is(err, io.EOF):
				data = x.geo.regions()
			case err != nil:
				return fmt.Errorf("%w: find data of disk %s: %w", ErrReadSource, sc.disks[disk].Name, err)
			default:
				data = start / RegionSize
			}
		}
		if data > region && x.node(region) == (hash{}) && !x.isDirty(region) {
			continue
		}
		j := &job{disk: disk, region: region, pass: sc.pass}
		sc.pass.add(j)
		select {
		case jobs <- j:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// regionScan is what one scanner works with.
type regionScan struct {
	*scan
	job     *job
	rec     *record
	out     *dataMessage
	payload []byte // of out; used again for the next, because emit copies
}

func (rs *regionScan) scanRegion(ctx context.Context, j *job, buf []byte) error {
	sc, x := rs.scan, rs.indexes[j.disk]
	rec, err := x.get(j.region)
	if err != nil {
		return err
	}
	rs.job, rs.rec, rs.out = j, rec, nil
	begin := j.region * RegionSize
	end := min(begin+RegionSize, x.geo.size)
	data, dataEnd := begin, begin // the data range that is known
	for off := begin; off < end; off += readSize {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n := min(readSize, end-off)
		if dataEnd <= off && data < off+n {
			if data, dataEnd, err = sc.vols[j.disk].NextData(off); errors.Is(err, io.EOF) {
				data, dataEnd = x.geo.size, x.geo.size
			} else if err != nil {
				return fmt.Errorf("%w: find data of disk %s: %w", ErrReadSource, sc.disks[j.disk].Name, err)
			}
		}
		chunk := buf[:n]
		if data >= off+n {
			chunk = nil // a hole
		} else {
			if err := sc.read(j.disk, chunk, off); err != nil {
				return err
			}
			j.used += n
			sc.meter.scanned.Add(n)
		}
		if err := rs.compare(ctx, chunk, off, int(n)); err != nil {
			return err
		}
	}
	if err := rs.flush(ctx); err != nil {
		return err
	}
	j.finished()
	return nil
}

// read reads a range; on an error it finds the bad block, after a second try.
func (sc *scan) read(disk int, p []byte, off int64) error {
	if err := readFull(sc.vols[disk], p, off); err == nil {
		return nil
	}
	for at := 0; at < len(p); at += BlockSize {
		block := p[at:min(at+BlockSize, len(p))]
		if err := readFull(sc.vols[disk], block, off+int64(at)); err != nil {
			return &ReadError{Disk: sc.disks[disk].Name, Offset: off + int64(at), Length: len(block), Err: err}
		}
	}
	return nil
}

// compare looks at the pieces of a chunk; nil stands for zeros.
func (rs *regionScan) compare(ctx context.Context, chunk []byte, off int64, n int) error {
	for at := 0; at < n; at += PieceSize {
		size := min(PieceSize, n-at)
		piece := int((off + int64(at) - rs.job.region*RegionSize) / PieceSize)
		bytes := zeros[:size]
		if chunk != nil {
			bytes = chunk[at : at+size]
		}
		known := rs.rec.digests[piece*blocksPerPiece : (piece+1)*blocksPerPiece]
		if chunk == nil && rs.rec.pieces[piece] == (hash{}) && !rs.rec.dirty.has(piece) {
			continue
		}
		p := dataPiece{piece: piece}
		for b := range blocks(size) {
			block := bytes[b*BlockSize : min((b+1)*BlockSize, size)]
			d := blockDigest(block)
			if d == known[b] && !rs.rec.dirty.has(piece) {
				continue
			}
			if d == (digest{}) {
				p.zero |= 1 << b
			} else {
				p.data |= 1 << b
			}
		}
		if p.data|p.zero == 0 {
			rs.meter.skipped.Add(int64(size))
			continue
		}
		p.hash = pieceHash(bytes)
		if err := rs.add(ctx, p, bytes); err != nil {
			return err
		}
	}
	return nil
}

// add puts a changed piece into the frame.
func (rs *regionScan) add(ctx context.Context, p dataPiece, bytes []byte) error {
	if rs.out == nil {
		rs.out = &dataMessage{rangeMessage: rangeMessage{disk: rs.job.disk, first: rs.job.region, count: 1}, payload: rs.payload[:0]}
	}
	rs.out.pieces = append(rs.out.pieces, p)
	for b := range blocks(len(bytes)) {
		if p.data&(1<<b) != 0 {
			rs.out.payload = append(rs.out.payload, bytes[b*BlockSize:min((b+1)*BlockSize, len(bytes))]...)
		}
	}
	rs.meter.changed.Add(int64(dataBytes(p.data|p.zero, len(bytes))))
	if len(rs.out.payload) >= frameBytes {
		return rs.flush(ctx)
	}
	return nil
}

func (rs *regionScan) flush(ctx context.Context) error {
	if rs.out == nil {
		return nil
	}
	m := rs.out
	rs.out = nil
	m.used, rs.job.used = rs.job.used, 0
	rs.job.sent()
	return rs.emit(ctx, m, rs.job)
}
