package workflows

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/activities"
)

// worstFirst is the order in which people read the lines.
var worstFirst = []activities.CheckStatus{activities.CheckFail, activities.CheckUnknown, activities.CheckWarn, activities.CheckOK}

// WorstFirst gives the lines in the order in which people read them: failures, what is not
// known, warnings, and what is fine; each in the order in which it was asked.
func (r *ReadinessReport) WorstFirst() []activities.Check {
	sorted := slices.Clone(r.Checks)
	slices.SortStableFunc(sorted, func(a, b activities.Check) int {
		return slices.Index(worstFirst, a.Status) - slices.Index(worstFirst, b.Status)
	})
	return sorted
}

// Verdict is the report in one line.
func (r *ReadinessReport) Verdict() string {
	counts := fmt.Sprintf("%d failed, %d unknown, %d warnings, %d fine", r.Counts.Fail, r.Counts.Unknown, r.Counts.Warn, r.Counts.OK)
	switch {
	case r.Outcome != OutcomeDone:
		return string(r.Outcome)
	case !r.Ready:
		return "NOT ready: " + counts
	case r.Counts.Unknown > 0:
		return "ready as far as it is known: " + counts
	}
	return "ready: " + counts
}

// markdown is the page of a readiness check in the Web UI; it has a limit, so that long lists
// of what is fine are only counted.
func (r *ReadinessReport) markdown() string {
	const most = 100
	var b strings.Builder
	fmt.Fprintf(&b, "### readiness of plan %s: **%s**\n\n", r.Plan, r.Verdict())
	if len(r.Checks) == 0 {
		return b.String()
	}
	b.WriteString("| | of | check | what was looked at | found | mend |\n|---|---|---|---|---|---|\n")
	for i, c := range r.WorstFirst() {
		if i == most {
			fmt.Fprintf(&b, "\nand %d more lines\n", len(r.Checks)-most)
			break
		}
		fmt.Fprintf(&b, "| **%s** | %s %s | %s | %s | %s | %s |\n", c.Status, c.Site, c.Server, c.Check, c.Subject, c.Cause, c.Mend)
	}
	if r.Ended != nil {
		fmt.Fprintf(&b, "\nAsked for %s.\n", r.Ended.Sub(r.Started).Round(1e6))
	}
	return b.String()
}
