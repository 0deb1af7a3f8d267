package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// cronFields in their order, with the names that stand for numbers.
var cronFields = []struct {
	name      string
	low, high int
	names     []string // the first stands for low
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// checkCron tells what is wrong with a calendar of five fields or a name like @daily.
func checkCron(s string) error {
	if strings.HasPrefix(s, "@") {
		if names := []string{"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}; !slices.Contains(names, s) {
			return fmt.Errorf("%s is none of %s", quoted(s), strings.Join(names, ", "))
		}
		return nil
	}
	fields := strings.Fields(s)
	if len(fields) != len(cronFields) {
		return fmt.Errorf("%s has %d fields, not 5", quoted(s), len(fields))
	}
	for i, field := range fields {
		f := cronFields[i]
		value := func(s string) (int, bool) {
			if n := slices.Index(f.names, strings.ToLower(s)); n >= 0 {
				return f.low + n, true
			}
			n, err := strconv.Atoi(s)
			return n, err == nil && n >= f.low && n <= f.high
		}
		for part := range strings.SplitSeq(field, ",") {
			span, step, stepped := strings.Cut(part, "/")
			if n, err := strconv.Atoi(step); stepped && (err != nil || n < 1) {
				return fmt.Errorf("the %s has the step %s", f.name, quoted(step))
			}
			if span == "*" {
				continue
			}
			from, to, ranged := strings.Cut(span, "-")
			a, ok := value(from)
			b, ok2 := a, true
			if ranged {
				b, ok2 = value(to)
			}
			if !ok || !ok2 || a > b {
				return fmt.Errorf("the %s %s is not within %d-%d", f.name, quoted(span), f.low, f.high)
			}
		}
	}
	return nil
}
