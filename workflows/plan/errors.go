package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Error is one fault of a plan: where, what, and how it is mended.
type Error struct {
	// File, Line and Column (both from 1); Line is 0 when the plan was not read from text.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Key path, e.g. spec.servers[2].launch.ip.
	Key string `json:"key,omitempty"`
	// Message names the cause, Mend what to do.
	Message string `json:"message"`
	Mend    string `json:"mend,omitempty"`

	refers string // list that a name was looked for in: a fault there explains this one
}

// Error has the form file:line:column: key: message; mend.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", e.Line, e.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Message)
	if e.Mend != "" {
		b.WriteString("; " + e.Mend)
	}
	return b.String()
}

// Errors are all faults of a plan, sorted by line.
type Errors []*Error

// Error has one line a fault.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the faults one by one.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// asError sorts the faults and drops repetitions; no faults are nil.
func (es Errors) asError() error {
	if len(es) == 0 {
		return nil
	}
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	return slices.CompactFunc(es, func(a, b *Error) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Key == b.Key && a.Message == b.Message
	})
}

// position is a place in the file, counted from 1.
type position struct{ line, column int }

// fault adds a fault at a key. The place is the key's or the nearest one above it
// that the file has, so that a missing key points to where it belongs.
func (p *Plan) fault(es *Errors, key, mend, format string, args ...any) *Error {
	e := &Error{File: p.file, Key: key, Message: fmt.Sprintf(format, args...), Mend: mend}
	for at := key; ; {
		if pos, ok := p.positions[at]; ok {
			e.Line, e.Column = pos.line, pos.column
			break
		}
		i := strings.LastIndexAny(at, ".[")
		if i < 0 {
			if pos, ok := p.positions[""]; ok {
				e.Line, e.Column = pos.line, pos.column
			}
			break
		}
		at = at[:i]
	}
	*es = append(*es, e)
	return e
}

// quoted shows a text from the file in a message, shortened.
func quoted(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "…"
	}
	return strconv.Quote(s)
}

// list shows what exists, at most ten of it.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	more := ""
	if len(names) > 10 {
		more, names = fmt.Sprintf(" and %d more", len(names)-10), names[:10]
	}
	return strings.Join(names, ", ") + more
}

// near returns the candidate that was most likely meant, or "".
func near(word string, candidates []string) string {
	best, bestDistance := "", 3
	if len(word) > 40 {
		return ""
	}
	for _, c := range candidates {
		if strings.EqualFold(word, c) {
			return c
		}
		limit := min(bestDistance, (max(len(word), len(c))+1)/2)
		if len(c) <= 40 {
			if d := distance(strings.ToLower(word), strings.ToLower(c)); d < limit {
				best, bestDistance = c, d
			}
		}
	}
	return best
}

// distance is Levenshtein's with swaps of neighbours counted once.
func distance(a, b string) int {
	two, one, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(one[j]+1, cur[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], two[j-2]+1)
			}
		}
		two, one, cur = one, cur, two
	}
	return one[len(b)]
}

// suggest is the mend for a word that is none of the candidates.
func suggest(word string, candidates []string, otherwise string) string {
	if n := near(word, candidates); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return otherwise
}
