package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"

	"lifeboat/activities"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/local"
)

// planFile is a plan for servers at site primary of a dev.
type planFile struct {
	servers []string // names, also at the primary site
	every   string   // default 1s
	policy  string   // more keys of the point policy
	tier    string   // more keys of the tier
	spec    string   // more keys of the plan
	launch  string   // replaces cpu and memory and the health check
}

// ip of the numbered server, with and without rights.
func (h *house) ip(n int) string { return h.range24() + strconv.Itoa(11+n) }

func (h *house) range24() string {
	if h.isRoot() {
		return "10.20.0."
	}
	return fmt.Sprintf("127.%d.0.", h.loopback) // shared by all tests: each has its own
}

func (h *house) isRoot() bool { return os.Geteuid() == 0 && h.user == nil }

// recovered is the address of the numbered server at the recovery site: the same
// one where networks are isolated.
func (h *house) recovered(n int) string {
	if h.isRoot() {
		return h.ip(n)
	}
	return fmt.Sprintf("127.%d.0.%d", h.loopback+1, 11+n)
}

// write writes the plan and returns its path.
func (p planFile) write(h *house) string {
	h.t.Helper()
	if p.every == "" {
		p.every = "1s"
	}
	if p.launch == "" {
		p.launch = fmt.Sprintf("cpu: 1, memory: 64MiB, health: {http: /healthz, port: %d, timeout: 20s}", boxPort)
	}
	recovery := h.recovered(0)
	recovery = recovery[:strings.LastIndex(recovery, ".")] + ".0/24"
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: lifeboat/v1
kind: RecoveryPlan
metadata: {name: shop}
spec:
  sites:
    - {name: primary, provider: local, directory: %q}
    - {name: recovery, provider: local, directory: %q}
  networks:
    - {name: main, site: primary, cidr: %s0/24}
    - {name: refuge, site: recovery, cidr: %s}
  sitePairs:
    - {name: main, primary: primary, recovery: recovery, recoveryNetwork: refuge, primaryNetwork: main}
  pointPolicies:
    - {name: often, every: %s%s}
  tiers:
    - {name: gold, strategy: replicate, pointPolicy: often%s}
%s
  servers:
`, h.site("primary"), h.site("recovery"), h.range24(), recovery, p.every, p.policy, p.tier, p.spec)
	for i, name := range p.servers {
		fmt.Fprintf(&b, "    - {name: %[1]s, tier: gold, sitePair: main, source: %[1]s, launch: {ip: %[2]s, publicIP: %[1]s, %[3]s}}\n",
			name, h.recovered(i), p.launch)
	}
	path := filepath.Join(h.dir, "shop.yaml")
	require.NoError(h.t, os.WriteFile(path, []byte(b.String()), 0o644))
	return path
}

func (h *house) site(name string) string { return filepath.Join(h.dir, "sites", name) }

// createBox starts a server at the primary site and gives the way to speak with it.
func (h *house) createBox(name string, n int, disks ...string) (cloud.Server, box) {
	h.t.Helper()
	self := h.box
	if self == "" {
		var err error
		self, err = os.Executable()
		require.NoError(h.t, err)
	}
	args := []string{"local", "create-server", name, "--site", "primary", "--network", "main", "--cidr", h.range24() + "0/24", "--ip", h.ip(n),
		"--port", strconv.Itoa(boxPort), "--public", "--command", fmt.Sprintf("[%q, %q]", self, boxArgument)}
	for _, d := range disks {
		args = append(args, "--disk", d)
	}
	server := ask[cloud.Server](h, args...)
	b := boxAt(h.t, server.Public)
	h.eventually("server "+name+" answers", b.alive)
	return server, b
}

// protect applies a plan and waits for real time.
func (h *house) protect(p planFile) {
	h.t.Helper()
	h.do("plan", "apply", "-f", p.write(h), "--wait")
	h.do("replication", "start", "shop", "--wait")
}

// points of a server, newest first.
func (h *house) points(server string) []activities.Point {
	h.t.Helper()
	return ask[[]activities.Point](h, "point", "list", server)
}

// mark makes a recovery point now.
func (h *house) mark(server, label string) activities.Point {
	h.t.Helper()
	points := ask[[]activities.Point](h, "point", "mark", server, "--label", label)
	require.Len(h.t, points, 1)
	return points[0]
}

// open opens a site as its owner.
func (h *house) open(site string) *local.Provider {
	h.t.Helper()
	p, err := local.Open(h.t.Context(), cloud.Site{Name: site, Provider: "local", Directory: h.site(site)}, local.Options{})
	require.NoError(h.t, err)
	h.t.Cleanup(func() { require.NoError(h.t, p.Close()) })
	return p
}
