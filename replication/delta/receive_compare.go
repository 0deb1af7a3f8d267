package delta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

// openCompared opens the volume for a session that only reads. What the state says of the
// volume plays no part: all of it is read.
func (r *Receiver) openCompared(d DiskInfo, proof block.Proof) (a Admission, err error) {
	v, err := volume.Open(r.c.Path)
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Close())
		}
	}()
	id, err := volume.Identify(r.c.Path)
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	if d.Size > max(v.Size(), 1) {
		return a, fmt.Errorf("%w: %d bytes are to be compared, %s has %d; it got shorter: compare again", ErrInvalidSpec, d.Size, r.c.Path, v.Size())
	}
	dir, err := os.MkdirTemp("", "lifeboat-compare-")
	if err != nil {
		return a, SpaceError("directory of the comparison", err)
	}
	part := readOnly{v, d.Size}
	x, _, err := index.Open(filepath.Join(dir, "compared"), index.Options{Size: d.Size, Proof: proof,
		Prime: func(x *index.Index) error { return Distrust(x, part) }})
	if err != nil {
		return a, errors.Join(SpaceError("index of the comparison", err), os.RemoveAll(dir))
	}
	return Admission{
		Replicas: []Replica{{Name: d.Name, Volume: part, Index: x}},
		Dir:      dir,
		Body:     compareWelcome{Size: v.Size(), Device: id.Block},
		Finish: func(context.Context, []string, json.RawMessage) (any, error) {
			return nil, fmt.Errorf("%w: a comparison has nothing to finish", ErrProtocol)
		},
		Release: func(error) error {
			defer r.letGo()
			return errors.Join(x.Abandon(), v.Close(), os.RemoveAll(dir))
		},
	}, nil
}

// readOnly is the begin of a source in the place of a target: all that would change it fails.
type readOnly struct {
	volume.Source
	size int64
}

func (v readOnly) Size() int64 { return v.size }

func (v readOnly) NextData(off int64) (start, end int64, err error) {
	start, end, err = v.Source.NextData(off)
	if err == nil && start >= v.size {
		err = io.EOF
	}
	return start, min(end, v.size), err
}

func (v readOnly) refuse() error {
	return fmt.Errorf("%w: the sender writes in a session that only compares", ErrProtocol)
}

func (v readOnly) WriteAt([]byte, int64) (int, error) { return 0, v.refuse() }
func (v readOnly) Zero(int64, int64) error            { return v.refuse() }

// Sync has nothing to do, as nothing is ever written.
func (v readOnly) Sync() error { return nil }
