package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/volume"
)

const compareLong = `Compare reads two volumes and says which blocks of 4 KiB differ, as ranges OFFSET
LENGTH in bytes. Nothing is written. Each is a path, or HOST:PORT of a ` + "`lifeboat copy\nreceive`" + ` whose volume is read there: then only hashes cross the network.

Exit status: 0 they are equal, 1 they differ, 2 they could not be compared.`

// compareFlags are the flags of `compare`.
type compareFlags struct {
	linkFlags
	blocks int
}

func newCompareCommand(a *app) *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use: "compare A B", Short: "Say in which blocks two volumes differ", Long: compareLong,
		Example: "  lifeboat compare /dev/vg/db-snapshot /backup/db.img\n" +
			"  lifeboat compare /dev/vg/db-snapshot standby:7480 --peer sha256:… --blocks 5",
		Args: cobra.ExactArgs(2),
	}
	f.add(cmd)
	cmd.Flags().IntVar(&f.blocks, "blocks", 100, "most ranges to list; all are counted")
	return a.runs(cmd, func(ctx context.Context, args []string) error { return a.compareVolumes(ctx, &f, args[0], args[1]) })
}

// comparison is what `compare -o json` prints. Sizes and ranges are bytes.
type comparison struct {
	Equal  bool            `json:"equal"`
	SizeA  int64           `json:"size_a"`
	SizeB  int64           `json:"size_b"`
	Count  int64           `json:"ranges_total"`
	Blocks int64           `json:"blocks"`
	Bytes  int64           `json:"bytes"`
	Ranges []volume.Extent `json:"ranges"`
	// Beyond is what a larger block device has behind the end of the other volume.
	Beyond  int64   `json:"beyond"`
	Seconds float64 `json:"seconds"`
}

func (a *app) compareVolumes(ctx context.Context, f *compareFlags, first, second string) error {
	c := delta.CompareConfig{Proof: block.BLAKE3, Most: f.blocks}
	if f.blocks < 0 {
		return usagef("--blocks %d: a number of ranges cannot be negative", f.blocks)
	}
	if f.plaintext {
		c.Proof = block.Fast
	}
	var err error
	if c.A, err = f.side(first); err == nil {
		c.B, err = f.side(second)
	}
	if err != nil {
		return err
	}
	if !isRemote(first) && !isRemote(second) {
		if err := f.unused("two volumes"); err != nil {
			return err
		}
	}
	began := time.Now()
	res, err := delta.CompareVolumes(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &statusError{status: statusUsage, message: fmt.Sprintf("compare %s with %s: %v", first, second, err), err: err}
	}
	if err := a.printComparison(first, second, res, time.Since(began)); err != nil || res.Equal() {
		return err
	}
	return failf("%s and %s differ in %d blocks", first, second, res.Blocks)
}

// side is one of the two volumes.
func (f *linkFlags) side(arg string) (delta.CompareSide, error) {
	if !isRemote(arg) {
		return delta.CompareSide{Path: arg}, nil
	}
	w, err := f.remote(arg)
	return delta.CompareSide{Dial: w.dial}, err
}

func (a *app) printComparison(first, second string, res delta.Comparison, took time.Duration) error {
	out := comparison{
		Equal: res.Equal(), SizeA: res.SizeA, SizeB: res.SizeB, Count: res.Count, Blocks: res.Blocks, Bytes: res.Bytes,
		Ranges: res.Ranges, Beyond: res.Beyond, Seconds: took.Seconds(),
	}
	if out.Ranges == nil {
		out.Ranges = []volume.Extent{}
	}
	return a.print(out, func(w io.Writer) {
		if out.Count > 0 {
			row(w, "OFFSET", "LENGTH")
		}
		for _, e := range out.Ranges {
			row(w, e.Offset, e.Length)
		}
		if more := out.Count - int64(len(out.Ranges)); more > 0 {
			fmt.Fprintf(w, "and %d more ranges (see --blocks)\n", more)
		}
		switch {
		case out.Equal:
			fmt.Fprintf(w, "equal: %s compared in %s\n", size(min(out.SizeA, out.SizeB)), seconds(out.Seconds))
		default:
			fmt.Fprintf(w, "%d ranges, %d blocks, %d bytes differ of %s\n", out.Count, out.Blocks, out.Bytes, size(max(out.SizeA, out.SizeB)))
		}
		switch {
		case out.Beyond > 0:
			fmt.Fprintf(w, "%s is %s longer: a device may be, that was not looked at\n", longer(first, second, out), size(out.Beyond))
		case out.SizeA != out.SizeB:
			fmt.Fprintf(w, "%s has %d bytes, %s has %d\n", first, out.SizeA, second, out.SizeB)
		}
	})
}

func longer(first, second string, c comparison) string {
	if c.SizeA > c.SizeB {
		return first
	}
	return second
}

// unused refuses flags of a link where there is none.
func (f *linkFlags) unused(what string) error {
	if f.plaintext || f.peer != "" || f.key != "" {
		return usagef("--key, --peer and --insecure-plaintext are for HOST:PORT; the %s are paths here", what)
	}
	return nil
}
