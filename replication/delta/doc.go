// Package delta moves a volume to another host: in full, then only what changed. It is the
// heart of the copy engine and knows nothing of streams, epochs, points or clouds.
//
// # Guarantees
//
//  1. What is reported as done is durable at the target and equal to what was read, proved by
//     one root over the hashes of all pieces (package block), which both ends compute on
//     their own. A block that was torn by a crash, corrupted on the way or
//     written by somebody else is found when roots are compared or the piece is read.
//  2. After a kill of source, target, both or the link, at any moment, a copy goes on from
//     what was acknowledged. At most windowBytes (64 MiB) are sent again.
//  3. Memory does not grow with the volume: indexes are on disk (package index), what is
//     under way is bounded by the window, lanes have fixed buffers.
//  4. A missing, stale or damaged index, and a tracker that does not know, cost reading. They never
//     cost a full copy, and never a wrong byte.
//  5. A source that cannot be read is an error with disk and offset, after a second try. It never
//     becomes zeros.
//
// # How a pass works
//
// The source keeps, in its index, what the target acknowledged as durable: the digest of each
// block and the hash of each piece. A pass (sender.go) reads the volume, or what a tracker
// says changed, and compares digests. So the target is not read, and an unchanged terabyte
// costs no traffic.
//
// The regions of all disks are handed out to lanes (plan.go): long ascending ranges, halved
// again for lanes that are through. A lane (lane.go) reads a chunk of 256 KiB behind the
// payload of the frame it is making, so that what differs is sent from where it was read; takes
// the digests while the chunk is in the cache; and writes the frame to a connection of
// its own. One goroutine does all of that; the kernel's socket buffers are the queue.
//
// What was sent stays in a window (window.go) until it is acknowledged. Then, and only then, the
// index says that the target has it.
//
// # How the target keeps it
//
// The other end of a lane (receive_lane.go) gathers up to 2 MiB of frames, writes to the intent
// log (intent.go) which pieces it is about to overwrite, syncs that, and writes them. Where a
// range of the volume was empty, one intent opens 1 GiB of it, and frames are written as they
// come. With a cryptographic proof the hash of each piece is computed from what is written,
// and compared; a piece of which only some blocks came is read back.
//
// A checkpoint (receiver.go), every 16 MiB or 200 ms, syncs the volume, stores the hashes,
// syncs the index, forgets the intents and acknowledges. Lanes write on meanwhile.
//
// # Sessions
//
// A session is a control connection and its lanes. The control connection carries framed
// messages (frame.go, message.go): hello and welcome with the roots of both ends; pages of
// hashes where roots differ (compare.go, answer.go); flush and acknowledgement; finish,
// which has the target compare roots. docs/replication.md specifies the protocol.
//
// # Crash rules
//
//  1. Nothing is acknowledged that is not synced at the target.
//  2. Pieces that were open when the target died are unknown; they are read before they are
//     believed.
//  3. The source's index needs no sync: where it is behind the target, the roots differ, the pages
//     are compared, and the target's hashes are taken over.
//  4. State that cannot be read is never taken for an empty one silently: it is reported, and
//     both ends are compared.
package delta
