package demo

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// page is what a person sees: short lines that fit a screen of 100 columns.
type page struct {
	w       io.Writer
	chapter int
	pending string // command that runs
}

const commandColumn = 86

// title begins a chapter.
func (p *page) title(format string, args ...any) {
	p.chapter++
	fmt.Fprintf(p.w, "\n%2d  %s\n", p.chapter, fmt.Sprintf(format, args...))
}

// say writes a result line.
func (p *page) say(format string, args ...any) {
	fmt.Fprintf(p.w, "      %s\n", fmt.Sprintf(format, args...))
}

func (p *page) command(line string) {
	if len(line) > commandColumn-8 {
		line = line[:commandColumn-9] + "…"
	}
	p.pending = line
}

func (p *page) took(d time.Duration) {
	fmt.Fprintf(p.w, "    $ %-*s %7s\n", commandColumn-8, p.pending, short(d))
	p.pending = ""
}

func (p *page) blank() { fmt.Fprintln(p.w) }

// table writes rows under a head.
func (p *page) table(rows [][]string) {
	t := tabwriter.NewWriter(p.w, 0, 8, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprint(t, "    ")
		for _, cell := range row {
			fmt.Fprint(t, cell, "\t")
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // as any other line
}

// short writes a duration for people.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + short(-d)
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}

func seconds(s *float64) string {
	if s == nil {
		return "unknown"
	}
	return short(time.Duration(*s * float64(time.Second)))
}
