package workflows

import (
	"time"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// Phase of a protected server: contract, section 2.
type Phase string

// The phases, in the order of the life cycle.
const (
	PhaseInstalling        Phase = "installing"
	PhaseInitFailed        Phase = "init-failed"
	PhaseInitialized       Phase = "initialized"
	PhaseStarting          Phase = "starting"
	PhaseFullReplication   Phase = "full-replication"
	PhaseRealTime          Phase = "real-time"
	PhaseFailingOver       Phase = "failing-over"
	PhaseFailedOver        Phase = "failed-over"
	PhaseFailoverComplete  Phase = "failover-complete"
	PhaseReverseRegistered Phase = "reverse-registered"
	PhaseReverseStarting   Phase = "reverse-starting"
	PhaseReverseFull       Phase = "reverse-full"
	PhaseReverseRealTime   Phase = "reverse-real-time"
	PhaseFailingBack       Phase = "failing-back"
	PhaseFailedBack        Phase = "failed-back"
	PhaseRemoved           Phase = "removed"
)

// DrillState is the drill axis of a protected server.
type DrillState string

// The states of a drill.
const (
	DrillNone        DrillState = "none"
	DrillStarting    DrillState = "starting"
	DrillRunning     DrillState = "running"
	DrillFailed      DrillState = "failed"
	DrillClearing    DrillState = "clearing"
	DrillClearFailed DrillState = "clear-failed"
)

// Health is the health axis of a protected server.
type Health string

// The values of health; a reason in words goes with each.
const (
	HealthOK                Health = "ok"
	HealthLagging           Health = "lagging"
	HealthInterrupted       Health = "interrupted"
	HealthStalled           Health = "stalled"
	HealthPaused            Health = "paused"
	HealthResyncing         Health = "resyncing"
	HealthSourceUnreachable Health = "source-unreachable"
)

// Direction of protection.
type Direction string

// The directions.
const (
	Forward Direction = "forward" // primary site to recovery site
	Reverse Direction = "reverse" // recovery site to primary site
)

// ServerView is what `server list -o json` prints, one a server.
type ServerView struct {
	Plan         string                 `json:"plan"`
	Name         string                 `json:"name"`
	Phase        Phase                  `json:"phase"`
	Health       Health                 `json:"health"`
	HealthReason string                 `json:"health_reason"`
	Drill        DrillState             `json:"drill"`
	DrillID      string                 `json:"drill_id,omitempty"` // workflow ID of the drill
	Direction    Direction              `json:"direction"`
	Epoch        int64                  `json:"epoch"`
	Operation    string                 `json:"operation,omitempty"` // workflow ID of the running operation
	RPOSeconds   float64                `json:"rpo_seconds"`         // now − newest recovery point; −1 when there is none
	LastPoint    *PointRef              `json:"last_point"`
	Replication  ReplicationView        `json:"replication"`
	Bandwidth    string                 `json:"bandwidth,omitempty"` // limit that is set, a rate or a calendar; empty = unlimited
	Primary      *activities.ServerInfo `json:"primary"`
	Recovered    *activities.ServerInfo `json:"recovered"`
	Allowed      []string               `json:"allowed"`
	Refused      map[string]string      `json:"refused"`
	Transfer     string                 `json:"transfer,omitempty"` // snapshots or blocks; empty = agents
	Notes        []string               `json:"notes,omitempty"`    // e.g. networks in different zones, fencing unknown
	LastError    string                 `json:"last_error,omitempty"`
	// Source and target agents and the stream, for live progress (see FollowDetails).
	SourceAgent string `json:"source_agent,omitempty"`
	TargetAgent string `json:"target_agent,omitempty"`
	Stream      string `json:"stream,omitempty"`
}

// PointRef names a recovery point.
type PointRef struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
}

// ReplicationView is the progress of replication.
type ReplicationView struct {
	Stage              string  `json:"stage"` // starting|full|real-time, empty when none runs
	BytesTotal         int64   `json:"bytes_total"`
	BytesDone          int64   `json:"bytes_done"`
	Percent            float64 `json:"percent"`
	RateBytesPerSecond float64 `json:"rate_bytes_per_second"`
	ETASeconds         float64 `json:"eta_seconds"`
	LagSeconds         float64 `json:"lag_seconds"`
	BytesScanned       int64   `json:"bytes_scanned"`
	BytesSent          int64   `json:"bytes_sent"`
	Bottleneck         string  `json:"bottleneck,omitempty"`
	CutMethod          string  `json:"cut_method,omitempty"`    // reflink|pause
	PauseSeconds       float64 `json:"pause_seconds,omitempty"` // last pause of the source server
}

// PlanView is what `plan show -o json` prints.
type PlanView struct {
	Name       string            `json:"name"`
	Epoch      int64             `json:"epoch"`
	Active     map[string]string `json:"active"` // server → site that serves
	Servers    []string          `json:"servers"`
	Running    []OperationRef    `json:"running"`
	Operations []OperationRef    `json:"operations"` // newest last, at most 50
	Spec       plan.Resolved     `json:"spec"`
	Deleted    bool              `json:"deleted,omitempty"`
}

// OperationRef names an operation workflow.
type OperationRef struct {
	Operation  Operation `json:"operation"`
	WorkflowID string    `json:"workflow_id"`
	Number     int       `json:"number"`
	Servers    []string  `json:"servers"`
	Outcome    Outcome   `json:"outcome"`
}

// Outcome of an operation.
type Outcome string

// The outcomes.
const (
	OutcomeRunning Outcome = "running"
	OutcomeWaiting Outcome = "waiting" // for a person
	OutcomeDone    Outcome = "done"
	OutcomeFailed  Outcome = "failed"
	OutcomeAborted Outcome = "aborted"
	OutcomeCleaned Outcome = "cleaned" // a drill whose resources are deleted
	OutcomeSkipped Outcome = "skipped" // a scheduled drill that the plan refused
)

// Report is what `drill|failover|failback show -o json` prints.
type Report struct {
	Operation  Operation `json:"operation"`
	Plan       string    `json:"plan"`
	WorkflowID string    `json:"workflow_id"`
	Point      string    `json:"point"` // identifier, of the first server when there are several
	Outcome    Outcome   `json:"outcome"`
	Reason     string    `json:"reason,omitempty"` // why it failed or waits, and what to do
	Stamps     Stamps    `json:"stamps"`
	RTOSeconds *float64  `json:"rto_seconds"`          // serving − declared; null until served
	RPOSeconds *float64  `json:"rpo_seconds"`          // declared − newest application write found; null when unknown
	RPOSource  string    `json:"rpo_source,omitempty"` // application | point
	// Objectives of the plan, in seconds (0 = none), and whether they were kept (null
	// where there is no objective or no measurement).
	RTOObjective float64           `json:"rto_objective_seconds"`
	RPOObjective float64           `json:"rpo_objective_seconds"`
	RTOKept      *bool             `json:"rto_kept"`
	RPOKept      *bool             `json:"rpo_kept"`
	Servers      []ServerReport    `json:"servers"`
	Steps        []StepReport      `json:"steps"`
	Resources    activities.Counts `json:"resources"`
}

// Stamps are the six instants of a recovery; contract, section 1.
type Stamps struct {
	Declared   *time.Time `json:"declared"`
	Accepted   *time.Time `json:"accepted"`
	DisksReady *time.Time `json:"disks_ready"`
	Running    *time.Time `json:"running"`
	Healthy    *time.Time `json:"healthy"`
	Serving    *time.Time `json:"serving"`
}

// ServerReport is one server of an operation.
type ServerReport struct {
	Name        string            `json:"name"`
	Point       string            `json:"point"`
	PointTime   *time.Time        `json:"point_time"`
	ServerID    string            `json:"server_id,omitempty"`
	IP          string            `json:"ip,omitempty"`
	Public      string            `json:"public,omitempty"`  // where to look
	Fencing     string            `json:"fencing,omitempty"` // done | unknown | not-needed
	NewestWrite *time.Time        `json:"newest_write,omitempty"`
	Script      string            `json:"script,omitempty"` // output of the post-start script
	Roots       map[string]string `json:"roots,omitempty"`  // disk → root of the point

	disks []string // identifiers, for counting
}

// StepReport is one step of an operation, in words.
type StepReport struct {
	Name    string     `json:"name"`
	Server  string     `json:"server,omitempty"`
	State   string     `json:"state"` // running|done|failed|skipped|undone
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	Detail  string     `json:"detail,omitempty"`
}

// ApplyRequest creates or changes a plan.
type ApplyRequest struct {
	Plan plan.Resolved `json:"plan"`
}

// AddServersRequest adds 1 to 10 servers of the plan (already in its spec) to protection.
type AddServersRequest struct {
	Servers []string `json:"servers"`
}

// OperationRequest starts an operation on some servers of a plan (empty = all).
type OperationRequest struct {
	Servers    []string   `json:"servers,omitempty"`
	Point      string     `json:"point,omitempty"` // ID|TIME|latest|current-time|newest-tested
	SourceDown bool       `json:"source_down,omitempty"`
	Declared   *time.Time `json:"declared,omitempty"` // T0; default: when accepted
	Overrides  Overrides  `json:"overrides"`
	InPlace    bool       `json:"in_place,omitempty"` // reverse: onto the original disks
	Confirm    string     `json:"confirm,omitempty"`  // reverse in place: name of the server
}

// Overrides replace launch settings of the plan for one operation.
type Overrides struct {
	Network  string `json:"network,omitempty"`
	IP       string `json:"ip,omitempty"`
	Type     string `json:"type,omitempty"`
	CPU      int    `json:"cpu,omitempty"`
	Memory   int64  `json:"memory,omitempty"`
	DiskType string `json:"disk_type,omitempty"`
	PublicIP string `json:"public_ip,omitempty"`
	Script   string `json:"script,omitempty"` // content
}

// CleanDrillRequest names the drill; 0 = the newest that is not clean.
type CleanDrillRequest struct {
	Number int `json:"number,omitempty"`
}

// DeleteRequest ends a plan; refused while a server is protected unless Force.
type DeleteRequest struct {
	Force bool `json:"force,omitempty"`
}

// SetRequest changes settings of a running replication; nil leaves one as it is.
type SetRequest struct {
	// BytesPerSecond ends a calendar that holds; 0 is unlimited.
	BytesPerSecond *int64 `json:"bytes_per_second,omitempty"`
	// Calendar is a limit by day and time; see activities.StreamSettings.
	Calendar   *string        `json:"calendar,omitempty"`
	Interval   *time.Duration `json:"interval,omitempty"`
	AutoResume *bool          `json:"auto_resume,omitempty"`
}

// MarkRequest asks for a recovery point now.
type MarkRequest struct {
	Label     string `json:"label,omitempty"`
	RequestID string `json:"request_id"`
}

// LockRequest keeps a point from retention, or lets it go.
type LockRequest struct {
	ID     string `json:"id"`
	Locked bool   `json:"locked"`
}

// DecisionRequest answers what an operation waits for.
type DecisionRequest struct {
	By   string `json:"by,omitempty"` // who decides, for the record
	Note string `json:"note,omitempty"`
}

// Refusal says why a command is refused and what is legal instead.
type Refusal struct {
	Subject string   `json:"subject"` // plan or plan/server
	Phase   Phase    `json:"phase,omitempty"`
	Reason  string   `json:"reason"`
	Allowed []string `json:"allowed"`
}
