package aws

import (
	"context"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

// answersA asks the double's name server for the address of a name.
func answersA(t *testing.T, d *double, name string) string {
	t.Helper()
	reply, err := dns.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), d.cloud.DNS())
	require.NoError(t, err)
	if len(reply.Answer) == 0 {
		return ""
	}
	return reply.Answer[0].(*dns.A).A.String()
}

// letEverybodyRead does what the documentation of switches tells people to do.
func letEverybodyRead(t *testing.T, p *Provider) {
	t.Helper()
	_, err := p.s3().DeletePublicAccessBlock(t.Context(), &s3.DeletePublicAccessBlockInput{Bucket: &p.site.Bucket})
	require.NoError(t, err)
	policy := strings.ReplaceAll(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::BUCKET/lifeboat/switches/*"}]}`,
		"BUCKET", p.site.Bucket)
	_, err = p.s3().PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &p.site.Bucket, Policy: &policy})
	require.NoError(t, err)
}

func switchRecord(ip string) cloud.Record {
	return cloud.Record{Name: "shop." + testZone, Type: "A", TTL: time.Second, Values: []string{ip}}
}

// prepare calls PrepareSwitch until it is done, as an activity would.
func prepare(t *testing.T, p *Provider, token string, primary, secondary cloud.Record) {
	t.Helper()
	require.Eventually(t, func() bool {
		change, err := p.PrepareSwitch(t.Context(), testZone, token, primary, secondary)
		if cloud.CodeOf(err) == cloud.NotReady {
			return false
		}
		require.NoError(t, err)
		return inSync(t, p, change)
	}, 20*time.Second, 5*time.Millisecond)
}

func inSync(t *testing.T, p *Provider, change cloud.Change) bool {
	t.Helper()
	require.Eventually(t, func() bool {
		now, err := p.Change(t.Context(), change.ID)
		require.NoError(t, err)
		return now.State == cloud.Available
	}, 20*time.Second, time.Millisecond)
	return true
}

func TestASwitchIsFlippedWithoutTheControlPlaneOfDNS(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("away").(*Provider) // us-west-2, where the secondary is
	require.NoError(t, p.makeBucket(t.Context(), "test"))
	letEverybodyRead(t, p)
	name := "shop." + testZone
	change, err := p.StartSetRecords(t.Context(), testZone, "before", []cloud.Record{switchRecord("192.0.2.9")})
	require.NoError(t, err)
	inSync(t, p, change)

	require.Equal(t, cloud.NotFound, cloud.CodeOf(p.FlipSwitch(t.Context(), name, cloud.SwitchSecondary)), "it is not prepared")
	// While the check is prepared nobody is sent to the secondary.
	stop := make(chan struct{})
	watched := make(chan map[string]bool)
	go func() {
		seen := map[string]bool{}
		for {
			select {
			case <-stop:
				watched <- seen
				return
			default:
				reply, err := dns.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), d.cloud.DNS())
				if err == nil && len(reply.Answer) > 0 {
					seen[reply.Answer[0].(*dns.A).A.String()] = true
				}
			}
		}
	}()
	prepare(t, p, "prepare", switchRecord("192.0.2.1"), switchRecord("192.0.2.2"))
	close(stop)
	require.NotContains(t, <-watched, "192.0.2.2")
	require.Equal(t, "192.0.2.1", answersA(t, d, name), "the pair took the place of the simple record")
	active, err := p.ActiveSwitch(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, cloud.SwitchPrimary, active)

	permit := d.cloud.Deny("", "route53:*")
	d.cloud.ForgetRequests()
	_, err = p.StartSetRecords(t.Context(), testZone, "denied", []cloud.Record{switchRecord("192.0.2.3")})
	require.Equal(t, cloud.Denied, cloud.CodeOf(err), "the control plane is away")
	for _, step := range []struct{ active, ip string }{{cloud.SwitchSecondary, "192.0.2.2"}, {cloud.SwitchPrimary, "192.0.2.1"}} {
		d.cloud.ForgetRequests()
		for range 2 {
			require.NoError(t, p.FlipSwitch(t.Context(), name, step.active))
		}
		active, err := p.ActiveSwitch(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, step.active, active)
		require.Eventually(t, func() bool { return answersA(t, d, name) == step.ip }, 20*time.Second, 5*time.Millisecond)
		for _, r := range d.cloud.Requests() {
			require.Equal(t, "s3 us-west-2", r.Service+" "+r.Region, "nothing but the bucket of the recovery region is asked")
		}
	}
	permit()

	// Prepared again the same check serves, and the position stays.
	require.NoError(t, p.FlipSwitch(t.Context(), name, cloud.SwitchSecondary))
	prepare(t, p, "again", switchRecord("192.0.2.1"), switchRecord("192.0.2.4"))
	require.Eventually(t, func() bool { return answersA(t, d, name) == "192.0.2.4" }, 20*time.Second, 5*time.Millisecond)
	client, err := p.route53("test")
	require.NoError(t, err)
	checks, err := client.ListHealthChecks(t.Context(), &route53.ListHealthChecksInput{})
	require.NoError(t, err)
	require.Len(t, checks.HealthChecks, 1)
	require.Equal(t, int32(checkThreshold), awssdk.ToInt32(checks.HealthChecks[0].HealthCheckConfig.FailureThreshold))
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(p.FlipSwitch(t.Context(), name, "tertiary")))

	// Removed it leaves the active record, and nothing else.
	fault := &awstest.Error{Code: "AccessDenied", Message: "lost", Status: 403}
	d.cloud.Inject(awstest.Rule{Service: "route53", Operation: "ChangeResourceRecordSets", Times: 1, Error: fault, After: true})
	d.cloud.Inject(awstest.Rule{Service: "route53", Operation: "DeleteHealthCheck", Times: 1, Error: fault})
	failures := 0
	require.Eventually(t, func() bool {
		err := p.RemoveSwitch(t.Context(), name, "remove")
		if cloud.CodeOf(err) == cloud.Denied {
			failures++
		}
		require.Equal(t, "192.0.2.4", answersA(t, d, name), "nobody is sent elsewhere meanwhile")
		return err == nil
	}, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, 2, failures)
	require.Equal(t, "192.0.2.4", answersA(t, d, name))
	records, err := p.Records(t.Context(), testZone, "")
	require.NoError(t, err)
	require.Equal(t, []cloud.Record{switchRecord("192.0.2.4")}, records)
	checks, err = client.ListHealthChecks(t.Context(), &route53.ListHealthChecksInput{})
	require.NoError(t, err)
	require.Empty(t, checks.HealthChecks)
	require.Equal(t, cloud.NotFound, cloud.CodeOf(p.RemoveSwitch(t.Context(), name, "remove")))
}

func TestASwitchThatNobodyCanReadIsNotPrepared(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("away").(*Provider)
	_, err := p.PrepareSwitch(t.Context(), testZone, "prepare", switchRecord("192.0.2.1"), switchRecord("192.0.2.2"))
	require.Equal(t, cloud.Denied, cloud.CodeOf(err))
	require.ErrorContains(t, err, "arn:aws:s3:::lifeboat-away/lifeboat/switches/*", "how to mend it")
	client, err := p.route53("test")
	require.NoError(t, err)
	checks, err := client.ListHealthChecks(t.Context(), &route53.ListHealthChecksInput{})
	require.NoError(t, err)
	require.Empty(t, checks.HealthChecks)
}

func TestRecordsThatCannotBeASwitchAreRefused(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("away").(*Provider)
	require.NoError(t, p.makeBucket(t.Context(), "test"))
	letEverybodyRead(t, p)
	weighted := switchRecord("192.0.2.5")
	one := 1
	weighted.SetID, weighted.Weight = "a", &one
	other := switchRecord("192.0.2.2")
	other.TTL = time.Minute
	for _, secondary := range []cloud.Record{weighted, other, {Name: "elsewhere.invalid", Type: "A", TTL: time.Second, Values: []string{"192.0.2.1"}}, switchRecord("none")} {
		_, err := p.PrepareSwitch(t.Context(), testZone, "prepare", switchRecord("192.0.2.1"), secondary)
		require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%v", secondary)
	}
	_, err := p.StartSetRecords(t.Context(), testZone, "weighted", []cloud.Record{weighted})
	require.NoError(t, err)
	_, err = p.PrepareSwitch(t.Context(), testZone, "prepare", switchRecord("192.0.2.1"), switchRecord("192.0.2.2"))
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "the name answers by weights")
	_, err = p.PrepareSwitch(context.Background(), "missing.example", "prepare", switchRecord("192.0.2.1"), switchRecord("192.0.2.2"))
	require.Equal(t, cloud.NotFound, cloud.CodeOf(err))
}
