package agentless

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"lifeboat/replication"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// pass makes one point: cut, copies, catalogue. It goes on with one that was begun.
func (s *stream) pass(ctx context.Context) error {
	st, err := s.own(ctx, func(st *state) error {
		if st.Stopped || st.Finished {
			return errGivenUp
		}
		if st.Cut == nil {
			st.announce(s.engine.now())
		}
		st.Cut.Tries++ // a write before each attempt: an engine that has lost the stream learns it here
		return nil
	})
	if err != nil {
		return err
	}
	c := st.Cut
	if !c.Made {
		if st, err = s.makeCut(ctx, c); err != nil {
			return s.spoiled(ctx, c, fmt.Errorf("cut at site %s: %w", c.Site.Name, err))
		}
		c = st.Cut
	}
	if len(c.Copies) > 0 {
		if err := s.makeCopies(ctx, st); err != nil {
			return s.spoiled(ctx, c, fmt.Errorf("copy from site %s to site %s: %w", c.Site.Name, st.Spec.Target.Name, err))
		}
	}
	return s.enter(ctx, c)
}

// errGivenUp says that somebody else has ended the pass.
var errGivenUp = errors.New("the pass was given up meanwhile")

// ours is own for a step of a pass.
func (s *stream) ours(ctx context.Context, c *cut, step func(*state)) (*state, error) {
	return s.own(ctx, func(st *state) error {
		if st.Cut == nil || st.Cut.Point.ID != c.Point.ID {
			return errGivenUp
		}
		step(st)
		return nil
	})
}

// spoiled gives a pass up that cannot be completed; the next one begins with another cut.
func (s *stream) spoiled(ctx context.Context, c *cut, err error) error {
	if !errors.Is(err, ErrSpoiled) {
		return err
	}
	_, cerr := s.ours(ctx, c, func(st *state) { st.abandon(s.engine.now()) })
	return errors.Join(err, cerr)
}

// makeCut makes the snapshots of all disks at one instant.
func (s *stream) makeCut(ctx context.Context, c *cut) (*state, error) {
	made, err := s.engine.config.Maker.Cut(ctx, CutRequest{For: c.For, Site: c.Site, ServerID: c.ServerID, Disks: c.Disks, Snaps: c.Snaps, Point: len(c.Copies) == 0})
	if err != nil {
		return nil, err
	}
	if len(made) != len(c.Snaps) {
		return nil, fmt.Errorf("%d snapshots of %d disks were made: %w", len(made), len(c.Snaps), ErrSpoiled)
	}
	return s.ours(ctx, c, func(st *state) {
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
	})
}

// makeCopies copies the snapshots of the cut to the target, all at once.
func (s *stream) makeCopies(ctx context.Context, st *state) error {
	c := st.Cut
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
	_, err := s.ours(ctx, c, func(st *state) {
		for i, id := range ids {
			st.Cut.Copies[i].ID = id
		}
	})
	return err
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
func (s *stream) enter(ctx context.Context, c *cut) error {
	_, err := s.own(ctx, func(st *state) error {
		switch {
		case st.point(c.Point.ID) != nil: // by a write whose answer was lost
			return nil
		case st.Cut == nil || st.Cut.Point.ID != c.Point.ID || !st.Cut.ready():
			return errGivenUp
		}
		st.complete(s.engine.now())
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
// tried again later. Of a stream that StopTarget ended, the target is asked alone.
func (s *stream) sweep(ctx context.Context, st *state) {
	if len(st.Doomed) == 0 || st.Owner != s.engine.owner || time.Now().Before(s.sweepAt) {
		return
	}
	sweeping, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	err := s.remove(sweeping, st, func(d doomed) bool {
		return !st.Stopped || st.Leaving || samePlace(d.Site, st.Spec.Target)
	})
	if err != nil && ctx.Err() == nil {
		s.sweepAt = time.Now().Add(s.engine.config.RetryMax)
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
		_, err := s.change(ctx, func(st *state) error {
			st.Doomed = slices.DeleteFunc(st.Doomed, func(d doomed) bool { return gone[d.Snaps[0].Token] })
			return nil
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
