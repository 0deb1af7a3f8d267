// Package replication keeps copies of disks on another host: in full, then as
// deltas, encrypted, verified by one cryptographic root per volume, and
// resumable after a kill of either end.
//
// # Words
//
//   - A volume is one disk: a raw file or a block device. It is looked at in
//     blocks (4 KiB, the unit in which a change is detected), pieces (64 KiB,
//     the unit that is proved by a BLAKE3 hash) and regions (16 MiB, the unit of
//     the on-disk records and of resume).
//   - The root of a volume is BLAKE3 over its size and the hashes of all its
//     regions, which are BLAKE3 over the hashes of their pieces. Pieces of
//     zeros, holes or not, have the hash of 32 zero bytes, so that empty space
//     costs nothing. See geometry.go for the exact definition.
//   - A stream carries all disks of one server from a source to a target. Its
//     epoch is a fencing number: the receiver refuses every sender of a lower
//     one, at each connect, before the first byte.
//   - A cut is one instant of all disks of a stream: reflink clones, or a short
//     pause of the server while the changed blocks are read.
//   - A point is what a pass over a cut leaves at the target, once the root of
//     every replica equals the root of the cut.
//
// # What both ends remember
//
// The target keeps, per disk, the hash of every piece that is durable in the
// replica (index.go). Before it overwrites a piece it says so in an intent log
// (intent.go) and syncs that; after the data is synced the new hash is stored and
// only then acknowledged. A piece that was open when the process died is read and
// hashed again before its hash is believed.
//
// The source keeps the same index of what the target acknowledged, and beside
// each piece the XXH3-128 digests of its blocks, so that a pass needs to read
// only the source. The two indexes are compared by region hash at each
// connect; where they differ, the target's hashes and digests replace the
// source's. A lost, stale or damaged index therefore costs a digest scan,
// never a full copy and never a wrong byte.
//
// # Crash rules
//
//  1. Nothing is acknowledged that is not synced at the target.
//  2. Nothing is a point that was not read from a cut, and whose roots do not agree.
//  3. Between points the replica is dirty; only the snapshots that a PointMaker
//     took are fit to be started.
//  4. A cut by pause is gone when the source process dies; a cut by reflink is
//     kept and the pass goes on from the acknowledged region.
//  5. State that cannot be read is an error that names the file. State of a
//     newer version is refused.
//
// # Memory
//
// A stream uses at most 64 MiB at each end: the send and receive queues
// hold 16 frames of at most 1 MiB each, two scanners hold one record and one frame
// each, of the 64 MiB that may be sent ahead of the acknowledgement only the hashes
// are kept, and region hashes take 2 bytes per MiB of used volume.
package replication
