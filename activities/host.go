package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"lifeboat/replication"
)

// Host is the work of an agent, next to its disks; queue host.<agent>. The engine
// copies with or without Temporal: these activities only tell it what to do and
// report what it does.
type Host struct {
	Engine *replication.Engine
	// Beat is how often waiting activities heartbeat; default: see beatEvery.
	Beat time.Duration
	// record sends one heartbeat; nil = through the client of the worker.
	record func(ctx, activity context.Context, details FollowDetails) error
}

// recordByClient sends a heartbeat on a context of its own, beside those of the SDK,
// of which a single lost one would end the activity.
func recordByClient(ctx, running context.Context, details FollowDetails) error {
	return activity.GetClient(running).RecordActivityHeartbeat(ctx, activity.GetInfo(running).TaskToken, details)
}

// Identity returns the public-key fingerprint of the agent.
func (h *Host) Identity(context.Context) (IdentityResult, error) {
	return IdentityResult{Fingerprint: string(h.Engine.Fingerprint())}, nil
}

// PrepareTarget lets the agent receive a stream; the same again is fine, a higher
// epoch supersedes, a lower one is StaleEpoch.
func (h *Host) PrepareTarget(ctx context.Context, in PrepareTargetInput) (PrepareTargetResult, error) {
	info, err := h.Engine.PrepareTarget(ctx, replication.TargetSpec{Stream: in.Stream, Epoch: in.Epoch, Disks: engineDisks(in.Disks),
		Peer: replication.Fingerprint(in.Peer), Keep: replication.Keep{Count: in.Keep, Within: in.Within}, Labels: labels(in.Scope, "", in.Disks)})
	if err != nil {
		return PrepareTargetResult{}, Err(err)
	}
	return PrepareTargetResult{Address: info.Address, Fingerprint: string(info.Fingerprint)}, nil
}

// StartSource lets the agent send a stream; durable before it returns.
func (h *Host) StartSource(ctx context.Context, in StartSourceInput) error {
	return Err(h.Engine.StartSource(ctx, replication.SourceSpec{Stream: in.Stream, Epoch: in.Epoch, Disks: engineDisks(in.Disks),
		TargetAddress: in.Target.Address, TargetFingerprint: replication.Fingerprint(in.Target.Fingerprint),
		Settings: engineSettings(in.Settings), Labels: labels(in.Scope, in.ServerID, nil)}))
}

func engineDisks(disks []DiskInfo) []replication.Disk {
	out := make([]replication.Disk, 0, len(disks))
	for _, d := range disks {
		out = append(out, replication.Disk{Name: d.Name, Path: d.Path, Size: d.Bytes})
	}
	return out
}

func engineSettings(s StreamSettings) replication.Settings {
	return replication.Settings{Interval: s.Interval, BytesPerSecond: s.BytesPerSecond, Calendar: s.Calendar, AutoResume: s.AutoResume}
}

// Follow returns at the next notable change after a version, or after in.For. It
// heartbeats live progress on its own context, so that one heartbeat that does not
// get through never ends it (the SDK would cancel). A cancel detaches: the stream
// goes on.
func (h *Host) Follow(ctx context.Context, in FollowInput) (StreamStatus, error) {
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(in.For, time.Second))
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go h.beat(ctx, in.Stream, cancel, done)
	status, err := h.Engine.Wait(wait, in.Stream, in.After)
	switch {
	case err == nil:
		return status, nil
	case isCancelled(ctx):
		return StreamStatus{}, context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		status, err = h.Engine.Status(in.Stream)
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
func (h *Host) beat(ctx context.Context, stream string, detach func(), done <-chan struct{}) {
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
		status, err := h.Engine.Status(stream)
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
func (h *Host) beatEvery(ctx context.Context) time.Duration {
	if h.Beat > 0 {
		return h.Beat
	}
	return min(max(activity.GetInfo(ctx).HeartbeatTimeout/3, time.Second), 5*time.Second)
}

// SetStream changes interval, bandwidth or automatic resume of a running stream.
func (h *Host) SetStream(_ context.Context, in SetStreamInput) error {
	return Err(h.Engine.Set(in.Stream, engineSettings(in.Settings)))
}

// PauseStream holds a stream until ResumeStream, also over a restart of the agent.
func (h *Host) PauseStream(_ context.Context, in StreamInput) error {
	return Err(h.Engine.Pause(in.Stream))
}

// ResumeStream lets a paused or interrupted stream go on.
func (h *Host) ResumeStream(_ context.Context, in StreamInput) error {
	return Err(h.Engine.Resume(in.Stream))
}

// StopSource ends sending and forgets the stream; no such stream is fine.
func (h *Host) StopSource(ctx context.Context, in StreamInput) error {
	return ignoreUnknown(h.Engine.StopSource(ctx, in.Stream))
}

// StopTarget refuses senders from now on; no such stream is fine.
func (h *Host) StopTarget(ctx context.Context, in StreamInput) error {
	return ignoreUnknown(h.Engine.StopTarget(ctx, in.Stream, in.Epoch))
}

// ForgetTarget drops state and catalogue of a stream; no such stream is fine.
func (h *Host) ForgetTarget(ctx context.Context, in StreamInput) error {
	return ignoreUnknown(h.Engine.ForgetTarget(ctx, in.Stream))
}

func ignoreUnknown(err error) error {
	if errors.Is(err, replication.ErrUnknownStream) {
		return nil
	}
	return Err(err)
}

// MarkPoint makes a point now, or the last one (Final); idempotent by request.
func (h *Host) MarkPoint(ctx context.Context, in MarkPointInput) (Point, error) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go h.beat(ctx, in.Stream, cancel, done)
	mark := h.Engine.Mark
	if in.Final {
		mark = func(ctx context.Context, stream, request, _ string) (replication.Point, error) {
			return h.Engine.Final(ctx, stream, request)
		}
	}
	point, err := mark(work, in.Stream, in.RequestID, in.Label)
	if err != nil && isCancelled(ctx) {
		return Point{}, context.Cause(ctx)
	}
	return point, Err(err)
}
