package plan

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// cidrOf reads a network's addresses; ok is false when they are missing or bad.
func cidrOf(n Network) (netip.Prefix, bool) {
	c, err := netip.ParsePrefix(n.CIDR)
	return c, err == nil && c.Addr().Is4() && c == c.Masked()
}

// broadcast is the last address of a network.
func broadcast(c netip.Prefix) netip.Addr {
	a := c.Addr().As4()
	for bit := c.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

func (p *Plan) checkNetworks(es *Errors) {
	for i, n := range p.Spec.Networks {
		key := fmt.Sprintf("spec.networks[%d]", i)
		ref(p, es, key+".site", "sites", p.Spec.Sites, n.Site)
		if n.CIDR == "" {
			continue
		}
		c, err := netip.ParsePrefix(n.CIDR)
		switch {
		case err != nil || !c.Addr().Is4():
			p.fault(es, key+".cidr", "write IPv4 addresses with a prefix length, for example 10.20.0.0/24", "%s is not a CIDR", quoted(n.CIDR))
		case c != c.Masked():
			p.fault(es, key+".cidr", "write "+c.Masked().String(), "%s has bits set behind the prefix", quoted(n.CIDR))
		case c.Bits() < 8 || c.Bits() > 30:
			p.fault(es, key+".cidr", "use a prefix length from 8 to 30", "%s is too large or too small for a network of servers", quoted(n.CIDR))
		case c.Addr().IsMulticast() || c.Addr().As4()[0] == 0 || c.Addr().As4()[0] >= 224:
			p.fault(es, key+".cidr", "use private addresses, for example 10.20.0.0/24", "%s are not addresses of servers", quoted(n.CIDR))
		}
	}
	p.checkOverlaps(es)
}

// checkOverlaps compares the networks of each site, in the order of their addresses:
// CIDRs either hold one another or are apart, so the widest one so far is enough.
func (p *Plan) checkOverlaps(es *Errors) {
	order := make([]int, 0, len(p.Spec.Networks))
	for i, n := range p.Spec.Networks {
		if _, ok := cidrOf(n); ok && n.Site != "" {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := p.Spec.Networks[a], p.Spec.Networks[b]
		if c := strings.Compare(x.Site, y.Site); c != 0 {
			return c
		}
		cx, _ := cidrOf(x)
		cy, _ := cidrOf(y)
		if c := cx.Addr().Compare(cy.Addr()); c != 0 {
			return c
		}
		return cx.Bits() - cy.Bits()
	})
	last := -1
	for _, i := range order {
		n := p.Spec.Networks[i]
		c, _ := cidrOf(n)
		if last >= 0 && p.Spec.Networks[last].Site == n.Site {
			wide := p.Spec.Networks[last]
			if w, _ := cidrOf(wide); w.Overlaps(c) {
				at, other := i, wide
				if last > i { // name the one further down in the file
					at, other = last, n
				}
				p.fault(es, fmt.Sprintf("spec.networks[%d].cidr", at), "give each network of a site addresses of its own; at different sites they may be the same",
					"%s overlaps with network %s (%s) of the same site %s", p.Spec.Networks[at].CIDR, quoted(other.Name), other.CIDR, quoted(n.Site))
				continue
			}
		}
		last = i
	}
}

// checkAddresses checks each server's address against its recovery network and the others in it.
func (p *Plan) checkAddresses(es *Errors) {
	taken := firsts{}
	for i, s := range p.Spec.Servers {
		if s.Launch.IP == "" {
			continue
		}
		key := fmt.Sprintf("spec.servers[%d].launch.ip", i)
		ip, err := netip.ParseAddr(s.Launch.IP)
		if err != nil || !ip.Is4() {
			p.fault(es, key, "write an IPv4 address, for example 10.20.0.11", "%s is not an address", quoted(s.Launch.IP))
			continue
		}
		var l lookup
		pair := find(&l, "sitePairs", p.Spec.SitePairs, s.SitePair)
		n := find(&l, "networks", p.Spec.Networks, pair.RecoveryNetwork)
		c, ok := cidrOf(n)
		if !ok {
			continue
		}
		switch {
		case !c.Contains(ip):
			p.fault(es, key, fmt.Sprintf("use an address from %s to %s, or leave it out", c.Addr().Next(), broadcast(c).Prev()),
				"%s is outside recovery network %s (%s)", ip, quoted(n.Name), c)
		case ip == c.Addr():
			p.fault(es, key, "use "+ip.Next().String()+" or a higher one", "%s is the network address of %s (%s)", ip, quoted(n.Name), c)
		case ip == broadcast(c):
			p.fault(es, key, "use "+ip.Prev().String()+" or a lower one", "%s is the broadcast address of %s (%s)", ip, quoted(n.Name), c)
		}
		if at, twice := taken.seen(n.Name+"/"+ip.String(), i); twice {
			p.fault(es, key, "give each server an address of its own", "%s in network %s is already the address of server %s",
				ip, quoted(n.Name), quoted(p.Spec.Servers[at].Name))
		}
	}
}

var domainName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?$`)

func (p *Plan) checkDNS(es *Errors) {
	taken := firsts{}
	for i, r := range p.Spec.DNS {
		key := fmt.Sprintf("spec.dns[%d]", i)
		good := true
		for _, part := range []struct{ key, value string }{{".name", r.Name}, {".zone", r.Zone}} {
			if part.value != "" && (len(part.value) > 253 || !domainName.MatchString(part.value)) {
				p.fault(es, key+part.key, "write a fully qualified name, for example www.example.com", "%s is not a DNS name", quoted(part.value))
				good = false
			}
		}
		name, zone := fold(r.Name), fold(r.Zone)
		if good && name != "" && zone != "" && name != zone && !strings.HasSuffix(name, "."+zone) {
			p.fault(es, key+".name", "write the full name, for example "+strings.SplitN(name, ".", 2)[0]+"."+zone+", or name the zone that holds it",
				"%s is outside zone %s", quoted(r.Name), quoted(r.Zone))
		}
		if at, twice := taken.seen(name, i); twice {
			p.fault(es, key+".name", "keep one of them", "%s is already spec.dns[%d]", quoted(r.Name), at)
		}
		_, siteOK := ref(p, es, key+".site", "sites", p.Spec.Sites, r.Site)
		server, serverOK := ref(p, es, key+".server", "servers", p.Spec.Servers, r.Server)
		var l lookup
		if pair := find(&l, "sitePairs", p.Spec.SitePairs, server.SitePair); siteOK && serverOK && pair.Primary == r.Site {
			p.fault(es, key+".site", "serve the zone at the recovery site or, better, at a third one",
				"site %s is the primary site of server %s: its DNS would be gone in the disaster", quoted(r.Site), quoted(server.Name))
		}
	}
}

// fold brings a DNS name into the form in which names are compared.
func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
