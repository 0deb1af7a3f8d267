package activities

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws"
	"lifeboat/activities/cloud/aws/awstest"
	"lifeboat/replication"
)

const cloudRegion = "eu-west-1"

// cloudPlace is a place at a double of AWS.
func cloudPlace(t *testing.T, options aws.Options) (*place, *aws.Provider, *awstest.Cloud) {
	t.Helper()
	double := awstest.New(t, awstest.Options{})
	site := Site{Name: "recovery", Provider: "aws", Account: "111111111111", Region: cloudRegion, Zone: cloudRegion + "c", Bucket: "lifeboat-" + cloudRegion}
	options.Endpoint, options.Credentials, options.LookFor = double.URL, credentials.NewStaticCredentialsProvider("key", "secret", ""), 50*time.Millisecond
	p, err := aws.Open(t.Context(), site, options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	w := &place{T: t, site: site, scope: Scope{Site: site, Plan: "shop", Server: "db", Operation: "plan/shop", Role: RolePlan}}
	w.through(p)
	return w, p, double
}

// siteCalls are those that a recovery site without agents needs.
var siteCalls = []string{"Entries", "Image", "Network", "RegisterImage", "Server", "Snapshot", "StartCopySnapshot", "StartCreateDisk", "StartLaunch", "TerminateServer"}

func TestAWSTellsWhatARecoveryWouldFailWith(t *testing.T) {
	t.Parallel()
	w, _, double := cloudPlace(t, aws.Options{VCPUs: 8})
	must[NetworkInfo](w, w.acts.EnsureNetwork, EnsureNetworkInput{Scope: w.scope, Step: "network", Name: "refuge", CIDR: "172.31.200.0/28"}) // 11 addresses
	must[AddressInfo](w, w.acts.EnsureAddress, EnsureAddressInput{Scope: w.scope, Step: "address", Name: "shop"})
	key := double.Key("111111111111", cloudRegion, "alias/dr")
	away := double.Key("111111111111", "us-east-1", "alias/away")
	in := ReadyLaunchInput{Site: w.site, Plan: "shop", Servers: []ReadyServer{
		{Name: "db", Type: "t3.micro", Network: "refuge", CIDR: "172.31.200.0/28", IP: "172.31.200.5", PublicIP: "shop", Key: key},
		{Name: "arm", Type: "m7g.large", Network: "refuge", CIDR: "172.31.200.0/28", IP: "172.31.200.1", Key: away},
		{Name: "web", CPU: 2, Memory: 1 << 30, Network: "refuge", CIDR: "172.31.200.0/28"},
		{Name: "app", Type: "m7g.large", Substitutes: []string{"t3.small"}, Network: "refuge", CIDR: "172.31.200.0/28"},
	}}
	double.ForgetRequests()
	lines := must[[]Check](w, w.acts.CheckReadyLaunch, in)
	for server, want := range map[string]CheckStatus{"db": CheckOK, "arm": CheckFail, "web": CheckOK, "app": CheckWarn, "": CheckOK} {
		c := one(t, lines, CheckKindLaunch, server, "")
		assert.Equal(t, want, c.Status, "%+v", c)
	}
	notOffered := one(t, lines, CheckKindLaunch, "arm", "")
	assert.Contains(t, notOffered.Cause, "not offered in zone eu-west-1c")
	assert.NotEmpty(t, notOffered.Mend)
	assert.Equal(t, "11 addresses are free, 4 servers need one each", one(t, lines, CheckKindNetwork, "", "refuge").Cause)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindAddress, "db", "").Status)
	assert.Equal(t, CheckFail, one(t, lines, CheckKindAddress, "arm", "").Status, "AWS keeps the first addresses")
	assert.Equal(t, CheckOK, one(t, lines, CheckKindPublic, "db", "").Status)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindKey, "db", "").Status)
	assert.Equal(t, CheckFail, one(t, lines, CheckKindKey, "arm", "").Status, "a key of another region")

	t.Log("too many at once for the quota, and for the network")
	for range 8 {
		in.Servers = append(in.Servers, ReadyServer{Name: "more", Type: "t3.micro", Network: "refuge", CIDR: "172.31.200.0/28"})
	}
	lines = must[[]Check](w, w.acts.CheckReadyLaunch, in)
	atOnce := one(t, lines, CheckKindLaunch, "", "11 servers at once")
	assert.Equal(t, CheckFail, atOnce.Status)
	assert.Contains(t, atOnce.Cause, "the quota is 8")
	assert.Equal(t, CheckFail, one(t, lines, CheckKindNetwork, "", "refuge").Status, "12 servers, 11 addresses")
	for _, r := range double.Requests() {
		assert.False(t, strings.HasPrefix(r.Operation, "Create") || strings.HasPrefix(r.Operation, "Allocate") || r.Operation == "PutObject", "nothing is made: %s", r.Operation)
	}
}

func TestAWSNamesMissingPermissionsAndKeepsTheLedgerAsItIs(t *testing.T) {
	t.Parallel()
	w, p, double := cloudPlace(t, aws.Options{})
	must[AddressInfo](w, w.acts.EnsureAddress, EnsureAddressInput{Scope: w.scope, Step: "address", Name: "shop"})
	in := ReadySiteInput{Site: w.site, Plan: "shop", Operation: "readiness/shop/1", Calls: siteCalls, Launches: true}
	before, err := p.Entries(t.Context(), cloud.LedgerFilter{})
	require.NoError(t, err)
	require.Len(t, before, 1)
	lines := must[[]Check](w, w.acts.CheckReadySite, in)
	for _, c := range lines {
		if c.Check == CheckKindQuota && strings.HasPrefix(c.Subject, "limits of each") {
			assert.Equal(t, CheckUnknown, c.Status, "limits of vCPUs are not told")
			continue
		}
		assert.Equal(t, CheckOK, c.Status, "%+v", c)
	}
	assert.Equal(t, "1 of 5 in use", one(t, lines, CheckKindQuota, "", "Elastic IP addresses").Cause)
	after, err := p.Entries(t.Context(), cloud.LedgerFilter{})
	require.NoError(t, err)
	assert.Equal(t, before, after)
	documents, err := p.DocumentNames(t.Context(), "")
	require.NoError(t, err)
	assert.Empty(t, documents)
	for _, look := range []func() (int, error){
		func() (int, error) { all, err := p.Disks(t.Context(), cloud.Filter{}); return len(all), err },
		func() (int, error) { all, err := p.Servers(t.Context(), cloud.Filter{}); return len(all), err },
		func() (int, error) { all, err := p.Images(t.Context(), cloud.Filter{}); return len(all), err },
		func() (int, error) { all, err := p.Snapshots(t.Context(), cloud.Filter{}); return len(all), err },
	} {
		n, err := look()
		require.NoError(t, err)
		assert.Zero(t, n, "nothing was made")
	}

	double.Deny("", "ec2:RunInstances")
	double.Deny("", "ec2:CopySnapshot")
	double.Deny("", "s3:PutObject")
	lines = must[[]Check](w, w.acts.CheckReadySite, in)
	denied := one(t, lines, CheckKindPermissions, "", "")
	assert.Equal(t, CheckFail, denied.Status)
	assert.Contains(t, denied.Cause, "ec2:RunInstances")
	assert.Contains(t, denied.Cause, "ec2:CopySnapshot")
	assert.NotEmpty(t, denied.Mend)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindLedger, "", "reading").Status)
	assert.Equal(t, CheckFail, one(t, lines, CheckKindLedger, "", "writing").Status)
}

func TestAWSCopiesOfAPointAreLookedAt(t *testing.T) {
	t.Parallel()
	w, p, _ := cloudPlace(t, aws.Options{})
	d, err := p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "disk"}, Bytes: 1 << 30})
	require.NoError(t, err)
	w.eventually("disk", func() bool {
		got, err := p.Disk(t.Context(), d.ID)
		return err == nil && got.State == cloud.Available
	})
	s, err := p.StartSnapshots(t.Context(), cloud.CreateSnapshots{Create: cloud.Create{Token: "point"}, Disks: []string{d.ID}})
	require.NoError(t, err)
	w.eventually("snapshot", func() bool {
		got, err := p.Snapshot(t.Context(), s[0].ID)
		return err == nil && got.State == cloud.Available
	})
	in := ReadyPointInput{Site: w.site, Plan: "shop", Server: "db", Interval: time.Minute, Point: Point{ID: "p1", Time: time.Now(), Disks: []replication.PointDisk{{Name: "root", Snapshot: s[0].ID}}}}
	lines := must[[]Check](w, w.acts.CheckReadyPoint, in)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindSnapshot, "db", "").Status)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindImage, "db", "").Status)
	w.acts.Now = func() time.Time { return time.Now().Add(time.Hour) }
	assert.Equal(t, CheckFail, one(t, must[[]Check](w, w.acts.CheckReadyPoint, in), CheckKindSnapshot, "db", "").Status)
	require.NoError(t, p.DeleteSnapshot(context.WithoutCancel(t.Context()), s[0].ID))
	w.eventually("no snapshot", func() bool { _, err := p.Snapshot(t.Context(), s[0].ID); return cloud.IsNotFound(err) })
	assert.Contains(t, one(t, must[[]Check](w, w.acts.CheckReadyPoint, in), CheckKindSnapshot, "db", "").Cause, "is gone")
}
