package aws

import (
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func TestASiteNeedsARegion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ region, zone, want string }{
		{"eu-central-1", "", "eu-central-1"}, {"", "eu-central-1b", "eu-central-1"}, {"us-gov-west-1", "us-gov-west-1a", "us-gov-west-1"},
		{"", "us-west-2-lax-1a", "us-west-2"}, {"", "", ""}, {"eu-west-1", "eu-central-1b", ""}, {"", "mars", ""},
	} {
		p, err := Open(t.Context(), cloud.Site{Name: "site", Region: c.region, Zone: c.zone}, Options{})
		if c.want == "" {
			require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%+v", c)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, p.Site().Region)
		require.Equal(t, "aws", p.Site().Provider)
		require.NoError(t, p.Close())
		require.NoError(t, p.Close())
	}
}

// A site is opened without a request, also while its region is down, and its calls are for its own region.
func TestASiteTalksToItsOwnRegionOnly(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	const role = "arn:aws:iam::222222222222:role/recovery"
	d.cloud.Role(role, "")
	d.cloud.ForgetRequests()
	site := d.site("away")
	site.Role = role
	p := d.provider(site, d.options())
	require.Empty(t, d.cloud.Requests())
	d.cloud.Inject(awstest.Rule{Region: testRegions["home"], Drop: true}) // it is down
	vpc, err := p.ec2().CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String(d.ip(0, 0) + "/24")})
	require.NoError(t, err)
	site.VPC = awssdk.ToString(vpc.Vpc.VpcId)
	p = d.provider(site, d.options())
	s := d.server(p, "server", "root")
	require.NoError(t, p.StopServer(t.Context(), s.ID, true))
	d.serverIs(p, s.ID, cloud.Stopped)
	_, err = p.Intend(t.Context(), cloud.Entry{Token: "token", Kind: cloud.KindDisk, Plan: "shop", Operation: "drill", Intended: time.Now()})
	require.NoError(t, err)
	require.NotEmpty(t, d.cloud.Requests())
	for _, r := range d.cloud.Requests() {
		require.Equal(t, testRegions["away"], r.Region, "%+v", r)
	}

	o := d.options()
	o.NoGlobal = true
	_, err = d.provider(site, o).Records(t.Context(), testZone, "")
	require.Equal(t, cloud.Unavailable, cloud.CodeOf(err), "%v", err)
	for _, r := range d.cloud.Requests() {
		require.NotEqual(t, "route53", r.Service)
	}
}

// seenHosts refuses every request, and remembers whom it was for.
type seenHosts struct{ last string }

func (s *seenHosts) RoundTrip(r *http.Request) (*http.Response, error) {
	s.last = r.URL.Host
	return nil, errors.New("no network in this test")
}

// The endpoints of the real services are regional, too.
func TestEndpointsAreThoseOfTheRegion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		role string
		call func(p *Provider) error
		host string
	}{
		{"arn:aws:iam::222222222222:role/recovery", func(p *Provider) error { _, err := p.Disks(t.Context(), cloud.Filter{}); return err }, "sts.us-east-1.amazonaws.com"},
		{"", func(p *Provider) error { _, err := p.Disks(t.Context(), cloud.Filter{}); return err }, "ec2.us-east-1.amazonaws.com"},
		{"", func(p *Provider) error { _, err := p.Entries(t.Context(), cloud.LedgerFilter{}); return err }, "ledger.s3.us-east-1.amazonaws.com"},
		{"", func(p *Provider) error { _, err := p.account(t.Context()); return err }, "sts.us-east-1.amazonaws.com"},
		{"", func(p *Provider) error { _, err := p.Key(t.Context(), "alias/a"); return err }, "kms.us-east-1.amazonaws.com"},
		{"", func(p *Provider) error {
			_, err := p.ScriptRun(t.Context(), "11111111-1111-1111-1111-111111111111/i-1")
			return err
		}, "ssm.us-east-1.amazonaws.com"},
	} {
		var seen seenHosts
		p, err := Open(t.Context(), cloud.Site{Name: "site", Region: "us-east-1", Bucket: "ledger", Role: c.role},
			Options{HTTP: &http.Client{Transport: &seen}, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")})
		require.NoError(t, err)
		require.Error(t, c.call(p))
		require.Equal(t, c.host, seen.last)
		require.NoError(t, p.Close())
	}
}

func TestThrottlingIsWaitedOutByTheSDKAndThenByTheCaller(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	limit := &awstest.Error{Code: "RequestLimitExceeded", Message: "Request limit exceeded.", Status: 503}
	d.cloud.Inject(awstest.Rule{Operation: "DescribeVolumes", Times: 1, Error: limit})
	_, err := p.Disks(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	d.cloud.Inject(awstest.Rule{Operation: "CreateVolume", Error: limit})
	_, err = p.StartCreateDisk(t.Context(), cloud.CreateDisk{Create: cloud.Create{Token: "disk"}, Bytes: gib})
	require.Equal(t, cloud.Throttled, cloud.CodeOf(err), "%v", err)
}

func TestADeadRegionIsUnavailable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	p, err := Open(t.Context(), cloud.Site{Name: "site", Region: "eu-central-1"}, Options{Endpoint: "http://" + address,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")})
	require.NoError(t, err)
	defer p.Close()
	begun := time.Now()
	_, err = p.Disks(t.Context(), cloud.Filter{})
	require.Equal(t, cloud.Unavailable, cloud.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "connection refused")
	require.Less(t, time.Since(begun), 30*time.Second)
}
