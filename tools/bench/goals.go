package main

import (
	"fmt"
)

// figure is a value with the name of what it belongs to.
type figure struct {
	value float64
	name  string
}

// goal is a line of the table of goals.
type goal struct {
	job     string
	what    string
	variant string                             // of the product
	metric  func(stat) float64                 // nil: wall seconds
	peer    func(session) (figure, bool)       // nil: the goal is absolute
	limit   float64                            // of the ratio to the peer, or of the metric
	faster  bool                               // the limit is how many times faster at least
	unit    string                             // of an absolute goal
	floor   func(session) (figure, bool)       // nil: none
	most    float64                            // times the floor; 0: no goal
	own     func(session) (figure, stat, bool) // in place of job, variant and metric
}

func seconds(st stat) float64 { return st.wall }
func cpu(st stat) float64     { return st.cpu }

// The product's variants.
const (
	productName = "lifeboat"
	clearly     = "in clear"
	shipped     = "as shipped (TLS 1.3, BLAKE3)"
)

func peer(job, who string, metric func(stat) float64) func(session) (figure, bool) {
	return func(s session) (figure, bool) {
		st, ok := s.best(job, who)
		return figure{metric(st), who}, ok
	}
}

// blocksyncRatio is how long blocksync-fast (a pipe, digest XXH128 per 4 KiB)
// takes as a share of another peer of the same job. It is not packaged, so
// where it is not on PATH its time is taken through this ratio. Both were
// measured on one machine: 2 cores, 4 GiB image, medians.
var blocksyncRatio = map[string]struct {
	job, who  string
	wall, cpu float64
}{
	"inc1":  {"inc1", "rsync", 0.69 / 3.5, 0.70 / 3.5},
	"inc10": {"inc10", "rsync", 1.40 / 12.0, 0},
	"same":  {"same", "rsync", 0.50 / 2.07, 0},
	"cold1": {"coldfull", "nbdcopy", 3.3 / 2.25, 0},
}

// blocksync is blocksync-fast, measured, or reckoned through another peer.
func blocksync(job string, metric func(stat) float64) func(session) (figure, bool) {
	return func(s session) (figure, bool) {
		if st, ok := s.best(job, "blocksync-fast"); ok {
			return figure{metric(st), "blocksync-fast"}, true
		}
		through := blocksyncRatio[job]
		st, ok := s.best(through.job, through.who)
		ratio := through.wall
		if metric(stat{cpu: 1}) == 1 {
			ratio = through.cpu
		}
		return figure{st.wall * ratio, "blocksync-fast*"}, ok && ratio > 0
	}
}

const (
	ship1       = "ship, XXH3 at both ends, 1 connection"
	ship2       = "ship, XXH3 at both ends, 2 connections"
	shipSecured = "ship secured: TLS 1.3, BLAKE3 at both ends, 2 connections"
	scanAll     = "scan every byte"
)

// floors returns the sum of the quickest of each list of floors of a job.
func floors(job string, parts ...[]string) func(session) (figure, bool) {
	return func(s session) (figure, bool) {
		var f figure
		for _, names := range parts {
			st, ok := s.bestFloor(job, names...)
			if !ok {
				return f, false
			}
			f.value += st.wall
		}
		return f, true
	}
}

// goals are what the product has to reach, in the order of the table.
func goals() []goal {
	ship, scan, secured := []string{ship1, ship2}, []string{scanAll}, []string{shipSecured}
	gs := []goal{
		{job: "full", what: "full", variant: clearly, peer: peer("full", "nbdcopy", seconds), limit: 1.10, floor: floors("full", ship), most: 1.07},
		{job: "full", what: "full", variant: clearly, peer: peer("full", "rsync", seconds), limit: 4, faster: true},
		{job: "full", what: "full", variant: shipped, peer: peer("full", "nbdcopy", seconds), limit: 1.8, floor: floors("full", secured)},
		{job: "full", what: "full", variant: shipped, peer: peer("full", "rsync", seconds), limit: 2.5, faster: true},
	}
	for _, d := range []struct {
		job, what           string
		bsf, rsync, ofFloor float64
		floor               func(session) (figure, bool)
	}{
		{"inc1", "1 % changed, scanned", 0.55, 9, 1.3, floors("inc1", scan, ship)},
		{"inc10", "10 % changed, scanned", 0.45, 18, 1.35, floors("inc10", scan, ship)},
		{"same", "nothing changed, scanned", 0.65, 0, 1.25, floors("same", scan)},
	} {
		gs = append(gs, goal{job: d.job, what: d.what, variant: clearly, peer: blocksync(d.job, seconds), limit: d.bsf, floor: d.floor, most: d.ofFloor})
		if d.rsync > 0 {
			gs = append(gs, goal{job: d.job, what: d.what, variant: clearly, peer: peer(d.job, "rsync", seconds), limit: d.rsync, faster: true})
		}
	}
	const qemu = "QEMU dirty bitmap"
	gs = append(gs,
		goal{job: "tracked1", what: "1 % changed, tracked", variant: clearly, peer: peer("tracked1", qemu, seconds), limit: 0.30, floor: floors("tracked1", ship), most: 2},
		goal{job: "tracked10", what: "10 % changed, tracked", variant: clearly, peer: peer("tracked10", qemu, seconds), limit: 0.25, floor: floors("tracked10", ship), most: 1.45},
		goal{job: "tracked0", what: "nothing changed, tracked", variant: clearly, metric: func(st stat) float64 { return st.wall * 1000 }, limit: 15, unit: "ms"},
		goal{job: "full", what: "CPU, full", variant: clearly, metric: cpu, peer: peer("full", "nbdcopy", cpu), limit: 1.1},
		goal{job: "inc1", what: "CPU, 1 % changed, scanned", variant: clearly, metric: cpu, peer: blocksync("inc1", cpu), limit: 0.85},
	)
	return append(gs, otherGoals()...)
}

// verdict is a goal held against the figures.
type verdict struct {
	goal
	ours      stat
	value     float64
	peer      figure
	ratio     float64
	met       bool
	floor     figure
	ofFloor   float64
	withFloor bool
}

// judge holds a goal against a session; false when something was not measured.
func (g goal) judge(s session) (v verdict, ok bool) {
	v.goal = g
	if g.own != nil {
		var f figure
		if f, v.ours, ok = g.own(s); !ok {
			return v, false
		}
		v.value = f.value
	} else {
		if v.ours, ok = s.of(g.job, productName, g.variant); !ok {
			return v, false
		}
		if g.metric == nil {
			g.metric = seconds
		}
		v.value = g.metric(v.ours)
	}
	v.met = v.value <= g.limit
	if g.faster {
		v.met = v.value >= g.limit
	}
	if g.peer != nil {
		if v.peer, ok = g.peer(s); !ok {
			return v, false
		}
		v.ratio = v.value / v.peer.value
		v.met = v.ratio <= g.limit
		if g.faster {
			v.ratio = v.peer.value / v.value
			v.met = v.ratio >= g.limit
		}
	}
	if g.floor != nil {
		if v.floor, v.withFloor = g.floor(s); v.withFloor {
			v.ofFloor = v.value / v.floor.value
		}
	}
	return v, true
}

// goalText says the limit, and ratioText what was reached, in its terms.
func (v verdict) goalText() string {
	switch {
	case v.goal.peer == nil && v.faster:
		return fmt.Sprintf("≥ %g %s", v.limit, v.unit)
	case v.goal.peer == nil:
		return fmt.Sprintf("≤ %g %s", v.limit, v.unit)
	case v.faster:
		return fmt.Sprintf("≥ %g× faster", v.limit)
	default:
		return fmt.Sprintf("≤ %.2f×", v.limit)
	}
}

func (v verdict) ratioText() string {
	switch {
	case v.goal.peer == nil:
		return "–"
	case v.faster:
		return fmt.Sprintf("%.1f× faster", v.ratio)
	default:
		return fmt.Sprintf("%.2f×", v.ratio)
	}
}
