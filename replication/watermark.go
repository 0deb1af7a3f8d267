package replication

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"lifeboat/replication/delta"
)

// maxDoubts bounds the ranges that a comparison found to differ. Where there are more, an
// interrupted pass reads all of its cut again.
const maxDoubts = 1024

// doubts are the regions in which the target has something else than an index said.
type doubts struct {
	spans []delta.Span
	many  bool // too many to tell
}

func (d *doubts) add(disk int, piece int64) {
	spans := delta.AppendSpan(d.spans, disk, piece*PieceSize/RegionSize)
	if d.many = d.many || len(spans) > maxDoubts; len(spans) <= maxDoubts {
		d.spans = spans
	}
}

// extents are the doubts about a disk as ranges.
func (d *doubts) extents(disk int) (out []Extent) {
	for _, s := range d.spans {
		if s.Disk == disk {
			out = append(out, Extent{Offset: s.First * RegionSize, Length: (s.End - s.First) * RegionSize})
		}
	}
	return out
}

// spans are the regions of a cut that are to be looked at; nil is all.
func (ss *sourceSession) spans(pass *passState) []delta.Span {
	if pass.Left == nil || ss.lost || ss.doubts.many {
		return nil
	}
	return delta.JoinSpans(append(slices.Clone(pass.Left), ss.doubts.spans...))
}

// watermarkEvery is how often what is left of a cut is made durable.
const watermarkEvery = 2 * time.Second

// watermark notes what is left of a cut while it is sent.
type watermark struct {
	ss    *sourceSession
	left  []delta.Span
	known bool // left was told
	saved time.Time
	err   error
}

// settled is called with what is left, again and again, by one goroutine.
func (w *watermark) settled(left []delta.Span) {
	w.ss.progress()
	w.left, w.known = left, true
	if w.err != nil || time.Since(w.saved) < watermarkEvery {
		return
	}
	if w.err = w.save(); w.err != nil {
		w.ss.sender.Cancel(w.err)
	}
}

// save makes the indexes durable first, so that they are not behind it.
func (w *watermark) save() error {
	if !w.known {
		return nil
	}
	var errs []error
	for _, x := range w.ss.indexes {
		errs = append(errs, spaceError("index of the source", x.Sync()))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	w.saved = time.Now()
	left := delta.JoinSpans(w.left)
	return w.ss.s.change(func(st *sourceState) {
		if st.Pass != nil {
			pass := *st.Pass
			pass.Left = left
			st.Pass = &pass
		}
	})
}

// progress is how far the bytes of the disks are sent.
type progress struct {
	before  int64 // used bytes that were done when the pass began
	scanned int64 // the meter then
	durable int64 // the meter when it was looked at last
}

// progress shows how far a pass is.
func (ss *sourceSession) progress() {
	c := ss.s.meter.Read()
	moved := c.Durable > ss.done.durable
	ss.done.durable = c.Durable
	underWay := max(0, c.Sent-c.Durable)
	done := ss.done.before + max(0, c.Scanned-ss.done.scanned-underWay)
	ss.s.hub.update(func(st *Status) {
		ss.s.fill(st, c)
		if st.LastPoint == nil {
			st.BytesDone = max(st.BytesDone, min(done, st.BytesTotal))
		}
		if moved && st.Health == HealthStalled && st.CutMethod != CutNone {
			st.Health, st.HealthReason = HealthOK, ""
		}
	})
}

// total counts the used bytes of the source disks, and how many of them need not be sent any
// more of a cut that is kept; while the first copy runs, and at the begin of each session.
func (ss *sourceSession) total() error {
	ss.done.scanned = ss.s.meter.Scanned.Load()
	st := ss.s.snapshot()
	if ss.counted && st.LastPoint != nil {
		return nil
	}
	ss.counted = true
	var used, left int64
	for i, v := range ss.vols {
		for off := int64(0); ; {
			start, end, err := v.NextData(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("%w: find data of disk %s: %w", ErrReadSource, ss.spec.Disks[i].Name, err)
			}
			used, off = used+end-start, end
			left += leftOf(st.Pass, i, start, end)
		}
	}
	ss.done.before = used - left
	ss.s.hub.update(func(s *Status) {
		if s.BytesTotal = used; s.LastPoint == nil {
			s.BytesDone = used - left
		}
	})
	return nil
}

// leftOf counts the bytes of a range of a disk that a pass has still to look at.
func leftOf(pass *passState, disk int, start, end int64) (n int64) {
	if pass == nil || pass.Left == nil {
		return end - start
	}
	for _, s := range pass.Left {
		if s.Disk == disk {
			n += max(0, min(end, s.End*RegionSize)-max(start, s.First*RegionSize))
		}
	}
	return n
}
