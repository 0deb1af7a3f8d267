// Package layout holds the rules of docs/architecture.md about which package may
// depend on which.
package layout

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDependenciesPointOneWay(t *testing.T) {
	t.Parallel()
	const onMachines, onAWS = "lifeboat/activities/cloud/local", "lifeboat/activities/cloud/aws"
	for _, rule := range []struct {
		pkg    string
		never  []string // with what is below, unless it ends with $
		reason string
	}{
		{"lifeboat/replication", []string{"go.temporal.io/", "lifeboat/activities", "lifeboat/workflows", "github.com/aws/", "github.com/aliyun/"},
			"the block engine could be a library of its own"},
		{"lifeboat/workflows/plan", []string{"go.temporal.io/", "lifeboat/activities", "lifeboat/replication"}, "a plan can be checked without Temporal"},
		{"lifeboat/activities", []string{"lifeboat/workflows", onMachines, onAWS, "github.com/aws/"}, "each activity has its own input; only worker knows providers"},
		{"lifeboat/workflows", []string{onMachines, onAWS, "github.com/aws/", "github.com/aliyun/"}, "workflows know no provider, not even transitively"},
		{"lifeboat/activities/cloud", []string{"go.temporal.io/", "lifeboat/replication", onMachines, onAWS}, "the contract is neutral"},
		{"lifeboat/activities/cloud/local", []string{"go.temporal.io/", "lifeboat/workflows", "lifeboat/replication$", "lifeboat/replication/delta"},
			"a provider knows only the contract, and where its bytes are stored"},
		{onAWS, []string{"go.temporal.io/", "lifeboat/workflows", "lifeboat/replication$", "lifeboat/replication/delta", onMachines},
			"a provider knows only the contract, and how its snapshots are read by blocks"},
		{"lifeboat/activities/agentless", []string{"go.temporal.io/", "lifeboat/workflows", onMachines, onAWS, "github.com/aws/"},
			"points without agents are cut at any provider"},
		{"lifeboat/replication/delta", []string{"go.temporal.io/", "lifeboat/replication$", "lifeboat/replication/store", "lifeboat/activities", "lifeboat/workflows"},
			"the core moves volumes, whatever they are"},
		{"lifeboat/replication/store", []string{"go.temporal.io/", "lifeboat/replication$", "lifeboat/replication/delta", "lifeboat/activities", "lifeboat/workflows"},
			"a store of recovery points is a volume to the core"},
		{"lifeboat/replication/ebs", []string{"go.temporal.io/", "lifeboat/replication$", "lifeboat/replication/delta", "lifeboat/activities", "lifeboat/workflows"},
			"a snapshot in blocks is a volume to the core"},
	} {
		t.Run(rule.pkg, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("go", "list", "-deps", rule.pkg).CombinedOutput()
			require.NoError(t, err, string(out))
			for _, dep := range strings.Fields(string(out)) {
				for _, never := range rule.never {
					if dep == strings.TrimRight(never, "/$") || !strings.HasSuffix(never, "$") && strings.HasPrefix(dep, strings.TrimSuffix(never, "/")+"/") {
						t.Errorf("%s depends on %s, but %s", rule.pkg, dep, rule.reason)
					}
				}
			}
		})
	}
}
