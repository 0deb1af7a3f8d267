package local

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"lifeboat/activities/cloud"
)

const (
	maxChain = 8           // CNAMEs that are followed within the site
	apexTTL  = time.Minute // of the records that every zone has
)

// nameServer answers for the zones of a site, and for nothing else.
type nameServer struct {
	address string // host:port; empty = does not listen
	servers []*dns.Server

	mu      sync.Mutex
	zones   zones
	serial  uint32
	credits map[string]map[string]int // by name and type, then set identifier; see pick
}

// set replaces what is answered.
func (n *nameServer) set(z zones, config daemonConfig) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.zones, n.serial, n.credits = z, uint32(config.Seq), map[string]map[string]int{}
}

// listen begins to answer at one address, over UDP and TCP.
func (n *nameServer) listen(address string) error {
	udp, err := net.ListenPacket("udp4", address)
	if err != nil {
		return fmt.Errorf("%s", listenProblem(address, err))
	}
	tcp, err := net.Listen("tcp4", address)
	if err != nil {
		udp.Close()
		return fmt.Errorf("%s", listenProblem(address, err))
	}
	n.servers = []*dns.Server{{PacketConn: udp, Handler: n}, {Listener: tcp, Handler: n}}
	for _, s := range n.servers {
		go s.ActivateAndServe() //nolint:errcheck // ends with close
	}
	n.address = address
	return nil
}

func (n *nameServer) close() {
	for _, s := range n.servers {
		s.Shutdown() //nolint:errcheck // the process is ending
	}
}

// ServeDNS answers one request.
func (n *nameServer) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	reply := n.answer(request)
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if o := request.IsEdns0(); o != nil {
			size = max(size, int(o.UDPSize()))
		}
		reply.Truncate(size)
	}
	w.WriteMsg(reply) //nolint:errcheck // a client that is gone asks again
}

// answer makes the reply to a request.
func (n *nameServer) answer(request *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetReply(request)
	if o := request.IsEdns0(); o != nil {
		reply.SetEdns0(1232, false)
	}
	if request.Opcode != dns.OpcodeQuery || len(request.Question) != 1 {
		reply.Rcode = dns.RcodeNotImplemented
		return reply
	}
	q := request.Question[0]
	n.mu.Lock()
	defer n.mu.Unlock()
	name := plainName(q.Name)
	zone, found := n.zoneOf(name)
	if !found || (q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY) {
		reply.Rcode = dns.RcodeRefused
		return reply
	}
	reply.Authoritative = true
	exists := n.resolve(reply, zone, name, q.Qtype)
	if len(reply.Answer) == 0 {
		reply.Ns = append(reply.Ns, n.soa(zone))
	}
	if !exists {
		reply.Rcode = dns.RcodeNameError
	}
	return reply
}

// zoneOf finds the zone with the longest name that contains name.
func (n *nameServer) zoneOf(name string) (string, bool) {
	for {
		if _, found := n.zones[name]; found {
			return name, true
		}
		_, rest, more := strings.Cut(name, ".")
		if !more {
			return "", false
		}
		name = rest
	}
}

// resolve adds the answers for a name and follows CNAMEs within the site. It
// tells whether the name exists.
func (n *nameServer) resolve(reply *dns.Msg, zone, name string, qtype uint16) bool {
	for range maxChain {
		exists := name == zone
		next := ""
		byType := map[string][]cloud.Record{}
		for _, r := range n.zones[zone] {
			if r.Name == name || strings.HasSuffix(r.Name, "."+name) {
				exists = true
			}
			if r.Name == name {
				byType[r.Type] = append(byType[r.Type], r)
			}
		}
		for _, kind := range []string{"A", "CNAME", "TXT"} {
			if len(byType[kind]) == 0 || (qtype != dns.TypeANY && qtype != dns.StringToType[kind] && kind != "CNAME") {
				continue
			}
			chosen := n.pick(byType[kind])
			reply.Answer = append(reply.Answer, resourceRecords(chosen)...)
			if kind == "CNAME" && qtype != dns.TypeCNAME && qtype != dns.TypeANY {
				next = chosen.Values[0]
			}
		}
		if name == zone {
			n.apex(reply, zone, qtype)
		}
		if next == "" {
			return exists || len(reply.Answer) > 0
		}
		var found bool
		if zone, found = n.zoneOf(next); !found {
			return true // somebody else answers for the rest
		}
		name = next
	}
	return true
}

// apex adds what every zone has at its top.
func (n *nameServer) apex(reply *dns.Msg, zone string, qtype uint16) {
	if qtype == dns.TypeSOA || qtype == dns.TypeANY {
		reply.Answer = append(reply.Answer, n.soa(zone))
	}
	if qtype == dns.TypeNS || qtype == dns.TypeANY {
		reply.Answer = append(reply.Answer, &dns.NS{Hdr: header(zone, dns.TypeNS, apexTTL), Ns: "ns." + dns.Fqdn(zone)})
	}
}

// pick chooses among weighted record sets so that over time each is answered
// in proportion to its weight, as evenly as possible (smooth weighted round
// robin). When all weights are 0, all are answered alike.
func (n *nameServer) pick(sets []cloud.Record) cloud.Record {
	if len(sets) == 1 {
		return sets[0]
	}
	key := sets[0].Name + "/" + sets[0].Type
	credit := n.credits[key]
	if credit == nil {
		credit = map[string]int{}
		n.credits[key] = credit
	}
	even := !slices.ContainsFunc(sets, func(r cloud.Record) bool { return r.Weight != nil && *r.Weight > 0 })
	total, best := 0, -1
	for i, r := range sets {
		weight := 1
		if !even {
			weight = *r.Weight
		}
		if weight == 0 {
			continue
		}
		total += weight
		credit[r.SetID] += weight
		if best < 0 || credit[r.SetID] > credit[sets[best].SetID] {
			best = i
		}
	}
	credit[sets[best].SetID] -= total
	return sets[best]
}

// resourceRecords turns a record set into its form on the wire.
func resourceRecords(r cloud.Record) []dns.RR {
	var all []dns.RR
	for _, v := range r.Values {
		h := header(r.Name, dns.StringToType[r.Type], r.TTL)
		switch r.Type {
		case "A":
			all = append(all, &dns.A{Hdr: h, A: net.ParseIP(v)})
		case "CNAME":
			all = append(all, &dns.CNAME{Hdr: h, Target: dns.Fqdn(v)})
		case "TXT":
			all = append(all, &dns.TXT{Hdr: h, Txt: chunks(v, 255)})
		}
	}
	return all
}

// chunks cuts a text into the character strings of a TXT record, in the
// spelling of the library, where a backslash begins an escape.
func chunks(text string, size int) []string {
	var parts []string
	for len(text) > size {
		parts, text = append(parts, strings.ReplaceAll(text[:size], `\`, `\\`)), text[size:]
	}
	return append(parts, strings.ReplaceAll(text, `\`, `\\`))
}

func header(name string, kind uint16, ttl time.Duration) dns.RR_Header {
	return dns.RR_Header{Name: dns.Fqdn(name), Rrtype: kind, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}
}

func (n *nameServer) soa(zone string) dns.RR {
	// The last field is how long "no such name" may be remembered: not long,
	// since names are made while somebody waits for them.
	return &dns.SOA{Hdr: header(zone, dns.TypeSOA, apexTTL), Ns: "ns." + dns.Fqdn(zone), Mbox: "hostmaster." + dns.Fqdn(zone),
		Serial: n.serial, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 1}
}
