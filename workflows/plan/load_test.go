package plan

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestExamplesLoadAndResolve(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../examples/plans/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 2)
	for _, file := range files {
		p, err := Load(file)
		require.NoError(t, err, file)
		_, err = Resolve(p)
		require.NoError(t, err, file)
	}
}

func TestLoadTakesDirectoriesAndScriptsRelativeToThePlanFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := edit(t, base(t), "directory: /sites/primary", "directory: sites/primary")
	text = edit(t, text, "memory: 512MiB", "memory: 512MiB, script: after.sh")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "after.sh"), []byte("true\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "shop.yaml"), []byte(text), 0o600))
	p, err := Load(filepath.Join(dir, "shop.yaml"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "sites/primary"), p.Spec.Sites[0].Directory)
	require.Equal(t, map[string]string{"after.sh": "true\n"}, p.Scripts)
	r, err := Resolve(p)
	require.NoError(t, err)
	web, ok := r.Server("web")
	require.True(t, ok)
	require.Equal(t, "true\n", web.Script)
}

func TestLoadOfAMissingFileNamesIt(t *testing.T) {
	t.Parallel()
	_, err := Load("nowhere/shop.yaml")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "plan file nowhere/shop.yaml")
}

func TestReadWithoutFilesRefusesScripts(t *testing.T) {
	t.Parallel()
	_, err := Read("shop.yaml", []byte(edit(t, base(t), "memory: 512MiB", "memory: 512MiB, script: after.sh")), nil)
	require.ErrorContains(t, err, "load the plan from its file")
}

func TestFilesThatAreNoPlanAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x, x]\n"
	for c := 'b'; c < 'z'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c, *%c, *%c]\n", c, c, c-1, c-1, c-1)
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "shop.yaml:1:1: the file holds no plan; begin with apiVersion: lifeboat/v1 and kind: RecoveryPlan"},
		{"only a comment", "# nothing\n", "shop.yaml:1:1: the file holds no plan; begin with apiVersion: lifeboat/v1 and kind: RecoveryPlan"},
		{"null", "null\n", "shop.yaml:1:1: has no value; give it a value or take the key out"},
		{"list", "- a\n", "shop.yaml:1:1: must hold keys (apiVersion, kind, metadata, spec), not a list; write keys with values, indented below"},
		{"too long", "# " + strings.Repeat("x", MaxFileBytes), "shop.yaml: the plan file has 1048578 bytes, at most 1048576 are read; split it into several plans; long texts belong into scripts"},
		{"aliases that stand for more than memory", bomb, "shop.yaml:1:4: anchor &a: plan files have no anchors and aliases; write the value out where it is used"},
		{"merge key", "spec:\n  <<: {sites: []}\n", "shop.yaml:2:3: spec: has a key that is no text; write a plain key"},
		{"not UTF-8", "kind: x\nname: \xff\xfe\n", "shop.yaml:2:1: not valid YAML: invalid leading UTF-8 octet; save the file as UTF-8 text without control characters"},
		{"control character", "kind: x\nname: \x01\n", "shop.yaml:2:1: not valid YAML: control characters are not allowed; save the file as UTF-8 text without control characters"},
		{"unknown tag", "apiVersion: !go lifeboat/v1\n", `shop.yaml:1:13: apiVersion: must be a text, not a value of type "!go"; put it in quotes: "lifeboat/v1"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := read(c.text, nil)
			require.Error(t, err)
			require.Contains(t, strings.Split(err.Error(), "\n"), c.want)
			_, err = Parse("shop.yaml", []byte(c.text))
			require.Error(t, err)
		})
	}
}

func TestDefaultsFillInWhatIsLeftOutAndTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	text := edit(t, base(t), "memory: 512MiB", "memory: 512MiB, script: good.sh, health: {port: 80}")
	text = edit(t, text, "name: www.example.test", "name: www.example.test.")
	text = edit(t, text, "  steps:", "  drills: {schedule: 0 3 * * sat}\n  steps:")
	p, err := read(text, map[string]string{"good.sh": "true\n"})
	require.NoError(t, err)
	require.Equal(t, "primary", p.Spec.Sites[0].Agent)
	require.Equal(t, "cross-zone", p.Spec.SitePairs[0].Type)
	require.Equal(t, Keep{Count: 24, Within: Duration(24 * time.Hour)}, p.Spec.PointPolicies[0].Keep)
	require.Equal(t, "crash", p.Spec.PointPolicies[0].Consistency)
	require.True(t, *p.Spec.PointPolicies[0].AutoResume)
	require.Equal(t, "async", p.Spec.Tiers[0].Mode)
	require.Equal(t, Duration(5*time.Minute), p.Spec.Servers[0].Launch.ScriptTimeout)
	require.Equal(t, Duration(5*time.Minute), p.Spec.Servers[0].Launch.Health.Timeout)
	require.Equal(t, Duration(time.Minute), p.Spec.DNS[0].TTL)
	require.Equal(t, "www.example.test", p.Spec.DNS[0].Name)
	require.Equal(t, "none", p.Spec.Failover.Approval)
	require.Equal(t, "none", p.Spec.Failback.Approval)
	require.Equal(t, "UTC", p.Spec.Drills.TimeZone)

	once, err := json.Marshal(p)
	require.NoError(t, err)
	p.Defaults()
	twice, err := json.Marshal(p)
	require.NoError(t, err)
	require.JSONEq(t, string(once), string(twice))
	require.NoError(t, p.Validate())
}

func TestAutoResumeOffStaysOff(t *testing.T) {
	t.Parallel()
	p, err := read(edit(t, base(t), "every: 30s", "every: 30s, autoResume: false"), nil)
	require.NoError(t, err)
	require.False(t, *p.Spec.PointPolicies[0].AutoResume)
}

func TestAPlanSurvivesJSONAndStillValidates(t *testing.T) {
	t.Parallel()
	p, err := read(base(t), nil)
	require.NoError(t, err)
	text, err := json.Marshal(p)
	require.NoError(t, err)
	var back Plan
	require.NoError(t, json.Unmarshal(text, &back))
	require.NoError(t, back.Validate())
	a, err := Resolve(p)
	require.NoError(t, err)
	b, err := Resolve(&back)
	require.NoError(t, err)
	require.Equal(t, a, b)

	back.Spec.Servers[0].Launch.IP = "10.99.0.1"
	require.EqualError(t, back.Validate(), `spec.servers[0].launch.ip: 10.99.0.1 is outside recovery network "standby" (10.20.0.0/24); use an address from 10.20.0.1 to 10.20.0.254, or leave it out`)
}

func TestAFaultInALargePlanIsFoundQuickly(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	text := edit(t, base(t), "10.20.0.0/24}\n    - {name: standby", "10.20.0.0/24}\n    - {name: big, site: recovery, cidr: 10.64.0.0/12}\n    - {name: standby")
	text = edit(t, text, "  pointPolicies:", "    - {name: large, primary: primary, recovery: recovery, recoveryNetwork: big}\n  pointPolicies:")
	for i := range 5000 {
		fmt.Fprintf(&b, "    - {name: s%d, tier: gold, sitePair: large, source: s%d, launch: {type: small, ip: 10.64.%d.%d}}\n", i, i, i/250, i%250+1)
	}
	text = edit(t, text, "  dns:", b.String()+"  dns:")
	p, err := read(text, nil)
	require.NoError(t, err)
	r, err := Resolve(p)
	require.NoError(t, err)
	require.Len(t, r.Servers, 5002)
	_, err = read(strings.Replace(text, "ip: 10.64.19.250}", "ip: 10.64.0.1}", 1), nil)
	require.ErrorContains(t, err, `is already the address of server "s0"`)
}
