package plan

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Offer describes what sites have, in neutral terms: what `plan init` proposes from.
type Offer struct {
	// Name of the plan to propose; empty = "my-plan".
	Name    string
	Sites   []Site
	Servers []OfferedServer
}

// OfferedServer is a server as its site describes it. ID or Name identify it there;
// the rest may be empty.
type OfferedServer struct {
	Site, Name, ID, IP, Network, CIDR string
	Ports                             []int
	Disks                             []string
}

// Propose writes a commented plan for what is offered: the site with most servers
// becomes the primary one, the next site the recovery site, a third one is left for
// DNS. The text passes [Parse] and [Plan.Validate]. It is an error when there are
// fewer than two sites or no servers, or when the offer cannot become a valid plan.
func Propose(o Offer) ([]byte, error) {
	if len(o.Sites) < 2 {
		return nil, fmt.Errorf("a plan needs a primary and a recovery site, and %d site is offered; add a second site", len(o.Sites))
	}
	w := proposal{networks: map[string]string{}, used: map[string]bool{}}
	w.chooseSites(o)
	servers := slices.DeleteFunc(slices.Clone(o.Servers), func(s OfferedServer) bool { return s.Site != w.primary.Name })
	if len(servers) == 0 {
		return nil, fmt.Errorf("no server is offered at any of the %d sites; make one first (for example lifeboat local create-server)", len(o.Sites))
	}
	slices.SortStableFunc(servers, func(a, b OfferedServer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	w.head(o, servers)
	w.body(servers)
	w.tail()
	text := []byte(w.String())
	p, err := Parse("proposed plan", text)
	if err == nil {
		err = p.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("what the sites offer makes no valid plan:\n%w", err)
	}
	return text, nil
}

type proposal struct {
	strings.Builder
	primary, recovery, dns Site
	sites                  []Site
	networks               map[string]string // CIDR at the primary site → name of the pair
	prefixes               []netip.Prefix
	used                   map[string]bool // names of servers, addresses
	record                 string          // server that the DNS example points to
}

func (w *proposal) f(format string, args ...any) { fmt.Fprintf(w, format, args...) }

func (w *proposal) chooseSites(o Offer) {
	count := map[string]int{}
	for _, s := range o.Servers {
		count[s.Site]++
	}
	w.sites = slices.Clone(o.Sites)
	slices.SortStableFunc(w.sites, func(a, b Site) int { return count[b.Name] - count[a.Name] })
	w.primary, w.recovery, w.dns = w.sites[0], w.sites[1], w.sites[1]
	if len(w.sites) > 2 {
		w.dns = w.sites[2]
	}
}

func (w *proposal) head(o Offer, servers []OfferedServer) {
	w.f("# Proposed from what the sites offer. Read it through, above all launch, then:\n")
	w.f("#   lifeboat plan validate -f FILE && lifeboat plan apply -f FILE\n")
	w.f("apiVersion: %s\nkind: %s\nmetadata:\n  name: %s\nspec:\n", APIVersion, Kind, scalar(label(o.Name, "my-plan")))
	w.f("  objectives: # reports say whether they were kept\n    rto: 15m # outage declared until traffic is served\n    rpo: 1m # newest write that may be lost\n")
	w.f("  sites:\n")
	for _, s := range w.sites {
		w.f("    - name: %s\n      provider: %s\n", scalar(s.Name), scalar(s.Provider))
		for _, kv := range [][2]string{{"directory", s.Directory}, {"account", s.Account}, {"region", s.Region}, {"zone", s.Zone},
			{"role", s.Role}, {"externalId", s.ExternalID}, {"bucket", s.Bucket}, {"vpc", s.VPC}, {"agent", s.Agent}} {
			if kv[1] != "" {
				w.f("      %s: %s\n", kv[0], scalar(kv[1]))
			}
		}
	}
	w.f("  networks:\n")
	for _, s := range servers {
		w.network(s)
	}
	w.f("  sitePairs:\n")
	for _, c := range w.prefixes {
		name := w.networks[c.String()]
		w.f("    - name: %s\n      primary: %s\n      recovery: %s\n", scalar(name), scalar(w.primary.Name), scalar(w.recovery.Name))
		w.f("      recoveryNetwork: %s # where recovered servers live\n", scalar(name+"-recovery"))
		w.f("      primaryNetwork: %s # where they live after failback\n", scalar(name))
	}
	w.f("  pointPolicies:\n    - name: standard\n      every: 5m\n      keep: {count: 24, within: 24h}\n      # bandwidth: 50MiB # limit a second; absent = unlimited\n")
	w.f("  tiers:\n    - {name: standard, strategy: replicate, mode: async, pointPolicy: standard}\n")
}

// subnet is the network of an offered server; without one, the /24 around its address.
func subnet(s OfferedServer) netip.Prefix {
	if c, err := netip.ParsePrefix(s.CIDR); err == nil && c.Addr().Is4() && c.Bits() >= 8 && c.Bits() <= 30 {
		return c.Masked()
	}
	if ip, err := netip.ParseAddr(s.IP); err == nil && ip.Is4() {
		return netip.PrefixFrom(ip, 24).Masked()
	}
	return netip.MustParsePrefix("10.20.0.0/24")
}

// network adds the server's network at both sites, once. One that overlaps with an
// earlier one is left out; its servers are put into that one.
func (w *proposal) network(s OfferedServer) {
	c := subnet(s)
	if slices.ContainsFunc(w.prefixes, c.Overlaps) {
		return
	}
	name := strings.TrimSuffix(label(s.Network, "network"), "-recovery") // the suffix is for its twin
	if len(name) > 26 {
		name = strings.Trim(name[:26], "-") // room for a number and the suffix
	}
	name = w.unique("network ", name)
	w.prefixes, w.networks[c.String()] = append(w.prefixes, c), name
	w.f("    - {name: %s, site: %s, cidr: %s}\n", scalar(name), scalar(w.primary.Name), c)
	if loopback.Overlaps(c) && c.Bits() > loopback.Bits() {
		w.f("    - {name: %s, site: %s, cidr: %s} # other addresses: all of 127.0.0.0/8 is one machine's\n", scalar(name+"-recovery"), scalar(w.recovery.Name), neighbour(c))
		return
	}
	w.f("    - {name: %s, site: %s, cidr: %s} # the same addresses: servers keep theirs\n", scalar(name+"-recovery"), scalar(w.recovery.Name), c)
}

// loopback networks are not isolated from each other: a server and its copy cannot
// both have an address.
var loopback = netip.MustParsePrefix("127.0.0.0/8")

// neighbour is the network of the same size beside c, in 127.0.0.0/8.
func neighbour(c netip.Prefix) netip.Prefix {
	a := c.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) ^ 1<<(32-c.Bits())
	binary.BigEndian.PutUint32(a[:], n)
	return netip.PrefixFrom(netip.AddrFrom4(a), c.Bits())
}

func (w *proposal) unique(kind, name string) string {
	if len(name) > 36 {
		name = strings.Trim(name[:36], "-")
	}
	out := name
	for i := 2; w.used[kind+out]; i++ {
		out = fmt.Sprintf("%s-%d", name, i)
	}
	w.used[kind+out] = true
	return out
}

func (w *proposal) body(servers []OfferedServer) {
	w.f("  servers:\n")
	for _, s := range servers {
		source := cmp.Or(s.ID, s.Name)
		name := w.unique("server ", label(cmp.Or(s.Name, s.ID), "server"))
		w.record = cmp.Or(w.record, name)
		c := w.prefixes[slices.IndexFunc(w.prefixes, subnet(s).Overlaps)]
		w.f("    - name: %s\n      tier: standard\n      sitePair: %s\n      source: %s # at site %s\n",
			scalar(name), scalar(w.networks[c.String()]), scalar(source), scalar(w.primary.Name))
		if len(s.Disks) > 0 {
			disks := make([]string, len(s.Disks))
			for i, d := range s.Disks {
				disks[i] = scalar(d)
			}
			w.f("      disks: [%s] # left out = all\n", strings.Join(disks, ", "))
		}
		w.f("      launch:\n        cpu: 1 # check: the size of the recovered server is not that of the source by itself\n        memory: 512MiB\n")
		if ip, err := netip.ParseAddr(s.IP); err == nil && !loopback.Overlaps(c) && c.Contains(ip) && ip != c.Addr() && ip != broadcast(c) && !w.used["ip "+ip.String()] {
			w.used["ip "+ip.String()] = true
			w.f("        ip: %s\n", ip)
		}
		if len(s.Ports) > 0 && s.Ports[0] > 0 && s.Ports[0] < 1<<16 {
			w.f("        health: {port: %d} # add http: /path when a path answers with 200\n", s.Ports[0])
		} else {
			w.f("        # health: {http: /, port: 80} # how to see that the server works\n")
		}
	}
}

func (w *proposal) tail() {
	w.f("  # dns: # names that follow the active side, served away from the primary site\n")
	w.f("  #   - {name: www.example.test, zone: example.test, site: %s, server: %s, ttl: 60s}\n", scalar(w.dns.Name), scalar(w.record))
	w.f("  # steps: # order of recovery; servers in no step come last, together\n")
	w.f("  #   - {name: first, servers: [%s]}\n", scalar(w.record))
	w.f("  failover:\n    approval: none # required = a person says yes before traffic is switched\n")
	w.f("  # drills: {schedule: \"0 3 * * 6\", timeZone: UTC}\n")
}

// scalar writes a text so that YAML reads it as that text.
func scalar(s string) string {
	if !plain(s) {
		var b strings.Builder
		b.WriteByte('"')
		for _, r := range s {
			switch {
			case r == '"' || r == '\\':
				b.WriteString(`\` + string(r))
			case r < ' ' || r == 0x7f:
				fmt.Fprintf(&b, `\x%02X`, r)
			default:
				b.WriteRune(r)
			}
		}
		return b.String() + `"`
	}
	return s
}

// plain tells whether YAML can only read a text as a text, also between brackets.
func plain(s string) bool {
	letter := false
	for i, r := range s {
		isLetter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		letter = letter || isLetter
		if !isLetter && !(r >= '0' && r <= '9') && !(i > 0 && strings.ContainsRune("-_./", r)) && !(i == 0 && (r == '/' || r == '.')) {
			return false
		}
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n", ".nan", ".inf":
		return false
	}
	return letter && !(s[0] >= '0' && s[0] <= '9')
}
