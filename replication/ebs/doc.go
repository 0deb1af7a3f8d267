// Package ebs reads and writes snapshots of Amazon EBS by their blocks, through the EBS direct
// APIs: a completed snapshot is a volume.Source, a pending one a volume.Target, and Copy makes one
// of the other.
//
// # Limits of the service
//
// A block is 512 KiB, with a SHA-256 that both sides compute. An account may get and put 1,000
// blocks a second (so may a snapshot), list 50 times and begin or complete 10 snapshots a second
// (EBS quotas L-C125AE42, L-AFAE1BE8, L-18E976AB, L-DB2FBAA1, L-AFEBDF7A, L-1D4D9345). A Client keeps
// to these rates, goes slower where the service asks for it, and bounds what is in flight; all that
// talk to one account and region share one Client.
//
// # Why Copy does not go through the delta-transfer core
//
// Source and Target fit the core (replication/delta), and that is the way from a disk into a
// snapshot or from a snapshot onto a disk. Between two snapshots the core would find out, at a price,
// what is known already:
//
//   - The core reads a volume to see what changed. ListChangedBlocks says so, in the units in which
//     blocks are sent.
//   - The core proves by one root over hashes of pieces that both ends computed. Here the SHA-256
//     of each block is checked by us when it is read and by the service when it is written, and
//     the checksum over all of them when the snapshot is sealed.
//   - The core makes its target durable every 16 MiB. A block that was put is durable, and what a
//     lane has gathered of the next one is not; each checkpoint waits for all that is in flight.
//   - The core reads its target back where it died. A pending snapshot cannot be read, so Target has
//     to keep a copy of what it put on a local disk.
//
// BenchmarkDirect of activities/cloud/aws measures both ways. Copy has as many workers as requests may
// be in flight; each gets a block and puts it. Its state is 32 bytes a block. Upload does the same
// with a volume that is here.
package ebs
