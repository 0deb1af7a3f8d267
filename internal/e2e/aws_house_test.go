package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws"
	"lifeboat/activities/cloud/aws/awstest"
)

const (
	awsAccount = "111111111111" // that keys of the double belong to
	awsType    = "t3.micro"
	gib        = int64(1) << 30
)

var awsRegions = map[string]string{"primary": "eu-central-1", "recovery": "eu-west-1"}

// cloudHouse is a dev that serves two regions of a double of AWS.
type cloudHouse struct {
	*house
	cloud *awstest.Cloud
	vpcs  map[string]string // by site
	lost  func()            // finds the lost region
	// What the environment names, instead of the double: sites, and networks by site and number.
	sites    map[string]cloud.Site
	networks map[string]string
}

// newCloudHouse starts it; args are more arguments of dev.
func newCloudHouse(t *testing.T, args ...string) *cloudHouse {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	double := awstest.New(t, awstest.Options{Guest: func(g awstest.Guest) awstest.Program {
		command := fmt.Sprintf("[%q, %q]", self, boxArgument)
		if strings.Contains(g.Tags["lifeboat-devices"], "log=") { // a database is on two disks
			command = fmt.Sprintf(`["%s", "__numbers-server", "--port", "%d"]`, programs.lifeboat, boxPort)
		}
		return awstest.Program{Launch: map[string]string{"runtime": "process", "command": command}, Ports: []int{boxPort}}
	}})
	h := &cloudHouse{house: emptyHouse(t), cloud: double, vpcs: map[string]string{}}
	h.extra = []string{"AWS_ENDPOINT_URL=" + double.URL, "AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true"}
	for name, region := range awsRegions {
		block := h.block(name, 0) + "0/20"
		made, err := h.ec2(name).CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: &block})
		require.NoError(t, err)
		h.vpcs[name] = *made.Vpc.VpcId
		require.NoError(t, double.AttachInternetGateway(awsAccount, region, h.vpcs[name]))
		args = append(args, "--cloud", "aws/"+awsAccount+"/"+region)
	}
	h.start(args...)
	return h
}

// ec2 is the console of a site's region.
func (h *cloudHouse) ec2(site string) *ec2.Client {
	h.t.Helper()
	c, err := config.LoadDefaultConfig(h.t.Context(), config.WithRegion(awsRegions[site]), config.WithBaseEndpoint(h.cloud.URL),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("key", "secret", "")))
	require.NoError(h.t, err)
	return ec2.NewFromConfig(c)
}

// block is the beginning of the addresses of a network of a site.
func (h *cloudHouse) block(site string, network int) string {
	second := h.loopback
	if site == "recovery" {
		second++
	}
	return fmt.Sprintf("127.%d.%d.", second, network)
}

// cidr is a network of a site.
func (h *cloudHouse) cidr(site string, network int) string {
	if h.networks != nil {
		return h.networks[fmt.Sprint(site, " ", network)]
	}
	return h.block(site, network) + "0/24"
}

func (h *cloudHouse) awsSite(name string) cloud.Site {
	if h.sites != nil {
		return h.sites[name]
	}
	region := awsRegions[name]
	return cloud.Site{Name: name, Provider: "aws", Account: awsAccount, Region: region, Zone: region + "a", Bucket: "lifeboat-" + region, VPC: h.vpcs[name]}
}

// at opens a site of the double beside the worker.
func (h *cloudHouse) at(name string) *aws.Provider {
	h.t.Helper()
	var options aws.Options
	if h.cloud != nil {
		options = aws.Options{Endpoint: h.cloud.URL, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")}
	}
	p, err := aws.Open(h.t.Context(), h.awsSite(name), options)
	require.NoError(h.t, err)
	h.t.Cleanup(func() { require.NoError(h.t, p.Close()) })
	return p
}

// settled polls until a resource has a state.
func settled[R any](h *cloudHouse, what string, get func(context.Context) (R, error), state func(R) cloud.State, want cloud.State) (r R) {
	h.t.Helper()
	h.eventually(what+" is "+string(want), func() error {
		var err error
		if r, err = get(h.t.Context()); err == nil && state(r) != want {
			err = fmt.Errorf("it is %s", state(r))
		}
		return err
	})
	return r
}

// machine starts an instance with disks of one GiB, the first to boot from, as people
// have them before they protect them: nothing of it is Lifeboat's.
func (h *cloudHouse) machine(name string, disks ...string) (cloud.Server, box) {
	h.t.Helper()
	ctx, p := h.t.Context(), h.at("primary")
	network, err := p.StartCreateNetwork(ctx, cloud.CreateNetwork{Create: cloud.Create{Token: "network", Name: "main"}, CIDR: h.block("primary", 1) + "0/24"})
	require.NoError(h.t, err)
	var places []cloud.ImageDisk
	for i, d := range disks {
		create := cloud.Create{Token: name + "-" + d, Name: name + "-" + d}
		v, err := p.StartCreateDisk(ctx, cloud.CreateDisk{Create: create, Bytes: gib})
		require.NoError(h.t, err)
		settled(h, v.ID, func(ctx context.Context) (cloud.Disk, error) { return p.Disk(ctx, v.ID) }, func(d cloud.Disk) cloud.State { return d.State }, cloud.Available)
		s, err := p.StartSnapshots(ctx, cloud.CreateSnapshots{Create: create, Disks: []string{v.ID}})
		require.NoError(h.t, err)
		settled(h, s[0].ID, func(ctx context.Context) (cloud.Snapshot, error) { return p.Snapshot(ctx, s[0].ID) }, func(s cloud.Snapshot) cloud.State { return s.State }, cloud.Available)
		require.NoError(h.t, p.DeleteDisk(ctx, v.ID))
		places = append(places, cloud.ImageDisk{Device: d, SnapshotID: s[0].ID, Boot: i == 0})
	}
	image, err := p.RegisterImage(ctx, cloud.Create{Token: name, Name: name}, places)
	require.NoError(h.t, err)
	settled(h, image.ID, func(ctx context.Context) (cloud.Image, error) { return p.Image(ctx, image.ID) }, func(i cloud.Image) cloud.State { return i.State }, cloud.Available)
	s, err := p.StartLaunch(ctx, cloud.LaunchServer{Create: cloud.Create{Token: name, Name: name}, Image: image.ID, Type: awsType, Network: network.ID, Ports: []int{boxPort}})
	require.NoError(h.t, err)
	s = settled(h, s.ID, func(ctx context.Context) (cloud.Server, error) { return p.Server(ctx, s.ID) }, func(s cloud.Server) cloud.State { return s.State }, cloud.Running)
	require.NoError(h.t, p.DeleteImage(ctx, image.ID, true))
	ours := []string{s.ID, network.ID}
	for _, d := range s.Disks {
		ours = append(ours, d.DiskID)
	}
	_, err = h.ec2("primary").DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: ours, Tags: []types.Tag{{Key: awssdk.String(cloud.TagToken)}}})
	require.NoError(h.t, err)
	b := boxAt(h.t, s.IP)
	h.eventually("server "+name+" answers", b.alive)
	return s, b
}

// plan writes a plan for servers, which are started one after the other.
func (h *cloudHouse) plan(transfer string, servers ...string) string {
	h.t.Helper()
	return h.writePlan(awsPlan{transfer: transfer, servers: servers})
}

// awsPlan is what a plan may say.
type awsPlan struct {
	transfer string
	servers  []string
	blocks   string // a server whose data moves by blocks, whatever the others' do
	silent   bool   // servers that run are healthy
	database string // a server whose newest write a script looks up, and that has a name at a site of its own
}

func (h *cloudHouse) writePlan(p awsPlan) string {
	h.t.Helper()
	var b strings.Builder
	b.WriteString("apiVersion: lifeboat/v1\nkind: RecoveryPlan\nmetadata: {name: shop}\nspec:\n  sites:\n")
	for _, name := range []string{"primary", "recovery"} {
		s := h.awsSite(name)
		fmt.Fprintf(&b, "    - {name: %s, provider: aws, account: %q, region: %s, zone: %s, bucket: %s, vpc: %s}\n", name, s.Account, s.Region, s.Zone, s.Bucket, s.VPC)
	}
	if p.database != "" {
		fmt.Fprintf(&b, "    - {name: names, provider: local, directory: %s}\n", h.site("names"))
	}
	fmt.Fprintf(&b, `  networks:
    - {name: main, site: primary, cidr: %s}
    - {name: refuge, site: recovery, cidr: %s}
    - {name: trial, site: recovery, cidr: %s}
  sitePairs:
    - {name: main, primary: primary, recovery: recovery, recoveryNetwork: refuge, primaryNetwork: main}
  pointPolicies:
    - {name: often, every: 1m}
  tiers:
    - {name: gold, strategy: replicate, pointPolicy: often, transfer: %s}
  drills: {network: trial}
  servers:
`, h.cidr("primary", 1), h.cidr("recovery", 1), h.cidr("recovery", 2), p.transfer)
	for _, name := range p.servers {
		own, script := "", ""
		health := fmt.Sprintf(", health: {http: /healthz, port: %d, timeout: 20s}", boxPort)
		if p.silent {
			health = ""
		}
		if name == p.blocks {
			own = ", transfer: blocks"
		}
		if name == p.database {
			script = ", script: newest.sh"
			content := fmt.Sprintf("#!/bin/sh\nexec '%s' __numbers-newest \"http://$LIFEBOAT_ADDRESS:%d\"\n", programs.lifeboat, boxPort)
			require.NoError(h.t, os.WriteFile(filepath.Join(h.dir, "newest.sh"), []byte(content), 0o700))
		}
		fmt.Fprintf(&b, "    - {name: %[1]s, tier: gold, sitePair: main, source: %[1]s%[4]s, launch: {type: %[2]s, publicIP: %[1]s%[5]s%[3]s}}\n",
			name, awsType, health, own, script)
	}
	if p.database != "" {
		fmt.Fprintf(&b, "  dns:\n    - {name: %s, zone: %s, site: names, server: %s, ttl: 1s}\n", awsRecord, awsZone, p.database)
	}
	b.WriteString("  steps:\n")
	for i, name := range p.servers {
		after := ""
		if i > 0 {
			after = ", after: [of-" + p.servers[i-1] + "]"
		}
		fmt.Fprintf(&b, "    - {name: of-%[1]s, servers: [%[1]s]%[2]s}\n", name, after)
	}
	path := filepath.Join(h.dir, "shop.yaml")
	require.NoError(h.t, os.WriteFile(path, []byte(b.String()), 0o644))
	return path
}

// lose makes a region answer nothing any more, and forgets what it was asked.
func (h *cloudHouse) lose(site string) {
	h.lost = h.cloud.Inject(awstest.Rule{Region: awsRegions[site], Drop: true})
	h.cloud.ForgetRequests()
}

// find lets it answer again.
func (h *cloudHouse) find(string) { h.lost() }

// asked lists the calls that a region was asked for since the double forgot.
func (h *cloudHouse) asked(region string) (calls []string) {
	for _, r := range h.cloud.Requests() {
		call := r.Service + " " + r.Operation
		if r.Region == region && !slices.Contains(calls, call) {
			calls = append(calls, call)
		}
	}
	return calls
}

// leftAt lists what carries the tags of the plan at a site, but what is named.
func (h *cloudHouse) leftAt(site string, but ...string) (found []string) {
	h.t.Helper()
	ctx, p, f := h.t.Context(), h.at(site), cloud.Filter{Tags: map[string]string{cloud.TagPlan: "shop"}}
	note := func(kind cloud.Kind, r cloud.Resource) {
		if r.State != cloud.Deleting && !slices.Contains(but, r.ID) {
			found = append(found, fmt.Sprintf("%s %s %s %v", kind, r.ID, r.State, r.Tags))
		}
	}
	servers, err := p.Servers(ctx, f)
	require.NoError(h.t, err)
	for _, s := range servers {
		note(cloud.KindServer, s.Resource)
		for _, d := range s.Disks {
			if slices.Contains(but, s.ID) {
				but = append(but, d.DiskID)
			}
		}
	}
	disks, err := p.Disks(ctx, f)
	require.NoError(h.t, err)
	for _, d := range disks {
		note(cloud.KindDisk, d.Resource)
	}
	snapshots, err := p.Snapshots(ctx, f)
	require.NoError(h.t, err)
	for _, s := range snapshots {
		note(cloud.KindSnapshot, s.Resource)
	}
	images, err := p.Images(ctx, f)
	require.NoError(h.t, err)
	for _, i := range images {
		note(cloud.KindImage, i.Resource)
	}
	return found
}

// count logs how many requests something cost, and which.
func (h *cloudHouse) count(what string, before int) (now int) {
	all := h.cloud.Requests()
	calls := map[string]int{}
	for _, r := range all[min(before, len(all)):] {
		calls[r.Service+" "+r.Operation]++
	}
	h.t.Logf("%s: %d requests: %v", what, len(all)-before, calls)
	return len(all)
}
