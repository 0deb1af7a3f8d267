package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

func compareStrings(a, b string) int { return strings.Compare(a, b) }

func entryOf(entries []*pointEntry, id string) *pointEntry {
	for _, e := range entries {
		if e.Point.ID == id {
			return e
		}
	}
	return nil
}

func entryOfRequest(entries []*pointEntry, request string) *pointEntry {
	for _, e := range entries {
		if e.State == pointMade && slices.Contains(e.Requests, request) {
			return e
		}
	}
	return nil
}

// Points lists the points of a stream that this engine receives, newest first.
func (e *Engine) Points(stream string) ([]Point, error) {
	if _, err := e.target(stream); err != nil {
		return nil, err
	}
	entries, err := e.store.points(stream)
	if err != nil {
		return nil, err
	}
	points := make([]Point, 0, len(entries))
	for _, entry := range entries {
		if entry.State == pointMade {
			points = append(points, entry.Point)
		}
	}
	return points, nil
}

// Point gives one point of a stream that this engine receives.
func (e *Engine) Point(stream, id string) (Point, error) {
	points, err := e.Points(stream)
	if err != nil {
		return Point{}, err
	}
	for _, p := range points {
		if p.ID == id {
			return p, nil
		}
	}
	return Point{}, unknownPoint(stream, id)
}

func unknownPoint(stream, id string) error {
	return fmt.Errorf("%w: stream %s has no point %s; list the points for those that are kept", ErrUnknownPoint, stream, id)
}

// withPoint looks a point up while nobody else changes points; nil if there is none.
func (e *Engine) withPoint(stream, id string, do func(*targetStream, *pointEntry) error) error {
	t, err := e.target(stream)
	if err != nil {
		return err
	}
	t.points.Lock()
	defer t.points.Unlock()
	entries, err := e.store.points(stream)
	if err != nil {
		return err
	}
	return do(t, entryOf(entries, id))
}

// changePoint changes one point durably.
func (e *Engine) changePoint(stream, id string, change func(*pointEntry) error) error {
	return e.withPoint(stream, id, func(_ *targetStream, entry *pointEntry) error {
		if entry == nil || entry.State != pointMade {
			return unknownPoint(stream, id)
		}
		if err := change(entry); err != nil {
			return err
		}
		return e.store.putPoints(stream, entry)
	})
}

// LockPoint spares a point from retention, or no longer.
func (e *Engine) LockPoint(stream, id string, locked bool) error {
	return e.changePoint(stream, id, func(p *pointEntry) error { p.Point.Locked = locked; return nil })
}

// UsePoint says that an operation uses a point, or no longer; it stays meanwhile.
func (e *Engine) UsePoint(stream, id string, inUse bool) error {
	return e.changePoint(stream, id, func(p *pointEntry) error { p.Point.InUse = inUse; return nil })
}

// TestedPoint notes when a drill proved a point.
func (e *Engine) TestedPoint(stream, id string, at time.Time) error {
	return e.changePoint(stream, id, func(p *pointEntry) error { p.Point.TestedAt = &at; return nil })
}

// ConsumePoint uses up the point current-time. It can be done once; with the same
// token again it is fine, with another one it is ErrConsumed.
func (e *Engine) ConsumePoint(stream, id, token string) error {
	return e.changePoint(stream, id, func(p *pointEntry) error {
		if p.Point.Kind != PointCurrentTime {
			return fmt.Errorf("%w: point %s of stream %s is %s; only current-time is consumed", ErrInvalidSpec, id, stream, p.Point.Kind)
		}
		if p.Point.Consumed && p.Token != token {
			return fmt.Errorf("%w: point %s of stream %s; choose an earlier point", ErrConsumed, id, stream)
		}
		p.Point.Consumed, p.Token = true, token
		return nil
	})
}

// DeletePoint removes a point and its snapshots. Locked points and points in use
// are refused; one that is gone is fine.
func (e *Engine) DeletePoint(ctx context.Context, stream, id string) error {
	return e.withPoint(stream, id, func(t *targetStream, entry *pointEntry) error {
		if entry == nil {
			return nil
		}
		if entry.State == pointMade && (entry.Point.Locked || entry.Point.InUse) {
			return fmt.Errorf("%w: point %s of stream %s is locked or in use; unlock it or wait for the operation", ErrPointInUse, id, stream)
		}
		return t.removePoint(ctx, entry)
	})
}

// PrunePoints applies the retention now.
func (e *Engine) PrunePoints(ctx context.Context, stream string) error {
	t, err := e.target(stream)
	if err != nil {
		return err
	}
	t.points.Lock()
	defer t.points.Unlock()
	return t.prune(ctx)
}
