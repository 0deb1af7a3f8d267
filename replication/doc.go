// Package replication keeps copies of disks on another host: in full, then as
// deltas, encrypted, verified by one cryptographic root per volume, and
// resumable after a kill of either end.
//
// # Words
//
//   - A volume is one disk: a raw file or a block device (package volume). It is looked at in
//     blocks (4 KiB, the unit in which a change is found), pieces (64 KiB, the unit that
//     is proved by a BLAKE3 hash) and regions (1 MiB, the unit of work and of resume);
//     see package block. Its root is one hash over the hashes of all pieces.
//   - An index is what one end knows of a volume, on disk (package index).
//   - A session moves what differs between two indexes over lanes (package delta).
//   - A stream carries all disks of one server from a source to a target. Its
//     epoch is a fencing number: the target refuses every sender of a lower one.
//   - A cut is one instant of all disks of a stream: reflink clones, or a short
//     pause of the server while the changed blocks are read.
//   - A point is what a pass over a cut leaves at the target, once the root of
//     every replica equals the root of the cut.
//
// # Guarantees, and the tests that prove them
//
//  1. What is reported as done is durable at the target and equal to the source's cut, by one root over
//     all its pieces (TestRandomImagesChangesAndKills; delta: TestRandomImagesChangesAndKills,
//     TestAnyCallMayFail). A block that was torn by a crash (TestKillMinusNineOfSenderAndReceiver), corrupted on the
//     way (TestCorruptFrameEndsTheSessionAndChangesNothing) or changed on the target's disk
//     (TestScrubFindsWhatTheDiskLostAndItIsSentAgain, TestLyingTargetDiskIsFound, TestChangedReplicaIsFoundAtTheNextEpoch) is found.
//  2. After a kill of source, target, both or the link, at any moment, a stream goes on from what
//     was acknowledged (TestCutLinkResumesFromWhatIsAcknowledged,
//     TestReflinkCutIsGoneOnWithAfterARestart). It needs nobody to tell it (TestWithAutoResumeItGoesOnByItself).
//  3. Key and epoch are checked before the first byte, at every connect; a sender of a past epoch is
//     refused (TestStaleEpochIsRefusedBeforeTheFirstByte, TestEpochRaceHasOneWriter, TestSenderWithAnotherKeyIsRefused).
//  4. Memory is at most 64 MiB a stream at each end, whatever the size (delta:
//     TestMemoryDoesNotGrowWithTheVolume); the index is small (index: TestADenseIndexIsSmall). An index or a tracker
//     that is missing, stale or damaged costs reading, never a full copy, never a wrong byte
//     (TestLostIndexesCostAScanAndNoCopy, TestTrackerSparesReadingAndIsNeverBelievedBlindly,
//     TestClonesAreNotBelievedWhereTheTargetHasSomethingElse).
//  5. A source that cannot be read is reported with its offset, and never becomes zeros
//     (TestUnreadableSourceIsReportedAndNeverZeros).
//  6. A point of several disks has one instant (TestReflinkCutOfSeveralDisksPausesAroundTheClones,
//     TestPauseCutIsOneInstantAndMeasured), and a point that is offered is whole
//     (TestPointOfACrashBetweenSnapshotAndCatalogueIsThereWithoutTheSource).
//
// # Crash rules
//
//  1. Nothing is acknowledged that is not synced at the target.
//  2. Nothing is a point that was not read from a cut, and whose roots do not agree.
//  3. Between points the replica is dirty; only the snapshots that a PointMaker
//     took are fit to be started.
//  4. A cut by pause is gone when the source process dies; a cut by reflink is
//     kept, and the pass goes on with what is left of it.
//  5. What is left of a cut is stored after the index was synced, so that the index is never
//     behind it. What a comparison with the target finds is added to it.
//  6. State that cannot be read is an error that names the file. State of a
//     newer version is refused.
//
// # The way through the code
//
// engine.go opens an engine with its streams. source.go is the life of a stream that is sent, source_session.go one
// session of it, pass.go a pass with its cut (cut.go), track.go what need not be read, watermark.go
// where a pass goes on. target.go is a stream that is received, target_session.go who may send, replicas.go
// what is known of its disks, points.go what a pass leaves, scrub.go what disks lose later.
// docs/replication.md specifies the protocol.
package replication
