package delta

import (
	"cmp"
	"slices"
	"sync"
)

// Span is a range of regions of a disk.
type Span struct {
	Disk  int   `json:"disk"`
	First int64 `json:"first"`
	End   int64 `json:"end"`
}

// stealAtLeast is how many regions a lane must have left for another to take half.
const stealAtLeast = 16

// plan hands out regions to lanes. Each lane has long ascending ranges of its own,
// because that is how disks are read fastest; one that is through takes half of
// what the slowest has left.
type plan struct {
	mu    sync.Mutex
	lanes [][]*segment // what each lane has: the first that is not through is worked on
}

// segment is a range of a lane: up to pos it was handed out.
type segment struct {
	disk     int
	pos, end int64
	open     []int64 // handed out and not settled, ascending
}

// newPlan splits spans evenly. They may overlap and be in any order.
func newPlan(spans []Span, lanes int) *plan {
	spans = JoinSpans(spans)
	p := &plan{lanes: make([][]*segment, lanes)}
	var total int64
	for _, s := range spans {
		total += s.End - s.First
	}
	share := (total + int64(lanes) - 1) / int64(lanes)
	lane, room := 0, share
	for _, s := range spans {
		for s.First < s.End {
			if room == 0 {
				lane, room = lane+1, share
			}
			n := min(room, s.End-s.First)
			p.lanes[lane] = append(p.lanes[lane], &segment{disk: s.Disk, pos: s.First, end: s.First + n})
			s.First, room = s.First+n, room-n
		}
	}
	return p
}

// JoinSpans sorts spans and joins those that touch, so that no region is named twice. What it gives
// is never nil: for a Pass that would be all.
func JoinSpans(spans []Span) []Span {
	out := make([]Span, 0, len(spans))
	sorted := slices.SortedFunc(slices.Values(spans), func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.Disk, b.Disk), cmp.Compare(a.First, b.First))
	})
	for _, s := range sorted {
		if k := len(out) - 1; k >= 0 && out[k].Disk == s.Disk && s.First <= out[k].End {
			out[k].End = max(out[k].End, s.End)
		} else if s.First < s.End {
			out = append(out, s)
		}
	}
	return out
}

// AppendSpan adds a region to spans, or to one of the last two that it touches: a comparison finds
// what differs page by page, each from its end.
func AppendSpan(spans []Span, disk int, region int64) []Span {
	for i := len(spans) - 1; i >= max(0, len(spans)-2); i-- {
		if s := &spans[i]; s.Disk == disk && region >= s.First-1 && region <= s.End {
			s.First, s.End = min(s.First, region), max(s.End, region+1)
			return spans
		}
	}
	return append(spans, Span{disk, region, region + 1})
}

// current gives the segment a lane works on, and how far it is; nil when all is done.
func (p *plan) current(lane int) (seg *segment, pos int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.lanes[lane] {
		if s.pos < s.end {
			return s, s.pos
		}
	}
	var most *segment
	for _, segments := range p.lanes {
		for _, s := range segments {
			if most == nil || s.end-s.pos > most.end-most.pos {
				most = s
			}
		}
	}
	if most == nil || most.end-most.pos < stealAtLeast {
		return nil, 0
	}
	middle := most.pos + (most.end-most.pos)/2
	s := &segment{disk: most.disk, pos: middle, end: most.end}
	most.end = middle
	p.lanes[lane] = append(p.lanes[lane], s)
	return s, s.pos
}

// claim says that the lane works on a region now, having found nothing to do before it.
// false means that the segment ends before.
func (p *plan) claim(s *segment, region int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if region >= s.end {
		s.pos = s.end
		return false
	}
	s.pos = region + 1
	s.open = append(s.open, region)
	return true
}

// settled says that a region needs nothing more: it is acknowledged, or was not sent.
func (p *plan) settled(s *segment, region int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, r := range s.open {
		if r == region {
			s.open = append(s.open[:i], s.open[i+1:]...)
			return
		}
	}
}

// left gives the ranges that are not settled.
func (p *plan) left() (spans []Span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, segments := range p.lanes {
		for _, s := range segments {
			first := s.pos
			if len(s.open) > 0 {
				first = s.open[0]
			}
			if first < s.end {
				spans = append(spans, Span{s.disk, first, s.end})
			}
		}
	}
	return spans
}
