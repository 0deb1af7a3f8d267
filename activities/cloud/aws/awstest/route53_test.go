package awstest

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/miekg/dns"
)

// names is a zone of a double and its client.
type names struct {
	t      *testing.T
	c      *Cloud
	client *route53.Client
	zone   string
}

func newNames(t *testing.T, o Options) *names {
	t.Helper()
	c := New(t, o)
	n := &names{t: t, c: c, client: route53.NewFromConfig(sdk(c, "eu-west-1", "key"))}
	z := must(n.client.CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: aws.String("Example.com"), CallerReference: aws.String("first")}))(t)
	n.zone = *z.HostedZone.Id
	n.inSync(z.ChangeInfo)
	return n
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("%s: not in 20 s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (n *names) inSync(info *types.ChangeInfo) {
	n.t.Helper()
	until(n.t, "the change is INSYNC", func() bool {
		return must(n.client.GetChange(n.t.Context(), &route53.GetChangeInput{Id: info.Id}))(n.t).ChangeInfo.Status == types.ChangeStatusInsync
	})
}

func (n *names) try(changes ...types.Change) (*route53.ChangeResourceRecordSetsOutput, error) {
	return n.client.ChangeResourceRecordSets(n.t.Context(), &route53.ChangeResourceRecordSetsInput{HostedZoneId: &n.zone, ChangeBatch: &types.ChangeBatch{Changes: changes}})
}

func (n *names) change(changes ...types.Change) {
	n.t.Helper()
	n.inSync(must(n.try(changes...))(n.t).ChangeInfo)
}

// ask gives the texts of the answers to a question.
func (n *names) ask(network, name string, kind uint16) []string {
	n.t.Helper()
	client := &dns.Client{Net: network, Timeout: 5 * time.Second}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, kind), n.c.DNS())
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, rr := range reply.Answer {
		out = append(out, strings.Join(strings.Fields(strings.TrimPrefix(rr.String(), rr.Header().String())), " "))
	}
	if reply.Rcode != dns.RcodeSuccess {
		out = append(out, dns.RcodeToString[reply.Rcode])
	}
	return out
}

func record(action types.ChangeAction, name string, kind types.RRType, ttl int64, values ...string) types.Change {
	s := &types.ResourceRecordSet{Name: &name, Type: kind, TTL: &ttl}
	for _, v := range values {
		s.ResourceRecords = append(s.ResourceRecords, types.ResourceRecord{Value: aws.String(v)})
	}
	return types.Change{Action: action, ResourceRecordSet: s}
}

const create, upsert, remove = types.ChangeActionCreate, types.ChangeActionUpsert, types.ChangeActionDelete

func weighted(ch types.Change, id string, weight int64) types.Change {
	ch.ResourceRecordSet.SetIdentifier, ch.ResourceRecordSet.Weight = &id, &weight
	return ch
}

func failover(ch types.Change, role types.ResourceRecordSetFailover, check *types.HealthCheck) types.Change {
	ch.ResourceRecordSet.SetIdentifier, ch.ResourceRecordSet.Failover = aws.String(string(role)), role
	if check != nil {
		ch.ResourceRecordSet.HealthCheckId = check.Id
	}
	return ch
}

func TestNamesAreAnsweredOnceTheyAreInSync(t *testing.T) {
	t.Parallel()
	var slow atomic.Int64
	n := newNames(t, Options{Delay: func(string) time.Duration { return time.Duration(slow.Load()) }})
	n.change(record(create, "www.example.com", types.RRTypeA, 60, "127.0.1.1", "127.0.1.2"), record(create, "*.wild.example.com", types.RRTypeTxt, 60, `"any"`),
		record(create, "alias.example.com.", types.RRTypeCname, 60, "www.example.com"))
	for _, network := range []string{"udp", "tcp"} {
		if got := n.ask(network, "WWW.example.com.", dns.TypeA); !slices.Equal(got, []string{"127.0.1.1", "127.0.1.2"}) {
			t.Errorf("www is %v over %s", got, network)
		}
		if got := n.ask(network, "alias.example.com.", dns.TypeA); !slices.Equal(got, []string{"www.example.com.", "127.0.1.1", "127.0.1.2"}) {
			t.Errorf("the alias is %v", got)
		}
	}
	if got := n.ask("udp", "x.wild.example.com.", dns.TypeTXT); !slices.Equal(got, []string{`"any"`}) {
		t.Errorf("the wildcard is %v", got)
	}
	if got := n.ask("udp", "absent.example.com.", dns.TypeA); !slices.Equal(got, []string{"NXDOMAIN"}) {
		t.Errorf("an absent name is %v", got)
	}
	if got := n.ask("udp", "www.elsewhere.net.", dns.TypeA); !slices.Equal(got, []string{"REFUSED"}) {
		t.Errorf("a name of nobody is %v", got)
	}
	slow.Store(int64(time.Hour))
	out := must(n.try(record(upsert, "www.example.com", types.RRTypeA, 60, "127.0.1.3")))(t)
	if out.ChangeInfo.Status != types.ChangeStatusPending {
		t.Errorf("the change is %s", out.ChangeInfo.Status)
	}
	if got := n.ask("udp", "www.example.com.", dns.TypeA); len(got) != 2 {
		t.Errorf("a change is answered before it is INSYNC: %v", got)
	}
	sets := must(n.client.ListResourceRecordSets(t.Context(), &route53.ListResourceRecordSetsInput{HostedZoneId: &n.zone, StartRecordName: aws.String("www.example.com"), StartRecordType: "A"}))(t)
	if len(sets.ResourceRecordSets) != 1 || *sets.ResourceRecordSets[0].ResourceRecords[0].Value != "127.0.1.3" {
		t.Errorf("the API shows %+v", sets.ResourceRecordSets)
	}
}

func TestBatchesAreRefusedWhole(t *testing.T) {
	t.Parallel()
	n := newNames(t, Options{})
	www := func(action types.ChangeAction, values ...string) types.Change {
		return record(action, "www.example.com", types.RRTypeA, 60, values...)
	}
	n.change(www(create, "127.0.1.1", "127.0.1.2"), weighted(record(create, "w.example.com", types.RRTypeA, 60, "127.0.1.1"), "blue", 1))
	ok := record(create, "new.example.com", types.RRTypeA, 60, "127.0.1.1")
	noTTL := record(create, "t.example.com", types.RRTypeA, 0, "127.0.1.1")
	noTTL.ResourceRecordSet.TTL = nil
	ghost := failover(record(create, "f.example.com", types.RRTypeA, 60, "127.0.1.1"), "PRIMARY", &types.HealthCheck{Id: aws.String("ghost")})
	for what, x := range map[string]struct {
		change  types.Change
		code    string
		message string
	}{
		"created twice":         {www(create, "127.0.1.1"), "InvalidChangeBatch", "Tried to create resource record set [name='www.example.com.', type='A'] but it already exists"},
		"deleted unless there":  {record(remove, "no.example.com", types.RRTypeA, 60, "127.0.1.1"), "InvalidChangeBatch", "but it was not found"},
		"deleted differently":   {www(remove, "127.0.1.1"), "InvalidChangeBatch", "but the values provided do not match the current values"},
		"weighted by simple":    {weighted(www(create, "127.0.1.1"), "green", 1), "InvalidChangeBatch", "cannot be created as a non-weighted set exists with the same name and type."},
		"simple by weighted":    {record(create, "w.example.com", types.RRTypeA, 60, "127.0.1.1"), "InvalidChangeBatch", "cannot be created as other RRSets exist"},
		"weights of other TTL":  {weighted(record(create, "w.example.com", types.RRTypeA, 61, "127.0.1.1"), "green", 1), "InvalidChangeBatch", "weighted sets must contain the same TTL"},
		"weight too large":      {weighted(record(create, "x.example.com", types.RRTypeA, 60, "127.0.1.1"), "blue", 256), "InvalidInput", "256"},
		"CNAME beside others":   {record(create, "www.example.com", types.RRTypeCname, 60, "a.example.com"), "InvalidChangeBatch", "conflicts with other records"},
		"CNAME at the top":      {record(create, "example.com", types.RRTypeCname, 60, "a.example.com"), "InvalidChangeBatch", "not permitted at apex"},
		"name of another zone":  {record(create, "www.example.net", types.RRTypeA, 60, "127.0.1.1"), "InvalidChangeBatch", "is not permitted in zone example.com."},
		"no address":            {record(create, "y.example.com", types.RRTypeA, 60, "localhost"), "InvalidChangeBatch", "Value is not a valid IPv4 address"},
		"text without quotes":   {record(create, "y.example.com", types.RRTypeTxt, 60, "text"), "InvalidChangeBatch", "enclosed in quotation marks"},
		"no TTL":                {noTTL, "InvalidInput", "all of [TTL, and ResourceRecords]"},
		"unknown health check":  {ghost, "NoSuchHealthCheck", "ghost"},
		"the same set twice":    {record(upsert, "new.example.com", types.RRTypeA, 60, "127.0.1.1"), "InvalidChangeBatch", "invalid set of changes"},
		"SOA of a zone deleted": {record(remove, "example.com", types.RRTypeSoa, 900, zoneServers[0]+". awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"), "InvalidChangeBatch", "exactly one SOA"},
	} {
		_, err := n.try(ok, x.change)
		if refused(err) != x.code || !strings.Contains(err.Error(), x.message) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := n.ask("udp", "new.example.com.", dns.TypeA); !slices.Equal(got, []string{"NXDOMAIN"}) {
		t.Errorf("a part of a refused batch is answered: %v", got)
	}
	// Values have no order, and a set may make room for another kind of sets within a batch.
	n.change(www(remove, "127.0.1.2", "127.0.1.1"), weighted(www(create, "127.0.1.3"), "blue", 1))
}

func TestWeightsAreProportions(t *testing.T) {
	t.Parallel()
	n := newNames(t, Options{})
	count := func() map[string]int {
		got := map[string]int{}
		for range 40 {
			got[n.ask("udp", "w.example.com.", dns.TypeA)[0]]++
		}
		return got
	}
	set := func(a, b int64) {
		n.change(weighted(record(upsert, "w.example.com", types.RRTypeA, 60, "127.0.1.1"), "blue", a),
			weighted(record(upsert, "w.example.com", types.RRTypeA, 60, "127.0.1.2"), "green", b))
	}
	for _, x := range []struct {
		a, b  int64
		blues int
	}{{3, 1, 30}, {0, 255, 0}, {1, 0, 40}, {0, 0, 20}} {
		set(x.a, x.b)
		if got := count(); got["127.0.1.1"] != x.blues {
			t.Errorf("weights %d and %d are answered as %v", x.a, x.b, got)
		}
	}
}

func TestCallerReferences(t *testing.T) {
	t.Parallel()
	n := newNames(t, Options{})
	_, err := n.client.CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: aws.String("example.com"), CallerReference: aws.String("first")})
	wantCode(t, err, "HostedZoneAlreadyExists")
	create := func(port int32) (*route53.CreateHealthCheckOutput, error) {
		return n.client.CreateHealthCheck(t.Context(), &route53.CreateHealthCheckInput{CallerReference: aws.String("r"),
			HealthCheckConfig: &types.HealthCheckConfig{Type: types.HealthCheckTypeTcp, IPAddress: aws.String("127.0.0.1"), Port: &port}})
	}
	a, b := must(create(1))(t), must(create(1))(t)
	if *a.HealthCheck.Id != *b.HealthCheck.Id {
		t.Errorf("a reference made %s and %s", *a.HealthCheck.Id, *b.HealthCheck.Id)
	}
	_, err = create(2)
	wantCode(t, err, "HealthCheckAlreadyExists")
}

func TestRecordsAndZonesAreListedInOrderAndPages(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 13} {
		n := newNames(t, Options{PageSize: size})
		var changes []types.Change
		for i := range 320 {
			changes = append(changes, weighted(record(create, fmt.Sprintf("h%03d.example.com", i/2), types.RRTypeA, 60, "127.0.1.1"), fmt.Sprint("s", i%2), 1))
		}
		n.change(changes...)
		var got []string
		in := &route53.ListResourceRecordSetsInput{HostedZoneId: &n.zone}
		for {
			p := must(n.client.ListResourceRecordSets(t.Context(), in))(t)
			if len(p.ResourceRecordSets) > 300 {
				t.Fatalf("a page has %d sets", len(p.ResourceRecordSets))
			}
			for _, s := range p.ResourceRecordSets {
				got = append(got, *s.Name+" "+string(s.Type)+" "+aws.ToString(s.SetIdentifier))
			}
			if !p.IsTruncated {
				break
			}
			in.StartRecordName, in.StartRecordType, in.StartRecordIdentifier = p.NextRecordName, p.NextRecordType, p.NextRecordIdentifier
		}
		if len(got) != 322 || got[0] != "example.com. NS " || got[1] != "example.com. SOA " || got[2] != "h000.example.com. A s0" || got[3] != "h000.example.com. A s1" || !slices.IsSorted(got[2:]) {
			t.Fatalf("%d sets: %v", len(got), got[:4])
		}
	}
	n := newNames(t, Options{PageSize: 1})
	for _, name := range []string{"example.org", "a.example.com", "other.com"} {
		must(n.client.CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: &name, CallerReference: &name}))(t)
	}
	var zones []string
	pages := route53.NewListHostedZonesPaginator(n.client, &route53.ListHostedZonesInput{})
	for pages.HasMorePages() {
		for _, z := range must(pages.NextPage(t.Context()))(t).HostedZones {
			zones = append(zones, *z.Name)
		}
	}
	if len(zones) != 4 {
		t.Errorf("the zones are %v", zones)
	}
	by := must(n.client.ListHostedZonesByName(t.Context(), &route53.ListHostedZonesByNameInput{DNSName: aws.String("b.com")}))(t)
	if *by.HostedZones[0].Name != "example.com." || *by.NextDNSName != "a.example.com." {
		t.Errorf("from b.com on: %s, then %s", *by.HostedZones[0].Name, *by.NextDNSName)
	}
}

func TestZonesAndChecksHaveTags(t *testing.T) {
	t.Parallel()
	n := newNames(t, Options{})
	id := aws.String(strings.TrimPrefix(n.zone, "/hostedzone/"))
	must(n.client.ChangeTagsForResource(t.Context(), &route53.ChangeTagsForResourceInput{ResourceType: types.TagResourceTypeHostedzone, ResourceId: id,
		AddTags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("b"), Value: aws.String("2")}}}))(t)
	must(n.client.ChangeTagsForResource(t.Context(), &route53.ChangeTagsForResourceInput{ResourceType: types.TagResourceTypeHostedzone, ResourceId: id, RemoveTagKeys: []string{"a"}}))(t)
	got := must(n.client.ListTagsForResource(t.Context(), &route53.ListTagsForResourceInput{ResourceType: types.TagResourceTypeHostedzone, ResourceId: id}))(t)
	if len(got.ResourceTagSet.Tags) != 1 || *got.ResourceTagSet.Tags[0].Value != "2" {
		t.Errorf("the tags are %+v", got.ResourceTagSet.Tags)
	}
}

// Whatever is put as the value of a record is refused, or is one record that can be sent.
func FuzzRecordValue(f *testing.F) {
	for _, v := range []string{"127.0.0.1", `"text" "more"`, "10 mail.example.com", "a\nb", "$INCLUDE x", `"`, "( 1", "\\#"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, kind := range []types.RRType{types.RRTypeA, types.RRTypeTxt, types.RRTypeCname, types.RRTypeMx, types.RRTypeSrv} {
			s := &types.ResourceRecordSet{Name: aws.String("www.example.com."), Type: kind, TTL: aws.Int64(60)}
			rr, err := recordOf(s, value)
			if err != nil {
				continue
			}
			if rr.Header().Name != "www.example.com." || rr.Header().Rrtype != dns.StringToType[string(kind)] {
				t.Fatalf("%q as %s becomes %s", value, kind, rr)
			}
			if _, err := (&dns.Msg{Answer: []dns.RR{rr}}).Pack(); err != nil {
				t.Logf("%q as %s cannot be packed: %v", value, kind, err)
			}
		}
	})
}
