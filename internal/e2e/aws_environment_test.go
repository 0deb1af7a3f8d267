package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws"
	"lifeboat/workflows"
)

// awsPatience bounds commands and waits at the real AWS: a first snapshot alone takes minutes.
const awsPatience = 45 * time.Minute

// One server goes to another region and stays there. With LIFEBOAT_AWS_TEST=1 this is in
// an account of tests, or at the emulator at AWS_ENDPOINT_URL: what carries Lifeboat's tags
// there is deleted. The settings are those of the provider's conformance suite; credentials
// are taken from the environment. Else it is a double.
func TestOneLifeCycleOfAWS(t *testing.T) {
	t.Parallel()
	h, origin := environmentHouse(t)
	h.do("plan", "apply", "-f", h.writePlan(awsPlan{transfer: "snapshots", servers: []string{"db"}, silent: true}), "--wait")
	h.do("replication", "start", "shop", "--wait")
	point := h.mark("shop/db", "marked")

	drill := ask[workflows.Report](h.house, "drill", "start", "shop")
	require.Equal(t, workflows.OutcomeDone, drill.Outcome, drill.Reason)
	assert.Equal(t, point.ID, drill.Servers[0].Point)
	h.runsAt("recovery", drill.Servers[0].ServerID)
	drill = ask[workflows.Report](h.house, "drill", "clean", "shop")
	assert.Equal(t, workflows.OutcomeCleaned, drill.Outcome, drill.Reason)
	assert.Zero(t, drill.Resources.Left, drill.Resources.LeftOver)

	over := ask[workflows.Report](h.house, "failover", "start", "shop", "--yes")
	require.Equal(t, workflows.OutcomeDone, over.Outcome, over.Reason)
	assert.Equal(t, "done", over.Servers[0].Fencing)
	recovered := h.runsAt("recovery", over.Servers[0].ServerID)
	assert.NotEmpty(t, over.Servers[0].Public)
	h.do("failover", "commit", "shop", "--wait")
	var disks []string
	for _, d := range append(recovered.Disks, origin.Disks...) {
		disks = append(disks, d.DiskID)
	}
	assert.Empty(t, h.leftAt("recovery", append(disks, recovered.ID)...), "commit leaves the server alone")
	assert.Empty(t, h.leftAt("primary", append(disks, origin.ID)...))
	t.Logf("drill: RTO %.0f s; failover: RTO %.0f s", *drill.RTOSeconds, *over.RTOSeconds)
}

// runsAt asserts that a server runs.
func (h *cloudHouse) runsAt(site, id string) cloud.Server {
	h.t.Helper()
	s, err := h.at(site).Server(h.t.Context(), id)
	require.NoError(h.t, err)
	assert.Equal(h.t, cloud.Running, s.State)
	return s
}

// environmentHouse is a dev that serves what the environment names, with a server to protect.
func environmentHouse(t *testing.T) (*cloudHouse, cloud.Server) {
	t.Helper()
	if os.Getenv("LIFEBOAT_AWS_TEST") != "1" {
		h := newCloudHouse(t)
		origin, _ := h.machine("db", "root", "data")
		return h, origin
	}
	env := func(name string) string {
		value := os.Getenv("LIFEBOAT_AWS_" + name)
		require.NotEmpty(t, value, "set LIFEBOAT_AWS_%s, see the documentation of make test-aws", name)
		return value
	}
	h := &cloudHouse{house: emptyHouse(t), sites: map[string]cloud.Site{}, vpcs: map[string]string{},
		networks: map[string]string{"primary 1": env("CIDR"), "recovery 1": env("CIDR"), "recovery 2": env("OTHER")}}
	h.patience = awsPatience
	args := []string{"--timeouts", "standard"}
	for name, key := range map[string][3]string{"primary": {"ZONE", "BUCKET", "VPC"}, "recovery": {"AWAY", "AWAY_BUCKET", "AWAY_VPC"}} {
		zone := env(key[0])
		site, err := aws.Open(t.Context(), cloud.Site{Name: name, Zone: zone}, aws.Options{})
		require.NoError(t, err)
		region := site.Site().Region
		require.NoError(t, site.Close())
		c, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(region))
		require.NoError(t, err)
		who, err := sts.NewFromConfig(c).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		require.NoError(t, err)
		h.sites[name] = cloud.Site{Name: name, Provider: "aws", Account: *who.Account, Region: region, Zone: zone, Bucket: env(key[1]), VPC: env(key[2])}
		args = append(args, "--cloud", "aws/"+*who.Account+"/"+region)
	}
	h.start(args...)
	t.Cleanup(func() { h.sweep("primary"); h.sweep("recovery") })
	ctx, p := t.Context(), h.at("primary")
	network, err := p.StartCreateNetwork(ctx, cloud.CreateNetwork{Create: cloud.Create{Token: "e2e-network", Name: "main"}, CIDR: h.cidr("primary", 1)})
	require.NoError(t, err)
	s, err := p.StartLaunch(ctx, cloud.LaunchServer{Create: cloud.Create{Token: h.dir, Name: "db"}, Image: env("IMAGE"), Type: awsType, Network: network.ID})
	require.NoError(t, err)
	return h, settled(h, s.ID, func(ctx context.Context) (cloud.Server, error) { return p.Server(ctx, s.ID) }, func(s cloud.Server) cloud.State { return s.State }, cloud.Running)
}

// sweep deletes what a life cycle has made at a site, and what it began with.
func (h *cloudHouse) sweep(site string) {
	ctx, cancel := context.WithTimeout(context.Background(), awsPatience)
	defer cancel()
	p, err := aws.Open(ctx, h.sites[site], aws.Options{})
	if !assert.NoError(h.t, err) {
		return
	}
	defer p.Close()
	for {
		left, err := sweepOnce(ctx, p)
		if left == 0 && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			assert.NoError(h.t, errors.Join(err, ctx.Err()), "%d resources are left at site %s", left, site)
			return
		case <-time.After(5 * time.Second):
		}
	}
}

// sweepOnce deletes what can be deleted of what carries a token of Lifeboat, and counts what is there.
func sweepOnce(ctx context.Context, p *aws.Provider) (left int, err error) {
	var errs []error
	remove := func(r cloud.Resource, del func(context.Context, string) error) {
		if r.Tags[cloud.TagToken] == "" {
			return
		}
		left++
		if err := del(ctx, r.ID); err != nil && !cloud.IsNotFound(err) && cloud.ClassOf(err) != cloud.Wait {
			errs = append(errs, fmt.Errorf("delete %s: %w", r.ID, err))
		}
	}
	servers, err := p.Servers(ctx, cloud.Filter{})
	errs = append(errs, err)
	for _, r := range servers {
		remove(r.Resource, p.TerminateServer)
	}
	addresses, err := p.Addresses(ctx, cloud.Filter{})
	errs = append(errs, err)
	for _, r := range addresses {
		remove(r.Resource, p.ReleaseAddress)
	}
	images, err := p.Images(ctx, cloud.Filter{})
	errs = append(errs, err)
	for _, r := range images {
		remove(r.Resource, func(ctx context.Context, id string) error { return p.DeleteImage(ctx, id, true) })
	}
	disks, err := p.Disks(ctx, cloud.Filter{})
	errs = append(errs, err)
	for _, r := range disks {
		remove(r.Resource, p.DeleteDisk)
	}
	snapshots, err := p.Snapshots(ctx, cloud.Filter{})
	errs = append(errs, err)
	for _, r := range snapshots {
		remove(r.Resource, p.DeleteSnapshot)
	}
	networks, err := p.Networks(ctx, cloud.Filter{})
	errs = append(errs, err)
	for _, r := range networks {
		remove(r.Resource, p.DeleteNetwork)
	}
	return left, errors.Join(errs...)
}
