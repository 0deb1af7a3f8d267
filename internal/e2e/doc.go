// Package e2e holds the tests of the built programs: `lifeboat dev` with a real
// Temporal server, and the command line in a second terminal, as people use them.
// Each test has a dev, sites and ports of its own.
package e2e
