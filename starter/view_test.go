package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"lifeboat/activities"
	"lifeboat/replication"
	"lifeboat/workflows"
)

func TestTablesAndDocuments(t *testing.T) {
	t.Parallel()
	points := []activities.Point{
		{ID: "p-17", Stream: "shop/db", Epoch: 1, Time: noon, Kind: replication.PointScheduled, Consistency: "crash", Verified: true,
			Disks: []replication.PointDisk{{Name: "data", Bytes: 1 << 30, Root: "blake3:ab"}}, CutMethod: "reflink"},
		{ID: "p-16", Stream: "shop/db", Epoch: 1, Time: *at(-time.Minute), Label: "before-upgrade", Kind: replication.PointMarked, Consistency: "crash",
			Verified: true, Locked: true, InUse: true, TestedAt: at(0), Disks: []replication.PointDisk{{Name: "data", Bytes: 1 << 30, Root: "blake3:cd"}},
			CutMethod: "pause", Pause: 120 * time.Millisecond},
	}
	h := fleetHouse().withReport(failoverReport(workflows.OutcomeDone, ""))
	h.answers["server/shop/db points"] = []any{points}
	h.schedules = []scheduleView{{Plan: "shop", Schedule: "drill-schedule/shop", Paused: true, Note: "a drill failed", Calendars: []string{"0 3 * * 6"},
		TimeZone: "UTC", Next: []time.Time{*at(time.Hour)}, Recent: []pastAction{{Time: *at(-time.Hour), WorkflowID: "drill-schedule/shop-1"}}}}
	for name, args := range map[string][]string{
		"server-list":        {"server", "list"},
		"server-list-json":   {"server", "list", "shop", "-o", "json"},
		"server-show":        {"server", "show", "shop/db"},
		"server-explain":     {"server", "explain", "shop/db"},
		"plan-list":          {"plan", "list"},
		"plan-show":          {"plan", "show", "shop"},
		"replication-status": {"replication", "status", "shop"},
		"point-list":         {"point", "list", "shop/db"},
		"point-list-json":    {"point", "list", "shop/db", "-o", "json"},
		"failover-show":      {"failover", "show", "shop"},
		"failover-show-json": {"failover", "show", "shop", "-o", "json"},
		"failover-show-yaml": {"failover", "show", "shop", "-o", "yaml"},
		"report-list":        {"report", "list"},
		"drill-list":         {"drill", "list", "shop"},
		"schedule-list":      {"schedule", "list"},
		"status":             {"status"},
		"status-json":        {"status", "-o", "json"},
		"init":               {"init"},
	} {
		r := run(t, h, args...).done(t)
		golden(t, name, r.out)
	}
}

// TestYAMLIsTheSameDocument also holds for strings that look like other types.
func TestYAMLIsTheSameDocument(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	a := newApp(Streams{Out: &out})
	a.output = outputYAML
	want := map[string]any{"a": "yes", "b": "12", "c": "null", "d": "two\nlines", "e": "# x: y", "f": []any{}, "g": map[string]any{}, "h": 1.5, "i": nil, "j": "", "k": "2026-03-01", "l": true}
	require.NoError(t, a.print(want, nil))
	var got map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(out.String()), &got))
	require.Equal(t, want, got, out.String())
	require.NotContains(t, out.String(), "{\"")
}

func TestListsOfNothingAreEmptyLists(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"server", "list"}, {"plan", "list"}, {"report", "list"}, {"drill", "list"}, {"replication", "status"}} {
		r := run(t, newFakeHouse(), append(args, "-o", "json")...).done(t)
		require.Equal(t, "[]\n", r.out, "%v", args)
	}
}

func TestOneServerThatDoesNotAnswerDoesNotHideTheOthers(t *testing.T) {
	t.Parallel()
	h := fleetHouse()
	h.answers["server/shop/web status"] = []any{unreachablef(nil, "no worker is running")}
	r := run(t, h, "server", "list", "-o", "json")
	require.Equal(t, statusUnreachable, r.status)
	require.Contains(t, r.out, `"name": "db"`)
	require.Equal(t, "lifeboat: shop/web: no worker is running\n", r.err)
}

func TestLiveProgressIsPutOverWhatTheEntityWasToldLast(t *testing.T) {
	t.Parallel()
	h := fleetHouse()
	h.following["server/shop/web"] = &activities.StreamStatus{Stream: "shop/web", Epoch: 1, Stage: "full", Health: "lagging", HealthReason: "slow link",
		BytesTotal: 4 << 30, BytesDone: 2 << 30, Percent: 50, ETA: 20 * time.Second, Lag: time.Second}
	// A follower of an earlier epoch reports about another stream of bytes.
	h.following["server/shop/db"] = &activities.StreamStatus{Stream: "shop/db", Epoch: 0, Stage: "full", Percent: 1}
	r := run(t, h, "replication", "status", "shop", "-o", "json").done(t)
	var states []workflows.ServerView
	require.NoError(t, json.Unmarshal([]byte(r.out), &states))
	require.Equal(t, "real-time", states[0].Replication.Stage)
	require.InDelta(t, 50, states[1].Replication.Percent, 0)
	require.InDelta(t, 20, states[1].Replication.ETASeconds, 0)
	require.Equal(t, "slow link", states[1].HealthReason)
}

func TestLengthsAreShortAndUnambiguous(t *testing.T) {
	t.Parallel()
	for s, want := range map[float64]string{-1: "-", 0: "0.0s", 0.04: "0.0s", 3.25: "3.2s", 42.4: "42.4s", 61: "1m01s", 3600: "1h00m", 5400: "1h30m", 200000: "2d"} {
		require.Equal(t, want, seconds(s), "%v s", s)
	}
}

func TestCompletionKnowsLiveNames(t *testing.T) {
	t.Parallel()
	h := fleetHouse()
	h.answers["server/shop/db points"] = []any{[]activities.Point{{ID: "p-17", Time: noon, Kind: replication.PointScheduled}}}
	for want, args := range map[string][]string{
		"shop\n":                          {"plan", "show", ""},
		"shop/db\nshop/web\n":             {"server", "show", ""},
		"shop\nshop/db\nshop/web\n":       {"replication", "start", ""},
		"p-17\t2026-03-01T12:00:00Z":      {"point", "lock", "shop/db", ""},
		"latest\ncurrent-time\n":          {"failover", "start", "shop/db", "--point", ""},
		"drill/shop/1\nfailover/shop/2\n": {"report", "show", ""},
		"initialized\n":                   {"replication", "start", "--wait", ""},
		"json\n":                          {"plan", "list", "-o", ""},
	} {
		r := run(t, h, append([]string{"__complete"}, args...)...).done(t)
		if args[0] == "replication" && len(args) == 4 {
			// --wait has its value after =, so that a bare word is an argument.
			continue
		}
		require.Contains(t, r.out, want, "%v", args)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		r := run(t, nil, "completion", shell).done(t)
		require.Contains(t, r.out, "lifeboat")
	}
}
