package policy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/workflows/plan"
)

func TestTheWalkThroughHasAPlanThatIsValidAndNamesAllPolicies(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs/aws.md"))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	document, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	path := filepath.Join(t.TempDir(), "shop.yaml")
	require.NoError(t, os.WriteFile(path, []byte(document), 0o600))
	_, err = plan.Load(path)
	require.NoError(t, err)

	files, err := Generate(callsMade(t))
	require.NoError(t, err)
	for name, policy := range files {
		require.Contains(t, string(text), "`"+filepath.Base(name)+"`")
		for _, place := range regexp.MustCompile(`@[A-Z-]+@`).FindAllString(string(policy), -1) {
			require.Contains(t, string(text), "s/"+place+"/", "how %s is replaced in %s", place, name)
		}
	}
}
