package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
	"lifeboat/activities/cloud/cloudtest"
	"lifeboat/activities/cloud/local"
)

const (
	testPort = 7007
	testZone = "example.org"
	testType = "t3.micro"
)

// TestMain is also the helper programs of the sites that run the double's instances.
func TestMain(m *testing.M) {
	local.RunHelper()
	os.Exit(m.Run())
}

// TestConformance runs the suite against the double, or, with LIFEBOAT_AWS_TEST=1, against what the environment names:
// the real cloud, or the emulator at AWS_ENDPOINT_URL. The account must be one for tests: what carries Lifeboat's tags is
// deleted, and what is below lifeboat/ in the buckets. Behaviours share it then, so that they have to run one after the other (-parallel 1). Settings:
// LIFEBOAT_AWS_ZONE and LIFEBOAT_AWS_AWAY (zones of two regions), LIFEBOAT_AWS_BUCKET and LIFEBOAT_AWS_AWAY_BUCKET,
// LIFEBOAT_AWS_VPC and LIFEBOAT_AWS_AWAY_VPC, LIFEBOAT_AWS_CIDR (a free /24 of both VPCs) and LIFEBOAT_AWS_OTHER (another),
// LIFEBOAT_AWS_IMAGE (one that runs user data and has Python), LIFEBOAT_AWS_DNS (a hosted zone), AWS_ENDPOINT_URL. Servers
// are asked at their private addresses: run it in the VPC.
func TestConformance(t *testing.T) {
	t.Parallel()
	if os.Getenv("LIFEBOAT_AWS_TEST") == "1" {
		cloudtest.Run(t, realConformance())
		return
	}
	cloudtest.Run(t, cloudtest.Config{
		// The race detector and many tests at once on a small machine slow processes down.
		Within: 2 * time.Minute,
		Sites:  func(t *testing.T) func(string) cloud.Provider { return doubleOf(t, likeReal).open },
		Fixture: func(t *testing.T) cloudtest.Fixture {
			d := doubleOf(t, likeReal)
			return cloudtest.Fixture{
				DiskBytes: gib,
				CIDR:      d.ip(0, 0) + "/24", IP: d.ip(0, 7), Outside: d.ip(2, 7), Other: d.ip(1, 0) + "/24",
				Zone: testZone,
				Launch: func(in cloud.LaunchServer) cloud.LaunchServer {
					in.Ports, in.Type = []int{testPort}, testType
					return in
				},
				Write: func(t *testing.T, v cloud.Disk, at int64, data []byte) {
					require.NoError(t, d.cloud.WriteVolume(v.ID, data, at))
				},
				Content: func(t *testing.T, v cloud.Disk) io.ReaderAt { return volumeReader{d.cloud, v.ID} },
			}
		},
	})
}

// likeReal is a double whose listings lag behind and come in pages, as those of AWS do.
var likeReal = awstest.Options{Lag: 10 * time.Millisecond, PageSize: 2}

// testGuest is what the instances of a double run.
func testGuest(awstest.Guest) awstest.Program {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return awstest.Program{Launch: map[string]string{"runtime": "process", "command": exe + " -test.run=^TestServeConformance$"}, Ports: []int{testPort}}
}

// volumeReader reads a volume of the double.
type volumeReader struct {
	c  *awstest.Cloud
	id string
}

func (v volumeReader) ReadAt(p []byte, off int64) (int, error) {
	if err := v.c.ReadVolume(v.id, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// double is a cloud for one test, with two sites in two regions.
type double struct {
	t      *testing.T
	cloud  *awstest.Cloud
	number int32
	vpcs   map[string]string // by region
}

// Tests of one process share the addresses of loopback: each double has its own.
var (
	doublesMu   sync.Mutex
	doubles     = map[string]*double{}
	doubleCount atomic.Int32
)

// doubleOf gives the double of a test, made at its first use. Its instances run unless the options say otherwise.
func doubleOf(t *testing.T, o awstest.Options) *double {
	t.Helper()
	if o.Guest == nil {
		o.Guest = testGuest
	}
	return apiDouble(t, o)
}

// apiDouble is doubleOf whose instances have states only.
func apiDouble(t *testing.T, o awstest.Options) *double {
	t.Helper()
	doublesMu.Lock()
	defer doublesMu.Unlock()
	if d := doubles[t.Name()]; d != nil {
		return d
	}
	d := &double{t: t, cloud: awstest.New(t, o), number: doubleCount.Add(1), vpcs: map[string]string{}}
	doubles[t.Name()] = d
	t.Cleanup(func() {
		doublesMu.Lock()
		defer doublesMu.Unlock()
		delete(doubles, t.Name())
	})
	for _, region := range testRegions {
		p, err := Open(t.Context(), cloud.Site{Name: "setup", Region: region}, d.options())
		require.NoError(t, err)
		out, err := p.ec2().CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String(d.ip(0, 0) + "/22")})
		require.NoError(t, err)
		d.vpcs[region] = awssdk.ToString(out.Vpc.VpcId)
		require.NoError(t, d.cloud.AttachInternetGateway(testAccount, region, d.vpcs[region]))
		if region == testRegions["home"] {
			dns, err := p.route53("setup")
			require.NoError(t, err)
			_, err = dns.CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: awssdk.String(testZone), CallerReference: awssdk.String("setup")})
			require.NoError(t, err)
		}
		require.NoError(t, p.Close())
	}
	return d
}

const testAccount = "111111111111" // the one that keys of the double belong to

var testRegions = map[string]string{"home": "us-east-1", "away": "us-west-2"}

// ip is an address of the double: 127.x.y.z with four networks of 256 addresses for each.
func (d *double) ip(third, last int32) string {
	return fmt.Sprintf("127.%d.%d.%d", 100+d.number/64, 4*(d.number%64)+third, last)
}

func (d *double) options() Options {
	return Options{Endpoint: d.cloud.URL, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""), LookFor: 50 * time.Millisecond,
		Resolver: d.cloud.DNS()}
}

// site is a site in the region of its name.
func (d *double) site(name string) cloud.Site {
	region := testRegions[name]
	return cloud.Site{Name: name, Region: region, Zone: region + "a", Bucket: "lifeboat-" + name, VPC: d.vpcs[region]}
}

// open opens a site of the double.
func (d *double) open(name string) cloud.Provider { return d.provider(d.site(name), d.options()) }

func (d *double) provider(site cloud.Site, o Options) *Provider {
	p, err := Open(d.t.Context(), site, o)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { require.NoError(d.t, p.Close()) })
	return p
}

// TestServeConformance is the server that the double runs: it sends the first 16 bytes of its disk to whoever connects.
func TestServeConformance(t *testing.T) {
	if os.Getenv("LIFEBOAT_SERVER") == "" {
		return // not launched by a site
	}
	disk, err := os.Open(os.Getenv("LIFEBOAT_DISK_XVDA")) // images without names of disks have their root there
	require.NoError(t, err)
	defer disk.Close()
	listener, err := net.Listen("tcp4", os.Getenv("LIFEBOAT_ADDRESS")+":"+os.Getenv("LIFEBOAT_PORTS"))
	require.NoError(t, err)
	for {
		conn, err := listener.Accept()
		require.NoError(t, err)
		go func() {
			defer conn.Close()
			io.Copy(conn, io.NewSectionReader(disk, 0, 16)) //nolint:errcheck // the other side may be gone
		}()
	}
}

// realConformance is the suite for an account of tests.
func realConformance() cloudtest.Config {
	env := func(name string) string { return os.Getenv("LIFEBOAT_AWS_" + name) }
	sites := map[string]cloud.Site{
		"home": {Name: "home", Zone: env("ZONE"), Bucket: env("BUCKET"), VPC: env("VPC")},
		"away": {Name: "away", Zone: env("AWAY"), Bucket: env("AWAY_BUCKET"), VPC: env("AWAY_VPC")},
	}
	return cloudtest.Config{
		Slow: true,
		Sites: func(t *testing.T) func(string) cloud.Provider {
			var used sync.Map
			return func(name string) cloud.Provider {
				p, err := Open(t.Context(), sites[name], Options{})
				require.NoError(t, err)
				_, before := used.LoadOrStore(name, true)
				t.Cleanup(func() {
					if !before {
						sweep(t, p)
					}
					require.NoError(t, p.Close())
				})
				return p
			}
		},
		Fixture: func(t *testing.T) cloudtest.Fixture {
			cidr, other := env("CIDR"), env("OTHER")
			address := func(cidr string, last string) string { return cidr[:strings.LastIndex(cidr, ".")+1] + last }
			return cloudtest.Fixture{DiskBytes: gib, CIDR: cidr, IP: address(cidr, "77"), Outside: address(other, "77"), Other: other,
				Zone: cmp.Or(env("DNS"), testZone),
				Launch: func(in cloud.LaunchServer) cloud.LaunchServer {
					in.Ports, in.Type, in.Image = []int{testPort}, testType, env("IMAGE")
					in.UserData = fmt.Sprintf("#!/usr/bin/env python3\nimport socket\ns = socket.create_server(('', %d))\nwhile True:\n  c, _ = s.accept()\n  c.sendall(%q.encode())\n  c.close()\n",
						testPort, fmt.Sprintf("%-16.16s", in.Name))
					return in
				}}
		},
	}
}

// sweep deletes what a behaviour left in an account of tests.
func sweep(t *testing.T, p *Provider) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	objects, err := p.listObjects(ctx, "sweep", "lifeboat/")
	for _, o := range objects {
		err = errors.Join(err, p.deleteObject(ctx, "sweep", o.key, ""))
	}
	require.NoError(t, err)
	for {
		left, err := sweepOnce(ctx, p)
		if left == 0 && err == nil {
			return
		}
		if waited := wait(ctx, 5*time.Second); waited != nil {
			require.NoError(t, errors.Join(err, waited), "%d resources are left", left)
		}
	}
}

// sweepOnce deletes what can be deleted, and counts what is there.
func sweepOnce(ctx context.Context, p *Provider) (left int, err error) {
	var errs []error
	each := func(list []cloud.Resource, err error, del func(context.Context, string) error) {
		errs = append(errs, err)
		for _, r := range list {
			if r.Tags[cloud.TagToken] == "" {
				continue
			}
			left++
			if err := del(ctx, r.ID); err != nil && !cloud.IsNotFound(err) && cloud.ClassOf(err) != cloud.Wait {
				errs = append(errs, err)
			}
		}
	}
	servers, err := p.Servers(ctx, cloud.Filter{})
	each(resources(servers, func(v cloud.Server) cloud.Resource { return v.Resource }), err, p.TerminateServer)
	addresses, err := p.Addresses(ctx, cloud.Filter{})
	each(resources(addresses, func(v cloud.Address) cloud.Resource { return v.Resource }), err, p.ReleaseAddress)
	images, err := p.Images(ctx, cloud.Filter{})
	each(resources(images, func(v cloud.Image) cloud.Resource { return v.Resource }), err, func(ctx context.Context, id string) error { return p.DeleteImage(ctx, id, true) })
	disks, err := p.Disks(ctx, cloud.Filter{})
	each(resources(disks, func(v cloud.Disk) cloud.Resource { return v.Resource }), err, p.DeleteDisk)
	snapshots, err := p.Snapshots(ctx, cloud.Filter{})
	each(resources(snapshots, func(v cloud.Snapshot) cloud.Resource { return v.Resource }), err, p.DeleteSnapshot)
	networks, err := p.Networks(ctx, cloud.Filter{})
	each(resources(networks, func(v cloud.Network) cloud.Resource { return v.Resource }), err, p.DeleteNetwork)
	return left, errors.Join(errs...)
}

func resources[T any](list []T, of func(T) cloud.Resource) (all []cloud.Resource) {
	for _, v := range list {
		all = append(all, of(v))
	}
	return all
}
