package agentless

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"lifeboat/activities/cloud"
	"lifeboat/replication"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// pass makes one point: cut, copies, catalogue. It goes on with one that was begun.
func (s *stream) pass(ctx context.Context, st *state) error {
	err := s.own(ctx, func(st *state) error {
		if st.Cut == nil {
			st.announce(s.engine.now())
		}
		return nil
	})
	if err != nil {
		return err
	}
	st = s.cached()
	if !st.Cut.Made {
		if err := s.makeCut(ctx, st); err != nil {
			return s.spoiled(ctx, st, fmt.Errorf("cut at site %s: %w", st.Cut.Site.Name, err))
		}
		st = s.cached()
	}
	if err := s.makeCopies(ctx, st); err != nil {
		return s.spoiled(ctx, st, fmt.Errorf("copy from site %s to site %s: %w", st.Cut.Site.Name, st.Spec.Target.Name, err))
	}
	return s.enter(ctx, st)
}

// spoiled gives a pass up that cannot be completed; the next one begins with another cut.
func (s *stream) spoiled(ctx context.Context, st *state, err error) error {
	if !errors.Is(err, ErrSpoiled) {
		return err
	}
	id := st.Cut.Point.ID
	return errors.Join(err, s.own(ctx, func(st *state) error {
		if st.Cut != nil && st.Cut.Point.ID == id {
			st.abandon(s.engine.now())
		}
		return nil
	}))
}

// makeCut makes the snapshots of all disks at one instant.
func (s *stream) makeCut(ctx context.Context, st *state) error {
	c := st.Cut
	made, err := s.engine.config.Maker.Cut(ctx, CutRequest{For: c.For, Site: c.Site, Disks: c.Disks, Snaps: c.Snaps, Point: len(c.Copies) == 0})
	if err != nil {
		return err
	}
	if len(made) != len(c.Snaps) {
		return fmt.Errorf("%d snapshots of %d disks were made: %w", len(made), len(c.Snaps), ErrSpoiled)
	}
	return s.own(ctx, func(st *state) error {
		if st.Cut == nil || st.Cut.Point.ID != c.Point.ID || st.Cut.Made {
			return nil
		}
		c := st.Cut
		c.Made, c.Point.Time, c.Point.Disks = true, made[0].Time, nil
		for i, snap := range made {
			c.Snaps[i].ID = snap.ID
			// One instant: where a provider's clocks differ, the point never claims more than it has.
			if snap.Time.Before(c.Point.Time) {
				c.Point.Time = snap.Time
			}
			c.Point.Disks = append(c.Point.Disks, replication.PointDisk{Name: c.Disks[i].Name, Bytes: snap.Bytes})
		}
		return nil
	})
}

// makeCopies copies the snapshots of the cut to the target, all at once.
func (s *stream) makeCopies(ctx context.Context, st *state) error {
	c := st.Cut
	if c == nil || !c.Made || len(c.Copies) == 0 {
		return nil
	}
	s.begun(c)
	group, copying := errgroup.WithContext(ctx)
	ids := make([]string, len(c.Copies))
	for i := range c.Copies {
		group.Go(func() (err error) {
			ids[i], err = s.makeCopy(copying, st, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.own(ctx, func(st *state) error {
		if st.Cut == nil || st.Cut.Point.ID != c.Point.ID {
			return nil
		}
		for i, id := range ids {
			st.Cut.Copies[i].ID = id
		}
		return nil
	})
}

// makeCopy copies the snapshot of one disk.
func (s *stream) makeCopy(ctx context.Context, st *state, i int) (string, error) {
	select {
	case s.engine.copies <- struct{}{}:
		defer func() { <-s.engine.copies }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	c := st.Cut
	r := CopyRequest{For: c.For, From: c.Site, To: st.Spec.Target, Snapshot: c.Snaps[i].ID, Snap: c.Copies[i], Bytes: c.Point.Disks[i].Bytes,
		Key: st.Spec.Key, Blocks: st.Spec.Transfer == TransferBlocks}
	if r.Blocks {
		r.State = filepath.Join(s.dir(), filepath.Base(documentName(c.Disks[i].Name)))
		r.FromBase, r.Base = st.baseOf(c.Disks[i])
	}
	snap, err := s.engine.config.Maker.Copy(ctx, r, func(done, total int64) { s.progressed(i, done, total) })
	if err != nil {
		return "", fmt.Errorf("disk %s: %w", c.Disks[i].Name, err)
	}
	return snap.ID, nil
}

// baseOf gives the newest earlier pair of a disk: its cut, and the copy of it.
func (st *state) baseOf(d Disk) (from, to string) {
	if st.Base == nil || st.Base.Site != st.Cut.Site {
		return "", ""
	}
	i := slices.Index(st.Base.Disks, d)
	if i < 0 {
		return "", ""
	}
	return st.Base.Snaps[i].ID, st.Base.Copies[i].ID
}

// enter puts the point into the catalogue, and its requests have their answer.
func (s *stream) enter(ctx context.Context, st *state) error {
	c := st.Cut
	err := s.own(ctx, func(st *state) error {
		if st.Cut != nil && st.Cut.Point.ID == c.Point.ID && st.Cut.ready() {
			st.complete(s.engine.now())
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.ended()
	s.show()
	s.answered()
	return nil
}

// ready tells whether all that a point needs is there.
func (c *cut) ready() bool {
	return c.Made && !slices.ContainsFunc(c.Copies, func(s Snap) bool { return s.ID == "" })
}

// sweep deletes snapshots that are not needed any more. What cannot be deleted now is
// tried again after the next pass. Of a stream that was stopped, the target is asked alone.
func (s *stream) sweep(ctx context.Context, st *state) {
	if len(st.Doomed) == 0 || st.Owner != s.engine.owner {
		return
	}
	err := s.remove(ctx, st, func(d doomed) bool {
		return !st.Stopped || samePlace(d.Site, st.Spec.Target)
	})
	if err != nil && ctx.Err() == nil {
		s.engine.log.Warn("snapshots not removed yet", zap.String("stream", s.name), zap.Error(err))
	}
}

// remove deletes the doomed snapshots that are wanted, and forgets those that are gone.
func (s *stream) remove(ctx context.Context, st *state, wanted func(doomed) bool) error {
	gone := map[string]bool{}
	var errs []error
	for _, d := range st.Doomed {
		if !wanted(d) {
			continue
		}
		err := s.engine.config.Maker.Remove(ctx, Removal{Site: d.Site, Snaps: d.Snaps, Since: d.Since})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove snapshots of point %s at site %s: %w", d.Point, d.Site.Name, err))
			continue
		}
		gone[d.Snaps[0].Token] = true
	}
	if len(gone) > 0 {
		errs = append(errs, s.change(ctx, func(st *state) error {
			st.Doomed = slices.DeleteFunc(st.Doomed, func(d doomed) bool { return gone[d.Snaps[0].Token] })
			return nil
		}))
	}
	return errors.Join(errs...)
}

// at selects the doomed snapshots of a site.
func at(site cloud.Site) func(doomed) bool {
	return func(d doomed) bool { return samePlace(d.Site, site) }
}
