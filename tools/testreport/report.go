package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"
)

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// testName is a test within its package; an empty name stands for the package.
type testName struct{ pkg, test string }

// skip is a test that was skipped, with what it said.
type skip struct {
	testName
	reason string
}

// report collects the events of one or several runs of go test.
type report struct {
	out     io.Writer
	verbose bool
	output  map[testName][]string
	builds  map[string][]string // output of the compiler by import path
	skips   []skip
	started map[string]bool // packages with a result outstanding
	failed  int             // tests that failed, subtests counted too
	broken  int             // packages that failed without a failing test
	passed  int
	pkgs    int
	failing map[string]bool // packages with a failed test
	began   time.Time
}

func newReport(out io.Writer, verbose bool) *report {
	return &report{
		out: out, verbose: verbose, began: time.Now(),
		output: map[testName][]string{}, builds: map[string][]string{},
		started: map[string]bool{}, failing: map[string]bool{},
	}
}

// read takes in events until the end of in. Lines that are no event (a panic
// of go itself, a message of the shell) are passed on as they are.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
				fmt.Fprint(r.out, line)
			} else {
				r.take(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) take(e event) {
	name := testName{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
	case "build-fail":
		fmt.Fprint(r.out, strings.Join(r.builds[e.ImportPath], ""))
		delete(r.builds, e.ImportPath)
	case "start":
		r.started[e.Package] = true
	case "output":
		r.keep(name, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(name, e.Action)
		}
	}
}

// keep keeps one line of output. A package's own lines are its closing
// lines, and are printed at once.
func (r *report) keep(name testName, line string) {
	if r.verbose || (name.test == "" && closing(line)) {
		fmt.Fprint(r.out, line)
	}
	r.output[name] = append(r.output[name], line)
}

// closing tells the lines with which go test ends a package from its frame.
func closing(line string) bool {
	for _, prefix := range []string{"ok  \t", "FAIL\t", "?   \t", "---\t", "coverage:"} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

func (r *report) endTest(name testName, result string) {
	switch result {
	case "pass":
		r.passed++
	case "skip":
		r.skips = append(r.skips, skip{name, reason(r.output[name])})
	case "fail":
		r.failing[name.pkg] = true
		r.failed++
		if !r.verbose {
			fmt.Fprintf(r.out, "\n%s %s\n%s\n", name.pkg, name.test, strings.Join(r.output[name], ""))
		}
	}
	delete(r.output, name)
}

func (r *report) endPackage(e event) {
	r.pkgs++
	delete(r.started, e.Package)
	if e.Action == "fail" {
		r.explain(e.Package)
	}
	for name := range r.output {
		if name.pkg == e.Package {
			delete(r.output, name)
		}
	}
}

// explain prints what is known of a failed package beyond its failed tests: a
// panic or a time-out leaves tests without an end, and TestMain or the race
// detector can fail a package whose every test passed.
func (r *report) explain(pkg string) {
	unfinished := make([]testName, 0)
	for name := range r.output {
		if name.pkg == pkg && name.test != "" {
			unfinished = append(unfinished, name)
		}
	}
	sort.Slice(unfinished, func(i, j int) bool { return unfinished[i].test < unfinished[j].test })
	if r.failing[pkg] && len(unfinished) == 0 {
		return
	}
	r.broken++
	if r.verbose {
		return
	}
	for _, name := range unfinished {
		fmt.Fprintf(r.out, "\n%s %s (did not end)\n%s", pkg, name.test, strings.Join(r.output[name], ""))
	}
	fmt.Fprintf(r.out, "\n%s\n%s\n", pkg, strings.Join(r.output[testName{pkg, ""}], ""))
}

// reason is what a skipped test said, without the frame around it.
func reason(lines []string) string {
	var said []string
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		said = append(said, line)
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, "; ")
}

// close prints the skipped tests and the sums, and returns the exit status.
func (r *report) close(noSkips bool) int {
	for pkg := range r.started {
		r.broken++
		fmt.Fprintf(r.out, "%s: the run ended before its result\n", pkg)
	}
	if len(r.skips) > 0 {
		fmt.Fprintln(r.out, "\nskipped:")
	}
	for _, s := range r.skips {
		fmt.Fprintf(r.out, "  %s %s: %s\n", s.pkg, s.test, s.reason)
	}
	fmt.Fprintf(r.out, "\n%d packages, %d tests passed, %d failed, %d skipped, in %s\n",
		r.pkgs, r.passed, r.failed, len(r.skips), time.Since(r.began).Round(time.Second))
	switch {
	case r.failed+r.broken > 0:
		fmt.Fprintln(r.out, "FAIL")
		return 1
	case r.pkgs == 0:
		fmt.Fprintln(r.out, "FAIL: no package was tested; look for the cause above")
		return 1
	case noSkips && len(r.skips) > 0:
		fmt.Fprintln(r.out, "FAIL: tests were skipped where none may be; each says above what it misses")
		return 1
	}
	fmt.Fprintln(r.out, "PASS")
	return 0
}
