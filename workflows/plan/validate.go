package plan

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a schedule's time zone must not depend on the machine
)

// Validate checks everything that needs no file and no site: form, names, networks,
// addresses, DNS, steps, schedule. It returns [Errors] with every fault, or nil.
// Files of scripts are checked where they are read, by [Read] and [Load].
func (p *Plan) Validate() error {
	return p.check(nil).asError()
}

// check adds to earlier faults those that do not merely follow from them.
func (p *Plan) check(earlier Errors) Errors {
	var shape, meaning Errors
	p.shape(&shape)
	earlier = merge(earlier, shape)
	for _, part := range []func(*Errors){
		p.checkUnique, p.checkSites, p.checkNetworks, p.checkPairs, p.checkPolicies,
		p.checkServers, p.checkTransfers, p.checkAddresses, p.checkDNS, p.checkLicences, p.checkSteps, p.checkDrills,
	} {
		part(&meaning)
	}
	return merge(earlier, meaning)
}

// merge drops later faults that only follow from earlier ones: at or below the same
// key, about a whole (launch needs cpu and memory) with a fault inside, or about a name that was not found in a list where a name could not be read.
func merge(earlier, later Errors) Errors {
	faulty, wholes, lists := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, e := range earlier {
		if e.Key == "" {
			return earlier
		}
		faulty[e.Key], faulty[e.refers] = true, true
		for _, k := range []string{e.Key, e.refers} {
			wholes[k[:max(strings.LastIndexAny(k, ".["), 0)]] = true
			k = strings.TrimSuffix(k, ".name")
			if i := strings.LastIndexByte(k, '['); i > 0 && strings.HasSuffix(k, "]") {
				k = k[:i]
			}
			lists[k] = true
		}
	}
	delete(faulty, "")
	for _, e := range later {
		follows := wholes[e.Key] || e.refers != "" && lists[e.refers]
		for at := e.Key; at != "" && !follows; at = at[:max(strings.LastIndexAny(at, ".["), 0)] {
			follows = faulty[at]
		}
		if !follows {
			earlier = append(earlier, e)
		}
	}
	return earlier
}

func names[T named](all []T) []string {
	out := make([]string, 0, len(all))
	for _, t := range all {
		if t.name() != "" {
			out = append(out, t.name())
		}
	}
	return out
}

// ref checks that a name is in a list and returns the element; ok is false for the
// empty name and for one that does not resolve.
func ref[T named](p *Plan, es *Errors, key, listed string, all []T, name string) (element T, ok bool) {
	if name == "" {
		return element, false
	}
	for _, t := range all {
		if t.name() == name {
			return t, true
		}
	}
	have := names(all)
	mend := suggest(name, have, "use one of them or add it there")
	e := p.fault(es, key, mend, "%s is not in spec.%s, which has: %s", quoted(name), listed, list(have))
	e.refers = "spec." + listed
	return element, false
}

func (p *Plan) checkUnique(es *Errors) {
	unique(p, es, "sites", p.Spec.Sites)
	unique(p, es, "networks", p.Spec.Networks)
	unique(p, es, "sitePairs", p.Spec.SitePairs)
	unique(p, es, "pointPolicies", p.Spec.PointPolicies)
	unique(p, es, "tiers", p.Spec.Tiers)
	unique(p, es, "servers", p.Spec.Servers)
	unique(p, es, "steps", p.Spec.Steps)
}

func unique[T named](p *Plan, es *Errors, listed string, all []T) {
	first := firsts{}
	for i, t := range all {
		if at, twice := first.seen(t.name(), i); twice {
			p.fault(es, fmt.Sprintf("spec.%s[%d].name", listed, i), "give each a name of its own",
				"%s is already the name of spec.%s[%d]", quoted(t.name()), listed, at)
		}
	}
}

// firsts remembers where a value was first; empty values are never seen.
type firsts map[string]int

func (f firsts) seen(value string, i int) (at int, twice bool) {
	if value == "" {
		return 0, false
	}
	if at, twice = f[value]; !twice {
		f[value] = i
	}
	return at, twice
}

func (p *Plan) checkPairs(es *Errors) {
	for i, pair := range p.Spec.SitePairs {
		key := fmt.Sprintf("spec.sitePairs[%d]", i)
		ref(p, es, key+".primary", "sites", p.Spec.Sites, pair.Primary)
		ref(p, es, key+".recovery", "sites", p.Spec.Sites, pair.Recovery)
		if pair.Primary != "" && pair.Primary == pair.Recovery {
			p.fault(es, key+".recovery", "name another site", "the recovery site is the primary site %s: both would be lost together", quoted(pair.Primary))
			continue
		}
		p.checkApart(es, key+".recovery", pair)
		p.networkAt(es, key+".recoveryNetwork", pair.RecoveryNetwork, "the recovery site", pair.Recovery)
		p.networkAt(es, key+".primaryNetwork", pair.PrimaryNetwork, "the primary site", pair.Primary)
		p.networkAt(es, key+".replicationNetwork", pair.ReplicationNetwork, "a site of the pair", pair.Recovery, pair.Primary)
	}
}

// networkAt checks that a network exists and is at one of the sites.
func (p *Plan) networkAt(es *Errors, key, name, where string, sites ...string) {
	n, ok := ref(p, es, key, "networks", p.Spec.Networks, name)
	if !ok || n.Site == "" || contains(sites, n.Site) || contains(sites, "") {
		return
	}
	var fit []string
	for _, other := range p.Spec.Networks {
		if contains(sites, other.Site) {
			fit = append(fit, other.Name)
		}
	}
	p.fault(es, key, "use a network of "+where+" ("+list(fit)+")", "network %s is at site %s, not at %s %s",
		quoted(name), quoted(n.Site), where, strings.Join(sites, " or "))
}

func (p *Plan) checkPolicies(es *Errors) {
	for i, policy := range p.Spec.PointPolicies {
		if policy.Every > 0 && policy.Every.D() < time.Second {
			p.fault(es, fmt.Sprintf("spec.pointPolicies[%d].every", i), "write 1s or more", "%s is too short between recovery points", policy.Every)
		}
	}
	for i, t := range p.Spec.Tiers {
		ref(p, es, fmt.Sprintf("spec.tiers[%d].pointPolicy", i), "pointPolicies", p.Spec.PointPolicies, t.PointPolicy)
	}
}

func (p *Plan) checkServers(es *Errors) {
	sources, publics := firsts{}, firsts{}
	for i, s := range p.Spec.Servers {
		key := fmt.Sprintf("spec.servers[%d]", i)
		ref(p, es, key+".tier", "tiers", p.Spec.Tiers, s.Tier)
		pair, ok := ref(p, es, key+".sitePair", "sitePairs", p.Spec.SitePairs, s.SitePair)
		if ok && s.Source != "" {
			if at, twice := sources.seen(pair.Primary+"/"+s.Source, i); twice {
				p.fault(es, key+".source", "protect each server once",
					"server %s of site %s is already protected by spec.servers[%d]", quoted(s.Source), quoted(pair.Primary), at)
			}
		}
		disks := firsts{}
		for j, d := range s.Disks {
			if at, twice := disks.seen(d, j); twice {
				p.fault(es, fmt.Sprintf("%s.disks[%d]", key, j), "name each disk once", "%s is already disks[%d]", quoted(d), at)
			}
		}
		if at, twice := publics.seen(pair.Recovery+"/"+s.Launch.PublicIP, i); twice && s.Launch.PublicIP != "" {
			p.fault(es, key+".launch.publicIP", "give each server an address of its own",
				"%s already moves to spec.servers[%d]", quoted(s.Launch.PublicIP), at)
		}
		p.checkLaunch(es, key+".launch", s.Launch)
	}
}

func (p *Plan) checkLaunch(es *Errors, key string, l Launch) {
	const both = "write cpu and memory, for example cpu: 2 and memory: 4GiB, or an instance type"
	switch {
	case l.Type == "" && (l.CPU == 0 || l.Memory == 0):
		p.fault(es, key, both, "a server cannot be launched without its type or its cpu and memory")
	case l.Type != "" && (l.CPU != 0 || l.Memory != 0):
		p.fault(es, key+".type", "keep one of the two", "the launch settings give a type and cpu or memory beside it")
	}
	if l.Health.HTTP != "" && l.Health.Port == 0 {
		p.fault(es, key+".health", "add the port, for example port: 80", "http is asked on a port, and none is given")
	}
	if l.Health.Timeout != 0 && l.Health.Port == 0 && l.Health.HTTP == "" {
		p.fault(es, key+".health.timeout", "add the port to check, or take the timeout out", "there is a timeout but nothing to check")
	}
	if l.Script == "" && l.ScriptTimeout != 0 {
		p.fault(es, key+".scriptTimeout", "add the script, or take the timeout out", "there is a timeout but no script")
	}
}

func (p *Plan) checkLicences(es *Errors) {
	for i, l := range p.Spec.Licences {
		for j, s := range l.Servers {
			ref(p, es, fmt.Sprintf("spec.licences[%d].servers[%d]", i, j), "servers", p.Spec.Servers, s)
		}
	}
}

func (p *Plan) checkSteps(es *Errors) {
	in := map[string]string{}
	for i, s := range p.Spec.Steps {
		for j, server := range s.Servers {
			key := fmt.Sprintf("spec.steps[%d].servers[%d]", i, j)
			ref(p, es, key, "servers", p.Spec.Servers, server)
			if other, twice := in[server]; twice && server != "" {
				p.fault(es, key, "keep it in one of them", "server %s is already in step %s", quoted(server), quoted(other))
			}
			in[server] = s.Name
		}
		for j, after := range s.After {
			ref(p, es, fmt.Sprintf("spec.steps[%d].after[%d]", i, j), "steps", p.Spec.Steps, after)
		}
	}
	cycle := p.cycle()
	for i, s := range p.Spec.Steps {
		if cycle != nil && s.Name == cycle[0] {
			p.fault(es, fmt.Sprintf("spec.steps[%d].after", i), "take one of these steps out of an after",
				"steps form a cycle: %s (each comes after the next)", arrows(cycle))
			return
		}
	}
}

func (p *Plan) checkDrills(es *Errors) {
	d := p.Spec.Drills
	var sites []string
	for _, pair := range p.Spec.SitePairs {
		sites = append(sites, pair.Recovery)
		if d.Network != "" && d.Network == pair.RecoveryNetwork {
			p.fault(es, "spec.drills.network", "name another network, or leave it out: an isolated one is made for each drill",
				"%s is the recovery network of site pair %s: a drill there would meet a failover", quoted(d.Network), quoted(pair.Name))
			return
		}
	}
	p.networkAt(es, "spec.drills.network", d.Network, "the recovery site", sites...)
	if d.Schedule == "" {
		if d.TimeZone != "" {
			p.fault(es, "spec.drills.timeZone", "add the schedule, or take the time zone out", "there is a time zone but no schedule")
		}
		if d.CleanAfter != 0 {
			p.fault(es, "spec.drills.cleanAfter", "add the schedule, or take it out", "only scheduled drills are cleaned by themselves, and there is no schedule")
		}
	} else if err := checkCron(d.Schedule); err != nil {
		p.fault(es, "spec.drills.schedule", `write minute, hour, day of month, month, day of week, for example "0 3 * * 6"`, "not a calendar: %v", err)
	}
	if d.TimeZone != "" {
		if _, err := time.LoadLocation(d.TimeZone); err != nil || d.TimeZone == "Local" {
			p.fault(es, "spec.drills.timeZone", "write an IANA name, for example Europe/Berlin or UTC", "%s is not a time zone", quoted(d.TimeZone))
		}
	}
}
