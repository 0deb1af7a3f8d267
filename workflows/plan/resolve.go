package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
)

// Resolved is a plan with every name looked up: what workflows use.
type Resolved struct {
	Name       string          `json:"name"`
	Objectives Objectives      `json:"objectives"`
	Sites      map[string]Site `json:"sites"`
	// Servers sorted by name.
	Servers []ResolvedServer `json:"servers"`
	// Waves of server names: each wave is recovered together, after the ones before it.
	Waves    [][]string `json:"waves"`
	Failover Recovery   `json:"failover"`
	Failback Recovery   `json:"failback"`
	Drills   Drills     `json:"drills"`
	// Hash of all the rest: two plans with one hash ask for the same.
	Hash string `json:"hash"`
}

// ResolvedServer is a protected server with everything that its workflows need.
// Networks with an empty name were not given in the plan; their comments in
// [SitePair] and [Drills] say what holds then.
type ResolvedServer struct {
	Name     string `json:"name"`
	Primary  Site   `json:"primary"`
	Recovery Site   `json:"recovery"`
	Source   string `json:"source"`
	// Disks by name; empty = all of the source server.
	Disks []string `json:"disks,omitempty"`
	// Transfer is snapshots or blocks; empty = agents. Without agents, those of Primary
	// and Recovery are the queues of the sites' cloud workers; see [AgentlessName].
	Transfer string `json:"transfer,omitempty"`
	Launch   Launch `json:"launch"`
	// Script is the content of Launch.Script.
	Script             string      `json:"script,omitempty"`
	Policy             PointPolicy `json:"policy"`
	RecoveryNetwork    Network     `json:"recovery_network"`
	PrimaryNetwork     Network     `json:"primary_network"`
	ReplicationNetwork Network     `json:"replication_network"`
	DrillNetwork       Network     `json:"drill_network"`
	Records            []Record    `json:"records,omitempty"`
	// RecordSites holds, for each of Records, the site that serves its zone.
	RecordSites []Site `json:"record_sites,omitempty"`
	// ZoneNote says in words why recovery takes longer; empty when nothing does.
	ZoneNote string `json:"zone_note,omitempty"`
	// Wave is the index into Resolved.Waves.
	Wave int `json:"wave"`
}

// Server finds a server by name; ok is false when the plan has none of it.
func (r *Resolved) Server(name string) (server ResolvedServer, ok bool) {
	i := sort.Search(len(r.Servers), func(i int) bool { return r.Servers[i].Name >= name })
	if i == len(r.Servers) || r.Servers[i].Name != name {
		return ResolvedServer{}, false
	}
	return r.Servers[i], true
}

// Resolve looks up every name of a plan that was loaded or validated. It is pure:
// the same plan gives the same result, byte for byte. The error is about names
// that do not resolve, cycles in steps and scripts whose content is not there.
func Resolve(p *Plan) (*Resolved, error) {
	waves, err := p.waves()
	if err != nil {
		return nil, err
	}
	r := &Resolved{
		Name: p.Metadata.Name, Objectives: p.Spec.Objectives, Sites: map[string]Site{}, Waves: waves,
		Failover: p.Spec.Failover, Failback: p.Spec.Failback, Drills: p.Spec.Drills,
	}
	for _, s := range p.Spec.Sites {
		r.Sites[s.Name] = s
	}
	wave := map[string]int{}
	for i, names := range waves {
		for _, name := range names {
			wave[name] = i
		}
	}
	for i := range p.Spec.Servers {
		s, err := p.resolveServer(i)
		if err != nil {
			return nil, err
		}
		s.Wave = wave[s.Name]
		r.Servers = append(r.Servers, s)
	}
	sort.Slice(r.Servers, func(i, j int) bool { return r.Servers[i].Name < r.Servers[j].Name })
	text, err := json.Marshal(r) // map keys are sorted: canonical
	if err != nil {
		return nil, fmt.Errorf("plan %s cannot be written as JSON: %w", p.Metadata.Name, err)
	}
	sum := sha256.Sum256(text)
	r.Hash = hex.EncodeToString(sum[:])
	return r, nil
}

func (p *Plan) resolveServer(i int) (ResolvedServer, error) {
	in := &p.Spec.Servers[i]
	l := lookup{plan: p}
	tier := find(&l, "tiers", p.Spec.Tiers, in.Tier)
	pair := find(&l, "sitePairs", p.Spec.SitePairs, in.SitePair)
	s := ResolvedServer{
		Name: in.Name, Source: in.Source, Disks: in.Disks, Launch: in.Launch,
		Policy:             find(&l, "pointPolicies", p.Spec.PointPolicies, tier.PointPolicy),
		Primary:            find(&l, "sites", p.Spec.Sites, pair.Primary),
		Recovery:           find(&l, "sites", p.Spec.Sites, pair.Recovery),
		RecoveryNetwork:    find(&l, "networks", p.Spec.Networks, pair.RecoveryNetwork),
		PrimaryNetwork:     find(&l, "networks", p.Spec.Networks, pair.PrimaryNetwork),
		ReplicationNetwork: find(&l, "networks", p.Spec.Networks, pair.ReplicationNetwork),
	}
	if n := find(&l, "networks", p.Spec.Networks, p.Spec.Drills.Network); n.Site == pair.Recovery {
		s.DrillNetwork = n
	}
	if l.missing != "" {
		return s, fmt.Errorf("plan %s, server %s: %s; validate the plan first", p.Metadata.Name, in.Name, l.missing)
	}
	if t := transferOf(in, tier, s.Primary, s.Recovery); t != TransferAgent {
		s.Transfer, s.Primary.Agent, s.Recovery.Agent = t, AgentlessName(s.Primary), AgentlessName(s.Recovery)
	}
	if in.Launch.Script != "" {
		content, ok := p.Scripts[in.Launch.Script]
		if !ok {
			return s, fmt.Errorf("plan %s, server %s: the content of script %s was not read; load the plan from its file",
				p.Metadata.Name, in.Name, in.Launch.Script)
		}
		s.Script = content
	}
	for _, r := range p.Spec.DNS {
		if r.Server == in.Name {
			s.Records = append(s.Records, r)
		}
	}
	sort.Slice(s.Records, func(i, j int) bool { return s.Records[i].Name < s.Records[j].Name })
	for _, r := range s.Records {
		s.RecordSites = append(s.RecordSites, find(&l, "sites", p.Spec.Sites, r.Site))
	}
	if l.missing != "" {
		return s, fmt.Errorf("plan %s, server %s: %s; validate the plan first", p.Metadata.Name, in.Name, l.missing)
	}
	s.ZoneNote = zoneNote(s)
	return s, nil
}

// zoneNote warns when replicas and recovered servers live in different zones.
func zoneNote(s ResolvedServer) string {
	from, to := s.ReplicationNetwork, s.RecoveryNetwork
	if from.Site != to.Site || from.Zone == "" || to.Zone == "" || from.Zone == to.Zone {
		return ""
	}
	return fmt.Sprintf("recovery takes longer: replication network %s is in zone %s, recovery network %s in zone %s, so disks cross zones",
		from.Name, from.Zone, to.Name, to.Zone)
}

// lookup remembers the first name that was not found.
type lookup struct {
	plan    *Plan
	missing string
}

type named interface{ name() string }

func (s Site) name() string        { return s.Name }
func (n Network) name() string     { return n.Name }
func (p SitePair) name() string    { return p.Name }
func (p PointPolicy) name() string { return p.Name }
func (t Tier) name() string        { return t.Name }
func (s Server) name() string      { return s.Name }
func (s Step) name() string        { return s.Name }

// find returns the element of a list with a name; the zero value for the empty name.
func find[T named](l *lookup, list string, all []T, name string) T {
	var zero T
	if name == "" {
		return zero
	}
	for _, t := range all {
		if t.name() == name {
			return t
		}
	}
	if l.missing == "" {
		l.missing = fmt.Sprintf("spec.%s has no %q", list, name)
	}
	return zero
}

// waves puts the steps into topological levels, servers in no step last.
func (p *Plan) waves() ([][]string, error) {
	if cycle := p.cycle(); cycle != nil {
		return nil, fmt.Errorf("plan %s: steps form a cycle: %s", p.Metadata.Name, arrows(cycle))
	}
	level, done := map[string]int{}, 0
	for done < len(p.Spec.Steps) {
		before := done
		for _, s := range p.Spec.Steps {
			if _, ok := level[s.Name]; ok {
				continue
			}
			if at, ready := levelAfter(level, s.After); ready {
				level[s.Name], done = at, done+1
			}
		}
		if done == before {
			return nil, fmt.Errorf("plan %s: a step comes after one that does not exist, or two steps have one name; validate the plan first", p.Metadata.Name)
		}
	}
	var waves [][]string
	placed := map[string]bool{}
	for _, s := range p.Spec.Steps {
		for len(waves) <= level[s.Name] {
			waves = append(waves, nil)
		}
		waves[level[s.Name]] = append(waves[level[s.Name]], s.Servers...)
		for _, name := range s.Servers {
			placed[name] = true
		}
	}
	var rest []string
	for _, s := range p.Spec.Servers {
		if !placed[s.Name] {
			rest = append(rest, s.Name)
		}
	}
	if len(rest) > 0 {
		waves = append(waves, rest)
	}
	for _, w := range waves {
		sort.Strings(w)
	}
	return waves, nil
}

// levelAfter is one more than the highest level of the steps that come before.
func levelAfter(level map[string]int, after []string) (at int, ready bool) {
	for _, name := range after {
		l, ok := level[name]
		if !ok {
			return 0, false
		}
		at = max(at, l+1)
	}
	return at, true
}
