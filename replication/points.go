package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat/replication/delta"

	"go.etcd.io/bbolt"
	"go.uber.org/zap"
)

// PointRequest asks a PointMaker for snapshots of replica disks.
type PointRequest struct {
	ID     string            `json:"id"`
	Stream string            `json:"stream"`
	Epoch  int64             `json:"epoch"`
	Time   time.Time         `json:"time"`
	Disks  []Disk            `json:"disks"`
	Labels map[string]string `json:"labels,omitempty"`
}

// PointMaker takes and removes the snapshots of points, on the target.
type PointMaker interface {
	// Make takes a snapshot of each disk and gives their ids by disk name. It is
	// called again with the same ID after a crash and must then give the same
	// snapshots.
	Make(ctx context.Context, r PointRequest) (snapshots map[string]string, err error)
	// Remove deletes the snapshots of a point; ones that are gone are fine.
	Remove(ctx context.Context, p Point) error
}

// pointEntry is a point in the catalogue.
type pointEntry struct {
	Point    Point    `json:"point"`
	State    string   `json:"state"`
	Requests []string `json:"requests,omitempty"`
	Token    string   `json:"token,omitempty"` // of the one use of current-time
}

// A point is announced before its snapshots are taken, and leaves the list
// before they are removed, so that a crash in between is repaired.
const (
	pointMaking   = "making"
	pointMade     = "made"
	pointRemoving = "removing"
)

// putPoints stores entries of a stream in one transaction.
func (s *store) putPoints(stream string, entries ...*pointEntry) error {
	return s.update(func(tx *bbolt.Tx) error {
		b, err := tx.Bucket(bucketPoints).CreateBucketIfNotExists([]byte(stream))
		if err != nil {
			return err
		}
		for _, e := range entries {
			raw, err := seal(e)
			if err != nil {
				return err
			}
			if err := b.Put([]byte(e.Point.ID), raw); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) removePoint(stream, id string) error {
	return s.update(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucketPoints).Bucket([]byte(stream)); b != nil {
			return b.Delete([]byte(id))
		}
		return nil
	})
}

// forgetTarget removes a stream and its points.
func (s *store) forgetTarget(stream string) error {
	return s.update(func(tx *bbolt.Tx) error {
		err := tx.Bucket(bucketPoints).DeleteBucket([]byte(stream))
		if err != nil && tx.Bucket(bucketPoints).Bucket([]byte(stream)) != nil {
			return err
		}
		return tx.Bucket(bucketTargets).Delete([]byte(stream))
	})
}

// points gives the entries of a stream, newest first.
func (s *store) points(stream string) (entries []*pointEntry, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketPoints).Bucket([]byte(stream))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, raw []byte) error {
			e := &pointEntry{}
			if err := unseal(s.path+": points/"+stream+"/"+string(k), raw, e); err != nil {
				return err
			}
			entries = append(entries, e)
			return nil
		})
	})
	slices.SortFunc(entries, func(a, b *pointEntry) int {
		if c := b.Point.Time.Compare(a.Point.Time); c != 0 {
			return c
		}
		return compareStrings(b.Point.ID, a.Point.ID)
	})
	return entries, err
}

// makePoint answers the end of a verified pass: with the point that it makes, or
// with those that its requests have already.
func (t *targetStream) makePoint(ctx context.Context, m pointMessage, roots []string) (pointDone, error) {
	t.points.Lock()
	defer t.points.Unlock()
	entries, err := t.engine.store.points(t.name)
	if err != nil {
		return pointDone{}, err
	}
	done := pointDone{Requests: map[string]Point{}}
	var open []string
	for _, request := range m.Requests {
		if e := entryOfRequest(entries, request); e != nil {
			done.Requests[request] = e.Point
		} else {
			open = append(open, request)
		}
	}
	entry := entryOf(entries, m.ID)
	if entry == nil {
		if p := answeredBefore(m, done.Requests, open); p != nil {
			for _, request := range open {
				done.Requests[request] = *p
			}
			done.Point = p
			return done, nil
		}
	}
	if entry == nil {
		entry = t.announce(m, roots, open)
	}
	if entry.State != pointMade {
		if err := t.completePoint(ctx, entry); err != nil {
			return done, err
		}
	}
	for _, request := range open {
		done.Requests[request] = entry.Point
	}
	done.Point = &entry.Point
	return done, t.prune(ctx)
}

// answeredBefore recognises the repetition of a pass whose answer was lost: all its
// requests have points, or its current-time, of which there is one only, exists.
func answeredBefore(m pointMessage, have map[string]Point, open []string) *Point {
	for _, request := range m.Requests {
		if p, ok := have[request]; ok && (len(open) == 0 || p.Kind == PointCurrentTime) {
			return &p
		}
	}
	return nil
}

func (t *targetStream) announce(m pointMessage, roots, requests []string) *pointEntry {
	spec := t.snapshot().Spec
	p := Point{
		ID: m.ID, Stream: t.name, Epoch: spec.Epoch, Time: m.Time, Label: m.Label, Kind: m.Kind,
		Consistency: "crash", Verified: true, CutMethod: m.CutMethod, Pause: m.Pause,
	}
	for i, d := range spec.Disks {
		p.Disks = append(p.Disks, PointDisk{Name: d.Name, Bytes: d.Size, Root: roots[i]})
	}
	return &pointEntry{Point: p, State: pointMaking, Requests: requests}
}

// completePoint takes the snapshots of an announced point.
func (t *targetStream) completePoint(ctx context.Context, entry *pointEntry) error {
	if err := t.engine.store.putPoints(t.name, entry); err != nil {
		return err
	}
	if maker := t.engine.config.Points; maker != nil {
		spec := t.snapshot().Spec
		snapshots, err := maker.Make(ctx, PointRequest{
			ID: entry.Point.ID, Stream: t.name, Epoch: spec.Epoch, Time: entry.Point.Time, Disks: spec.Disks, Labels: spec.Labels,
		})
		if err != nil {
			return spaceError(fmt.Sprintf("snapshots of point %s of stream %s", entry.Point.ID, t.name), err)
		}
		for i := range entry.Point.Disks {
			entry.Point.Disks[i].Snapshot = snapshots[entry.Point.Disks[i].Name]
		}
	}
	entry.State = pointMade
	return t.engine.store.putPoints(t.name, entry)
}

// repairPoints ends what a crash left half done, before anything is written to the
// replicas: a point that was announced is completed when the replicas still are in
// its state, else what was made of it is removed.
func (t *targetStream) repairPoints(ctx context.Context, replicas []delta.Replica) error {
	t.points.Lock()
	defer t.points.Unlock()
	entries, err := t.engine.store.points(t.name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		whole := false
		if e.State == pointMaking {
			whole, err = holds(replicas, e.Point)
		}
		switch {
		case err != nil:
		case whole:
			err = t.completePoint(ctx, e)
		case e.State != pointMade:
			err = t.removePoint(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unfinished tells whether a point is half made or half removed.
func (t *targetStream) unfinished() (bool, error) {
	entries, err := t.engine.store.points(t.name)
	for _, e := range entries {
		if e.State != pointMade {
			return true, err
		}
	}
	return false, err
}

// removePoint deletes snapshots and then the entry.
func (t *targetStream) removePoint(ctx context.Context, e *pointEntry) error {
	e.State = pointRemoving
	if err := t.engine.store.putPoints(t.name, e); err != nil {
		return err
	}
	if maker := t.engine.config.Points; maker != nil {
		if err := maker.Remove(ctx, e.Point); err != nil {
			return fmt.Errorf("remove point %s of stream %s: %w", e.Point.ID, t.name, err)
		}
	}
	return t.engine.store.removePoint(t.name, e.Point.ID)
}

// prune evicts points beyond the retention. Locked ones, ones in use and the newest
// stay. A point that cannot be removed now is tried again the next time.
func (t *targetStream) prune(ctx context.Context) error {
	entries, err := t.engine.store.points(t.name)
	if err != nil {
		return err
	}
	keep, rank := t.snapshot().Spec.Keep, 0
	for _, e := range entries {
		evict := e.State == pointRemoving
		if e.State == pointMade {
			old := keep.Within > 0 && t.engine.now().Sub(e.Point.Time) > keep.Within
			evict = rank > 0 && (old || keep.Count > 0 && rank >= keep.Count) && !e.Point.Locked && !e.Point.InUse
			rank++
		}
		if !evict {
			continue
		}
		if err := t.removePoint(ctx, e); err != nil {
			if ctx.Err() != nil || errors.Is(err, ErrDamagedState) {
				return err
			}
			// It is out of the list; the next prune deletes its snapshots.
			t.engine.log.Warn("point not removed yet", zap.String("stream", t.name), zap.String("point", e.Point.ID), zap.Error(err))
		}
	}
	return nil
}
