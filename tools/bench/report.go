package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Markers between which a document holds the tables.
const (
	beginMark = "<!-- bench:begin -->"
	endMark   = "<!-- bench:end -->"
)

// describe says what is measured, and on what.
func describe(o options, p *product) about {
	cpu := ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(b), "model name")
		first, _, _ := strings.Cut(rest, "\n")
		cpu = strings.TrimLeft(first, " \t:")
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("?")
	}
	return about{
		Machine: fmt.Sprintf("%d processors (%s), Linux %s, %s", runtime.NumCPU(), cpu, strings.TrimSpace(string(kernel)), runtime.Version()),
		Product: p.digest, Size: o.size, Runs: o.runs,
	}
}

// publish prints the tables and, with a path, puts them into that document.
func publish(s session, path string) error {
	var b bytes.Buffer
	writeTables(&b, s)
	if _, err := os.Stdout.Write(b.Bytes()); err != nil {
		return err
	}
	if path == "" {
		return nil
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := between(doc, b.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, changed, 0o644)
}

// between puts text between the markers of a document.
func between(doc, text []byte) ([]byte, error) {
	head, rest, ok := bytes.Cut(doc, []byte(beginMark))
	_, tail, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return nil, errors.New("it lacks the markers " + beginMark + " and " + endMark)
	}
	return bytes.Join([][]byte{head, []byte(beginMark + "\n"), text, []byte(endMark), tail}, nil), nil
}

func writeTables(w io.Writer, s session) {
	fmt.Fprintf(w, "%s. Image of %s. Medians of %d runs each, all in turn; %s.\n", s.About.Machine, bytesText(s.About.Size), s.About.Runs, time.Now().UTC().Format(time.DateOnly))
	if s.About.Size != 4<<30 {
		fmt.Fprintln(w, "The goals are for an image of 4 GiB: with another one they say little.")
	}
	if s.About.Product == "" {
		fmt.Fprintln(w, "The program was not there: peers and floors alone.")
	}
	writeGoals(w, s)
	for _, j := range allJobs {
		if st := s.stats(j.name); len(st) > 0 {
			fmt.Fprintf(w, "\n### %s\n\n", j.title)
			if j.table != nil {
				j.table(w, s, st)
			} else {
				writeJob(w, st)
			}
		}
	}
	fmt.Fprintln(w)
}

func writeGoals(w io.Writer, s session) {
	var lines []string
	var unmeasured []string
	reckoned := false
	for _, g := range goals() {
		v, ok := g.judge(s)
		if !ok {
			if !slices.Contains(unmeasured, g.what) {
				unmeasured = append(unmeasured, g.what)
			}
			continue
		}
		reckoned = reckoned || strings.HasSuffix(v.peer.name, "*")
		lines = append(lines, v.line())
	}
	if len(lines) > 0 {
		fmt.Fprint(w, "\n### Goals\n\n| job | ours | peer | ratio | goal | met | floor | of the floor | its goal | CPU s | memory MiB | wire MB |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
		fmt.Fprintln(w, strings.Join(lines, "\n"))
	}
	if reckoned {
		fmt.Fprintln(w, "\n\\* blocksync-fast was not on PATH: its time is that of the other peer of the same run, times the ratio of the two where both were measured.")
	}
	if len(unmeasured) > 0 {
		fmt.Fprintf(w, "\nNot measured: %s.\n", strings.Join(unmeasured, "; "))
	}
}

func yesNo(ok bool) string {
	if ok {
		return "yes"
	}
	return "**no**"
}

// line is the verdict as a row of the table of goals.
func (v verdict) line() string {
	what := v.what
	if v.variant != "" {
		what += ", " + v.variant
	}
	unit := " s"
	if v.unit != "" {
		unit = " " + v.unit
	}
	peer, floor, ofFloor, most := "–", "–", "–", "–"
	if v.peer.name != "" {
		peer = fmt.Sprintf("%s %s%s", v.peer.name, number(v.peer.value), unit)
	}
	if v.withFloor {
		floor, ofFloor = number(v.floor.value)+" s", fmt.Sprintf("%.2f×", v.ofFloor)
		if v.most > 0 {
			most = fmt.Sprintf("≤ %.2f×: %s", v.most, yesNo(v.ofFloor <= v.most))
		}
	}
	value := number(v.value)
	if v.value == 0 {
		value = "0"
	}
	noise := ""
	if v.ours.noisy {
		noise = " (disturbed)"
	}
	return fmt.Sprintf("| %s | %s%s%s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |", what, value, unit, noise,
		peer, v.ratioText(), v.goalText(), yesNo(v.met), floor, ofFloor, most,
		number(v.ours.cpu), number(v.ours.rss/(1<<20)), number(v.ours.wire/1e6))
}

// number prints a figure with three digits that count.
func number(x float64) string {
	switch {
	case x == 0:
		return "–"
	case x < 0.9995:
		return fmt.Sprintf("%.3f", x)
	case x < 9.995:
		return fmt.Sprintf("%.2f", x)
	case x < 99.95:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.0f", x)
	}
}

// writeJob prints all contenders of a job.
func writeJob(w io.Writer, stats []stat) {
	fmt.Fprint(w, "| who | how | runs | wall s (least – most) | CPU s | memory MiB | wire MB |\n|---|---|---|---|---|---|---|\n")
	for _, st := range stats {
		if st.n == 0 {
			fmt.Fprintf(w, "| %s | %s | 0 | failed: %s | | | |\n", st.who, st.variant, oneLine(st.failed))
			continue
		}
		note := ""
		if st.noisy {
			note = ", disturbed"
		}
		if st.failed != "" {
			note += ", then failed: " + oneLine(st.failed)
		}
		fmt.Fprintf(w, "| %s | %s | %d%s | %s (%s – %s) | %s | %s | %s |\n", st.who, st.variant, st.n, note,
			number(st.wall), number(st.least), number(st.most), number(st.cpu), number(st.rss/(1<<20)), number(st.wire/1e6))
	}
}

func oneLine(s string) string {
	s = strings.NewReplacer("\n", " ", "|", "/").Replace(s)
	return s[:min(len(s), 200)]
}
