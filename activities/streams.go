package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"lifeboat/replication"
)

// Streams is what an engine keeps: streams and their recovery points, with the meaning
// that the methods of [replication.Engine] have. The agentless engine keeps them, too.
type Streams interface {
	Status(stream string) (replication.Status, error)
	Wait(ctx context.Context, stream string, afterVersion uint64) (replication.Status, error)
	Set(stream string, settings replication.Settings) error
	Pause(stream string) error
	Resume(stream string) error
	StopSource(ctx context.Context, stream string) error
	StopTarget(ctx context.Context, stream string, epoch int64) error
	ForgetTarget(ctx context.Context, stream string) error
	Mark(ctx context.Context, stream, requestID, label string) (replication.Point, error)
	Final(ctx context.Context, stream, requestID string) (replication.Point, error)

	Points(stream string) ([]replication.Point, error)
	UsePoint(stream, id string, inUse bool) error
	LockPoint(stream, id string, locked bool) error
	TestedPoint(stream, id string, at time.Time) error
	ConsumePoint(stream, id, token string) error
}

// streaming holds the activities that are the same for every engine. The engine
// copies with or without Temporal: they only tell it what to do and report what it does.
type streaming struct {
	streams Streams
	// beatEach is how often waiting activities heartbeat; 0: see beatEvery.
	beatEach time.Duration
	// record sends one heartbeat; nil = through the client of the worker.
	record func(ctx, activity context.Context, details FollowDetails) error
}

// recordByClient sends a heartbeat on a context of its own, beside those of the SDK,
// of which a single lost one would end the activity.
func recordByClient(ctx, running context.Context, details FollowDetails) error {
	return activity.GetClient(running).RecordActivityHeartbeat(ctx, activity.GetInfo(running).TaskToken, details)
}

// Follow returns at the next notable change after a version, or after in.For. It
// heartbeats live progress on its own context, so that one heartbeat that does not
// get through never ends it (the SDK would cancel). A cancel detaches: the stream
// goes on.
func (h *streaming) Follow(ctx context.Context, in FollowInput) (StreamStatus, error) {
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(in.For, time.Second))
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go h.beat(ctx, in.Stream, cancel, done)
	status, err := h.streams.Wait(wait, in.Stream, in.After)
	switch {
	case err == nil:
		return status, nil
	case isCancelled(ctx):
		return StreamStatus{}, context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		status, err = h.streams.Status(in.Stream)
	}
	return status, Err(err)
}

// isCancelled tells a cancel by the workflow from a heartbeat that did not get through.
func isCancelled(ctx context.Context) bool {
	var canceled *temporal.CanceledError
	return errors.As(context.Cause(ctx), &canceled)
}

// beat heartbeats the stream's progress until done; when the workflow has cancelled
// or another attempt has taken over, it calls detach.
func (h *streaming) beat(ctx context.Context, stream string, detach func(), done <-chan struct{}) {
	record := h.record
	if record == nil {
		record = recordByClient
	}
	ticker := time.NewTicker(h.beatEvery(ctx))
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-activity.GetWorkerStopChannel(ctx):
			detach()
			return
		case <-ticker.C:
		}
		status, err := h.streams.Status(stream)
		if err != nil {
			continue // Wait reports the same error
		}
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		err = record(own, ctx, FollowDetails{Status: status})
		cancel()
		if superseded(err) {
			detach()
			return
		}
	}
}

// beatEvery is a third of the silence after which the server gives an activity up, but
// between 1 s and 5 s: each heartbeat is a write to Temporal's database.
func (h *streaming) beatEvery(ctx context.Context) time.Duration {
	if h.beatEach > 0 {
		return h.beatEach
	}
	return min(max(activity.GetInfo(ctx).HeartbeatTimeout/3, time.Second), 5*time.Second)
}

// SetStream changes interval, bandwidth or automatic resume of a running stream.
func (h *streaming) SetStream(_ context.Context, in SetStreamInput) error {
	return Err(h.streams.Set(in.Stream, engineSettings(in.Settings)))
}

// PauseStream holds a stream until ResumeStream, also over a restart of the agent.
func (h *streaming) PauseStream(_ context.Context, in StreamInput) error {
	return Err(h.streams.Pause(in.Stream))
}

// ResumeStream lets a paused or interrupted stream go on.
func (h *streaming) ResumeStream(_ context.Context, in StreamInput) error {
	return Err(h.streams.Resume(in.Stream))
}

// StopSource ends sending and forgets the stream; no such stream is fine.
func (h *streaming) StopSource(ctx context.Context, in StreamInput) error {
	return ignoreUnknown(h.streams.StopSource(ctx, in.Stream))
}

// StopTarget refuses senders from now on; no such stream is fine.
func (h *streaming) StopTarget(ctx context.Context, in StreamInput) error {
	return ignoreUnknown(h.streams.StopTarget(ctx, in.Stream, in.Epoch))
}

// ForgetTarget drops state and catalogue of a stream; no such stream is fine.
func (h *streaming) ForgetTarget(ctx context.Context, in StreamInput) error {
	return ignoreUnknown(h.streams.ForgetTarget(ctx, in.Stream))
}

func ignoreUnknown(err error) error {
	if errors.Is(err, replication.ErrUnknownStream) {
		return nil
	}
	return Err(err)
}

// MarkPoint makes a point now, or the last one (Final); idempotent by request.
func (h *streaming) MarkPoint(ctx context.Context, in MarkPointInput) (Point, error) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go h.beat(ctx, in.Stream, cancel, done)
	mark := h.streams.Mark
	if in.Final {
		mark = func(ctx context.Context, stream, request, _ string) (replication.Point, error) {
			return h.streams.Final(ctx, stream, request)
		}
	}
	point, err := mark(work, in.Stream, in.RequestID, in.Label)
	if err != nil && isCancelled(ctx) {
		return Point{}, context.Cause(ctx)
	}
	return point, Err(err)
}
