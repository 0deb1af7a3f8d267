package plan

import (
	"fmt"
	"time"
)

// Ways to move data to the recovery site; see [Tier].
const (
	TransferAgent     = "agent"
	TransferSnapshots = "snapshots"
	TransferBlocks    = "blocks"
)

// Agentless tells whether the server's data moves without agents.
func (s *ResolvedServer) Agentless() bool { return s.Transfer != "" }

// AgentlessName stands for the agent of a site in the queue that serves both ends of
// streams without agents: that of the target site's cloud worker. Streams of one account
// and region share their limits, so that they share the worker; a local site is its own.
func AgentlessName(s Site) string {
	if s.Provider == ProviderLocal {
		return s.Provider + "." + s.Name
	}
	return s.Provider + "." + s.Account + "." + s.Region
}

// MinimumInterval is the shortest time between two recovery points of a transfer. A
// cloud takes few snapshots of a volume at once (AWS: 5 pending ones, "Amazon EBS
// quotas"), and each of them takes about a minute.
func MinimumInterval(transfer string, source Site) time.Duration {
	if (transfer == TransferSnapshots || transfer == TransferBlocks) && source.Provider != ProviderLocal {
		return time.Minute
	}
	return time.Second
}

// transferOf is what moves a server's data: what it says, else what its tier says, else
// what its sites can do.
func transferOf(s *Server, tier Tier, primary, recovery Site) string {
	if s.Transfer != "" {
		return s.Transfer
	}
	if tier.Transfer != "" {
		return tier.Transfer
	}
	if primary.Provider == recovery.Provider && primary.Provider != ProviderLocal {
		return TransferSnapshots
	}
	return TransferAgent
}

// checkTransfers checks that each server's data can move the way it should.
func (p *Plan) checkTransfers(es *Errors) {
	for i := range p.Spec.Servers {
		s := &p.Spec.Servers[i]
		var l lookup
		tier := find(&l, "tiers", p.Spec.Tiers, s.Tier)
		pair := find(&l, "sitePairs", p.Spec.SitePairs, s.SitePair)
		primary, recovery := find(&l, "sites", p.Spec.Sites, pair.Primary), find(&l, "sites", p.Spec.Sites, pair.Recovery)
		if l.missing != "" || !known(primary) || !known(recovery) {
			continue
		}
		if len(s.Launch.Settings) > 0 && recovery.Provider == ProviderLocal {
			p.fault(es, fmt.Sprintf("spec.servers[%d].launch.settings", i), "take them out", "a local site has no settings of its own")
		}
		switch transfer := transferOf(s, tier, primary, recovery); {
		case transfer == TransferAgent:
			p.needAgent(es, primary)
			p.needAgent(es, recovery)
		case primary.Provider != recovery.Provider:
			p.fault(es, p.transferKey(i), "write transfer: agent, or use sites of one provider",
				"%s move within one provider, and the sites of pair %s are %s and %s", transfer, quoted(pair.Name), primary.Provider, recovery.Provider)
		default:
			p.checkInterval(es, tier, transfer, primary)
			p.checkInterval(es, tier, transfer, recovery)
		}
	}
}

// known tells whether the site's provider is one; else that is the fault.
func known(s Site) bool { return s.Provider == ProviderLocal || s.Provider == ProviderAWS }

// transferKey is where the transfer of server i was written, or would be.
func (p *Plan) transferKey(i int) string {
	if p.Spec.Servers[i].Transfer == "" {
		for j, t := range p.Spec.Tiers {
			if t.Name == p.Spec.Servers[i].Tier && t.Transfer != "" {
				return fmt.Sprintf("spec.tiers[%d].transfer", j)
			}
		}
	}
	return fmt.Sprintf("spec.servers[%d].transfer", i)
}

// needAgent faults a site whose agent nobody has named. A cloud's site has one only
// where somebody has started it.
func (p *Plan) needAgent(es *Errors, site Site) {
	if site.Agent != "" || site.Provider == ProviderLocal {
		return
	}
	for i := range p.Spec.Sites {
		if p.Spec.Sites[i].Name == site.Name {
			p.fault(es, fmt.Sprintf("spec.sites[%d].agent", i), "name the agent that runs next to the disks there, or write transfer: snapshots where both sites are of this provider",
				"data of servers moves with agents here, and site %s names none", quoted(site.Name))
		}
	}
}

// checkInterval compares the interval of a tier's policy with what a site can do.
func (p *Plan) checkInterval(es *Errors, tier Tier, transfer string, site Site) {
	for i, policy := range p.Spec.PointPolicies {
		least := MinimumInterval(transfer, site)
		if policy.Name == tier.PointPolicy && policy.Every > 0 && policy.Every.D() < least && least > time.Second {
			p.fault(es, fmt.Sprintf("spec.pointPolicies[%d].every", i), "write "+Duration(least).String()+" or more, or use an agent",
				"%s is too short between two snapshots of a volume at %s", policy.Every, site.Provider)
		}
	}
}
