package replication

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lifeboat/replication/delta"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

// createReplica makes a sparse file of the right size where there is nothing, and
// lets a smaller file grow.
func createReplica(d Disk) error {
	st, err := os.Stat(d.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Mode().IsRegular() && st.Size() <= d.Size {
		return delta.PrepareTarget(d.Path, d.Size)
	}
	if err != nil {
		return err
	}
	v, err := OpenVolume(d.Path)
	if err != nil {
		return err
	}
	size := v.Size()
	if err := v.Close(); err != nil {
		return err
	}
	if size < d.Size || st.Mode().IsRegular() {
		return fmt.Errorf("%w: %s has %d bytes, the source disk has %d; give a disk of that size", ErrInvalidSpec, d.Path, size, d.Size)
	}
	return nil
}

// indexPrefix is where the index of a replica is.
func (t *targetStream) indexPrefix(d Disk) string { return filepath.Join(t.dir, fileName(d.Name)) }

// forgetIndex removes the index of a disk; the next session starts a new one.
func (t *targetStream) forgetIndex(d Disk) error {
	if err := errors.Join(index.Remove(t.indexPrefix(d)), syncDir(t.dir)); err != nil {
		return fmt.Errorf("stream %s: forget index of disk %s: %w", t.name, d.Name, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openReplicas opens all disks of a stream and what is known about them. Pieces that may have been
// written when the process died are unknown.
func (t *targetStream) openReplicas() (replicas []delta.Replica, err error) {
	state := t.snapshot()
	for _, d := range state.Spec.Disks {
		r, err := t.openReplica(d, state.Replicas[d.Name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("stream %s: disk %s: %w", t.name, d.Name, err), t.closeReplicas(replicas))
		}
		replicas = append(replicas, r)
	}
	if err := delta.Recover(t.dir, replicas); err != nil {
		return nil, errors.Join(fmt.Errorf("stream %s: %w", t.name, err), t.closeReplicas(replicas))
	}
	return replicas, nil
}

func (t *targetStream) openReplica(d Disk, known volume.Identity) (delta.Replica, error) {
	id, err := volume.Identify(d.Path)
	if err != nil {
		return delta.Replica{}, err
	}
	if !id.SameVolume(known) {
		return delta.Replica{}, fmt.Errorf("%w: %s is another disk than the one that was prepared; prepare the target anew", ErrTarget, d.Path)
	}
	v, err := t.engine.config.OpenTarget(d)
	if err != nil {
		return delta.Replica{}, err
	}
	if v.Size() < d.Size {
		err := fmt.Errorf("%w: %s has %d bytes, the source disk %d; prepare the target anew", ErrTarget, d.Path, v.Size(), d.Size)
		return delta.Replica{}, errors.Join(err, v.Close())
	}
	x, err := delta.OpenReplicaIndex(t.indexPrefix(d), d.Path, v, d.Size, proof)
	if err != nil {
		return delta.Replica{}, errors.Join(indexError("index of replica "+d.Path, err), v.Close())
	}
	return delta.Replica{Name: d.Name, Volume: v, Index: x}, nil
}

// closeReplicas makes what is known durable, with how the disks are now.
func (t *targetStream) closeReplicas(replicas []delta.Replica) error {
	var errs []error
	for i, r := range replicas {
		path := t.snapshot().Spec.Disks[i].Path
		errs = append(errs, r.Volume.Close(), delta.NoteReplica(r.Index, path), r.Index.Close())
	}
	return errors.Join(errs...)
}

// marks says how the replicas are now, and whether that is news.
func (t *targetStream) marks(s targetState) (marks map[string]volume.Identity, changed bool, err error) {
	marks = make(map[string]volume.Identity, len(s.Replicas))
	for _, d := range s.Spec.Disks {
		id, err := volume.Identify(d.Path)
		if err != nil {
			return nil, false, err
		}
		marks[d.Name] = id
		changed = changed || id != s.Replicas[d.Name]
	}
	return marks, changed, nil
}

// holds tells whether replicas are, as far as is known, in the state of a point.
func holds(replicas []delta.Replica, p Point) (bool, error) {
	if len(p.Disks) != len(replicas) {
		return false, nil
	}
	for i, r := range replicas {
		root, err := r.Index.Root()
		if err != nil || !root.Known() || proof.RootString(root) != p.Disks[i].Root {
			return false, err
		}
	}
	return true, nil
}

// repair finishes points without a sender, so that a point which the source made just
// before it was lost is there for a failover. The caller keeps senders away. What
// cannot be repaired now stays out of the list, and is tried again later.
func (t *targetStream) repair(ctx context.Context) error {
	if open, err := t.unfinished(); err == nil && !open {
		return nil
	}
	replicas, err := t.openReplicas()
	if err != nil {
		return err
	}
	return errors.Join(t.repairPoints(ctx, replicas), t.closeReplicas(replicas))
}
