package plan

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func resolved(t *testing.T, text string) *Resolved {
	t.Helper()
	p, err := read(text, map[string]string{"good.sh": "true\n"})
	require.NoError(t, err)
	r, err := Resolve(p)
	require.NoError(t, err)
	return r
}

func TestResolveLooksUpEveryName(t *testing.T) {
	t.Parallel()
	text := edit(t, base(t), "recoveryNetwork: standby", "recoveryNetwork: standby, primaryNetwork: production, replicationNetwork: wires")
	text = edit(t, text, "  sitePairs:", "    - {name: wires, site: recovery, cidr: 10.30.0.0/28, zone: b}\n    - {name: trial, site: recovery, cidr: 10.40.0.0/24}\n  sitePairs:")
	text = edit(t, text, "name: standby,", "name: standby, zone: a,")
	text = edit(t, text, "  steps:", "  drills: {network: trial}\n  steps:")
	r := resolved(t, text)
	require.Equal(t, []string{"database", "web"}, []string{r.Servers[0].Name, r.Servers[1].Name})
	web, ok := r.Server("web")
	require.True(t, ok)
	require.Equal(t, "web-1", web.Source)
	require.Equal(t, "primary", web.Primary.Name)
	require.Equal(t, "/sites/recovery", web.Recovery.Directory)
	require.Equal(t, "often", web.Policy.Name)
	require.Equal(t, "standby", web.RecoveryNetwork.Name)
	require.Equal(t, "production", web.PrimaryNetwork.Name)
	require.Equal(t, "wires", web.ReplicationNetwork.Name)
	require.Equal(t, "trial", web.DrillNetwork.Name)
	require.Equal(t, "recovery takes longer: replication network wires is in zone b, recovery network standby in zone a, so disks cross zones", web.ZoneNote)
	require.Len(t, web.Records, 1)
	require.Empty(t, r.Servers[0].Records)
	require.Contains(t, r.Sites, "recovery")
	_, ok = r.Server("nobody")
	require.False(t, ok)
}

func TestDrillNetworkIsEmptyWhenTheDrillMakesItsOwn(t *testing.T) {
	t.Parallel()
	web, _ := resolved(t, base(t)).Server("web")
	require.Zero(t, web.DrillNetwork)
	require.Empty(t, web.ZoneNote)
}

func TestWavesFollowTheStepsAndServersInNoStepComeLast(t *testing.T) {
	t.Parallel()
	all := "name: web"
	more := ""
	for _, n := range []string{"a", "b", "c", "d", "rest"} {
		more += "    - {name: " + n + ", tier: gold, sitePair: main, source: " + n + ", launch: {type: small}}\n"
	}
	text := edit(t, base(t), "    - "+all+"\n", more+"    - "+all+"\n")
	text = edit(t, text, "    - {name: front,", "    - {name: d, servers: [d], after: [b, front]}\n    - {name: b, servers: [c, b], after: [a]}\n    - {name: a, servers: [a]}\n    - {name: front,")
	r := resolved(t, text)
	require.Equal(t, [][]string{{"a", "database"}, {"b", "c", "web"}, {"d"}, {"rest"}}, r.Waves)
	for i, wave := range r.Waves {
		for _, name := range wave {
			s, ok := r.Server(name)
			require.True(t, ok)
			require.Equal(t, i, s.Wave, name)
		}
	}
}

func TestHashIsOfTheContentAlone(t *testing.T) {
	t.Parallel()
	r := resolved(t, base(t))
	require.Len(t, r.Hash, 64)
	require.Equal(t, r.Hash, resolved(t, "# a comment\n"+edit(t, base(t), "every: 30s", "every: 0.5m")).Hash)
	require.NotEqual(t, r.Hash, resolved(t, edit(t, base(t), "every: 30s", "every: 31s")).Hash)
	require.NotEqual(t, resolved(t, edit(t, base(t), "cpu: 1", "cpu: 1, script: good.sh")).Hash, r.Hash)

	text, err := json.Marshal(r)
	require.NoError(t, err)
	var back Resolved
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, *r, back)
	back.Hash = ""
	text, err = json.Marshal(&back)
	require.NoError(t, err)
	require.Contains(t, string(text), `"recovery_network"`)
}

func TestResolveOfAPlanThatWasNotValidatedSaysSo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{"tier: gold", "tier: tin", `plan shop, server web: spec.tiers has no "tin"; validate the plan first`},
		{"servers: [database]", "servers: [database], after: [front]", "plan shop: steps form a cycle: data → front → data"},
		{"after: [data]", "after: [nothing]", "plan shop: a step comes after one that does not exist, or two steps have one name; validate the plan first"},
		{"memory: 512MiB", "memory: 512MiB, script: good.sh", "plan shop, server web: the content of script good.sh was not read; load the plan from its file"},
	} {
		p, err := Parse("shop.yaml", []byte(edit(t, base(t), c.old, c.new)))
		require.NoError(t, err)
		_, err = Resolve(p)
		require.EqualError(t, err, c.want)
	}
}
