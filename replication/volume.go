package replication

import (
	"context"
	"errors"
	"fmt"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/volume"
)

// Sizes of the parts of a volume, in bytes; see package block.
const (
	BlockSize  = block.Size
	PieceSize  = block.Piece
	RegionSize = block.Region
)

// proof is what proves that replica and cut are equal.
const proof = block.BLAKE3

// SourceVolume is a disk that is read. Its methods may be called at once from
// several goroutines.
type SourceVolume = volume.Source

// TargetVolume is a disk that is written.
type TargetVolume = volume.Target

// Extent is a range of a disk.
type Extent = volume.Extent

// Fingerprint names a public key: "sha256:" and the hex SHA-256 of its
// SubjectPublicKeyInfo.
type Fingerprint = delta.Fingerprint

// Changes is the answer of a Tracker. Known false means "read everything".
type Changes struct {
	Known   bool
	Extents []Extent
	// Token names this moment; it is given back as since once the pass that
	// read these extents is verified.
	Token string
}

// Tracker knows which ranges of a disk changed. It may name too many, and where it does
// not know, the disk is scanned; but a changed range that it leaves out is not read. Its
// word counts only while the index is as the last verified pass left it.
type Tracker interface {
	// Changes since the moment that since names; "" is the beginning.
	Changes(ctx context.Context, stream string, disk Disk, since string) (Changes, error)
}

// OpenVolume opens a raw file or a block device for reading.
func OpenVolume(path string) (SourceVolume, error) {
	v, err := volume.Open(path)
	return v, volumeError(err)
}

// OpenTargetVolume opens a raw file or a block device for writing.
func OpenTargetVolume(path string) (TargetVolume, error) {
	v, err := volume.OpenTarget(path)
	return v, volumeError(err)
}

// volumeError marks a path that names no disk as a mistake in a spec.
func volumeError(err error) error {
	if errors.Is(err, volume.ErrNotVolume) {
		return fmt.Errorf("%w: %w", ErrInvalidSpec, err)
	}
	return err
}

// RootOf computes the root of a volume by reading all its data: the same string as
// in PointDisk.Root when the contents are the same.
func RootOf(ctx context.Context, v SourceVolume) (string, error) { return delta.RootOf(ctx, v, proof) }

// RootOfFile is RootOf for a path.
func RootOfFile(ctx context.Context, path string) (string, error) {
	v, err := OpenVolume(path)
	if err != nil {
		return "", err
	}
	root, err := RootOf(ctx, v)
	if err != nil {
		return "", errors.Join(fmt.Errorf("root of %s: %w", path, err), v.Close())
	}
	return root, v.Close()
}
