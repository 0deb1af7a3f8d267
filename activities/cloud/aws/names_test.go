package aws

import (
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func newZone(t *testing.T, p *Provider, name, reference string, private bool) string {
	t.Helper()
	client, err := p.route53("test")
	require.NoError(t, err)
	in := &route53.CreateHostedZoneInput{Name: &name, CallerReference: &reference}
	if private {
		in.VPC = &types.VPC{VPCId: &p.site.VPC, VPCRegion: types.VPCRegion(p.site.Region)}
	}
	out, err := client.CreateHostedZone(t.Context(), in)
	require.NoError(t, err)
	return strings.TrimPrefix(awssdk.ToString(out.HostedZone.Id), "/hostedzone/")
}

func TestAZoneIsFoundByNameOrIdentifier(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{PageSize: 2})
	p := d.open("home").(*Provider)
	for _, other := range []string{"a." + testZone, "example.com", "z." + testZone} {
		newZone(t, p, other, other, false)
	}
	record := cloud.Record{Name: "www." + testZone, Type: "A", TTL: time.Second, Values: []string{"192.0.2.1"}}
	newZone(t, p, testZone, "private", true)
	_, err := p.StartSetRecords(t.Context(), strings.ToUpper(testZone)+".", "token", []cloud.Record{record})
	require.NoError(t, err, "the public one is meant")
	twin := newZone(t, p, testZone, "twin", false)
	_, err = p.Records(t.Context(), testZone, "")
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "two public zones of one name")
	require.ErrorContains(t, err, "identifier")
	for _, id := range []string{twin, "/hostedzone/" + twin} {
		list, err := p.Records(t.Context(), id, "")
		require.NoError(t, err)
		require.Empty(t, list, "a new zone has only what the contract does not show")
	}
	for _, missing := range []string{"missing.example", "Z0123456789ABCDEFGHIJ"} {
		_, err = p.Records(t.Context(), missing, "")
		require.Equal(t, cloud.NotFound, cloud.CodeOf(err), missing)
	}
}

func TestRecordsOfAllKindsComeBackAsTheyWereSet(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{PageSize: 2})
	p := d.open("home").(*Provider)
	records := []cloud.Record{
		{Name: "*.apps." + testZone, Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1", "192.0.2.2"}},
		{Name: "_x." + testZone, Type: "TXT", TTL: time.Minute, Values: []string{`say "hi" \ back`, strings.Repeat("é0", 300), ""}},
		{Name: "alias." + testZone, Type: "CNAME", TTL: time.Minute, Values: []string{"www.example.com"}},
	}
	for range 2 {
		_, err := p.StartSetRecords(t.Context(), testZone, "token", records)
		require.NoError(t, err)
	}
	list, err := p.Records(t.Context(), testZone, "")
	require.NoError(t, err)
	require.ElementsMatch(t, records, list)
	for _, r := range records {
		list, err = p.Records(t.Context(), testZone, r.Name)
		require.NoError(t, err)
		require.Equal(t, []cloud.Record{r}, list)
	}
	require.Eventually(t, func() bool {
		reply, err := dns.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("deep.apps."+testZone+".", dns.TypeA), d.cloud.DNS())
		require.NoError(t, err)
		return len(reply.Answer) == 2
	}, 10*time.Second, time.Millisecond)
}

func TestADeletionWhoseAnswerWasLostIsTheSameChange(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	p := d.open("home").(*Provider)
	record := cloud.Record{Name: "www." + testZone, Type: "A", TTL: time.Second, Values: []string{"192.0.2.1"}}
	other := record
	other.Name = "other." + testZone
	_, err := p.StartSetRecords(t.Context(), testZone, "set", []cloud.Record{record, other})
	require.NoError(t, err)
	missing := record
	missing.Name = "missing." + testZone
	_, err = p.StartDeleteRecords(t.Context(), testZone, "both", []cloud.Record{record, missing})
	require.Equal(t, cloud.NotFound, cloud.CodeOf(err))
	list, err := p.Records(t.Context(), testZone, "")
	require.NoError(t, err)
	require.Len(t, list, 2, "all or none")

	fault := &awstest.Error{Code: "AccessDenied", Message: "lost", Status: 403}
	d.cloud.Inject(awstest.Rule{Service: "route53", Operation: "ChangeResourceRecordSets", Times: 1, Error: fault, After: true})
	_, err = p.StartDeleteRecords(t.Context(), testZone, "lost", []cloud.Record{record})
	require.Error(t, err)
	for range 2 {
		change, err := p.StartDeleteRecords(t.Context(), testZone, "lost", []cloud.Record{record})
		require.NoError(t, err, "an earlier attempt has done it")
		inSync(t, p, change)
	}
	first, err := p.StartDeleteRecords(t.Context(), testZone, "second", []cloud.Record{other})
	require.NoError(t, err)
	again, err := p.StartDeleteRecords(t.Context(), testZone, "second", []cloud.Record{other})
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
	_, err = p.StartDeleteRecords(t.Context(), testZone, "second", []cloud.Record{record})
	require.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err))
	_, err = p.Change(t.Context(), "C0000000000")
	require.Equal(t, cloud.NotFound, cloud.CodeOf(err))
}

func TestTheResolverIsTheSettingOrTheZonesOwn(t *testing.T) {
	t.Parallel()
	d := doubleOf(t, awstest.Options{})
	o := d.options()
	p := d.provider(d.site("home"), o)
	got, err := p.Resolver(t.Context(), testZone)
	require.NoError(t, err)
	require.Equal(t, d.cloud.DNS(), got)
	o.Resolver = ""
	p = d.provider(d.site("home"), o)
	d.cloud.ForgetRequests()
	for range 3 {
		got, err = p.Resolver(t.Context(), testZone)
		require.NoError(t, err)
		require.Equal(t, "ns-1.awsdns-00.com:53", got)
	}
	require.Equal(t, 1, asked(d, "GetHostedZone"), "it is asked for once")
	o.NoGlobal = true
	p = d.provider(d.site("home"), o)
	_, err = p.StartSetRecords(t.Context(), testZone, "token", []cloud.Record{{Name: testZone, Type: "A", Values: []string{"192.0.2.1"}}})
	require.Equal(t, cloud.Unavailable, cloud.CodeOf(err), "the region of the control plane must not be used")
}

func FuzzRecordText(f *testing.F) {
	f.Add(`say "hi" \ back`)
	f.Add(strings.Repeat("é0", 300))
	f.Add(`\052`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := unquoteText(quoteText(s)); got != s {
			t.Fatalf("%q became %q", s, got)
		}
		unquoteText(s)
		if name := plainName(s); !strings.Contains(s, `\`) && name != strings.TrimSuffix(strings.ToLower(s), ".") {
			t.Fatalf("%q became %q", s, name)
		}
	})
}
