package main

import "math"

// otherGoals are those that are not about one contender's time or processors.
func otherGoals() []goal {
	var gs []goal
	for _, what := range []string{"1 %", "10 %"} {
		for _, how := range []struct {
			name  string
			limit float64
		}{{wireRaw, 1.02}, {wirePacked, 0.70}} {
			gs = append(gs, goal{what: "on the wire, " + wireVariant(what, how.name), limit: how.limit, unit: "× the changed blocks", own: func(s session) (figure, stat, bool) {
				st, ok := s.of("wire", productName, wireVariant(what, how.name))
				return figure{value: st.values["of changed"]}, st, ok
			}})
		}
	}
	gs = append(gs,
		goal{what: "memory of both ends, the most of all jobs with one volume, 1 GiB to 16 TiB", limit: 64, unit: "MiB", own: mostMemory},
		goal{what: "10 % changed, tracked: the slowest size of 1 GiB to 1 TiB against the quickest", limit: 1.5, unit: "×", own: trackedBySize})
	for _, m := range []mode{modeClear, modeShipped} {
		for _, victim := range []string{deadSender, deadReceiver} {
			gs = append(gs,
				goal{what: victim + ", " + m.variant + ": sent again", limit: 64, unit: "MiB", own: func(s session) (figure, stat, bool) {
					sent, _, st, ok := again(s.stats("resume"), victim, m.variant)
					return figure{value: sent / (1 << 20)}, st, ok
				}},
				goal{what: victim + ", " + m.variant + ": time against the undisturbed copy", limit: 1.05, unit: "×", own: func(s session) (figure, stat, bool) {
					_, slower, st, ok := again(s.stats("resume"), victim, m.variant)
					return figure{value: slower}, st, ok
				}})
		}
	}
	far := roundTrips[len(roundTrips)-1]
	for _, m := range []mode{modeClear, modeShipped} {
		gs = append(gs, goal{what: "use of the link at a round trip of 100 ms, " + m.variant, limit: 80, faster: true, unit: "%", own: func(s session) (figure, stat, bool) {
			st, ok := s.of("latency", productName, farVariant("full, raw, "+m.variant, far))
			return figure{value: 100 * st.values["link"]}, st, ok
		}})
	}
	return append(gs,
		goal{job: "coldfull", what: "full, cold disk", variant: clearly, peer: peer("coldfull", "nbdcopy", seconds), limit: 1.05},
		goal{job: "cold1", what: "1 % changed, scanned, cold disk", variant: clearly, peer: blocksync("cold1", seconds), limit: 0.70})
}

// mostMemory is the largest memory of both ends in any job with one volume.
func mostMemory(s session) (f figure, most stat, ok bool) {
	for _, j := range allJobs {
		if j.name == "volumes" {
			continue
		}
		for _, st := range s.stats(j.name) {
			if st.who == productName && st.n > 0 && st.rss > most.rss {
				most, ok = st, true
			}
		}
	}
	return figure{value: most.rss / (1 << 20)}, most, ok && len(s.stats("size")) > 0
}

// trackedBySize says how much the size of a volume changes the cost of a
// tracked delta.
func trackedBySize(s session) (f figure, slowest stat, ok bool) {
	quickest := math.Inf(1)
	stats := s.stats("size")
	for _, size := range scaleSizes {
		st, found := find(stats, scaleVariant(scaleTrk, size))
		if !found || size > 1<<40 {
			continue
		}
		if st.wall > slowest.wall {
			slowest = st
		}
		quickest, ok = min(quickest, st.wall), true
	}
	return figure{value: slowest.wall / quickest}, slowest, ok
}
