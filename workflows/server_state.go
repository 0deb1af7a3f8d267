package workflows

import (
	"slices"
	"time"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// ServerState is all that a protected server's entity knows; it is the argument
// of its next run. Changes are additive; Format tells older from newer.
type ServerState struct {
	Format       int                 `json:"format"`
	Plan         string              `json:"plan"`
	Spec         plan.ResolvedServer `json:"spec"`
	Phase        Phase               `json:"phase"`
	Health       Health              `json:"health"`
	HealthReason string              `json:"health_reason"`
	Drill        DrillState          `json:"drill"`
	DrillID      string              `json:"drill_id,omitempty"`
	Direction    Direction           `json:"direction"`
	Epoch        int64               `json:"epoch"`

	// Operation is the workflow ID of the exclusive operation, Busy a command at work.
	Operation string `json:"operation,omitempty"`
	Busy      string `json:"-"`

	// Primary is the server at the primary site, Recovered the one that a failover
	// made (by operation RecoveredBy), Restored the one that a failback made.
	Primary     *activities.ServerInfo `json:"primary,omitempty"`
	Recovered   *activities.ServerInfo `json:"recovered,omitempty"`
	RecoveredBy string                 `json:"recovered_by,omitempty"`
	Restored    *activities.ServerInfo `json:"restored,omitempty"`
	RestoredBy  string                 `json:"restored_by,omitempty"`
	// RecoveredFrom is the point that the recovered server was started from.
	RecoveredFrom *PointRef `json:"recovered_from,omitempty"`
	FailedBackOK  bool      `json:"failed_back_ok,omitempty"` // failback passed its checks

	// Replicas are the disks at the target of the current direction. In place
	// (reverse) they are the original server's own.
	Replicas []activities.DiskInfo `json:"replicas,omitempty"`
	InPlace  bool                  `json:"in_place,omitempty"`
	Stream   *Stream               `json:"stream,omitempty"`
	Points   []activities.Point    `json:"points,omitempty"`

	// Rounds counts how often replica disks were made: it keeps client tokens apart.
	Rounds int `json:"rounds,omitempty"`

	Settings  activities.StreamSettings `json:"settings"`
	Notes     []string                  `json:"notes,omitempty"`
	LastError string                    `json:"last_error,omitempty"`
	Watcher   string                    `json:"watcher,omitempty"` // operation told about phase changes
}

// Stream is the replication in force.
type Stream struct {
	ID     string                  `json:"id"`
	Epoch  int64                   `json:"epoch"`
	Source string                  `json:"source"` // agent
	Target string                  `json:"target"` // agent
	Status activities.StreamStatus `json:"status"`
	// Detached is set while an operation holds the stream: nobody follows it.
	Detached bool `json:"detached,omitempty"`
}

// newServerState is a server that is about to join.
func newServerState(planName string, spec plan.ResolvedServer, epoch int64) ServerState {
	s := ServerState{Format: 1, Plan: planName, Spec: spec, Phase: PhaseInstalling, Health: HealthOK,
		Drill: DrillNone, Direction: Forward, Epoch: epoch}
	s.Settings = settingsOf(spec)
	return s
}

func settingsOf(spec plan.ResolvedServer) activities.StreamSettings {
	p := spec.Policy
	return activities.StreamSettings{Interval: p.Every.D(), BytesPerSecond: int64(p.Bandwidth),
		AutoResume: p.AutoResume == nil || *p.AutoResume}
}

// site turns a plan's site into the one that activities know.
func site(s plan.Site) activities.Site {
	return activities.Site{Name: s.Name, Provider: s.Provider, Account: s.Account, Region: s.Region, Zone: s.Zone, Directory: s.Directory,
		Role: s.Role, ExternalID: s.ExternalID, Bucket: s.Bucket, VPC: s.VPC}
}

// source and target sites of the current direction.
func (s *ServerState) sourceSite() plan.Site {
	if s.Direction == Reverse {
		return s.Spec.Recovery
	}
	return s.Spec.Primary
}

func (s *ServerState) targetSite() plan.Site {
	if s.Direction == Reverse {
		return s.Spec.Primary
	}
	return s.Spec.Recovery
}

// targetAgent keeps the recovery points.
func (s *ServerState) targetAgent() string { return s.targetSite().Agent }

// sourceAgent makes them. Without agents both ends are one queue, near the points: it
// must be there when the source is not.
func (s *ServerState) sourceAgent() string {
	if s.Spec.Agentless() {
		return s.targetAgent()
	}
	return s.sourceSite().Agent
}

// agentsToward lists the agents that must answer before data can move to a site.
func (s *ServerState) agentsToward(target plan.Site) []string {
	if s.Spec.Agentless() {
		return []string{target.Agent}
	}
	return []string{s.Spec.Primary.Agent, s.Spec.Recovery.Agent}
}

// sourceServer is the server whose disks are replicated.
func (s *ServerState) sourceServer() *activities.ServerInfo {
	if s.Direction == Reverse {
		return s.Recovered
	}
	return s.Primary
}

func (s *ServerState) streamID() string { return StreamID(s.Plan, s.Spec.Name) }

// scope is for resources that live as long as the protection (replicas, points).
func (s *ServerState) scope(where plan.Site, role string) activities.Scope {
	return activities.Scope{Site: site(where), Plan: s.Plan, Server: s.Spec.Name,
		Operation: ServerID(s.Plan, s.Spec.Name), Epoch: s.Epoch, Role: role}
}

// disks of a server that the plan protects.
func (s *ServerState) protectedDisks(srv *activities.ServerInfo) []activities.DiskInfo {
	if srv == nil || len(s.Spec.Disks) == 0 {
		if srv == nil {
			return nil
		}
		return srv.Disks
	}
	var disks []activities.DiskInfo
	for _, d := range srv.Disks {
		if slices.Contains(s.Spec.Disks, d.Name) {
			disks = append(disks, d)
		}
	}
	return disks
}

// bandwidthOf writes the limit of a stream; empty is unlimited.
func bandwidthOf(s activities.StreamSettings) string {
	if s.Calendar != "" || s.BytesPerSecond == 0 {
		return s.Calendar
	}
	return plan.Size(s.BytesPerSecond).String() + "/s"
}

// view is what queries return; now is the workflow's clock.
func (s *ServerState) view(now time.Time) ServerView {
	v := ServerView{Plan: s.Plan, Name: s.Spec.Name, Phase: s.Phase, Health: s.Health, HealthReason: s.HealthReason,
		Drill: s.Drill, DrillID: s.DrillID, Direction: s.Direction, Epoch: s.Epoch, Operation: s.Operation, RPOSeconds: -1,
		Bandwidth: bandwidthOf(s.Settings), Primary: s.Primary, Recovered: s.Recovered, Allowed: s.Allowed(), Refused: map[string]string{}, Transfer: s.Spec.Transfer, Notes: s.Notes, LastError: s.LastError}
	for _, c := range allCommands {
		if reason := s.Refuse(c); reason != "" {
			v.Refused[c] = reason
		}
	}
	if len(s.Points) > 0 {
		v.LastPoint = &PointRef{ID: s.Points[0].ID, Time: s.Points[0].Time}
		v.RPOSeconds = now.Sub(s.Points[0].Time).Seconds()
	}
	if s.Stream != nil {
		v.Stream, v.SourceAgent, v.TargetAgent = s.Stream.ID, s.Stream.Source, s.Stream.Target
		v.Replication = ProgressOf(s.Stream.Status)
	}
	return v
}

// ProgressOf turns a stream's status into the view that users see.
func ProgressOf(st activities.StreamStatus) ReplicationView {
	return ReplicationView{Stage: string(st.Stage), BytesTotal: st.BytesTotal, BytesDone: st.BytesDone, Percent: st.Percent,
		RateBytesPerSecond: st.RateBytesPerSecond, ETASeconds: st.ETA.Seconds(), LagSeconds: st.Lag.Seconds(),
		BytesScanned: st.BytesScanned, BytesSent: st.BytesSent, Bottleneck: st.Bottleneck,
		CutMethod: string(st.CutMethod), PauseSeconds: st.LastPause.Seconds()}
}
