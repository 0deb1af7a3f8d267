package workflows

import (
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
)

// Histories in testdata/replay were recorded from code that ran (make record): every
// later version must replay them, under any time-outs.
func TestRecordedHistoriesReplay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/replay/*.json.gz")
	require.NoError(t, err)
	types := map[string]bool{}
	for _, file := range files {
		types[strings.SplitN(filepath.Base(file), "-", 2)[0]] = true
		for name, timing := range map[string]Timing{"fast": Fast(), "standard": Standard()} {
			t.Run(filepath.Base(file)+"/"+name, func(t *testing.T) {
				t.Parallel()
				replay(t, file, timing)
			})
		}
	}
	for _, name := range []string{PlanWorkflow, ServerWorkflow, DrillWorkflow, FailoverWorkflow, SwitchPointWorkflow, ReverseWorkflow, FailbackWorkflow, ScheduledDrillWorkflow, ReadinessWorkflow} {
		require.True(t, types[name], "no history of %s is recorded: make record", name)
	}
}

func replay(t *testing.T, file string, timing Timing) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	history, err := client.HistoryFromJSON(z, client.HistoryJSONOptions{})
	require.NoError(t, err)
	replayer := worker.NewWorkflowReplayer()
	Register(replayer, timing)
	require.NoError(t, replayer.ReplayWorkflowHistory(nil, history))
}
