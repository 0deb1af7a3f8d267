package aws

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheSmallestFittingTypeIsChosen(t *testing.T) {
	t.Parallel()
	const g = 1 << 30
	x86, arm := []string{"i386", "x86_64"}, []string{"arm64"}
	all := []machineType{
		{name: "m6i.large", cpu: 2, memory: 8 * g, architectures: x86, current: true},
		{name: "m7g.large", cpu: 2, memory: 8 * g, architectures: arm, current: true},
		{name: "t3.large", cpu: 2, memory: 8 * g, architectures: x86, current: true},
		{name: "r6i.large", cpu: 2, memory: 16 * g, architectures: x86, current: true},
		{name: "c6i.large", cpu: 2, memory: 4 * g, architectures: x86, current: true},
		{name: "t3.xlarge", cpu: 4, memory: 16 * g, architectures: x86, current: true},
		{name: "m1.large", cpu: 2, memory: 8 * g, architectures: x86},
		{name: "m6i.metal", cpu: 2, memory: 8 * g, architectures: x86, current: true, bare: true},
		{name: "g4dn.large", cpu: 2, memory: 8 * g, architectures: x86, current: true, accelerated: true},
	}
	choose := func(w wanted) (names []string) {
		for _, m := range w.choose(all) {
			names = append(names, m.name)
		}
		return names
	}
	require.Equal(t, []string{"t3.large", "m6i.large", "r6i.large", "t3.xlarge"}, choose(wanted{cpu: 2, memory: 8 * g, architecture: "x86_64"}))
	require.Equal(t, []string{"c6i.large", "t3.large", "m6i.large", "r6i.large", "t3.xlarge"}, choose(wanted{cpu: 1, architecture: "x86_64"}))
	require.Equal(t, []string{"m7g.large"}, choose(wanted{cpu: 2, memory: 6 * g, architecture: "arm64"}))
	require.Equal(t, []string{"m6i.large", "r6i.large"}, choose(wanted{cpu: 2, memory: 8 * g, architecture: "x86_64", families: []string{"m6i", "r6i"}}))
	require.Empty(t, choose(wanted{cpu: 64, architecture: "x86_64"}))
}
