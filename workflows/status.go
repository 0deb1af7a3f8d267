package workflows

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"go.temporal.io/sdk/workflow"

	"lifeboat/activities"
)

// words makes one line of an error: the thing, the cause, the mend.
func words(err error) string {
	_, message, mend := activities.Explain(err)
	if mend == "" {
		return message
	}
	return message + " (" + mend + ")"
}

// markdown is the page of a protected server in the Web UI.
func (s *ServerState) markdown(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s/%s: **%s**\n\n", s.Plan, s.Spec.Name, s.Phase)
	fmt.Fprintf(&b, "| | |\n|---|---|\n| direction | %s → %s |\n| health | %s", s.sourceSite().Name, s.targetSite().Name, s.Health)
	if s.HealthReason != "" {
		fmt.Fprintf(&b, ": %s", s.HealthReason)
	}
	fmt.Fprintf(&b, " |\n| epoch | %d |\n", s.Epoch)
	if s.Stream != nil {
		st := s.Stream.Status
		fmt.Fprintf(&b, "| replication | %s, %.0f %%, %s/s, lag %s |\n", st.Stage, st.Percent, units.HumanSizeWithPrecision(st.RateBytesPerSecond, 3), st.Lag.Round(time.Second))
	}
	if limit := bandwidthOf(s.Settings); limit != "" {
		fmt.Fprintf(&b, "| bandwidth limit | %s |\n", limit)
	}
	if len(s.Points) > 0 {
		fmt.Fprintf(&b, "| newest recovery point | `%s`, %s UTC (of %d) |\n", s.Points[0].ID, s.Points[0].Time.UTC().Format(time.DateTime), len(s.Points))
	}
	if s.Drill != DrillNone {
		fmt.Fprintf(&b, "| drill | %s, `%s` |\n", s.Drill, s.DrillID)
	}
	if s.Operation != "" {
		fmt.Fprintf(&b, "| operation | `%s` |\n", s.Operation)
	}
	if s.Recovered != nil {
		fmt.Fprintf(&b, "| recovered server | `%s` at %s %s |\n", s.Recovered.ID, s.Recovered.IP, s.Recovered.Public)
	}
	if s.LastError != "" {
		fmt.Fprintf(&b, "\n**Last error:** %s\n", s.LastError)
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "\n- %s\n", n)
	}
	fmt.Fprintf(&b, "\nLegal now: %s\n\nAs of %s UTC.\n", strings.Join(s.Allowed(), ", "), now.UTC().Format(time.DateTime))
	return b.String()
}

// markdown is the page of an operation in the Web UI.
func (r *Report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s of plan %s: **%s**\n\n", r.Operation, r.Plan, r.Outcome)
	if r.Reason != "" {
		fmt.Fprintf(&b, "> %s\n\n", r.Reason)
	}
	b.WriteString("| server | recovery point | where to look | fencing |\n|---|---|---|---|\n")
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "| %s | %s | %s %s | %s |\n", s.Name, s.Point, s.IP, s.Public, s.Fencing)
	}
	b.WriteString("\n| step | server | state | took | |\n|---|---|---|---|---|\n")
	for _, s := range r.Steps {
		took := "…"
		if s.Ended != nil {
			took = s.Ended.Sub(s.Started).Round(time.Millisecond).String()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", s.Name, s.Server, s.State, took, s.Detail)
	}
	if r.RTOSeconds != nil {
		fmt.Fprintf(&b, "\nRTO achieved: **%.1f s**%s", *r.RTOSeconds, verdict(r.RTOKept))
	}
	if r.RPOSeconds != nil {
		fmt.Fprintf(&b, " · RPO achieved: **%.1f s** (%s)%s", *r.RPOSeconds, r.RPOSource, verdict(r.RPOKept))
	}
	fmt.Fprintf(&b, "\n\nResources: %d created, %d deleted, %d left.\n", r.Resources.Created, r.Resources.Deleted, r.Resources.Left)
	return b.String()
}

// verdict says whether an objective was kept.
func verdict(kept *bool) string {
	switch {
	case kept == nil:
		return ""
	case *kept:
		return ", objective kept"
	default:
		return ", **objective missed**"
	}
}

// callID is an update ID that is the same when the same run makes the same call
// again, and differs between calls.
func callID(ctx workflow.Context, update string) string {
	info := workflow.GetInfo(ctx)
	return fmt.Sprintf("%s/%s/%d", info.WorkflowExecution.RunID, update, info.GetCurrentHistoryLength())
}
