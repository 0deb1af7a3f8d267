// Package agentless protects servers by snapshots of their provider: no program runs next
// to the disks. A recovery point is a set of snapshots that were cut at one instant at the
// source site and copied to the target site; where both are one place, the cut itself.
//
// An [Engine] does for such streams what replication.Engine does for agents, with the same
// methods, points, status and errors; [Engine.Start] takes the place of PrepareTarget and
// StartSource.
//
// # Rules
//
//  1. The state of a stream is one document at its target site. It is written under a
//     condition: of two engines that both believe to run a stream, the one that began
//     last goes on, and the other stops at its next write.
//  2. What is going to be made is in the document before the first call is made for it, with
//     the client tokens of these calls. They derive from stream, epoch and number of the
//     cut, so that a repetition after a crash at any line makes nothing twice.
//  3. What is not needed any more leaves what refers to it and enters the list of doomed
//     snapshots in one write; it leaves that list when it is deleted.
//  4. A point is entered when all its snapshots are available. Its time is that of the cut.
//  5. The newest cut at the source stays, as the base of the next copies; earlier ones go.
//  6. After StopTarget no request goes to the source site.
//
// # The way through the code
//
// engine.go opens an engine and starts streams, registry.go remembers which. stream.go is the life of a
// stream, pass.go one pass of it. state.go is what is known of a stream and each step
// from one state to the next, document.go how it is kept. catalogue.go, requests.go,
// control.go and status.go are what callers ask for.
package agentless
