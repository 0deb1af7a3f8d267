package policy

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../../../.."

// made are the calls of the code, found once.
var made = sync.OnceValues(func() ([]Call, error) { return Calls(root) })

func callsMade(t *testing.T) []Call {
	t.Helper()
	calls, err := made()
	require.NoError(t, err)
	return calls
}

func TestThePoliciesAreThoseOfTheCalls(t *testing.T) {
	t.Parallel()
	files, err := Generate(callsMade(t))
	require.NoError(t, err)
	for name, text := range files {
		committed, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, committed), "%s is not what the calls need: go generate ./activities/cloud/aws/policy", name)
	}
	there, err := filepath.Glob(filepath.Join(root, "docs/aws/*.json"))
	require.NoError(t, err)
	require.Len(t, there, len(files), "nothing else is there")
}

func TestPoliciesGrantNoMoreThanIsNeeded(t *testing.T) {
	t.Parallel()
	files, err := Generate(callsMade(t))
	require.NoError(t, err)
	for name, text := range files {
		var d document
		require.NoError(t, json.Unmarshal(text, &d))
		chars := strings.Map(func(r rune) rune {
			if unicode.IsSpace(r) {
				return -1
			}
			return r
		}, string(text))
		assert.LessOrEqual(t, len(chars), MaxChars, "%s is too long for a managed policy", name)
		sids := map[string]bool{}
		for _, s := range d.Statement {
			assert.False(t, sids[s.Sid], "%s: two statements %s", name, s.Sid)
			sids[s.Sid] = true
			for _, a := range s.Action {
				assert.NotContains(t, a, "*", "%s: %s", name, s.Sid)
				if slices.Contains(s.Resource, "*") && s.Condition == nil {
					assert.True(t, onlyLooks(a) || a == "route53:CreateHealthCheck", "%s: %s is allowed on everything", name, a)
				}
				if name == Auditor {
					assert.True(t, onlyLooks(a) || a == "s3:GetObject" || strings.HasPrefix(a, "cloudformation:Detect"), "an auditor changes nothing: %s", a)
					assert.False(t, strings.HasPrefix(a, "ebs:"), "nor do auditors read disks: %s", a)
				}
			}
			for _, deletes := range []string{"ec2:DeleteVolume", "ec2:DeleteSnapshot", "ec2:TerminateInstances", "ec2:DeregisterImage", "ec2:DeleteSubnet", "ec2:ReleaseAddress"} {
				if slices.Contains(s.Action, deletes) {
					assert.Equal(t, "false", s.Condition["Null"]["aws:ResourceTag/"+tagPlan], "%s: only what Lifeboat made", deletes)
				}
			}
		}
	}
}

// onlyLooks tells by its name whether an action changes nothing.
func onlyLooks(action string) bool {
	_, name, _ := strings.Cut(action, ":")
	for _, verb := range []string{"Describe", "List", "Get"} {
		if strings.HasPrefix(name, verb) {
			return true
		}
	}
	return false
}

func TestEachCallHasItsRowAndEachRowItsStatementAndSource(t *testing.T) {
	t.Parallel()
	calls := callsMade(t)
	require.Contains(t, calls, Call("ec2.DescribeVolumes"), "paginators are found")
	require.Contains(t, calls, Call("ebs.PutSnapshotBlock"), "calls through an interface are found")
	require.Contains(t, calls, Call("sts.AssumeRole"), "what credentials ask is found")
	needs, err := Needs(calls)
	require.NoError(t, err)
	for action, files := range needs {
		assert.NotEmpty(t, files, action)
	}
	for c, grants := range table {
		service, _, _ := strings.Cut(string(c), ".")
		assert.NotEmpty(t, reference[service], "%s: where is it written?", c)
		for _, g := range grants {
			assert.NotEmpty(t, g.in, "%s %s", c, g.action)
			for _, sid := range g.in {
				_, ok := statementOf(sid)
				assert.True(t, ok, "%s %s", c, sid)
			}
		}
	}
	_, err = Needs([]Call{"ec2.DeleteVpc"})
	require.ErrorContains(t, err, "ec2.DeleteVpc", "a new call needs a row")
	require.ErrorContains(t, err, "list_amazonec2.html")
}

// An agent next to disks and the workflows talk to Temporal and to each other alone: they need no policy.
func TestAgentsAndWorkflowsHaveNoPartOfTheSDK(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"lifeboat/replication", "lifeboat/workflows/plan"} {
		packages, err := list(root, name)
		require.NoError(t, err)
		for path := range packages {
			assert.False(t, strings.HasPrefix(path, sdk), "%s needs %s", name, path)
		}
	}
}
