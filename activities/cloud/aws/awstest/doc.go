// Package awstest is a stateful double of the AWS services that Lifeboat uses. The
// official SDK talks to it over HTTP; it is one endpoint for all services, accounts
// and regions, told apart by what the requests are signed for, so that AWS_ENDPOINT_URL
// reaches it as it reaches any emulator.
//
// Shapes and wire names are those of the service models in model/ and of the SDK's own
// types: a parameter that a service does not have is refused, as there. Behaviour is
// written down with the page of the public API reference that it comes from. Work takes
// time (Options.Delay), a just created identifier may be unknown for a while
// (Options.Lag), and faults can be injected between any two bytes that matter (Inject).
//
// There are real bytes behind volumes and snapshots, and instances run: each is a
// process on those bytes, started by the runtimes of the local provider.
package awstest
