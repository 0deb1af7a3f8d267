package plan

import (
	"path/filepath"
	"strings"
	"time"
)

// Defaults fills in what the plan leaves out and makes directories of local sites
// absolute, relative to the plan file. Done twice it changes nothing more.
func (p *Plan) Defaults() {
	for i := range p.Spec.Sites {
		s := &p.Spec.Sites[i]
		if s.Provider == "local" {
			setDefault(&s.Agent, s.Name)
		}
		if s.Provider == "local" && s.Directory != "" && !filepath.IsAbs(s.Directory) {
			if abs, err := filepath.Abs(filepath.Join(filepath.Dir(p.file), s.Directory)); err == nil {
				s.Directory = abs
			}
		}
	}
	for i := range p.Spec.SitePairs {
		pair := &p.Spec.SitePairs[i]
		setDefault(&pair.Type, p.pairType(*pair))
	}
	for i := range p.Spec.PointPolicies {
		policy := &p.Spec.PointPolicies[i]
		setDefault(&policy.Keep.Count, 24)
		setDefault(&policy.Keep.Within, Duration(24*time.Hour))
		setDefault(&policy.Consistency, "crash")
		if policy.AutoResume == nil {
			on := true
			policy.AutoResume = &on
		}
	}
	for i := range p.Spec.Tiers {
		setDefault(&p.Spec.Tiers[i].Mode, "async")
	}
	for i := range p.Spec.Servers {
		launch := &p.Spec.Servers[i].Launch
		if launch.Script != "" {
			setDefault(&launch.ScriptTimeout, Duration(5*time.Minute))
		}
		if launch.Health.Port != 0 {
			setDefault(&launch.Health.Timeout, Duration(5*time.Minute))
		}
	}
	for i := range p.Spec.DNS {
		r := &p.Spec.DNS[i]
		setDefault(&r.TTL, Duration(time.Minute))
		r.Name, r.Zone = strings.TrimSuffix(r.Name, "."), strings.TrimSuffix(r.Zone, ".")
	}
	setDefault(&p.Spec.Failover.Approval, "none")
	setDefault(&p.Spec.Failback.Approval, "none")
	if p.Spec.Drills.Schedule != "" {
		setDefault(&p.Spec.Drills.TimeZone, "UTC")
	}
}

func setDefault[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

// pairType says what the sites' providers and regions make of a pair.
func (p *Plan) pairType(pair SitePair) string {
	var l lookup
	a, b := find(&l, "sites", p.Spec.Sites, pair.Primary), find(&l, "sites", p.Spec.Sites, pair.Recovery)
	switch {
	case l.missing != "":
		return ""
	case a.Provider == "local" && b.Provider != "local":
		return "on-premises-to-cloud"
	case a.Provider != b.Provider:
		return "cloud-to-cloud"
	case a.Region != b.Region:
		return "cross-region"
	}
	return "cross-zone"
}
