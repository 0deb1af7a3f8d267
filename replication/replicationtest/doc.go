// Package replicationtest has what tests of package replication and of its users
// need: a pauser, a maker of snapshots, a link that breaks, disks that fail, and
// the conformance suites of source and target volumes.
package replicationtest
