package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lifeboat/tools/bench/link"
	"lifeboat/tools/bench/workload"
)

// linkRate is the link of job latency: 1 Gbit/s less the headers of Ethernet and TCP.
const linkRate = 0.118e9

var roundTrips = []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond}

// openLatency copies over a link of a set rate, near and far.
func openLatency(_ context.Context, b *bench) ([]contender, func() error, error) {
	if !b.product.here() {
		return nil, nil, errNoProduct
	}
	far := roundTrips[len(roundTrips)-1]
	var cs []contender
	var ends []func() error
	raw := mode{variant: clearly, compress: "never"}
	rawShipped := mode{variant: shipped, secure: true, compress: "never"}
	for i, rtt := range roundTrips {
		kept := b.newReplica(raw, b.path(fmt.Sprintf("far%d.img", i)))
		ends = append(ends, kept.forget)
		cs = append(cs, b.far(kept.full(b.inMemory(), b.base, farVariant("full, raw, "+clearly, rtt)), kept, rtt))
		kept = b.newReplica(raw, b.path("far.img"))
		ends = append(ends, kept.forget)
		cs = append(cs, b.far(kept.delta(b.inMemory(), b.base, b.changed1(), false, farVariant("1 % changed, raw, "+clearly, rtt)), kept, rtt))
	}
	for _, m := range []mode{rawShipped, modeShipped} {
		r := b.newReplica(m, b.path("far.img"))
		what := "full, raw, "
		if m.compress == "" {
			what = "full, packed where it is faster, "
		}
		cs = append(cs, b.far(r.full(b.inMemory(), b.base, farVariant(what+m.variant, far)), r, far))
	}
	return cs, joinEnds(ends...), nil
}

func farVariant(what string, rtt time.Duration) string {
	return fmt.Sprintf("%s, %d ms", what, rtt.Milliseconds())
}

// far makes a contender's run go through a link.
func (b *bench) far(c contender, r *replica, rtt time.Duration) contender {
	run := c.run
	c.run = func(ctx context.Context) (o outcome, err error) {
		r.through = firstPort + 100
		defer func() { r.through = 0 }()
		p, err := link.Start(fmt.Sprintf("127.0.0.1:%d", r.through), fmt.Sprintf("127.0.0.1:%d", r.port), rtt, linkRate)
		if err != nil {
			return o, err
		}
		defer func() { err = errors.Join(err, p.Close()) }()
		o, err = run(ctx)
		o.Wire = p.Sent()
		o.Other = 0 // the link is made by this process, and its rate is the limit
		if o.Values == nil {
			o.Values = map[string]float64{}
		}
		o.Values["link"] = float64(o.Wire) / linkRate / o.Wall
		return o, err
	}
	return c
}

func writeLatency(w io.Writer, _ session, stats []stat) {
	fmt.Fprintf(w, "Through a link of %.0f MB/s. One run each: the rate is set, not found out.\n\n| what, round trip | wall s | sent MB | of the link |\n|---|---|---|---|\n", linkRate/1e6)
	for _, st := range stats {
		if st.n == 0 {
			fmt.Fprintf(w, "| %s | failed: %s | | |\n", st.variant, oneLine(st.failed))
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %s | %.0f %% |\n", st.variant, number(st.wall), number(st.wire/1e6), 100*st.values["link"])
	}
}

const (
	wireRaw    = "raw"
	wirePacked = "compressed"
)

func wireVariant(what, how string) string { return what + " changed, " + how }

// openWire counts what crosses the loopback for a delta.
func openWire(_ context.Context, b *bench) ([]contender, func() error, error) {
	if !b.product.here() {
		return nil, nil, errNoProduct
	}
	var cs []contender
	var ends []func() error
	for _, how := range []struct{ name, compress string }{{wireRaw, "never"}, {wirePacked, "always"}} {
		r := b.newReplica(mode{variant: how.name, compress: how.compress}, b.path("wire."+how.name+".img"))
		ends = append(ends, r.forget)
		for _, change := range []struct {
			what string
			version
		}{{"1 %", b.changed1()}, {"10 %", b.changed10()}} {
			v := change.version
			c := r.delta(b.inMemory(), b.base, v, false, wireVariant(change.what, how.name))
			run := c.run
			c.run = func(ctx context.Context) (outcome, error) {
				o, err := run(ctx)
				if o.Values != nil {
					o.Values["of changed"] = float64(o.Wire) / float64(workload.Sum(v.extents))
				}
				return o, err
			}
			cs = append(cs, c)
		}
	}
	return cs, joinEnds(ends...), nil
}

func writeWire(w io.Writer, _ session, stats []stat) {
	fmt.Fprint(w, "Bytes over the loopback, both directions, headers included, as a multiple of the changed blocks of 4 KiB.\n\n| what | wire MB | of the changed blocks | wall s |\n|---|---|---|---|\n")
	for _, st := range stats {
		if st.n == 0 {
			fmt.Fprintf(w, "| %s | failed: %s | | |\n", st.variant, oneLine(st.failed))
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %.3f× | %s |\n", st.variant, number(st.wire/1e6), st.values["of changed"], number(st.wall))
	}
}
