package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"lifeboat/tools/bench/measure"
	"lifeboat/tools/bench/workload"
)

var errNoProduct = &missingError{"it needs the program"}

// scaleSizes are the volumes of job size. All hold the same data.
var scaleSizes = []int64{1 << 30, 4 << 30, 16 << 30, 64 << 30, 256 << 30, 1 << 40, 16 << 40}

const (
	scaleData = 256 << 20 // the image that is spread over each size
	scaleFull = "full"
	scaleScan = "10 % changed, scanned"
	scaleNone = "nothing changed, scanned"
	scaleTrk  = "10 % changed, tracked"
)

func scaleVariant(what string, size int64) string { return what + ", " + bytesText(size) }

// openSize copies the same data in volumes of many sizes.
func openSize(_ context.Context, b *bench) ([]contender, func() error, error) {
	if !b.product.here() {
		return nil, nil, errNoProduct
	}
	dir := b.path("size")
	small := imagesIn(dir)
	if err := makeDir(dir); err != nil {
		return nil, nil, err
	}
	end := func() error { return removeAll(dir) }
	if err := makeImages(dir, scaleData); err != nil {
		return nil, end, err
	}
	es, err := workload.ReadMap(small.map10)
	if err != nil {
		return nil, end, err
	}
	var cs []contender
	for _, size := range scaleSizes {
		name := filepath.Join(dir, strings.ReplaceAll(bytesText(size), " ", ""))
		base, v := name+".base", version{name + ".changed", name + ".map", workload.SpreadExtents(es, scaleData, size)}
		err := errors.Join(workload.Spread(base, small.base, size), workload.Spread(v.image, small.v10, size), workload.WriteMap(v.changes, v.extents))
		if err != nil {
			return nil, end, err
		}
		p := b.inMemory()
		kept := b.newReplica(modeClear, name+".kept")
		cs = append(cs,
			b.newReplica(modeClear, name+".full").full(p, base, scaleVariant(scaleFull, size)),
			kept.delta(p, base, v, false, scaleVariant(scaleScan, size)),
			kept.delta(p, base, version{image: base}, false, scaleVariant(scaleNone, size)),
			kept.delta(p, base, v, true, scaleVariant(scaleTrk, size)))
	}
	return cs, end, nil
}

// writeSizes is the table of job size: a line for each size.
func writeSizes(w io.Writer, _ session, stats []stat) {
	whats := []string{scaleFull, scaleScan, scaleNone, scaleTrk}
	fmt.Fprintf(w, "The same %s image (%.0f MB of data, 10 %% of it changed) spread over volumes of each size. Wall seconds, and the memory of both ends in MiB.\n\n| size |", bytesText(scaleData), 0.4*scaleData/1e6)
	for _, what := range whats {
		fmt.Fprintf(w, " %s s | MiB |", what)
	}
	fmt.Fprint(w, "\n|---|---|---|---|---|---|---|---|---|\n")
	for _, size := range scaleSizes {
		fmt.Fprintf(w, "| %s |", bytesText(size))
		for _, what := range whats {
			st, ok := find(stats, scaleVariant(what, size))
			if !ok {
				fmt.Fprint(w, " failed | |")
				continue
			}
			fmt.Fprintf(w, " %s | %s |", number(st.wall), number(st.rss/(1<<20)))
		}
		fmt.Fprintln(w)
	}
	for _, st := range stats {
		if st.failed != "" {
			fmt.Fprintf(w, "\n%s failed: %s\n", st.variant, oneLine(st.failed))
		}
	}
}

func find(stats []stat, variant string) (stat, bool) {
	for _, st := range stats {
		if st.variant == variant && st.n > 0 {
			return st, true
		}
	}
	return stat{}, false
}

// volumeCounts are how many volumes job volumes copies at once.
var volumeCounts = []int{1, 4, 16}

const volumeData = 512 << 20

func volumesVariant(n int, m mode) string { return fmt.Sprintf("%d at once, %s", n, m.variant) }

// openVolumes makes full copies of several volumes at once, each with a pair of processes.
func openVolumes(_ context.Context, b *bench) ([]contender, func() error, error) {
	if !b.product.here() {
		return nil, nil, errNoProduct
	}
	dir := b.path("volumes")
	source := filepath.Join(dir, "source.img")
	if err := makeDir(dir); err != nil {
		return nil, nil, err
	}
	end := func() error { return removeAll(dir) }
	if err := workload.Generate(source, volumeData, 1); err != nil {
		return nil, end, err
	}
	var cs []contender
	for _, n := range volumeCounts {
		for _, m := range []mode{modeClear, modeShipped} {
			cs = append(cs, b.atOnce(n, m, dir, source))
		}
	}
	return cs, end, nil
}

func (b *bench) atOnce(n int, m mode, dir, source string) contender {
	var rs []*replica
	for i := range n {
		r := b.newReplica(m, filepath.Join(dir, fmt.Sprintf("target%d.img", i)))
		r.port += i
		rs = append(rs, r)
	}
	forget := func() error {
		var errs []error
		for _, r := range rs {
			errs = append(errs, r.forget())
		}
		return errors.Join(errs...)
	}
	return contender{who: productName, variant: volumesVariant(n, m), allocates: int64(n) * volumeData / 2,
		prepare: func(context.Context) error { return forget() },
		run: func(ctx context.Context) (outcome, error) {
			var commands []measure.Command
			for _, r := range rs {
				commands = append(commands, r.receiver(), r.sender(source))
			}
			return runCommands(nil, commands...)(ctx)
		},
		check: func() error {
			for _, r := range rs {
				if err := workload.Verify(source, r.target); err != nil {
					return err
				}
			}
			return nil
		},
		reset: func(context.Context) error { return forget() },
	}
}

// writeVolumes is the table of job volumes.
func writeVolumes(w io.Writer, _ session, stats []stat) {
	fmt.Fprintf(w, "Full copies of a %s image (%.0f MB of data each), every one with its own pair of processes.\n\n", bytesText(volumeData), 0.4*volumeData/1e6)
	fmt.Fprint(w, "| volumes | wall s | MB/s in all | CPU s | memory MiB in all | MiB a volume |\n|---|---|---|---|---|---|\n")
	for _, n := range volumeCounts {
		for _, m := range []mode{modeClear, modeShipped} {
			if st, ok := find(stats, volumesVariant(n, m)); ok {
				fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", st.variant, number(st.wall), number(st.wire/1e6/st.wall), number(st.cpu), number(st.rss/(1<<20)), number(st.rss/(1<<20)/float64(n)))
			}
		}
	}
	for _, st := range stats {
		if st.failed != "" {
			fmt.Fprintf(w, "\n%s failed: %s\n", st.variant, oneLine(st.failed))
		}
	}
}
