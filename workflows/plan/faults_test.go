package plan

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// base is a valid plan; each fault below is one edit of it.
func base(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/base.yaml")
	require.NoError(t, err)
	return string(text)
}

// edit replaces the first occurrence of old, which must be there.
func edit(t testing.TB, text, old, new string) string {
	t.Helper()
	require.Contains(t, text, old)
	return strings.Replace(text, old, new, 1)
}

// read loads a plan text with the given scripts as the only files.
func read(text string, files map[string]string) (*Plan, error) {
	return Read("shop.yaml", []byte(text), func(name string) ([]byte, error) {
		if content, ok := files[name]; ok {
			return []byte(content), nil
		}
		return nil, fs.ErrNotExist
	})
}

type fault struct{ name, old, new, want string }

var formFaults = []fault{
	{"unknown key", "cidr: 10.20.0.0/24", "cidrr: 10.20.0.0/24",
		`shop.yaml:10:41: spec.networks[0].cidrr: unknown key; did you mean "cidr"?`},
	{"unknown key of an American", "  steps:", "  licenses: []\n  steps:",
		`shop.yaml:31:3: spec.licenses: unknown key; did you mean "licences"?`},
	{"unknown key with nothing near", "kind: RecoveryPlan", "kind: RecoveryPlan\nweather: fine",
		"shop.yaml:3:1: weather: unknown key; known here: apiVersion, kind, metadata, spec"},
	{"key twice", "      tier: gold", "      tier: gold\n      tier: gold",
		"shop.yaml:21:7: spec.servers[0].tier: is there twice, first at line 20; keep one of them"},
	{"secret key", "provider: local", "accessKeySecret: x, provider: local",
		"shop.yaml:7:23: spec.sites[0].accessKeySecret: secrets never belong into a plan; take it out (and change it where it is used); give credentials to the worker in its environment or in a file"},
	{"secret value", "source: web-1", "source: AKIAABCDEFGHIJKLMNOP",
		"shop.yaml:22:15: spec.servers[0].source: looks like a secret: secrets never belong into a plan; take it out (and change it where it is used); give credentials to the worker in its environment or in a file"},
	{"missing key", "      source: web-1\n", "",
		"shop.yaml:19:7: spec.servers[0].source: is required and missing; add it"},
	{"missing section", "  tiers:\n    - {name: gold, strategy: replicate, pointPolicy: often}\n", "",
		"shop.yaml:5:1: spec.tiers: is required and missing; add at least one item"},
	{"empty list", "servers: [database]", "servers: []",
		"shop.yaml:32:20: spec.steps[0].servers: is required and empty; add at least one item"},
	{"empty text", "source: web-1", `source: ""`,
		"shop.yaml:22:15: spec.servers[0].source: is required and empty; add it"},
	{"empty item", "after: [data]", `after: [""]`,
		"shop.yaml:33:45: spec.steps[1].after[0]: is empty; write a name or take the item out"},
	{"no value", "source: web-1", "source:",
		"shop.yaml:22:14: spec.servers[0].source: has no value; give it a value or take the key out"},
	{"duration without unit", "every: 30s", "every: 30",
		"shop.yaml:15:28: spec.pointPolicies[0].every: 30 has no unit; write a number with its unit, for example 30s, 5m or 24h"},
	{"duration of nonsense", "every: 30s", "every: soon",
		`shop.yaml:15:28: spec.pointPolicies[0].every: "soon" is not a duration; write a number with its unit, for example 30s, 5m or 24h`},
	{"size without unit", "memory: 512MiB", "memory: 512",
		"shop.yaml:23:32: spec.servers[0].launch.memory: 512 has no unit; write a number with its unit, for example 512MiB or 10GB"},
	{"size of nonsense", "memory: 512MiB", "memory: lots",
		`shop.yaml:23:32: spec.servers[0].launch.memory: "lots" is not a size; write a number with its unit, for example 512MiB or 10GB`},
	{"size with keys", "memory: 512MiB", "memory: {mib: 512}",
		"shop.yaml:23:32: spec.servers[0].launch.memory: must be a value with its unit, not keys with values; write one value with its unit"},
	{"number for a text", "source: web-1", "source: 4711",
		`shop.yaml:22:15: spec.servers[0].source: must be a text, not the number "4711"; put it in quotes: "4711"`},
	{"list for a text", "source: web-1", "source: [web-1]",
		"shop.yaml:22:15: spec.servers[0].source: must be one value, not a list; write one value"},
	{"text for a list", "after: [data]", "after: data",
		`shop.yaml:33:44: spec.steps[1].after: must be a list, not the text "data"; write a list: one item a line, each after a dash`},
	{"text for keys", "launch: {cpu: 1, memory: 512MiB, ip: 10.20.0.11}", "launch: small",
		`shop.yaml:23:15: spec.servers[0].launch: must hold keys (type, cpu, memory, diskType, settings, ip, publicIP, script, scriptTimeout, health), not the text "small"; write keys with values, indented below`},
	{"text for a number", "cpu: 1", "cpu: one",
		`shop.yaml:23:21: spec.servers[0].launch.cpu: "one" is not a whole number; write a whole number in digits, without quotes`},
	{"octal number", "cpu: 1", "cpu: 010",
		`shop.yaml:23:21: spec.servers[0].launch.cpu: "010" is not a whole number; write a whole number in digits, without quotes`},
	{"text for a truth value", "every: 30s", "every: 30s, autoResume: yes",
		`shop.yaml:15:45: spec.pointPolicies[0].autoResume: "yes" is neither true nor false; write true or false`},
	{"control character", "source: web-1", `source: "web\u0007"`,
		"shop.yaml:22:15: spec.servers[0].source: holds the control character U+0007; take it out"},
	{"unknown version", "apiVersion: lifeboat/v1", "apiVersion: lifeboat/v2",
		`shop.yaml:1:13: apiVersion: "lifeboat/v2" is not known; did you mean "lifeboat/v1"?`},
	{"unknown strategy", "strategy: replicate", "strategy: replicat",
		`shop.yaml:17:30: spec.tiers[0].strategy: "replicat" is not known; did you mean "replicate"?`},
	{"unknown provider", "provider: local", "provider: moon",
		`shop.yaml:7:33: spec.sites[0].provider: "moon" is not known; write local or aws`},
	{"zero count", "every: 30s", "every: 30s, keep: {count: 0}",
		"shop.yaml:15:47: spec.pointPolicies[0].keep.count: 0 is less than 1; write a number from 1, or take the key out"},
	{"negative count", "every: 30s", "every: 30s, keep: {count: -1}",
		"shop.yaml:15:47: spec.pointPolicies[0].keep.count: -1 is less than 1; write a number from 1"},
	{"port too high", "memory: 512MiB", "memory: 512MiB, health: {port: 70000}",
		"shop.yaml:23:55: spec.servers[0].launch.health.port: 70000 is more than 65535; write a number up to 65535"},
	{"health path", "memory: 512MiB", "memory: 512MiB, health: {port: 80, http: health}",
		`shop.yaml:23:65: spec.servers[0].launch.health.http: "health" is not a path; begin it with /`},
	{"bad name", "name: shop", "name: My Shop",
		`shop.yaml:4:9: metadata.name: "My Shop" is not a name; use lower-case letters, digits and dashes inside, for example "my-shop"`},
	{"long name", "name: shop", "name: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		`shop.yaml:4:9: metadata.name: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" has 41 characters; shorten it to 40: names are part of workflow IDs`},
	{"alias", "every: 30s", "every: &a 30s",
		"shop.yaml:15:28: anchor &a: plan files have no anchors and aliases; write the value out where it is used"},
	{"two documents", "kind: RecoveryPlan", "kind: RecoveryPlan\n---\nkind: RecoveryPlan",
		"shop.yaml:4:1: the file holds more than one document; write each plan into a file of its own"},
	{"tab", "kind: RecoveryPlan", "kind: RecoveryPlan\n\tx: y",
		"shop.yaml:3:1: not valid YAML: found a tab character that violates indentation; indent with blanks, not tabs"},
	{"wrong indentation", "  name: shop", "    name: shop\n  x: y",
		"shop.yaml:5:1: not valid YAML: did not find expected key; check indentation, colons, brackets and quotes from this line on"},
	{"open quote", "source: web-1", `source: "web-1`,
		"shop.yaml:22:1: not valid YAML: found unexpected end of stream; check indentation, colons, brackets and quotes from this line on"},
	{"no YAML", "kind: RecoveryPlan", "kind: [RecoveryPlan",
		"shop.yaml:2:1: not valid YAML: did not find expected ',' or ']'; check indentation, colons, brackets and quotes from this line on"},
}

var meaningFaults = []fault{
	{"unknown tier", "tier: gold", "tier: gould",
		`shop.yaml:20:13: spec.servers[0].tier: "gould" is not in spec.tiers, which has: gold; did you mean "gold"?`},
	{"unknown site", "site: primary", "site: elsewhere",
		`shop.yaml:10:32: spec.networks[0].site: "elsewhere" is not in spec.sites, which has: primary, recovery; use one of them or add it there`},
	{"unknown pair", "sitePair: main", "sitePair: mian",
		`shop.yaml:21:17: spec.servers[0].sitePair: "mian" is not in spec.sitePairs, which has: main; did you mean "main"?`},
	{"unknown policy", "pointPolicy: often", "pointPolicy: rarely",
		`shop.yaml:17:54: spec.tiers[0].pointPolicy: "rarely" is not in spec.pointPolicies, which has: often; use one of them or add it there`},
	{"unknown network", "recoveryNetwork: standby", "recoveryNetwork: stand-by",
		`shop.yaml:13:75: spec.sitePairs[0].recoveryNetwork: "stand-by" is not in spec.networks, which has: production, standby; did you mean "standby"?`},
	{"unknown step", "after: [data]", "after: [date]",
		`shop.yaml:33:45: spec.steps[1].after[0]: "date" is not in spec.steps, which has: data, front; did you mean "data"?`},
	{"unknown server in step", "servers: [web]", "servers: [wbe]",
		`shop.yaml:33:31: spec.steps[1].servers[0]: "wbe" is not in spec.servers, which has: web, database; did you mean "web"?`},
	{"unknown server in licence", "  steps:", "  licences:\n    - {software: SAP, servers: [sap], kind: brought}\n  steps:",
		`shop.yaml:32:33: spec.licences[0].servers[0]: "sap" is not in spec.servers, which has: web, database; use one of them or add it there`},
	{"name twice", "    - name: database", "    - name: web",
		"shop.yaml:24:13: spec.servers[1].name: \"web\" is already the name of spec.servers[0]; give each a name of its own\nshop.yaml:32:30: spec.steps[0].servers[0]: \"database\" is not in spec.servers, which has: web, web; use one of them or add it there"},
	{"cycle", "servers: [database]", "servers: [database], after: [front]",
		"shop.yaml:32:41: spec.steps[0].after: steps form a cycle: data → front → data (each comes after the next); take one of these steps out of an after"},
	{"step after itself", "servers: [database]", "servers: [database], after: [data]",
		"shop.yaml:32:41: spec.steps[0].after: steps form a cycle: data → data (each comes after the next); take one of these steps out of an after"},
	{"server in two steps", "servers: [web]", "servers: [web, database]",
		`shop.yaml:33:36: spec.steps[1].servers[1]: server "database" is already in step "data"; keep it in one of them`},
	{"address outside", "10.20.0.11", "10.21.0.11",
		`shop.yaml:23:44: spec.servers[0].launch.ip: 10.21.0.11 is outside recovery network "standby" (10.20.0.0/24); use an address from 10.20.0.1 to 10.20.0.254, or leave it out`},
	{"network address", "10.20.0.11", "10.20.0.0",
		`shop.yaml:23:44: spec.servers[0].launch.ip: 10.20.0.0 is the network address of "standby" (10.20.0.0/24); use 10.20.0.1 or a higher one`},
	{"broadcast address", "10.20.0.11", "10.20.0.255",
		`shop.yaml:23:44: spec.servers[0].launch.ip: 10.20.0.255 is the broadcast address of "standby" (10.20.0.0/24); use 10.20.0.254 or a lower one`},
	{"no address", "10.20.0.11", "10.20.0.311",
		`shop.yaml:23:44: spec.servers[0].launch.ip: "10.20.0.311" is not an address; write an IPv4 address, for example 10.20.0.11`},
	{"address twice", "10.20.0.11", "10.20.0.12",
		`shop.yaml:28:42: spec.servers[1].launch.ip: 10.20.0.12 in network "standby" is already the address of server "web"; give each server an address of its own`},
	{"overlap", "    - {name: standby,", "    - {name: wide, site: primary, cidr: 10.20.0.0/16}\n    - {name: standby,",
		`shop.yaml:11:41: spec.networks[1].cidr: 10.20.0.0/16 overlaps with network "production" (10.20.0.0/24) of the same site "primary"; give each network of a site addresses of its own; at different sites they may be the same`},
	{"bits behind the prefix", "cidr: 10.20.0.0/24", "cidr: 10.20.0.7/24",
		`shop.yaml:10:47: spec.networks[0].cidr: "10.20.0.7/24" has bits set behind the prefix; write 10.20.0.0/24`},
	{"no CIDR", "cidr: 10.20.0.0/24", "cidr: 10.20.0.0",
		`shop.yaml:10:47: spec.networks[0].cidr: "10.20.0.0" is not a CIDR; write IPv4 addresses with a prefix length, for example 10.20.0.0/24`},
	{"IPv6", "cidr: 10.20.0.0/24", `cidr: "fd00::/64"`,
		`shop.yaml:10:47: spec.networks[0].cidr: "fd00::/64" is not a CIDR; write IPv4 addresses with a prefix length, for example 10.20.0.0/24`},
	{"tiny network", "cidr: 10.20.0.0/24", "cidr: 10.20.0.0/32",
		`shop.yaml:10:47: spec.networks[0].cidr: "10.20.0.0/32" is too large or too small for a network of servers; use a prefix length from 8 to 30`},
	{"multicast", "cidr: 10.20.0.0/24", "cidr: 224.1.0.0/24",
		`shop.yaml:10:47: spec.networks[0].cidr: "224.1.0.0/24" are not addresses of servers; use private addresses, for example 10.20.0.0/24`},
	{"drill in the recovery network", "  steps:", "  drills: {network: standby}\n  steps:",
		`shop.yaml:31:21: spec.drills.network: "standby" is the recovery network of site pair "main": a drill there would meet a failover; name another network, or leave it out: an isolated one is made for each drill`},
	{"drill at the primary site", "  steps:", "  drills: {network: production}\n  steps:",
		`shop.yaml:31:21: spec.drills.network: network "production" is at site "primary", not at the recovery site recovery; use a network of the recovery site (standby)`},
	{"bad schedule", "  steps:", "  drills: {schedule: 0 25 * * *}\n  steps:",
		`shop.yaml:31:22: spec.drills.schedule: not a calendar: the hour "25" is not within 0-23; write minute, hour, day of month, month, day of week, for example "0 3 * * 6"`},
	{"short schedule", "  steps:", "  drills: {schedule: 0 3 * *}\n  steps:",
		`shop.yaml:31:22: spec.drills.schedule: not a calendar: "0 3 * *" has 4 fields, not 5; write minute, hour, day of month, month, day of week, for example "0 3 * * 6"`},
	{"bad time zone", "  steps:", "  drills: {schedule: 0 3 * * 6, timeZone: Europe/Atlantis}\n  steps:",
		`shop.yaml:31:43: spec.drills.timeZone: "Europe/Atlantis" is not a time zone; write an IANA name, for example Europe/Berlin or UTC`},
	{"time zone alone", "  steps:", "  drills: {timeZone: UTC}\n  steps:",
		"shop.yaml:31:22: spec.drills.timeZone: there is a time zone but no schedule; add the schedule, or take the time zone out"},
	{"clean alone", "  steps:", "  drills: {cleanAfter: 5m}\n  steps:",
		"shop.yaml:31:24: spec.drills.cleanAfter: only scheduled drills are cleaned by themselves, and there is no schedule; add the schedule, or take it out"},
	{"launch without size", "cpu: 1, memory: 512MiB, ip", "ip",
		"shop.yaml:23:7: spec.servers[0].launch: a server cannot be launched without its type or its cpu and memory; write cpu and memory, for example cpu: 2 and memory: 4GiB, or an instance type"},
	{"launch without memory", "cpu: 1, memory: 512MiB, ip", "cpu: 1, ip",
		"shop.yaml:23:7: spec.servers[0].launch: a server cannot be launched without its type or its cpu and memory; write cpu and memory, for example cpu: 2 and memory: 4GiB, or an instance type"},
	{"launch with both", "cpu: 1, memory: 512MiB", "cpu: 1, memory: 512MiB, type: small",
		"shop.yaml:23:46: spec.servers[0].launch.type: the launch settings give a type and cpu or memory beside it; keep one of the two"},
	{"health without port", "memory: 512MiB", "memory: 512MiB, health: {http: /}",
		"shop.yaml:23:40: spec.servers[0].launch.health: http is asked on a port, and none is given; add the port, for example port: 80"},
	{"health time alone", "memory: 512MiB", "memory: 512MiB, health: {timeout: 1m}",
		"shop.yaml:23:58: spec.servers[0].launch.health.timeout: there is a timeout but nothing to check; add the port to check, or take the timeout out"},
	{"script time alone", "memory: 512MiB", "memory: 512MiB, scriptTimeout: 1m",
		"shop.yaml:23:55: spec.servers[0].launch.scriptTimeout: there is a timeout but no script; add the script, or take the timeout out"},
	{"one site twice in a pair", "primary: primary, recovery: recovery", "primary: recovery, recovery: recovery",
		"shop.yaml:13:49: spec.sitePairs[0].recovery: the recovery site is the primary site \"recovery\": both would be lost together; name another site\nshop.yaml:30:58: spec.dns[0].site: site \"recovery\" is the primary site of server \"web\": its DNS would be gone in the disaster; serve the zone at the recovery site or, better, at a third one"},
	{"network at the wrong site", "recoveryNetwork: standby", "recoveryNetwork: production",
		`shop.yaml:13:75: spec.sitePairs[0].recoveryNetwork: network "production" is at site "primary", not at the recovery site recovery; use a network of the recovery site (standby)`},
	{"primary network at the wrong site", "recoveryNetwork: standby", "recoveryNetwork: standby, primaryNetwork: standby",
		`shop.yaml:13:100: spec.sitePairs[0].primaryNetwork: network "standby" is at site "recovery", not at the primary site primary; use a network of the primary site (production)`},
	{"DNS outside its zone", "name: www.example.test", "name: www.example.org",
		`shop.yaml:30:14: spec.dns[0].name: "www.example.org" is outside zone "example.test"; write the full name, for example www.example.test, or name the zone that holds it`},
	{"DNS at the primary site", "site: recovery, server: web", "site: primary, server: web",
		`shop.yaml:30:58: spec.dns[0].site: site "primary" is the primary site of server "web": its DNS would be gone in the disaster; serve the zone at the recovery site or, better, at a third one`},
	{"no DNS name", "name: www.example.test", `name: "w w.example.test"`,
		`shop.yaml:30:14: spec.dns[0].name: "w w.example.test" is not a DNS name; write a fully qualified name, for example www.example.com`},
	{"DNS name twice", "  steps:", "    - {name: WWW.example.test., zone: example.test, site: recovery, server: web}\n  steps:",
		`shop.yaml:31:14: spec.dns[1].name: "WWW.example.test" is already spec.dns[0]; keep one of them`},
	{"interval too short", "every: 30s", "every: 200ms",
		"shop.yaml:15:28: spec.pointPolicies[0].every: 200ms is too short between recovery points; write 1s or more"},
	{"site without directory", "provider: local, directory: /sites/primary", "provider: local",
		"shop.yaml:7:7: spec.sites[0].directory: a local site needs a directory; add the directory that holds the site, for example sites/primary"},
	{"directory twice", "directory: /sites/primary", "directory: /sites/recovery",
		`shop.yaml:8:52: spec.sites[1].directory: "/sites/recovery" is already the directory of spec.sites[0]; give each site a directory of its own`},
	{"account of a local site", "directory: /sites/primary", `directory: /sites/primary, account: "1"`,
		"shop.yaml:7:76: spec.sites[0].account: a local site has no account; take it out"},
	{"region of a local site", "directory: /sites/primary", "directory: /sites/primary, region: eu",
		"shop.yaml:7:75: spec.sites[0].region: a local site has no region; take it out"},
	{"source twice", "source: database-1", "source: web-1",
		`shop.yaml:27:15: spec.servers[1].source: server "web-1" of site "primary" is already protected by spec.servers[0]; protect each server once`},
	{"disk twice", "source: web-1", "source: web-1\n      disks: [a, a]",
		`shop.yaml:23:18: spec.servers[0].disks[1]: "a" is already disks[0]; name each disk once`},
	{"script missing", "memory: 512MiB", "memory: 512MiB, script: none.sh",
		`shop.yaml:23:48: spec.servers[0].launch.script: there is no script "none.sh"; write it, or correct the path (relative to the plan file)`},
	{"script empty", "memory: 512MiB", "memory: 512MiB, script: empty.sh",
		`shop.yaml:23:48: spec.servers[0].launch.script: script "empty.sh" is empty or no text; write a text file`},
	{"script binary", "memory: 512MiB", "memory: 512MiB, script: binary.sh",
		`shop.yaml:23:48: spec.servers[0].launch.script: script "binary.sh" is empty or no text; write a text file`},
	{"script long", "memory: 512MiB", "memory: 512MiB, script: long.sh",
		`shop.yaml:23:48: spec.servers[0].launch.script: script "long.sh" is longer than 65536 bytes; let a short script fetch the rest`},
	{"script with a key", "memory: 512MiB", "memory: 512MiB, script: key.sh",
		`shop.yaml:23:48: spec.servers[0].launch.script: script "key.sh" looks as if it held a secret: its content travels with the plan; take it out (and change it where it is used); give credentials to the worker in its environment or in a file`},
}

func TestEveryFaultNamesPlaceCauseAndMend(t *testing.T) {
	t.Parallel()
	scripts := map[string]string{
		"empty.sh": "", "binary.sh": "\xff\xfe", "long.sh": strings.Repeat("#", MaxScriptBytes+1),
		"key.sh": "-----BEGIN RSA PRIVATE KEY-----\n", "good.sh": "true\n",
	}
	for _, group := range [][]fault{formFaults, meaningFaults} {
		for _, f := range group {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				_, err := read(edit(t, base(t), f.old, f.new), scripts)
				require.Error(t, err)
				require.Equal(t, f.want, err.Error())
				var es Errors
				require.ErrorAs(t, err, &es)
				for _, e := range es {
					require.NotEmpty(t, e.Mend, e)
					require.Positive(t, e.Line, e)
				}
			})
		}
	}
}

func TestParseAloneFindsFaultsOfForm(t *testing.T) {
	t.Parallel()
	for _, f := range formFaults {
		_, err := Parse("shop.yaml", []byte(edit(t, base(t), f.old, f.new)))
		require.Error(t, err, f.name)
		require.Equal(t, f.want, err.Error(), f.name)
	}
	for _, f := range meaningFaults {
		_, err := Parse("shop.yaml", []byte(edit(t, base(t), f.old, f.new)))
		require.NoError(t, err, f.name)
	}
}

func TestAllFaultsComeTogetherInTheOrderOfLines(t *testing.T) {
	t.Parallel()
	text := edit(t, base(t), "cidr: 10.20.0.0/24", "cidrr: 10.20.0.0/24")
	text = edit(t, text, "ip: 10.20.0.12", "ip: 10.21.0.12")
	text = edit(t, text, "every: 30s", "every: 30")
	text = edit(t, text, "server: web", "server: wbe")
	_, err := read(text, nil)
	var es Errors
	require.ErrorAs(t, err, &es)
	keys := make([]string, len(es))
	for i, e := range es {
		keys[i] = e.Key
	}
	require.Equal(t, []string{"spec.networks[0].cidrr", "spec.pointPolicies[0].every", "spec.servers[1].launch.ip", "spec.dns[0].server"}, keys)
	require.Len(t, es.Unwrap(), 4)
	var one *Error
	require.True(t, errors.As(err, &one))
	require.Equal(t, 10, one.Line)
}
