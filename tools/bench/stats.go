package main

import (
	"slices"
)

// stat is the median of a contender's runs in a job.
type stat struct {
	who, variant string
	n            int
	wall         float64
	least, most  float64 // wall
	cpu          float64
	rss          float64 // bytes
	wire         float64 // bytes
	values       map[string]float64
	noisy        bool // all runs were disturbed
	failed       string
}

// stats returns the contenders of a job in the order in which they ran first.
// Disturbed runs are left out where there are others.
func (s session) stats(job string) []stat {
	type key struct{ who, variant string }
	var order []key
	rows := map[key][]row{}
	for _, r := range s.Rows {
		if r.Job != job {
			continue
		}
		k := key{r.Who, r.Variant}
		if rows[k] == nil {
			order = append(order, k)
		}
		rows[k] = append(rows[k], r)
	}
	var out []stat
	for _, k := range order {
		out = append(out, summarize(rows[k]))
	}
	return out
}

func summarize(rows []row) stat {
	st := stat{who: rows[0].Who, variant: rows[0].Variant, values: map[string]float64{}}
	good := slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.Error != "" || r.Noisy })
	if len(good) == 0 {
		st.noisy = true
		good = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.Error != "" })
	}
	for _, r := range rows {
		if r.Error != "" {
			st.failed = r.Error
		}
	}
	st.n = len(good)
	if st.n == 0 {
		return st
	}
	of := func(f func(row) float64) []float64 {
		var v []float64
		for _, r := range good {
			v = append(v, f(r))
		}
		slices.Sort(v)
		return v
	}
	walls := of(func(r row) float64 { return r.Wall })
	st.wall, st.least, st.most = median(walls), walls[0], walls[len(walls)-1]
	st.cpu = median(of(func(r row) float64 { return r.CPU }))
	st.rss = median(of(func(r row) float64 { return float64(r.RSS) }))
	st.wire = median(of(func(r row) float64 { return float64(r.Wire) }))
	for name := range good[0].Values {
		st.values[name] = median(of(func(r row) float64 { return r.Values[name] }))
	}
	return st
}

// median of sorted values.
func median(v []float64) float64 {
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

// of returns one contender's figures in a job.
func (s session) of(job, who, variant string) (stat, bool) {
	for _, st := range s.stats(job) {
		if st.who == who && st.variant == variant && st.n > 0 {
			return st, true
		}
	}
	return stat{}, false
}

// best returns the quickest variant of a peer in a job.
func (s session) best(job, who string) (best stat, ok bool) {
	for _, st := range s.stats(job) {
		if st.who == who && st.n > 0 && (!ok || st.wall < best.wall) {
			best, ok = st, true
		}
	}
	return best, ok
}

// bestFloor returns the quickest of the named floors of a job.
func (s session) bestFloor(job string, variants ...string) (best stat, ok bool) {
	for _, st := range s.stats(job) {
		if st.who == floorName && st.n > 0 && slices.Contains(variants, st.variant) && (!ok || st.wall < best.wall) {
			best, ok = st, true
		}
	}
	return best, ok
}
