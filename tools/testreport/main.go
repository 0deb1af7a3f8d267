// Command testreport reads the output of `go test -json` and says what a
// person and a build machine need of it: the closing line of every package,
// the whole output of each test that failed, each skipped test with its
// reason, and one line of sums.
//
// It exits 1 when a test, a package or a build failed, when nothing was
// reported at all, and, with -no-skips, when any test was skipped. It never
// hides a failure of `go test` itself: run it under `set -o pipefail`.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	noSkips := flag.Bool("no-skips", false, "fail when any test was skipped")
	verbose := flag.Bool("v", false, "print every test's output as it comes, not only that of failures")
	flag.Parse()
	os.Exit(run(os.Stdin, os.Stdout, *noSkips, *verbose))
}

// run reports what in holds on out and returns the exit status.
func run(in io.Reader, out io.Writer, noSkips, verbose bool) int {
	r := newReport(out, verbose)
	if err := r.read(in); err != nil {
		fmt.Fprintf(out, "testreport: cannot read the test events: %v\n", err)
		return 1
	}
	return r.close(noSkips)
}
