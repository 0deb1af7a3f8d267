// Package stage is where the demo and the fault campaign happen: file systems
// for local sites, a plan with one server, its DNS name, and a client that
// writes to it.
package stage

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Names on the stage.
const (
	Plan    = "demo"
	Server  = "app" // also the name of its public addresses
	Record  = "app.demo.test"
	Zone    = "demo.test"
	Port    = 8080
	Network = "production" // at the primary site
)

// Addresses of the server. Only root can have the same ones at both sites.
type Addresses struct {
	Production, ProductionCIDR string
	Recovered, RecoveryCIDR    string
}

// ChooseAddresses gives addresses that this user can have.
func ChooseAddresses() Addresses {
	if os.Geteuid() == 0 {
		return Addresses{"10.20.0.11", "10.20.0.0/24", "10.20.0.11", "10.20.0.0/24"}
	}
	return Addresses{"127.20.0.11", "127.20.0.0/24", "127.21.0.11", "127.21.0.0/24"}
}

// WritePlan writes the plan and its script into dir and returns the plan's path.
// The script prints the newest write that the recovered database has, which
// becomes the achieved RPO of the reports; health is how long a health check may take.
func WritePlan(dir, sites, executable string, a Addresses, health time.Duration) (string, error) {
	path := filepath.Join(dir, "plan.yaml")
	if err := os.WriteFile(path, []byte(planText(sites, a, health)), 0o600); err != nil {
		return "", err
	}
	return path, WriteScript(dir, executable)
}

// ScriptFile is the post-start script of the plan, beside it.
const ScriptFile = "newest-write.sh"

// WriteScript writes the script alone, for a plan of another kind of sites.
func WriteScript(dir, executable string) error {
	return os.WriteFile(filepath.Join(dir, ScriptFile), []byte(scriptText(executable)), 0o700)
}

func planText(sites string, a Addresses, health time.Duration) string {
	return fmt.Sprintf(`apiVersion: lifeboat/v1
kind: RecoveryPlan
metadata:
  name: %[1]s
  description: One server with a database, its disaster and its way home
spec:
  objectives:
    rto: 30s # outage declared → traffic served
    rpo: 10s # newest write that may be lost
  sites:
    - {name: primary, provider: local, directory: %[2]q}
    - {name: recovery, provider: local, directory: %[3]q}
    - {name: names, provider: local, directory: %[4]q} # DNS survives either side
  networks:
    - {name: production, site: primary, cidr: %[5]s}
    - {name: production-recovery, site: recovery, cidr: %[6]s}
  sitePairs:
    - name: main
      primary: primary
      recovery: recovery
      recoveryNetwork: production-recovery
      primaryNetwork: production
  pointPolicies:
    - {name: often, every: 2s, keep: {count: 24, within: 24h}}
  tiers:
    - {name: gold, strategy: replicate, pointPolicy: often}
  servers:
    - name: %[7]s
      tier: gold
      sitePair: main
      source: %[7]s
      launch:
        cpu: 1
        memory: 64MiB
        ip: %[8]s
        publicIP: %[7]s
        script: newest-write.sh
        scriptTimeout: 30s
        health: {http: /healthz, port: %[9]d, timeout: %[12]s}
  dns:
    - {name: %[10]s, zone: %[11]s, site: names, server: %[7]s, ttl: 1s}
`, Plan, filepath.Join(sites, "primary"), filepath.Join(sites, "recovery"), filepath.Join(sites, "names"),
		a.ProductionCIDR, a.RecoveryCIDR, Server, a.Recovered, Port, Record, Zone, health)
}

// scriptText is the post-start script of the plan.
func scriptText(executable string) string {
	return fmt.Sprintf(`#!/bin/sh
# Runs on every recovered server; $LIFEBOAT_OPERATION says why it was started.
exec '%s' __numbers-newest "http://$LIFEBOAT_ADDRESS:%d"
`, executable, Port)
}
