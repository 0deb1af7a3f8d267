package policy_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws"
	"lifeboat/activities/cloud/aws/awstest"
	"lifeboat/activities/cloud/aws/policy"
)

const (
	account = "111111111111"
	dnsZone = "example.org"
	gib     = int64(1) << 30
	role    = "arn:aws:iam::" + account + ":role/lifeboat"
)

var regions = map[string]string{"home": "eu-central-1", "away": "eu-west-1"}

// place is a double in which an account may do what the worker's policies allow, and no more.
type place struct {
	t     *testing.T
	ctx   context.Context
	cloud *awstest.Cloud
	vpcs  map[string]string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	h := &place{t: t, ctx: t.Context(), cloud: awstest.New(t, awstest.Options{}), vpcs: map[string]string{}}
	h.cloud.Role(role, "shared")
	for name, region := range regions {
		c, err := config.LoadDefaultConfig(h.ctx, config.WithRegion(region), config.WithBaseEndpoint(h.cloud.URL), config.WithCredentialsProvider(h.keys()))
		require.NoError(t, err)
		made, err := ec2.NewFromConfig(c).CreateVpc(h.ctx, &ec2.CreateVpcInput{CidrBlock: awssdk.String("10.0.0.0/16")})
		require.NoError(t, err)
		h.vpcs[name] = *made.Vpc.VpcId
		require.NoError(t, h.cloud.AttachInternetGateway(account, region, h.vpcs[name]))
		_, err = sns.NewFromConfig(c).CreateTopic(h.ctx, &sns.CreateTopicInput{Name: awssdk.String("lifeboat")})
		require.NoError(t, err)
		h.openBucket(c, "lifeboat-"+name)
		if name == "home" {
			_, err = route53.NewFromConfig(c).CreateHostedZone(h.ctx, &route53.CreateHostedZoneInput{Name: awssdk.String(dnsZone), CallerReference: awssdk.String("setup")})
			require.NoError(t, err)
		}
	}
	calls, err := policy.Calls("../../../..")
	require.NoError(t, err)
	needs, err := policy.Needs(calls)
	require.NoError(t, err)
	t.Cleanup(h.cloud.Allow(account, slices.Collect(maps.Keys(needs))))
	h.cloud.ForgetRequests()
	return h
}

// openBucket makes a bucket whose switches everybody can read.
func (h *place) openBucket(c awssdk.Config, name string) {
	h.t.Helper()
	client := s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true })
	p := h.open(strings.TrimPrefix(name, "lifeboat-"))
	_, err := p.PutDocument(h.ctx, cloud.Document{Name: "first", Data: []byte("it makes the bucket")})
	require.NoError(h.t, err)
	_, err = client.DeletePublicAccessBlock(h.ctx, &s3.DeletePublicAccessBlockInput{Bucket: &name})
	require.NoError(h.t, err)
	text := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::` + name + `/lifeboat/switches/*"}]}`
	_, err = client.PutBucketPolicy(h.ctx, &s3.PutBucketPolicyInput{Bucket: &name, Policy: &text})
	require.NoError(h.t, err)
}

func (h *place) keys() awssdk.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider("key", "secret", "")
}

func (h *place) site(name string) cloud.Site {
	return cloud.Site{Name: name, Region: regions[name], Zone: regions[name] + "a", Bucket: "lifeboat-" + name, VPC: h.vpcs[name], Role: role, ExternalID: "shared"}
}

func (h *place) open(name string) *aws.Provider {
	h.t.Helper()
	p, err := aws.Open(h.ctx, h.site(name), aws.Options{Endpoint: h.cloud.URL, Credentials: h.keys(), LookFor: 50 * time.Millisecond, Resolver: h.cloud.DNS()})
	require.NoError(h.t, err)
	h.t.Cleanup(func() { require.NoError(h.t, p.Close()) })
	return p
}

// until calls until that is done; refusals end it at once.
func (h *place) until(what string, done func() (bool, error)) {
	h.t.Helper()
	var last error
	require.Eventually(h.t, func() bool {
		ok, err := done()
		last = err
		require.NotEqual(h.t, cloud.Denied, cloud.CodeOf(err), "%s: %v", what, err)
		return ok
	}, time.Minute, 3*time.Millisecond, "%s: %v", what, last)
}

func until[R any](h *place, what string, get func(context.Context, string) (R, error), id string, state func(R) cloud.State, want cloud.State) {
	h.t.Helper()
	h.until(what, func() (bool, error) {
		r, err := get(h.ctx, id)
		return err == nil && state(r) == want, err
	})
}

func (h *place) snapshots(p *aws.Provider, token string, disks ...string) []cloud.Snapshot {
	h.t.Helper()
	list, err := p.StartSnapshots(h.ctx, cloud.CreateSnapshots{Create: create(token), Disks: disks})
	require.NoError(h.t, err)
	for _, s := range list {
		until(h, s.ID, p.Snapshot, s.ID, func(s cloud.Snapshot) cloud.State { return s.State }, cloud.Available)
	}
	return list
}

func (h *place) disk(p *aws.Provider, token string) string {
	h.t.Helper()
	d, err := p.StartCreateDisk(h.ctx, cloud.CreateDisk{Create: create(token), Bytes: gib})
	require.NoError(h.t, err)
	until(h, d.ID, p.Disk, d.ID, func(d cloud.Disk) cloud.State { return d.State }, cloud.Available)
	return d.ID
}

// server launches one of an image with two disks.
func (h *place) server(p *aws.Provider, token string) cloud.Server {
	h.t.Helper()
	root, data := h.snapshots(p, token+"-root", h.disk(p, token+"-r"))[0], h.snapshots(p, token+"-data", h.disk(p, token+"-d"))[0]
	image, err := p.RegisterImage(h.ctx, create(token+"-image"), []cloud.ImageDisk{{Device: "root", SnapshotID: root.ID, Boot: true}, {Device: "data", SnapshotID: data.ID}})
	require.NoError(h.t, err)
	until(h, image.ID, p.Image, image.ID, func(i cloud.Image) cloud.State { return i.State }, cloud.Available)
	network, err := p.StartCreateNetwork(h.ctx, cloud.CreateNetwork{Create: create("net"), CIDR: "10.0.1.0/24"})
	require.NoError(h.t, err)
	s, err := p.StartLaunch(h.ctx, cloud.LaunchServer{Create: create(token), Image: image.ID, Network: network.ID, CPU: 1, Memory: gib, IP: "10.0.1.10"})
	require.NoError(h.t, err)
	h.running(p, s.ID)
	require.NoError(h.t, p.DeprecateImage(h.ctx, image.ID, time.Now().Add(24*time.Hour)))
	require.NoError(h.t, p.DeleteImage(h.ctx, image.ID, true))
	s, err = p.Server(h.ctx, s.ID)
	require.NoError(h.t, err)
	return s
}

func (h *place) running(p *aws.Provider, id string) {
	h.t.Helper()
	until(h, id, p.Server, id, func(s cloud.Server) cloud.State { return s.State }, cloud.Running)
}

func create(token string) cloud.Create {
	return cloud.Create{Token: token, Name: token, Tags: map[string]string{cloud.TagPlan: "shop", cloud.TagOperation: "test"}}
}

func TestTheWorkersPoliciesAreEnoughForTheLifeOfASite(t *testing.T) {
	t.Parallel()
	h := newPlace(t)
	home, away := h.open("home"), h.open("away")
	s := h.server(home, "server")

	cut := h.snapshots(home, "point", s.Disks[0].DiskID, s.Disks[1].DiskID)
	copied, err := away.StartCopySnapshot(h.ctx, cloud.CopySnapshot{Create: create("copy"), From: h.site("home"), SnapshotID: cut[0].ID})
	require.NoError(t, err)
	until(h, copied.ID, away.Snapshot, copied.ID, func(s cloud.Snapshot) cloud.State { return s.State }, cloud.Available)
	key := h.cloud.Key(account, regions["away"], "alias/lifeboat")
	require.NoError(t, away.CheckKey(h.ctx, key))
	first, err := away.CopyBlocks(h.ctx, cloud.BlockCopy{Create: create("blocks"), From: h.site("home"), SnapshotID: cut[1].ID, Bytes: gib, Key: "alias/lifeboat", State: t.TempDir()}, nil)
	require.NoError(t, err)
	next := h.snapshots(home, "next", s.Disks[0].DiskID, s.Disks[1].DiskID)
	_, err = away.CopyBlocks(h.ctx, cloud.BlockCopy{Create: create("more"), From: h.site("home"), SnapshotID: next[1].ID, Bytes: gib, FromBase: cut[1].ID, Base: first.ID, State: t.TempDir()}, nil)
	require.NoError(t, err)

	image, err := home.StartCreateImage(h.ctx, create("whole"), s.ID, false)
	require.NoError(t, err)
	until(h, image.ID, home.Image, image.ID, func(i cloud.Image) cloud.State { return i.State }, cloud.Available)
	_, err = away.StartCopyImage(h.ctx, create("image-copy"), h.site("home"), image.ID)
	require.NoError(t, err)
	h.restores(home, s, next)
	h.moves(home, s)
	h.switches(away)
	h.watches(home, s)
	h.ends(home, s)
	for _, r := range h.cloud.Requests() {
		require.False(t, strings.Contains(r.Error, "Denied") || strings.Contains(r.Error, "Unauthorized") || strings.Contains(r.Error, "AuthorizationError"), "%+v", r)
	}
}

// restores puts a snapshot in the place of a root, in the running server, and of another disk in the stopped one.
func (h *place) restores(p *aws.Provider, s cloud.Server, from []cloud.Snapshot) {
	h.t.Helper()
	for i := range from {
		if i == 1 {
			require.NoError(h.t, p.StopServer(h.ctx, s.ID, true))
			until(h, s.ID, p.Server, s.ID, func(s cloud.Server) cloud.State { return s.State }, cloud.Stopped)
		}
		h.until("restore", func() (bool, error) {
			r, err := p.RestoreServer(h.ctx, cloud.RestoreServer{Create: create("restore-" + from[i].ID), Server: s.ID,
				Disks: []cloud.RestoreDisk{{Disk: s.Disks[i].DiskID, SnapshotID: from[i].ID}}})
			return err == nil && r.State == cloud.Available, err
		})
	}
	require.NoError(h.t, p.StartServer(h.ctx, s.ID))
	h.running(p, s.ID)
}

// moves gives an address to a server, and takes it away.
func (h *place) moves(p *aws.Provider, s cloud.Server) {
	h.t.Helper()
	require.Equal(h.t, cloud.AddressTaken, cloud.CodeOf(p.CheckAddress(h.ctx, "net", s.IP)))
	a, err := p.AllocateAddress(h.ctx, create("address"))
	require.NoError(h.t, err)
	require.NoError(h.t, p.AssociateAddress(h.ctx, a.ID, s.ID, true))
	require.NoError(h.t, p.DisassociateAddress(h.ctx, a.ID))
	require.NoError(h.t, p.ReleaseAddress(h.ctx, a.ID))
}

// switches leads a name here and there, by records and by a switch.
func (h *place) switches(p *aws.Provider) {
	h.t.Helper()
	record := func(ip string) cloud.Record {
		return cloud.Record{Name: "shop." + dnsZone, Type: "A", TTL: time.Minute, Values: []string{ip}}
	}
	inSync := func(c cloud.Change) {
		h.until("change", func() (bool, error) {
			now, err := p.Change(h.ctx, c.ID)
			return now.State == cloud.Available, err
		})
	}
	c, err := p.StartSetRecords(h.ctx, dnsZone, "set", []cloud.Record{record("192.0.2.1")})
	require.NoError(h.t, err)
	inSync(c)
	c, err = p.StartDeleteRecords(h.ctx, dnsZone, "delete", []cloud.Record{record("192.0.2.1")})
	require.NoError(h.t, err)
	inSync(c)
	h.until("switch", func() (bool, error) {
		c, err = p.PrepareSwitch(h.ctx, dnsZone, "switch", record("192.0.2.1"), record("192.0.2.2"))
		return err == nil, err
	})
	inSync(c)
	require.NoError(h.t, p.FlipSwitch(h.ctx, "shop."+dnsZone, cloud.SwitchSecondary))
	h.until("end of the switch", func() (bool, error) {
		err := p.RemoveSwitch(h.ctx, "shop."+dnsZone, "remove")
		return err == nil, err
	})
}

// watches runs a script, asks what there is to ask, and tells what happened.
func (h *place) watches(p *aws.Provider, s cloud.Server) {
	h.t.Helper()
	var run cloud.ScriptRun
	h.until("script", func() (bool, error) {
		var err error
		run, err = p.StartScript(h.ctx, cloud.RunScript{Token: "script", Server: s.ID, Content: "true", Timeout: time.Minute})
		return err == nil, err
	})
	h.until("news of the script", func() (bool, error) { // instances of this double have states only: it is not delivered
		_, err := p.ScriptRun(h.ctx, run.ID)
		return err == nil, err
	})
	entry := cloud.Entry{Token: "entry", Kind: cloud.KindDisk, Plan: "shop", Operation: "test"}
	_, err := p.Intend(h.ctx, entry)
	require.NoError(h.t, err)
	require.NoError(h.t, errors.Join(p.Made(h.ctx, "entry", "vol-1"), p.Gone(h.ctx, "entry")))
	_, err = p.Entries(h.ctx, cloud.LedgerFilter{})
	require.NoError(h.t, err)
	require.NoError(h.t, p.DeleteDocument(h.ctx, "first"))
	for _, kind := range []cloud.Kind{cloud.KindServer, cloud.KindAddress, cloud.KindSnapshot, cloud.KindNetwork} {
		_, err := p.Limits(h.ctx, kind)
		require.NoError(h.t, err)
	}
	require.NoError(h.t, p.CheckLaunch(h.ctx, []cloud.LaunchNeed{{Type: "t3.micro", Count: 1}}))
	require.NoError(h.t, p.CheckPermission(h.ctx, []string{"StartCreateDisk", "StartSnapshots", "StartCopySnapshot", "StartLaunch", "Records", "Intend", "StartScript", "PutMeasurements"}))
	require.NoError(h.t, p.PutMeasurements(h.ctx, []cloud.Measurement{{Name: "rpo_seconds", Value: 1, Time: time.Now()}}))
	require.NoError(h.t, p.SendAlert(h.ctx, cloud.Alert{Token: "alert", Title: "test"}))
}

// ends deletes a server and its disks.
func (h *place) ends(p *aws.Provider, s cloud.Server) {
	h.t.Helper()
	disk := h.disk(p, "extra")
	require.NoError(h.t, p.StartAttachDisk(h.ctx, disk, s.ID, ""))
	until(h, disk, p.Disk, disk, func(d cloud.Disk) cloud.State { return d.State }, cloud.Attached)
	require.NoError(h.t, p.StartDetachDisk(h.ctx, disk))
	until(h, disk, p.Disk, disk, func(d cloud.Disk) cloud.State { return d.State }, cloud.Available)
	require.NoError(h.t, p.DeleteDisk(h.ctx, disk))
	require.NoError(h.t, p.TerminateServer(h.ctx, s.ID))
	h.until("termination", func() (bool, error) {
		_, err := p.Server(h.ctx, s.ID)
		return cloud.IsNotFound(err), cloud.IgnoreNotFound(err)
	})
	h.until("deletion of the network", func() (bool, error) {
		n, err := p.Network(h.ctx, "net")
		if err == nil {
			err = p.DeleteNetwork(h.ctx, n.ID)
		}
		return err == nil, err
	})
}

func TestWhatNoPolicyAllowsIsRefused(t *testing.T) {
	t.Parallel()
	h := newPlace(t)
	c, err := config.LoadDefaultConfig(h.ctx, config.WithRegion(regions["home"]), config.WithBaseEndpoint(h.cloud.URL), config.WithCredentialsProvider(h.keys()))
	require.NoError(t, err)
	_, err = ec2.NewFromConfig(c).CreateVpc(h.ctx, &ec2.CreateVpcInput{CidrBlock: awssdk.String("10.9.0.0/16")})
	require.ErrorContains(t, err, "UnauthorizedOperation")
	name := "lifeboat-home"
	_, err = s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true }).DeleteBucket(h.ctx, &s3.DeleteBucketInput{Bucket: &name})
	require.ErrorContains(t, err, "AccessDenied")
}
