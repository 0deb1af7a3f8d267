package activities

import (
	"context"

	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

// Agentless is the work of both ends of streams that need no agent; queue
// host.<provider>.<account>.<region> of the target site, served by its cloud worker.
type Agentless struct {
	*streaming
	engine *agentless.Engine
}

// NewAgentless makes the activities of an agentless engine.
func NewAgentless(engine *agentless.Engine) *Agentless {
	return &Agentless{streaming: &streaming{streams: engine}, engine: engine}
}

// Identity tells that somebody serves the queue. There is no key: no data comes here.
func (a *Agentless) Identity(context.Context) (IdentityResult, error) { return IdentityResult{}, nil }

// PrepareTarget makes sure that the recovery points of a stream can be used here, also when
// another worker made them that is gone; NotFound when there are none at the site. No disk and
// no address receives the data, so that there is nothing else to prepare.
func (a *Agentless) PrepareTarget(ctx context.Context, in PrepareTargetInput) (PrepareTargetResult, error) {
	if len(in.Disks) > 0 {
		return PrepareTargetResult{}, Err(cloud.E(cloud.InvalidInput, "PrepareTarget", "stream "+in.Stream,
			"replica disks cannot be received without an agent", "use the queue of an agent", nil))
	}
	return PrepareTargetResult{}, Err(a.engine.Know(ctx, in.Stream, in.Scope.Site))
}

// StartSource begins to make recovery points of a server; durable before it returns. The
// same again is fine, also by another worker, which then takes the stream over.
func (a *Agentless) StartSource(ctx context.Context, in StartSourceInput) error {
	if in.Transfer == "" {
		return Err(cloud.E(cloud.InvalidInput, "StartSource", "stream "+in.Stream, "no transfer is named, so that an agent is meant",
			"use the queue of an agent", nil))
	}
	spec := agentless.Spec{Stream: in.Stream, Epoch: in.Epoch, Transfer: in.Transfer, Plan: in.Scope.Plan, Server: in.Scope.Server,
		Operation: in.Scope.Operation, Source: in.Source, Target: in.Scope.Site, ServerID: in.ServerID,
		Keep: replication.Keep{Count: in.Keep, Within: in.Within}, Settings: engineSettings(in.Settings), Key: in.Key}
	for _, d := range in.Disks {
		spec.Disks = append(spec.Disks, agentless.Disk{Name: d.Name, ID: d.DiskID, Bytes: d.Bytes, Boot: d.Boot})
	}
	return Err(a.engine.Start(ctx, spec))
}
