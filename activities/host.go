package activities

import (
	"context"

	"lifeboat/replication"
)

// Host is the work of an agent, next to its disks; queue host.<agent>.
type Host struct {
	*streaming
	engine *replication.Engine
}

// NewHost makes the activities of an agent with its engine.
func NewHost(engine *replication.Engine) *Host {
	return &Host{streaming: &streaming{streams: engine}, engine: engine}
}

// Identity returns the public-key fingerprint of the agent.
func (h *Host) Identity(context.Context) (IdentityResult, error) {
	return IdentityResult{Fingerprint: string(h.engine.Fingerprint())}, nil
}

// PrepareTarget lets the agent receive a stream; the same again is fine, a higher
// epoch supersedes, a lower one is StaleEpoch.
func (h *Host) PrepareTarget(ctx context.Context, in PrepareTargetInput) (PrepareTargetResult, error) {
	info, err := h.engine.PrepareTarget(ctx, replication.TargetSpec{Stream: in.Stream, Epoch: in.Epoch, Disks: engineDisks(in.Disks),
		Peer: replication.Fingerprint(in.Peer), Keep: replication.Keep{Count: in.Keep, Within: in.Within}, Labels: labels(in.Scope, "", in.Disks)})
	if err != nil {
		return PrepareTargetResult{}, Err(err)
	}
	return PrepareTargetResult{Address: info.Address, Fingerprint: string(info.Fingerprint)}, nil
}

// StartSource lets the agent send a stream; durable before it returns.
func (h *Host) StartSource(ctx context.Context, in StartSourceInput) error {
	return Err(h.engine.StartSource(ctx, replication.SourceSpec{Stream: in.Stream, Epoch: in.Epoch, Disks: engineDisks(in.Disks),
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
