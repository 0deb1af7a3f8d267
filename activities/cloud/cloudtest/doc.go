// Package cloudtest is the conformance suite of the provider contract, and a
// wrapper that injects the faults that real clouds have.
//
// A provider's package runs the suite as TestConformance:
//
//	func TestConformance(t *testing.T) { cloudtest.Run(t, cloudtest.Config{…}) }
//
// Each behaviour of the contract is a subtest. A capability that the provider
// lacks is checked to be Unsupported, and its behaviours are not tested.
package cloudtest
