package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/internal/built"
	"lifeboat/internal/demo/numbers"
	"lifeboat/workflows"
)

// programs builds what the demo runs, as it is delivered, and returns lifeboat.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	all, err := built.Build(t.Context(), dir)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(all.Temporal, filepath.Join(dir, "temporal")))
	return all.Lifeboat
}

func TestTheWholeStory(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	data := filepath.Join(t.TempDir(), "story")
	var told bytes.Buffer
	err := Run(ctx, Options{Executable: programs(t), Data: data, Size: 64 << 20, Out: &told})
	t.Log(told.String())
	require.NoError(t, err)
	require.Contains(t, told.String(), "Every promise was kept.")
	require.NoDirExists(t, data, "the demo leaves nothing behind")
}

func TestTheDemoDoesNotTakeADirectoryOfSomebodyElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600))
	err := Run(t.Context(), Options{Data: dir, Out: &bytes.Buffer{}})
	require.ErrorContains(t, err, "not empty")
	require.FileExists(t, filepath.Join(dir, "precious"))
}

func TestFaultsOfAResult(t *testing.T) {
	t.Parallel()
	rto, rpo := 2.0, 1.0
	good := func() result {
		return result{name: "failover", m: numbers.Measurement{RPO: time.Second},
			report: workflows.Report{Outcome: workflows.OutcomeDone, RTOSeconds: &rto, RPOSeconds: &rpo, RPOSource: "application"}}
	}
	require.Empty(t, good().faults(workflows.OutcomeDone))
	for want, spoil := range map[string]func(*result){
		"outcome failed":         func(r *result) { r.report.Outcome = workflows.OutcomeFailed },
		"2 resources left over":  func(r *result) { r.report.Resources = activities.Counts{Left: 2} },
		"no RTO":                 func(r *result) { r.report.RTOSeconds = nil },
		"no RPO by the applicat": func(r *result) { r.report.RPOSource = "point" },
		"the database 3.00 s":    func(r *result) { r.m.RPO = 3 * time.Second },
		"a hole":                 func(r *result) { r.m.Problems = []string{"a hole"} },
	} {
		r := good()
		spoil(&r)
		faults := r.faults(workflows.OutcomeDone)
		require.Len(t, faults, 1, want)
		require.Contains(t, faults[0], want)
	}
}

func TestCommandsAreShownAsTheyCanBeTyped(t *testing.T) {
	t.Parallel()
	require.Equal(t, `lifeboat local create-server app --command '["x", "y"]'`, shown([]string{"local", "create-server", "app", "--command", `["x", "y"]`}))
	require.Equal(t, []string{"aa bb", "cc", "dddddddd", "e"}, wrap("aa bb cc dddddddd e", 5))
	require.Equal(t, "70.2 MiB", size(73609052))
}

func TestACommandThatFailsSaysWhatItSaid(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "lifeboat")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho 'no such plan' >&2\nexit 2\n"), 0o700))
	c := &cli{executable: script, out: &page{w: &bytes.Buffer{}}}
	err := c.run(t.Context(), nil, "drill", "start", "shop")
	var failed *commandError
	require.True(t, errors.As(err, &failed))
	require.Equal(t, "lifeboat drill start shop: exit status 2: no such plan", fmt.Sprint(err))
}
