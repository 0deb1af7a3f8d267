package agentless

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lifeboat/replication"
)

// Points lists the points of a stream, newest first.
func (e *Engine) Points(name string) ([]replication.Point, error) {
	s, err := e.stream(name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := e.ask()
	defer cancel()
	st, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	points := make([]replication.Point, 0, len(st.Points))
	for _, p := range st.Points {
		point := p.Point
		point.Disks = slices.Clone(point.Disks)
		points = append(points, point)
	}
	return points, nil
}

// Point gives one point of a stream.
func (e *Engine) Point(name, id string) (replication.Point, error) {
	points, err := e.Points(name)
	if err != nil {
		return replication.Point{}, err
	}
	for _, p := range points {
		if p.ID == id {
			return p, nil
		}
	}
	return replication.Point{}, unknownPoint(name, id)
}

func unknownPoint(name, id string) error {
	return fmt.Errorf("%w: stream %s has no point %s; list the points for those that are kept", replication.ErrUnknownPoint, name, id)
}

// changePoint changes one point durably.
func (e *Engine) changePoint(name, id string, change func(*entry) error) error {
	s, err := e.stream(name)
	if err != nil {
		return err
	}
	ctx, cancel := e.ask()
	defer cancel()
	_, err = s.known(ctx, func(st *state) error {
		p := st.point(id)
		if p == nil {
			return unknownPoint(name, id)
		}
		return change(p)
	})
	return err
}

// LockPoint spares a point from retention, or no longer.
func (e *Engine) LockPoint(name, id string, locked bool) error {
	return e.changePoint(name, id, func(p *entry) error { p.Point.Locked = locked; return nil })
}

// UsePoint says that an operation uses a point, or no longer; it stays meanwhile.
func (e *Engine) UsePoint(name, id string, inUse bool) error {
	return e.changePoint(name, id, func(p *entry) error { p.Point.InUse = inUse; return nil })
}

// TestedPoint notes when a drill proved a point.
func (e *Engine) TestedPoint(name, id string, at time.Time) error {
	return e.changePoint(name, id, func(p *entry) error { p.Point.TestedAt = &at; return nil })
}

// ConsumePoint uses up the point current-time. It can be done once; with the same token
// again it is fine, with another one it is [replication.ErrConsumed].
func (e *Engine) ConsumePoint(name, id, token string) error {
	return e.changePoint(name, id, func(p *entry) error {
		if p.Point.Kind != replication.PointCurrentTime {
			return fmt.Errorf("%w: point %s of stream %s is %s; only current-time is consumed", replication.ErrInvalidSpec, id, name, p.Point.Kind)
		}
		if p.Point.Consumed && p.Token != token {
			return fmt.Errorf("%w: point %s of stream %s; choose an earlier point", replication.ErrConsumed, id, name)
		}
		p.Point.Consumed, p.Token = true, token
		return nil
	})
}

// DeletePoint removes a point and its snapshots. Locked points and points in use are
// refused; one that is gone is fine.
func (e *Engine) DeletePoint(ctx context.Context, name, id string) error {
	s, err := e.stream(name)
	if err != nil {
		return err
	}
	st, err := s.known(ctx, func(st *state) error {
		p := st.point(id)
		if p == nil {
			return nil
		}
		if p.Point.Locked || p.Point.InUse {
			return fmt.Errorf("%w: point %s of stream %s is locked or in use; unlock it or wait for the operation", replication.ErrPointInUse, id, name)
		}
		st.doom(st.Spec.Target, p.Snaps, id)
		st.Points = slices.DeleteFunc(st.Points, func(p entry) bool { return p.Point.ID == id })
		return nil
	})
	if err != nil {
		return err
	}
	return s.remove(ctx, st, func(d doomed) bool { return d.Point == id && samePlace(d.Site, st.Spec.Target) })
}

// PrunePoints applies the retention now.
func (e *Engine) PrunePoints(ctx context.Context, name string) error {
	s, err := e.stream(name)
	if err != nil {
		return err
	}
	st, err := s.known(ctx, func(st *state) error { st.prune(e.now()); return nil })
	if err != nil {
		return err
	}
	return s.remove(ctx, st, func(d doomed) bool { return samePlace(d.Site, st.Spec.Target) && d.Snaps[0].ID != "" })
}
