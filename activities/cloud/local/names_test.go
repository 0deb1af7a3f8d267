package local

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
)

const zone = "example.org"

func weight(w int) *int { return &w }

// setRecords sets records and waits until they are answered.
func setRecords(t *testing.T, p *Provider, records ...cloud.Record) {
	t.Helper()
	c, err := p.StartSetRecords(t.Context(), zone, fresh("set").Token, records)
	require.NoError(t, err)
	waitChange(t, p, c)
}

func waitChange(t *testing.T, p *Provider, c cloud.Change) {
	t.Helper()
	waitFor(t, func() (string, bool) {
		c, err := p.Change(t.Context(), c.ID)
		require.NoError(t, err)
		return "change is " + string(c.State), c.State == cloud.Available
	})
}

// ask asks the name server of a site once.
func ask(t *testing.T, p *Provider, network, name string, kind uint16) *dns.Msg {
	t.Helper()
	resolver, err := p.Resolver(t.Context(), zone)
	require.NoError(t, err)
	client := dns.Client{Net: network, Timeout: 10 * time.Second}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), resolver)
	require.NoError(t, err)
	return reply
}

// values returns the answers as text without their headers.
func values(reply *dns.Msg) []string {
	all := []string{}
	for _, rr := range reply.Answer {
		all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return all
}

func TestNamesAreAnsweredAsSet(t *testing.T) {
	t.Parallel()
	p := testSite(t)
	long := strings.Repeat(`a\"b `, 100)
	setRecords(t, p,
		cloud.Record{Name: "www." + zone, Type: "A", TTL: 7 * time.Second, Values: []string{"127.1.2.3", "127.1.2.4"}},
		cloud.Record{Name: "alias." + zone, Type: "CNAME", TTL: time.Minute, Values: []string{"WWW.example.org."}},
		cloud.Record{Name: "a.b." + zone, Type: "TXT", TTL: time.Minute, Values: []string{"hello world", long}})
	for _, network := range []string{"udp", "tcp"} {
		reply := ask(t, p, network, "WWW."+zone, dns.TypeA)
		assert.True(t, reply.Authoritative)
		assert.Equal(t, []string{"127.1.2.3", "127.1.2.4"}, values(reply))
		assert.EqualValues(t, 7, reply.Answer[0].Header().Ttl)
	}
	assert.Equal(t, []string{"www.example.org.", "127.1.2.3", "127.1.2.4"}, values(ask(t, p, "udp", "alias."+zone, dns.TypeA)))
	assert.Equal(t, []string{"www.example.org."}, values(ask(t, p, "udp", "alias."+zone, dns.TypeCNAME)))
	text := ask(t, p, "tcp", "a.b."+zone, dns.TypeTXT)
	require.Len(t, text.Answer, 2)
	plain := strings.NewReplacer(`\\`, `\`, `\"`, `"`)
	assert.Equal(t, long, plain.Replace(strings.Join(text.Answer[1].(*dns.TXT).Txt, "")))

	for name, c := range map[string]struct {
		name  string
		rcode int
		soa   int
	}{
		"a name without this type": {"a.b." + zone, dns.RcodeSuccess, 1},
		"a name above a name":      {"b." + zone, dns.RcodeSuccess, 1},
		"no such name":             {"none." + zone, dns.RcodeNameError, 1},
		"another zone":             {"example.com", dns.RcodeRefused, 0},
	} {
		reply := ask(t, p, "udp", c.name, dns.TypeA)
		assert.Equal(t, c.rcode, reply.Rcode, name)
		assert.Empty(t, reply.Answer, name)
		assert.Len(t, reply.Ns, c.soa, name)
	}
	assert.Len(t, ask(t, p, "udp", zone, dns.TypeSOA).Answer, 1)
	assert.Len(t, ask(t, p, "udp", zone, dns.TypeNS).Answer, 1)
}

func TestNamesAnswerDig(t *testing.T) {
	t.Parallel()
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("needs dig (package dnsutils)")
	}
	p := testSite(t)
	setRecords(t, p, cloud.Record{Name: "www." + zone, Type: "A", TTL: time.Second, Values: []string{"127.1.2.3"}})
	resolver, err := p.Resolver(t.Context(), zone)
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(resolver)
	require.NoError(t, err)
	out, err := exec.Command(dig, "+short", "@"+host, "-p", port, "www."+zone).CombinedOutput()
	require.NoError(t, err)
	assert.Equal(t, "127.1.2.3\n", string(out))
}

func TestWeightedNamesAreAnsweredInProportion(t *testing.T) {
	t.Parallel()
	p := testSite(t)
	set := func(a, b, c int) map[string]int {
		var records []cloud.Record
		for id, w := range map[string]int{"127.0.9.1": a, "127.0.9.2": b, "127.0.9.3": c} {
			records = append(records, cloud.Record{Name: "www." + zone, Type: "A", TTL: time.Second, Values: []string{id}, SetID: id, Weight: weight(w)})
		}
		setRecords(t, p, records...)
		seen := map[string]int{}
		for range 100 {
			got := values(ask(t, p, "udp", "www."+zone, dns.TypeA))
			require.Len(t, got, 1)
			seen[got[0]]++
		}
		return seen
	}
	assert.Equal(t, map[string]int{"127.0.9.1": 70, "127.0.9.2": 30}, set(70, 30, 0))
	assert.Equal(t, map[string]int{"127.0.9.3": 100}, set(0, 0, 1))
	assert.Len(t, set(0, 0, 0), 3, "all weights 0: all alike")
}

func TestNamesRefuseWhatIsWrong(t *testing.T) {
	t.Parallel()
	p := testSite(t)
	name := "www." + zone
	a := func(change func(*cloud.Record)) cloud.Record {
		r := cloud.Record{Name: name, Type: "A", TTL: time.Second, Values: []string{"127.0.0.1"}}
		change(&r)
		return r
	}
	setRecords(t, p, a(func(*cloud.Record) {}))
	for what, r := range map[string]cloud.Record{
		"weighted beside simple": a(func(r *cloud.Record) { r.SetID, r.Weight = "one", weight(1) }),
		"cname beside address":   a(func(r *cloud.Record) { r.Type, r.Values = "CNAME", []string{"x.org"} }),
		"outside the zone":       a(func(r *cloud.Record) { r.Name = "www.example.com" }),
		"ends like the zone":     a(func(r *cloud.Record) { r.Name = "wwwexample.org" }),
		"no address":             a(func(r *cloud.Record) { r.Values = []string{"x"} }),
		"IPv6":                   a(func(r *cloud.Record) { r.Values = []string{"::1"} }),
		"no values":              a(func(r *cloud.Record) { r.Values = nil }),
		"type":                   a(func(r *cloud.Record) { r.Type = "MX" }),
		"TTL":                    a(func(r *cloud.Record) { r.TTL = time.Millisecond }),
		"weight alone":           a(func(r *cloud.Record) { r.Weight = weight(1) }),
		"weight too large":       a(func(r *cloud.Record) { r.SetID, r.Weight = "one", weight(256) }),
		"slash":                  a(func(r *cloud.Record) { r.Name = "a/b." + zone }),
	} {
		fine := cloud.Record{Name: "fine." + zone, Type: "A", TTL: time.Second, Values: []string{"127.0.0.1"}}
		_, err := p.StartSetRecords(t.Context(), zone, fresh("set").Token, []cloud.Record{fine, r})
		assert.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%s: %v", what, err)
	}
	all, err := p.Records(t.Context(), zone, "")
	require.NoError(t, err)
	assert.Len(t, all, 1, "all or none")
}

func TestChangesOfNamesHappenOnceForEachToken(t *testing.T) {
	t.Parallel()
	p := testSite(t)
	records := []cloud.Record{{Name: "www." + zone, Type: "A", TTL: time.Second, Values: []string{"127.0.0.1"}}}
	c, err := p.StartSetRecords(t.Context(), zone, "token", records)
	require.NoError(t, err)
	waitChange(t, p, c)
	same, err := p.StartSetRecords(t.Context(), zone, "token", records)
	require.NoError(t, err)
	assert.Equal(t, c.ID, same.ID)
	_, err = p.StartDeleteRecords(t.Context(), zone, "token", records)
	assert.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err))
	setRecords(t, p, records...)
	c, err = p.StartDeleteRecords(t.Context(), zone, "delete", records)
	require.NoError(t, err)
	waitChange(t, p, c)
	assert.Equal(t, dns.RcodeRefused, ask(t, p, "udp", "www."+zone, dns.TypeA).Rcode, "the zone ended with its last record")
	_, err = p.StartDeleteRecords(t.Context(), zone, "again", records)
	assert.Equal(t, cloud.NotFound, cloud.CodeOf(err))
}

func FuzzAnswer(f *testing.F) {
	query, err := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA).Pack()
	require.NoError(f, err)
	f.Add(query)
	n := &nameServer{}
	n.set(zones{zone: {
		{Name: "www." + zone, Type: "A", Values: []string{"127.0.0.1"}, SetID: "a", Weight: weight(1)},
		{Name: "www." + zone, Type: "A", Values: []string{"127.0.0.2"}, SetID: "b", Weight: weight(0)},
		{Name: "loop." + zone, Type: "CNAME", Values: []string{"pool." + zone}},
		{Name: "pool." + zone, Type: "CNAME", Values: []string{"loop." + zone}},
		{Name: zone, Type: "TXT", Values: []string{`\`}},
	}}, daemonConfig{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m dns.Msg
		if m.Unpack(raw) != nil {
			return
		}
		if _, err := n.answer(&m).Pack(); err != nil && len(m.Question) == 1 {
			t.Fatal(err)
		}
	})
}
