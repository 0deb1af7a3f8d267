package delta

import (
	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

// OpenReplicaIndex opens what is known about a volume that is written: the index whose files begin
// with prefix. It is believed only if it is about the volume at path, and nobody else wrote to
// that since NoteReplica. Else the volume has to be read, except for its holes.
func OpenReplicaIndex(prefix, path string, v volume.Target, size int64, proof block.Proof) (*index.Index, error) {
	return openTargetIndex(prefix, path, v, size, proof)
}

// NoteReplica remembers in an index how the volume at path was when it was written last. It is
// durable with the index.
func NoteReplica(x *index.Index, path string) error { return noteIdentity(x, path) }

// Recover makes of the intents that a session left in dir, when it was killed, what they mean: the
// pieces that it may have been writing are unknown. It is for those who want to know the roots of
// replicas without a session; a session does it by itself.
func Recover(dir string, replicas []Replica) error {
	rx, err := openReceiver(dir, replicas)
	if err != nil {
		return err
	}
	return rx.close()
}

// Verify reads the hashes of all pieces in an index, so that damage of its file is found before
// they are compared with another end: what is damaged becomes unknown then, and is told by the
// target. Found later, the pieces below would be sent again. It reads 0.05 % of the used bytes.
func Verify(x *index.Index) error {
	var page [block.PageSize]byte
	for region := int64(0); ; {
		next, ok, err := x.NextNonZero(region)
		if err != nil || !ok {
			return err
		}
		n := next * block.PiecesPerRegion / block.Fanout
		if err := x.Page(0, n, &page); err != nil {
			return err
		}
		region = (n + 1) * block.Fanout / block.PiecesPerRegion
	}
}
