package awstest

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/miekg/dns"
)

// maxDNSChain is how many CNAMEs and aliases are followed.
const maxDNSChain = 8

// dnsState is the running name server.
type dnsState struct {
	once    sync.Once
	address string
}

// DNS gives the address, host:port on loopback, where the zones of all accounts are answered over UDP and
// TCP: by the content that is INSYNC, weighted sets by proportion, failover sets by their health checks.
// The server begins at the first call and ends with the double. It panics when it cannot listen.
func (c *Cloud) DNS() string {
	c.mu.Lock()
	s := part[dnsState](c.region("", "route53"))
	c.mu.Unlock()
	s.once.Do(func() {
		servers, address, err := c.listenDNS()
		if err != nil {
			panic("awstest: the name server cannot listen on loopback: " + err.Error())
		}
		s.address = address
		c.mu.Lock()
		defer c.mu.Unlock()
		c.closers = append(c.closers, func() error {
			for _, d := range servers {
				_ = d.Shutdown() // it may not have come to run
			}
			return nil
		})
	})
	return s.address
}

// listenDNS serves one port over UDP and TCP.
func (c *Cloud) listenDNS() ([]*dns.Server, string, error) {
	var err error
	for range 16 { // the port that UDP got may be taken for TCP
		var udp net.PacketConn
		if udp, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			return nil, "", err
		}
		var tcp net.Listener
		if tcp, err = net.Listen("tcp4", udp.LocalAddr().String()); err != nil {
			udp.Close()
			continue
		}
		servers := []*dns.Server{{PacketConn: udp, Handler: dns.HandlerFunc(c.serveDNS)}, {Listener: tcp, Handler: dns.HandlerFunc(c.serveDNS)}}
		for _, s := range servers {
			started := make(chan struct{})
			s.NotifyStartedFunc = func() { close(started) }
			go s.ActivateAndServe() //nolint:errcheck // ends with the double
			<-started
		}
		return servers, tcp.Addr().String(), nil
	}
	return nil, "", err
}

func (c *Cloud) serveDNS(w dns.ResponseWriter, request *dns.Msg) {
	reply := c.resolve(request)
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if o := request.IsEdns0(); o != nil {
			size = max(size, int(o.UDPSize()))
		}
		reply.Truncate(size)
	}
	_ = w.WriteMsg(reply) // a client that is gone asks again
}

// resolve answers a question as the zones stand now.
func (c *Cloud) resolve(request *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetReply(request)
	if request.Opcode != dns.OpcodeQuery || len(request.Question) != 1 {
		reply.Rcode = dns.RcodeNotImplemented
		return reply
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q := request.Question[0]
	a := &dnsAnswer{cloud: c, now: time.Now(), reply: reply}
	if !a.follow(strings.ToLower(dns.Fqdn(q.Name)), q.Qtype) {
		reply.Rcode = dns.RcodeRefused
	}
	return reply
}

// dnsAnswer is an answer that is being put together. The double is locked.
type dnsAnswer struct {
	cloud *Cloud
	now   time.Time
	reply *dns.Msg
}

// zoneFor finds the zone with the longest name around a name, and its content that is INSYNC; the oldest
// of several, as the parent zone would delegate to one only.
func (a *dnsAnswer) zoneFor(name string) (*hostedZone, *zoneVersion, *route53State) {
	var zone *hostedZone
	var state *route53State
	for k, r := range a.cloud.regions {
		if k.region != "us-east-1" {
			continue
		}
		s := route53Of(r)
		for _, z := range s.zones {
			if z.live(a.now) == nil || (name != z.name && !strings.HasSuffix(name, "."+z.name)) {
				continue
			}
			if zone == nil || len(z.name) > len(zone.name) || (len(z.name) == len(zone.name) && z.order < zone.order) {
				zone, state = z, s
			}
		}
	}
	if zone == nil {
		return nil, nil, nil
	}
	return zone, zone.live(a.now), state
}

// follow adds the records for a name, and those that CNAMEs lead to. It is false when no zone has the name.
func (a *dnsAnswer) follow(name string, qtype uint16) bool {
	for i := range maxDNSChain {
		zone, v, state := a.zoneFor(name)
		if zone == nil {
			return i > 0 // somebody else answers for the rest
		}
		a.reply.Authoritative = true
		l := &lookup{a: a, version: v, state: state, zone: zone}
		stored, exists := l.find(name)
		next := ""
		for _, kind := range l.kinds(stored) {
			if qtype != dns.TypeANY && kind != qtype && kind != dns.TypeCNAME {
				continue
			}
			for _, rr := range l.choose(stored, kind) {
				rr.Header().Name = name
				a.reply.Answer = append(a.reply.Answer, rr)
				if cname, ok := rr.(*dns.CNAME); ok && qtype != dns.TypeCNAME && qtype != dns.TypeANY {
					next = strings.ToLower(cname.Target)
				}
			}
		}
		if !exists && i == 0 {
			a.reply.Rcode = dns.RcodeNameError
		}
		if next == "" {
			if len(a.reply.Answer) == 0 {
				a.reply.Ns = append(a.reply.Ns, l.choose(zone.name, dns.TypeSOA)...)
			}
			return true
		}
		name = next
	}
	return true
}

// lookup looks into the content of one zone.
type lookup struct {
	a       *dnsAnswer
	zone    *hostedZone
	version *zoneVersion
	state   *route53State
	depth   int // of aliases
}

// find says under which name a name's sets are stored: its own, or that of a wildcard; exists is false for
// a name that neither is there nor has others below it.
func (l *lookup) find(name string) (stored string, exists bool) {
	below := "." + name
	for k := range l.version.sets {
		if k.name == name || strings.HasSuffix(k.name, below) {
			return name, true
		}
	}
	for rest := name; rest != l.zone.name; {
		_, after, more := strings.Cut(rest, ".")
		if !more {
			break
		}
		rest = after
		for k := range l.version.sets {
			if k.name == `\052.`+rest {
				return k.name, true
			}
		}
	}
	return name, name == l.zone.name
}

// kinds are the types of records that a name has.
func (l *lookup) kinds(name string) []uint16 {
	var out []uint16
	for k := range l.version.sets {
		if t := dns.StringToType[k.kind]; k.name == name && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return out
}

// sets are the sets of a name and type, sorted by identifier.
func (l *lookup) sets(name string, kind uint16) []types.ResourceRecordSet {
	var out []types.ResourceRecordSet
	for k, s := range l.version.sets {
		if k.name == name && k.kind == dns.TypeToString[kind] {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b types.ResourceRecordSet) int {
		return strings.Compare(aws.ToString(a.SetIdentifier), aws.ToString(b.SetIdentifier))
	})
	return out
}

// choose picks among the sets of a name and type and gives their records
// (https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/health-checks-how-route-53-chooses-records.html).
func (l *lookup) choose(name string, kind uint16) []dns.RR {
	all := l.sets(name, kind)
	if len(all) == 0 {
		return nil
	}
	switch policyOf(&all[0]) {
	case "weighted":
		return l.records(l.pickWeighted(fmt.Sprintf("%s/%d", name, kind), all))
	case "failover":
		return l.records(l.pickFailover(all))
	case "multivalue":
		var out []dns.RR
		for _, s := range l.orAll(all) {
			out = append(out, l.records(s)...)
		}
		return out[:min(8, len(out))]
	}
	return l.records(all[0])
}

// orAll gives the healthy sets, or all when none is.
func (l *lookup) orAll(all []types.ResourceRecordSet) []types.ResourceRecordSet {
	if up := l.healthy(all); len(up) > 0 {
		return up
	}
	return all
}

func (l *lookup) healthy(all []types.ResourceRecordSet) []types.ResourceRecordSet {
	return slices.DeleteFunc(slices.Clone(all), func(s types.ResourceRecordSet) bool { return !l.isHealthy(&s) })
}

// isHealthy tells whether a set's check, and what its alias leads to, is healthy; a set without is.
func (l *lookup) isHealthy(s *types.ResourceRecordSet) bool {
	if s.HealthCheckId != nil {
		if h := l.state.checks[*s.HealthCheckId]; h != nil && !h.healthy() {
			return false
		}
	}
	if s.AliasTarget == nil || !s.AliasTarget.EvaluateTargetHealth {
		return true
	}
	to, name := l.alias(s)
	if to == nil {
		return true // a target that is no record of a zone
	}
	targets := to.sets(name, dns.StringToType[string(s.Type)])
	return slices.ContainsFunc(targets, func(t types.ResourceRecordSet) bool { return to.isHealthy(&t) })
}

// alias finds where an alias leads.
func (l *lookup) alias(s *types.ResourceRecordSet) (*lookup, string) {
	name := zoneName(aws.ToString(s.AliasTarget.DNSName))
	zone, v, state := l.a.zoneFor(name)
	if zone == nil || l.depth >= maxDNSChain {
		return nil, ""
	}
	return &lookup{a: l.a, zone: zone, version: v, state: state, depth: l.depth + 1}, name
}

// records are the records of a set.
func (l *lookup) records(s types.ResourceRecordSet) []dns.RR {
	if s.AliasTarget != nil {
		to, name := l.alias(&s)
		if to == nil {
			return nil
		}
		return to.choose(name, dns.StringToType[string(s.Type)])
	}
	var out []dns.RR
	for _, r := range s.ResourceRecords {
		if rr, err := recordOf(&s, aws.ToString(r.Value)); err == nil { // it was checked when it was made
			out = append(out, rr)
		}
	}
	return out
}

// pickFailover answers the primary set while it is healthy, then the secondary, and the primary again when
// neither is.
func (l *lookup) pickFailover(all []types.ResourceRecordSet) types.ResourceRecordSet {
	for _, role := range []types.ResourceRecordSetFailover{types.ResourceRecordSetFailoverPrimary, types.ResourceRecordSetFailoverSecondary} {
		for _, s := range all {
			if s.Failover == role && l.isHealthy(&s) {
				return s
			}
		}
	}
	i := slices.IndexFunc(all, func(s types.ResourceRecordSet) bool { return s.Failover == types.ResourceRecordSetFailoverPrimary })
	return all[max(i, 0)]
}

// pickWeighted answers healthy sets in proportion to their weights, as evenly as possible; those of weight 0
// only when all others are unhealthy, and all alike when no set has a weight.
func (l *lookup) pickWeighted(key string, all []types.ResourceRecordSet) types.ResourceRecordSet {
	weighs := func(s types.ResourceRecordSet) bool { return *s.Weight > 0 }
	candidates := slices.DeleteFunc(l.healthy(all), func(s types.ResourceRecordSet) bool { return !weighs(s) })
	if len(candidates) == 0 {
		candidates = l.healthy(all)
	}
	if len(candidates) == 0 {
		candidates = all
	}
	even := !slices.ContainsFunc(candidates, weighs)
	credit := l.version.credits[key]
	if credit == nil {
		credit = map[string]int64{}
		l.version.credits[key] = credit
	}
	var total int64
	best := -1
	for i, s := range candidates {
		weight := *s.Weight
		if even {
			weight = 1
		}
		if weight == 0 {
			continue
		}
		total += weight
		credit[*s.SetIdentifier] += weight
		if best < 0 || credit[*s.SetIdentifier] > credit[*candidates[best].SetIdentifier] {
			best = i
		}
	}
	credit[*candidates[best].SetIdentifier] -= total
	return candidates[best]
}
