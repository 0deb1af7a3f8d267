package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"

	"lifeboat/replication"
)

// Selectors of recovery points beside an identifier or a time.
const (
	SelectLatest       = "latest"
	SelectCurrentTime  = "current-time"
	SelectNewestTested = "newest-tested"
)

// ListPoints lists the recovery points of a stream, newest first.
func (h *streaming) ListPoints(_ context.Context, in StreamInput) ([]Point, error) {
	points, err := h.streams.Points(in.Stream)
	return points, Err(err)
}

// SelectPoint resolves a selector and marks the point as in use. Current-time is
// consumed by the operation: another one gets Conflict.
func (h *streaming) SelectPoint(_ context.Context, in SelectPointInput) (Point, error) {
	all, err := h.streams.Points(in.Stream)
	if err != nil {
		return Point{}, Err(err)
	}
	candidates := choose(all, in)
	for i, point := range candidates {
		if point.Kind == replication.PointCurrentTime {
			err := h.streams.ConsumePoint(in.Stream, point.ID, in.Operation)
			if errors.Is(err, replication.ErrConsumed) && i+1 < len(candidates) && in.Selector != SelectCurrentTime {
				continue // used up by another operation: the next one that fits
			}
			if err != nil {
				return Point{}, Err(err)
			}
		}
		return point, Err(h.streams.UsePoint(in.Stream, point.ID, true))
	}
	return Point{}, temporal.NewApplicationErrorWithOptions(noPoint(all, in), NotFound, temporal.ApplicationErrorOptions{NonRetryable: true})
}

// choose finds the points that a selector may mean, the best first; points are newest first.
func choose(points []Point, in SelectPointInput) []Point {
	var fit []Point
	at, err := time.Parse(time.RFC3339Nano, in.Selector)
	isTime := err == nil
	for _, p := range points {
		if !p.Verified || in.Before != nil && !p.Time.Before(*in.Before) {
			continue
		}
		switch {
		case p.ID == in.Selector,
			in.Selector == SelectLatest,
			in.Selector == SelectCurrentTime && p.Kind == replication.PointCurrentTime,
			in.Selector == SelectNewestTested && p.TestedAt != nil,
			isTime && !p.Time.After(at):
			fit = append(fit, p)
		}
	}
	return fit
}

// noPoint says what there is instead.
func noPoint(points []Point, in SelectPointInput) string {
	var have []string
	for _, p := range points {
		if len(have) == 5 {
			have = append(have, fmt.Sprintf("and %d more", len(points)-5))
			break
		}
		have = append(have, p.ID+" ("+p.Time.UTC().Format(time.RFC3339)+")")
	}
	what := fmt.Sprintf("no recovery point of %s matches %q", in.Stream, in.Selector)
	if in.Before != nil {
		what += " before " + in.Before.UTC().Format(time.RFC3339)
	}
	if len(have) == 0 {
		return what + ": there is none yet"
	}
	return what + "; there are " + strings.Join(have, ", ")
}

// ReleasePoint lets retention have a point again; no such point is fine.
func (h *streaming) ReleasePoint(_ context.Context, in PointInput) error {
	return ignoreNoPoint(h.streams.UsePoint(in.Stream, in.ID, false))
}

// LockPoint keeps a point from retention (On) or lets it go.
func (h *streaming) LockPoint(_ context.Context, in PointInput) error {
	return Err(h.streams.LockPoint(in.Stream, in.ID, in.On))
}

// TestedPoint notes that a drill from the point was green.
func (h *streaming) TestedPoint(_ context.Context, in PointInput) error {
	return ignoreNoPoint(h.streams.TestedPoint(in.Stream, in.ID, time.Now().UTC()))
}
