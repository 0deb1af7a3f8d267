package workflows

import (
	"time"

	"lifeboat/activities"
	"lifeboat/workflows/plan"
)

// Updates and signals between workflows; people and the CLI do not use them.
const (
	updateBegin        = "begin-operation" // plan → server: beginRequest → ServerState
	updateEnd          = "end-operation"   // operation → server: endRequest → ServerView
	updateDrillState   = "drill-state"     // drill → server: drillStateRequest
	updateAttachStream = "attach-stream"   // reverse → server: attachRequest → ServerView
	updateEdit         = "edit"            // plan → server: editRequest
	updateActivate     = "activate"        // operation, server → plan: activateRequest → epoch
	updateClean        = "clean"           // plan → drill: nothing → Report
	updateAwaitGreen   = "await-green"     // scheduled drill → drill: nothing → Report
	signalEnded        = "operation-ended" // operation → plan: endedSignal
	signalRemoved      = "server-removed"  // server → plan: name
	signalPhase        = "server-phase"    // server → operation: phaseSignal
)

// beginRequest claims a server for an operation.
type beginRequest struct {
	Operation  Operation `json:"operation"`
	WorkflowID string    `json:"workflow_id"`
	Epoch      int64     `json:"epoch"` // of the operation; 0 leaves the server's
	InPlace    bool      `json:"in_place,omitempty"`
}

// endRequest gives a server back after an operation.
type endRequest struct {
	Operation  Operation              `json:"operation"`
	WorkflowID string                 `json:"workflow_id"`
	Epoch      int64                  `json:"epoch"`
	Done       bool                   `json:"done"` // false: undone, the server is as before
	Reason     string                 `json:"reason,omitempty"`
	Server     *activities.ServerInfo `json:"server,omitempty"` // that runs now
	Point      *PointRef              `json:"point,omitempty"`
	Fencing    string                 `json:"fencing,omitempty"`
}

// drillStateRequest reports where a drill stands.
type drillStateRequest struct {
	WorkflowID string     `json:"workflow_id"`
	State      DrillState `json:"state"`
}

// attachRequest hands replica disks to a server's entity, which starts the stream onto them.
type attachRequest struct {
	WorkflowID string                `json:"workflow_id"`
	Replicas   []activities.DiskInfo `json:"replicas"`
	InPlace    bool                  `json:"in_place,omitempty"`
}

// editRequest changes the plan's part of a server.
type editRequest struct {
	Spec plan.ResolvedServer `json:"spec"`
}

// activateRequest says on which side servers serve from now on.
type activateRequest struct {
	Servers []string `json:"servers"`
	Side    string   `json:"side"`  // site name
	Epoch   int64    `json:"epoch"` // 0: the plan hands out a new one
}

// endedSignal tells the plan how an operation ended.
type endedSignal struct {
	WorkflowID string  `json:"workflow_id"`
	Outcome    Outcome `json:"outcome"`
}

// phaseSignal tells an operation about a server's phase.
type phaseSignal struct {
	Server string `json:"server"`
	Phase  Phase  `json:"phase"`
	Reason string `json:"reason,omitempty"`
}

// OperationInput starts an operation workflow.
type OperationInput struct {
	Operation  Operation        `json:"operation"`
	WorkflowID string           `json:"workflow_id"`
	Number     int              `json:"number"`
	Plan       string           `json:"plan"`
	Epoch      int64            `json:"epoch"`
	Request    OperationRequest `json:"request"`
	Servers    []ServerState    `json:"servers"` // as they were when they were claimed
	Waves      [][]string       `json:"waves"`
	Spec       plan.Resolved    `json:"spec"`
	Declared   time.Time        `json:"declared"`
	Accepted   time.Time        `json:"accepted"`
	Scheduled  bool             `json:"scheduled,omitempty"`
}

// ScheduledDrillInput starts a drill by schedule.
type ScheduledDrillInput struct {
	Plan       string        `json:"plan"`
	CleanAfter time.Duration `json:"clean_after"`
}
