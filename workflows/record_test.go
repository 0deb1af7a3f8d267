//go:build record

package workflows

import (
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/encoding/protojson"
)

// TestRecord writes the history of every workflow of the server at TEMPORAL_ADDRESS
// to testdata/replay (make record, after a life cycle was run there).
func TestRecord(t *testing.T) {
	c, err := client.Dial(client.Options{HostPort: os.Getenv("TEMPORAL_ADDRESS")})
	require.NoError(t, err)
	defer c.Close()
	ctx := context.Background()
	all, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{})
	require.NoError(t, err)
	for _, e := range all.Executions {
		id, run := e.Execution.WorkflowId, e.Execution.RunId
		h := &historypb.History{}
		for it := c.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
			event, err := it.Next()
			require.NoError(t, err)
			h.Events = append(h.Events, event)
		}
		b, err := protojson.Marshal(h)
		require.NoError(t, err)
		name := e.Type.Name + "-" + strings.NewReplacer("/", "_", ":", "").Replace(id) + "-" + run[:8] + ".json.gz"
		f, err := os.Create(filepath.Join("testdata/replay", name))
		require.NoError(t, err)
		z := gzip.NewWriter(f)
		_, err = z.Write(b)
		require.NoError(t, err)
		require.NoError(t, z.Close())
		require.NoError(t, f.Close())
	}
}
