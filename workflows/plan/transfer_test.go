package plan

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clouds is a valid plan between two regions of AWS.
func clouds(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/aws.yaml")
	require.NoError(t, err)
	return string(text)
}

func TestServersBetweenSitesOfACloudMoveBySnapshotsUnlessThePlanSaysOtherwise(t *testing.T) {
	t.Parallel()
	r := resolved(t, clouds(t))
	database, _ := r.Server("database")
	web, _ := r.Server("web")
	require.Equal(t, TransferBlocks, database.Transfer, "the server's own")
	require.Equal(t, TransferSnapshots, web.Transfer, "the default between sites of AWS")
	require.True(t, web.Agentless())
	require.Equal(t, "aws.123456789012.eu-central-1", web.Primary.Agent, "no agent: the queue of the cloud worker")
	require.Equal(t, "aws.210987654321.eu-west-1", web.Recovery.Agent)
	require.Equal(t, "cross-region", mustRead(t, clouds(t)).Spec.SitePairs[0].Type)
	require.Equal(t, "shop-7", web.Recovery.ExternalID)

	inTier, _ := resolved(t, edit(t, clouds(t), "pointPolicy: often", "pointPolicy: often, transfer: blocks")).Server("web")
	require.Equal(t, TransferBlocks, inTier.Transfer, "the tier's")
}

func TestServersBetweenLocalSitesMoveByAgentsUnlessThePlanSaysOtherwise(t *testing.T) {
	t.Parallel()
	web, _ := resolved(t, base(t)).Server("web")
	require.Empty(t, web.Transfer)
	require.False(t, web.Agentless())
	require.Equal(t, "recovery", web.Recovery.Agent)
	said, _ := resolved(t, edit(t, base(t), "pointPolicy: often", "pointPolicy: often, transfer: agent")).Server("web")
	require.Equal(t, web, said, "what is said anyway changes nothing")

	r := resolved(t, edit(t, base(t), "source: web-1", "source: web-1\n      transfer: snapshots"))
	web, _ = r.Server("web")
	database, _ := r.Server("database")
	require.Equal(t, "local.recovery", web.Recovery.Agent)
	require.Equal(t, "local.primary", web.Primary.Agent)
	require.Equal(t, "recovery", database.Recovery.Agent, "each server has its own way")
	require.Equal(t, "recovery", r.Sites["recovery"].Agent)
}

func TestOnlyACloudNeedsTimeBetweenSnapshots(t *testing.T) {
	t.Parallel()
	cloud, local := Site{Provider: ProviderAWS}, Site{Provider: ProviderLocal}
	require.Equal(t, time.Minute, MinimumInterval(TransferSnapshots, cloud))
	require.Equal(t, time.Minute, MinimumInterval(TransferBlocks, cloud))
	require.Equal(t, time.Second, MinimumInterval("", cloud))
	require.Equal(t, time.Second, MinimumInterval(TransferSnapshots, local))
}

func TestSettingsOfTheProviderTravelWithTheLaunch(t *testing.T) {
	t.Parallel()
	text := edit(t, clouds(t), "launch: {type: m7i.large}", `launch: {type: m7i.large, settings: {security-groups: "web,ssh", key-pair: ops, kms-key: alias/dr}}`)
	web, _ := resolved(t, text).Server("web")
	require.Equal(t, map[string]string{"security-groups": "web,ssh", "key-pair": "ops", "kms-key": "alias/dr"}, web.Launch.Settings)
}

func mustRead(t *testing.T, text string) *Plan {
	t.Helper()
	p, err := read(text, nil)
	require.NoError(t, err)
	return p
}

var cloudFaults = []fault{
	{"number for the account", `account: "123456789012"`, "account: 123456789012",
		`shop.yaml:7:47: spec.sites[0].account: must be a text, not the number "123456789012"; put it in quotes: "123456789012"`},
	{"short account", `account: "123456789012"`, `account: "1234"`,
		`shop.yaml:7:47: spec.sites[0].account: "1234" is not one; write the 12 digits of the account, in quotes, for example "123456789012"`},
	{"no account", `account: "123456789012", `, "",
		`shop.yaml:7:7: spec.sites[0].account: a site of AWS needs it; write the 12 digits of the account, in quotes, for example "123456789012"`},
	{"no region", "region: eu-west-1, ", "",
		"shop.yaml:8:7: spec.sites[1].region: a site of AWS needs it; write the region, for example eu-central-1"},
	{"no zone", "zone: eu-central-1a, ", "",
		"shop.yaml:7:7: spec.sites[0].zone: a site of AWS needs it; write the zone where servers and disks are made, for example eu-central-1a"},
	{"zone of another region", "zone: eu-central-1a", "zone: eu-west-1a",
		`shop.yaml:7:91: spec.sites[0].zone: "eu-west-1a" is no zone of region "eu-central-1"; write a zone of the region, for example eu-central-1a`},
	{"no bucket", ", bucket: lifeboat-eu-central-1", "",
		"shop.yaml:7:7: spec.sites[0].bucket: a site of AWS needs it; name a bucket of the account in the region; Lifeboat keeps there what it has made and which recovery points there are"},
	{"bucket of another form", "bucket: lifeboat-eu-central-1", "bucket: Lifeboat",
		`shop.yaml:7:114: spec.sites[0].bucket: "Lifeboat" is not one; name a bucket of the account in the region; Lifeboat keeps there what it has made and which recovery points there are`},
	{"directory", "bucket: lifeboat-eu-central-1", "bucket: lifeboat-eu-central-1, directory: /sites/primary",
		"shop.yaml:7:148: spec.sites[0].directory: a site of AWS has no directory; take it out"},
	{"role of another account", "iam::210987654321", "iam::123456789012",
		"shop.yaml:8:163: spec.sites[1].role: the role is one of account 123456789012, the site is in account 210987654321; name a role of the site's account"},
	{"no ARN", "role: arn:aws:iam::210987654321:role/lifeboat", "role: lifeboat",
		`shop.yaml:8:163: spec.sites[1].role: "lifeboat" is no ARN of a role; write its ARN, for example arn:aws:iam::123456789012:role/lifeboat`},
	{"external ID alone", "role: arn:aws:iam::210987654321:role/lifeboat, ", "",
		"shop.yaml:8:169: spec.sites[1].externalId: there is an external ID but no role; add the role that asks for it, or take it out"},
	{"no VPC", "vpc-0123456789abcdef0", "main",
		`shop.yaml:8:134: spec.sites[1].vpc: "main" is no identifier of a VPC; write its identifier, for example vpc-0123456789abcdef0, or leave it out for the default one`},
	{"bucket of a local site", "directory: /sites/office", "directory: /sites/office, bucket: b",
		"shop.yaml:9:73: spec.sites[2].bucket: a local site has no bucket; take it out"},
	{"one zone", "region: eu-west-1, zone: eu-west-1b", "region: eu-central-1, zone: eu-central-1a",
		`shop.yaml:14:48: spec.sitePairs[0].recovery: sites "primary" and "recovery" are one zone, eu-central-1a: both would be lost together; use another zone or, better, another region`},
	{"too often", "every: 5m", "every: 30s",
		"shop.yaml:16:28: spec.pointPolicies[0].every: 30s is too short between two snapshots of a volume at aws; write 1m or more, or use an agent"},
	{"agents that nobody named", "pointPolicy: often", "pointPolicy: often, transfer: agent",
		`shop.yaml:7:7: spec.sites[0].agent: data of servers moves with agents here, and site "primary" names none; name the agent that runs next to the disks there, or write transfer: snapshots where both sites are of this provider` + "\n" +
			`shop.yaml:8:7: spec.sites[1].agent: data of servers moves with agents here, and site "recovery" names none; name the agent that runs next to the disks there, or write transfer: snapshots where both sites are of this provider`},
	{"blocks from another provider", "primary: primary, recovery", "primary: office, recovery",
		`shop.yaml:8:7: spec.sites[1].agent: data of servers moves with agents here, and site "recovery" names none; name the agent that runs next to the disks there, or write transfer: snapshots where both sites are of this provider` + "\n" +
			`shop.yaml:29:17: spec.servers[1].transfer: blocks move within one provider, and the sites of pair "main" are local and aws; write transfer: agent, or use sites of one provider`},
	{"settings that are none", "type: m7i.large", "type: m7i.large, settings: web",
		`shop.yaml:24:43: spec.servers[0].launch.settings: must hold keys with texts, not the text "web"; write keys with texts, indented below`},
	{"setting that is no text", "type: m7i.large", "type: m7i.large, settings: {iops: 3000}",
		`shop.yaml:24:50: spec.servers[0].launch.settings.iops: must be a text, not the number "3000"; put it in quotes: "3000"`},
	{"setting twice", "type: m7i.large", "type: m7i.large, settings: {key-pair: a, key-pair: b}",
		`shop.yaml:24:57: spec.servers[0].launch.settings.key-pair: is there twice; keep one of them`},
	{"name of a setting", "type: m7i.large", "type: m7i.large, settings: {Key Pair: a}",
		`shop.yaml:24:44: spec.servers[0].launch.settings: has a key that is no name of a setting; write lower-case letters, digits and dashes`},
	{"secret among the settings", "type: m7i.large", "type: m7i.large, settings: {db-password: x}",
		`shop.yaml:24:44: spec.servers[0].launch.settings.db-password: secrets never belong into a plan; take it out (and change it where it is used); give credentials to the worker in its environment or in a file`},
	{"secret in a setting", "type: m7i.large", "type: m7i.large, settings: {user-data: AKIAABCDEFGHIJKLMNOP}",
		`shop.yaml:24:55: spec.servers[0].launch.settings.user-data: looks like a secret: secrets never belong into a plan; take it out (and change it where it is used); give credentials to the worker in its environment or in a file`},
	{"unknown transfer", "transfer: blocks", "transfer: snapshot",
		`shop.yaml:29:17: spec.servers[1].transfer: "snapshot" is not known; did you mean "snapshots"?`},
}

func TestFaultsOfSitesOfAWSNamePlaceCauseAndMend(t *testing.T) {
	t.Parallel()
	for _, f := range cloudFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			_, err := read(edit(t, clouds(t), f.old, f.new), nil)
			require.Error(t, err)
			require.Equal(t, f.want, err.Error())
		})
	}
}

func TestAgentsServeACloudsSiteThatNamesThem(t *testing.T) {
	t.Parallel()
	text := edit(t, clouds(t), "primary: primary, recovery", "primary: office, recovery")
	text = edit(t, text, "name: recovery, provider: aws", "name: recovery, agent: receiver, provider: aws")
	text = edit(t, text, "      transfer: blocks\n", "")
	r := resolved(t, text)
	require.Empty(t, r.Servers[0].Transfer)
	require.Equal(t, "office", r.Servers[0].Primary.Agent)
	require.Equal(t, "receiver", r.Servers[0].Recovery.Agent)
}
