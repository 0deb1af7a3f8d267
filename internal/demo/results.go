package demo

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat/internal/demo/numbers"
	"lifeboat/workflows"
)

// result is one row of the final table.
type result struct {
	name   string
	report workflows.Report
	m      numbers.Measurement
}

// tolerance between the RPO that the report names and the one found in the database.
const tolerance = 100 * time.Millisecond

// faults says in words what was not as promised.
func (r result) faults(wanted workflows.Outcome) []string {
	var faults []string
	if r.report.Outcome != wanted {
		faults = append(faults, fmt.Sprintf("outcome %s instead of %s: %s", r.report.Outcome, wanted, r.report.Reason))
	}
	faults = append(faults, r.m.Problems...)
	if left := r.report.Resources.Left; left != 0 {
		faults = append(faults, fmt.Sprintf("%d resources left over: %s", left, strings.Join(r.report.Resources.LeftOver, ", ")))
	}
	if r.report.RTOSeconds == nil {
		faults = append(faults, "no RTO was measured")
	}
	switch rpo := r.report.RPOSeconds; {
	case rpo == nil || r.report.RPOSource != "application":
		faults = append(faults, "the report knows no RPO by the application")
	case r.m.RPO-time.Duration(*rpo*float64(time.Second)) > tolerance:
		faults = append(faults, fmt.Sprintf("the report says RPO %s, the database %s", seconds(rpo), short(r.m.RPO)))
	}
	return faults
}

func (r result) row() []string {
	res := r.report.Resources
	lost := strconv.Itoa(r.m.LostAfter)
	if r.name == "drill" {
		lost = "-"
	}
	return []string{r.name, seconds(r.report.RTOSeconds), short(r.m.RPO), strconv.Itoa(r.m.Found), lost,
		strconv.Itoa(res.Created), strconv.Itoa(res.Deleted), strconv.Itoa(res.Kept), strconv.Itoa(res.Left)}
}

var tableHead = []string{"operation", "RTO", "RPO", "writes found", "lost", "created", "deleted", "in service", "left"}

// recovery puts together what Measure needs to know from a report.
func recovery(report workflows.Report, url string, client *http.Client) (numbers.Recovery, error) {
	if len(report.Servers) != 1 || report.Servers[0].PointTime == nil || report.Stamps.Declared == nil {
		return numbers.Recovery{}, fmt.Errorf("%s: the report lacks server, point or stamps", report.WorkflowID)
	}
	return numbers.Recovery{URL: url, Client: client, Declared: *report.Stamps.Declared, PointTime: *report.Servers[0].PointTime}, nil
}

// measure compares the recovered server that serves now with what the client was told.
func (s *story) measure(ctx context.Context, name string, report workflows.Report) (result, error) {
	url, err := s.world.URL(ctx)
	if err != nil {
		return result{}, err
	}
	r, err := recovery(report, url, nil)
	if err != nil {
		return result{}, err
	}
	m, err := s.world.History.Measure(ctx, r)
	return result{name: name, report: report, m: m}, err
}

// keep notes a result for the final table, and its faults.
func (s *story) keep(r result, wanted workflows.Outcome) {
	s.results = append(s.results, r)
	for _, fault := range r.faults(wanted) {
		s.fault("%s: %s", r.name, fault)
	}
}

func (s *story) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.faults = append(s.faults, text)
	s.page.say("! %s", text)
}

// longest says in words in which steps the time of an operation went.
func longest(report workflows.Report) string {
	steps := slices.Clone(report.Steps)
	steps = slices.DeleteFunc(steps, func(s workflows.StepReport) bool { return s.Ended == nil })
	slices.SortStableFunc(steps, func(a, b workflows.StepReport) int {
		return cmp.Compare(b.Ended.Sub(b.Started), a.Ended.Sub(a.Started))
	})
	var words []string
	for _, s := range steps[:min(3, len(steps))] {
		words = append(words, s.Name+" "+short(s.Ended.Sub(s.Started)))
	}
	return strings.Join(words, ", ")
}
