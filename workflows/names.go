package workflows

import (
	"strconv"
	"strings"

	"go.temporal.io/sdk/temporal"

	"lifeboat/activities"
)

// TaskQueue is where all workflows and the control activities run.
const TaskQueue = "lifeboat"

// CloudQueue is the task queue of a provider account and region (one quota, one
// rate limit), or of a local site.
func CloudQueue(s activities.Site) string {
	if s.Provider == "local" {
		return "cloud.local." + s.Name
	}
	return strings.Join([]string{"cloud", s.Provider, s.Account, s.Region}, ".")
}

// HostQueue is the task queue of the agent next to some disks.
func HostQueue(agent string) string { return "host." + agent }

// Operation is the kind of an operation workflow.
type Operation string

// Operations that run as workflows of their own.
const (
	OpDrill    Operation = "drill"
	OpFailover Operation = "failover"
	OpSwitch   Operation = "switch-point"
	OpReverse  Operation = "reverse"
	OpFailback Operation = "failback"
)

// PlanID is the workflow ID of a plan's entity.
func PlanID(plan string) string { return "plan/" + plan }

// ServerID is the workflow ID of a protected server's entity.
func ServerID(plan, server string) string { return "server/" + plan + "/" + server }

// OperationID is the workflow ID of the n-th operation of a plan.
func OperationID(op Operation, plan string, n int) string {
	return string(op) + "/" + plan + "/" + strconv.Itoa(n)
}

// StreamID names the replication stream of a protected server at its agents.
func StreamID(plan, server string) string { return plan + "/" + server }

// ScheduleID is the schedule, and the workflow ID prefix, of a plan's drills.
func ScheduleID(plan string) string { return "drill-schedule/" + plan }

// Workflow types.
const (
	PlanWorkflow           = "Plan"
	ServerWorkflow         = "Server"
	DrillWorkflow          = "Drill"
	FailoverWorkflow       = "Failover"
	SwitchPointWorkflow    = "SwitchPoint"
	ReverseWorkflow        = "ReverseReplication"
	FailbackWorkflow       = "Failback"
	ScheduledDrillWorkflow = "ScheduledDrill"
	ReadinessWorkflow      = "Readiness"
)

// Queries. Every workflow of Lifeboat answers QueryStatus: entities with PlanView
// and ServerView, operations with Report, readiness checks with ReadinessReport.
const QueryStatus = "status"

// QueryPoints asks a server's entity for its recovery points: []activities.Point,
// newest first. It answers also while the agents are away.
const QueryPoints = "points"

// Updates of a plan's entity (PlanID).
const (
	UpdateApply       = "apply"        // ApplyRequest → PlanView (also as update-with-start)
	UpdateDrill       = "drill"        // OperationRequest → OperationRef
	UpdateFailover    = "failover"     // OperationRequest → OperationRef
	UpdateSwitchPoint = "switch-point" // OperationRequest → OperationRef
	UpdateReverse     = "reverse"      // OperationRequest → OperationRef (start reverse replication)
	UpdateFailback    = "failback"     // OperationRequest → OperationRef
	UpdateCleanDrill  = "clean-drill"  // CleanDrillRequest → Report
	UpdateReadiness   = "readiness"    // ReadinessRequest → OperationRef
	UpdateAddServers  = "add-servers"  // AddServersRequest → PlanView
	UpdateDelete      = "delete"       // DeleteRequest → nothing; the plan ends when every server is removed
)

// Updates of a protected server's entity (ServerID). All return ServerView unless said otherwise.
const (
	UpdateInitialize        = "initialize"         // nothing
	UpdateStartReplication  = "start-replication"  // nothing
	UpdatePause             = "pause"              // nothing
	UpdateResume            = "resume"             // nothing
	UpdateStop              = "stop"               // nothing
	UpdateSet               = "set"                // SetRequest
	UpdateMarkPoint         = "mark-point"         // MarkRequest → activities.Point
	UpdateLockPoint         = "lock-point"         // LockRequest
	UpdateCommit            = "commit"             // nothing
	UpdateCancel            = "cancel"             // nothing: undo a failover that was not committed
	UpdateResumeProtection  = "resume-protection"  // nothing
	UpdateReverseRegister   = "reverse-register"   // nothing
	UpdateReverseUnregister = "reverse-unregister" // nothing
	UpdateRegister          = "register"           // nothing
	UpdateCleanUp           = "cleanup"            // nothing: delete what failback left, after verification
	UpdateRemove            = "remove"             // nothing
)

// Updates of a running operation (failover, failback): answer to what it waits for.
const (
	UpdateApprove = "approve" // DecisionRequest → Report
	UpdateSkip    = "skip"    // DecisionRequest → Report: go on without the step that failed
	UpdateRetry   = "retry"   // DecisionRequest → Report: try the step that failed again
	UpdateHold    = "hold"    // DecisionRequest → Report: pause before the next step
	UpdateGoOn    = "go-on"   // DecisionRequest → Report: resume after hold
	UpdateAbort   = "abort"   // DecisionRequest → Report: undo everything, until traffic is switched
)

// Search attributes; all are keywords and are registered by `lifeboat init` and `lifeboat dev`.
var (
	KeyPlan      = temporal.NewSearchAttributeKeyKeyword("LifeboatPlan")
	KeyServer    = temporal.NewSearchAttributeKeyKeyword("LifeboatServer")
	KeyPhase     = temporal.NewSearchAttributeKeyKeyword("LifeboatPhase")
	KeyOperation = temporal.NewSearchAttributeKeyKeyword("LifeboatOperation")
	KeySite      = temporal.NewSearchAttributeKeyKeyword("LifeboatSite")
)

// SearchAttributes lists their names, in the order in which they are registered.
func SearchAttributes() []string {
	return []string{KeyPlan.GetName(), KeyServer.GetName(), KeyPhase.GetName(), KeyOperation.GetName(), KeySite.GetName()}
}

// Error types of refused and failed commands, as in temporal.ApplicationError.Type.
const (
	// ErrRefused: the phase forbids the command. The first detail is a Refusal.
	ErrRefused = "Refused"
	// ErrInvalid: the request can never be right (wrong usage).
	ErrInvalid = "Invalid"
	// ErrAborted: a person aborted the operation, and it was undone.
	ErrAborted = "Aborted"
)
