package demo

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// page is what a person sees: short lines that fit a screen of 100 columns.
type page struct {
	w       io.Writer
	chapter int
	pending string // command that runs
}

const commandColumn = 80

// title begins a chapter.
func (p *page) title(format string, args ...any) {
	p.chapter++
	fmt.Fprintf(p.w, "\n%2d  %s\n", p.chapter, fmt.Sprintf(format, args...))
}

// say writes a result line.
func (p *page) say(format string, args ...any) {
	fmt.Fprintf(p.w, "      %s\n", fmt.Sprintf(format, args...))
}

// command notes the command line that runs now; took shows it.
func (p *page) command(line string) { p.pending = line }

// took shows the command that ran, broken into lines as in a shell script, and how long it took.
func (p *page) took(d time.Duration) {
	lines := wrap(p.pending, commandColumn-2)
	for i, line := range lines {
		lead := "    $ "
		if i > 0 {
			lead = "        "
		}
		if i < len(lines)-1 {
			fmt.Fprintf(p.w, "%s%s \\\n", lead, line)
			continue
		}
		fmt.Fprintf(p.w, "%s%-*s %8s\n", lead, commandColumn+6-len(lead), line, short(d))
	}
	p.pending = ""
}

// wrap breaks a command line between words so that each line fits.
func wrap(line string, width int) []string {
	var lines []string
	for _, word := range strings.Split(line, " ") {
		last := len(lines) - 1
		if last < 0 || len(lines[last])+1+len(word) > width {
			lines = append(lines, word)
			continue
		}
		lines[last] += " " + word
	}
	return lines
}

func (p *page) blank() { fmt.Fprintln(p.w) }

// table writes rows under a head.
func (p *page) table(rows [][]string) {
	t := tabwriter.NewWriter(p.w, 0, 8, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, "    "+strings.Join(row, "\t"))
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
