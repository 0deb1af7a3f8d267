package activities

import (
	"time"

	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

// Site is a place where servers can run; see [cloud.Site].
type Site = cloud.Site

// Record is a DNS record; see [cloud.Record].
type Record = cloud.Record

// Point is a recovery point; see [replication.Point].
type Point = replication.Point

// StreamStatus is the state of a replication stream; see [replication.Status].
type StreamStatus = replication.Status

// Scope says for whom a resource is made or cleaned: it becomes ledger entry and tags.
type Scope struct {
	Site      Site   `json:"site"`
	Plan      string `json:"plan"`
	Server    string `json:"server,omitempty"`
	Operation string `json:"operation"`      // workflow ID of the operation (or entity)
	Epoch     int64  `json:"epoch"`          // of the plan when the operation began
	Role      string `json:"role,omitempty"` // replica | point | recovered | drill | plan
}

// Roles of resources.
const (
	RoleReplica   = "replica"   // disks that replication writes to
	RolePoint     = "point"     // snapshots behind recovery points
	RoleRecovered = "recovered" // what a failover or failback made
	RoleDrill     = "drill"     // what a drill made
	RolePlan      = "plan"      // networks and addresses prepared in advance
	// What was handed over, so that no clean-up of a role takes it:
	RoleProduction = "production" // what a failback made and people use now
	RoleKept       = "kept"       // what a person has to look at before it goes
)

// DiskInfo is a disk as a workflow sees it. Path is where the agent of the site finds it.
type DiskInfo struct {
	Name     string `json:"name"` // name within the server
	DiskID   string `json:"disk_id"`
	Bytes    int64  `json:"bytes"`
	Type     string `json:"type,omitempty"`
	Path     string `json:"path,omitempty"`
	Boot     bool   `json:"boot,omitempty"`
	Snapshot string `json:"snapshot,omitempty"` // made from
}

// ServerInfo is a server as a workflow sees it.
type ServerInfo struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	State     string            `json:"state"`
	Message   string            `json:"message,omitempty"`
	Type      string            `json:"type,omitempty"`
	CPU       int               `json:"cpu,omitempty"`
	Memory    int64             `json:"memory,omitempty"`
	NetworkID string            `json:"network_id"`
	Network   string            `json:"network"` // name
	CIDR      string            `json:"cidr"`
	IP        string            `json:"ip"`
	Public    string            `json:"public,omitempty"`
	Ports     []int             `json:"ports,omitempty"`
	Disks     []DiskInfo        `json:"disks"`
	Launch    map[string]string `json:"launch,omitempty"`
}

// NetworkInfo is a network as a workflow sees it.
type NetworkInfo struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	CIDR     string `json:"cidr"`
	Isolated bool   `json:"isolated"`
	Note     string `json:"note,omitempty"`
}

// Inputs and results of the activities of [Cloud]; queue cloud.<provider>.…

// InspectServerInput asks for a server by identifier or name.
type InspectServerInput struct {
	Site   Site   `json:"site"`
	Server string `json:"server"`
}

// EnsureNetworkInput asks for a network by name, made when it is not there.
// Step makes its client token differ from others of the operation.
type EnsureNetworkInput struct {
	Scope Scope  `json:"scope"`
	Step  string `json:"step"`
	Name  string `json:"name"`
	CIDR  string `json:"cidr"`
	Zone  string `json:"zone,omitempty"`
}

// CheckAddressInput asks whether a private address is inside the network and free.
type CheckAddressInput struct {
	Site    Site   `json:"site"`
	Network string `json:"network"`
	IP      string `json:"ip"`
}

// EnsureAddressInput asks for a reserved public address by name, allocated when it is not there.
type EnsureAddressInput struct {
	Scope Scope  `json:"scope"`
	Step  string `json:"step"`
	Name  string `json:"name"`
}

// AddressInfo is a public address.
type AddressInfo struct {
	ID     string `json:"id"`
	Public string `json:"public"`
	Server string `json:"server,omitempty"`
}

// CreateDisksInput asks for the disks of one server; each from a snapshot, or empty with Bytes.
type CreateDisksInput struct {
	Scope Scope      `json:"scope"`
	Step  string     `json:"step"`
	Disks []DiskInfo `json:"disks"` // Name, Bytes, Type, Boot, Snapshot are read
}

// LaunchServerInput asks for a server with the given disks, and waits until it runs.
type LaunchServerInput struct {
	Scope     Scope             `json:"scope"`
	Step      string            `json:"step"`
	Name      string            `json:"name"`
	Disks     []DiskInfo        `json:"disks"`
	Type      string            `json:"type,omitempty"`
	CPU       int               `json:"cpu,omitempty"`
	Memory    int64             `json:"memory,omitempty"`
	NetworkID string            `json:"network_id"`
	IP        string            `json:"ip,omitempty"`
	Ports     []int             `json:"ports,omitempty"`
	Launch    map[string]string `json:"launch,omitempty"`
}

// ServerInput names a server for start, stop and terminate, which wait for the state to be reached.
type ServerInput struct {
	Site     Site   `json:"site"`
	ServerID string `json:"server_id"`
	Force    bool   `json:"force,omitempty"`
	Epoch    int64  `json:"epoch,omitempty"`
}

// RunScriptInput asks for a script to be run to its end.
type RunScriptInput struct {
	Scope    Scope             `json:"scope"`
	Step     string            `json:"step"`
	ServerID string            `json:"server_id"`
	Content  string            `json:"content"`
	Env      map[string]string `json:"env,omitempty"`
	Timeout  time.Duration     `json:"timeout"`
}

// ScriptResult is how a script ended. NewestWrite is set when its output has a
// line LIFEBOAT_NEWEST_WRITE=<RFC 3339 time>: the newest application write found.
type ScriptResult struct {
	ExitCode    int        `json:"exit_code"`
	Output      string     `json:"output,omitempty"`
	NewestWrite *time.Time `json:"newest_write,omitempty"`
}

// CheckHealthInput asks until the server answers at its private address, or Timeout.
type CheckHealthInput struct {
	Site      Site          `json:"site"`
	NetworkID string        `json:"network_id"`
	IP        string        `json:"ip"`
	Port      int           `json:"port,omitempty"`
	HTTP      string        `json:"http,omitempty"`
	Timeout   time.Duration `json:"timeout"`
}

// Seen is when something was observed, and what.
type Seen struct {
	At     time.Time `json:"at"`
	Detail string    `json:"detail,omitempty"`
}

// MoveAddressInput moves a reserved public address to a server ("" takes it away from any).
type MoveAddressInput struct {
	Site     Site   `json:"site"`
	Name     string `json:"name"`
	ServerID string `json:"server_id"`
	Epoch    int64  `json:"epoch"`
}

// SetNamesInput replaces DNS record sets, and waits until every name server has them.
type SetNamesInput struct {
	Site    Site     `json:"site"`
	Zone    string   `json:"zone"`
	Step    string   `json:"step"` // becomes the client token
	Records []Record `json:"records"`
	Epoch   int64    `json:"epoch"`
}

// NamesInput asks for the records of one name.
type NamesInput struct {
	Site Site   `json:"site"`
	Zone string `json:"zone"`
	Name string `json:"name"`
}

// CheckServingInput asks, through the DNS name, until traffic is served, or Timeout.
type CheckServingInput struct {
	Site    Site          `json:"site"` // that serves the zone
	Zone    string        `json:"zone"`
	Name    string        `json:"name"`
	Expect  string        `json:"expect,omitempty"` // the address that must answer; empty = any
	Port    int           `json:"port"`
	HTTP    string        `json:"http,omitempty"` // empty = a TCP connection is enough
	Timeout time.Duration `json:"timeout"`
	// ServerSite and NetworkID say where Expect lives when it is a private address:
	// it is then asked from inside that network, as its users are.
	ServerSite Site   `json:"server_site,omitzero"`
	NetworkID  string `json:"network_id,omitempty"`
}

// CleanUpInput deletes what an operation (or a server in a role) made at a site.
// At least one of Scope.Operation and Scope.Role must be set.
type CleanUpInput struct {
	Scope Scope `json:"scope"`
	// Except lists identifiers that stay (marked as kept).
	Except []string `json:"except,omitempty"`
	// IncludeKept deletes also what was handed over (kept) before.
	IncludeKept bool `json:"include_kept,omitempty"`
}

// Counts of resources of an operation.
type Counts struct {
	Created  int      `json:"created"`
	Deleted  int      `json:"deleted"`
	Kept     int      `json:"kept"` // handed over to the user on purpose
	Left     int      `json:"left"`
	LeftOver []string `json:"left_over,omitempty"` // kind and identifier
}

// KeepInput marks resources of an operation as handed over, in a new role.
type KeepInput struct {
	Scope   Scope    `json:"scope"`
	IDs     []string `json:"ids"` // empty = all of the scope
	NewRole string   `json:"new_role,omitempty"`
}

// Inputs and results of the activities of [Host]; queue host.<agent>.

// IdentityResult is the public-key fingerprint of an agent.
type IdentityResult struct {
	Fingerprint string `json:"fingerprint"`
}

// PrepareTargetInput lets an agent receive a stream into replica disks.
type PrepareTargetInput struct {
	Stream string        `json:"stream"`
	Scope  Scope         `json:"scope"` // site, plan, server, operation of the snapshots behind points
	Epoch  int64         `json:"epoch"`
	Disks  []DiskInfo    `json:"disks"`
	Peer   string        `json:"peer"` // fingerprint of the sender
	Keep   int           `json:"keep"`
	Within time.Duration `json:"within"`
}

// PrepareTargetResult is where the sender connects to, and whom it must find there.
type PrepareTargetResult struct {
	Address     string `json:"address"`
	Fingerprint string `json:"fingerprint"`
}

// StreamSettings can change while a stream runs.
type StreamSettings struct {
	Interval       time.Duration `json:"interval"`
	BytesPerSecond int64         `json:"bytes_per_second,omitempty"` // 0 = unlimited
	// Calendar, where set, is the limit instead, by day and local time of the source agent:
	// "mon-fri 08:00-18:00 20MiB/s, else unlimited". The agent refuses what it cannot read.
	Calendar   string `json:"calendar,omitempty"`
	AutoResume bool   `json:"auto_resume"`
}

// StartSourceInput lets an agent send a stream.
type StartSourceInput struct {
	Stream   string              `json:"stream"`
	Scope    Scope               `json:"scope"`
	Epoch    int64               `json:"epoch"`
	ServerID string              `json:"server_id"` // paused where a cut needs it
	Disks    []DiskInfo          `json:"disks"`
	Target   PrepareTargetResult `json:"target"`
	Settings StreamSettings      `json:"settings"`
	// Transfer, where it is set, moves the data without agents, from Source to Scope.Site
	// (Target is empty then); Scope is that of the snapshots, Keep and Within what is kept.
	Transfer string        `json:"transfer,omitempty"`
	Source   Site          `json:"source,omitzero"`
	Keep     int           `json:"keep,omitempty"`
	Within   time.Duration `json:"within,omitempty"`
	Key      string        `json:"key,omitempty"` // of encryption at the target; empty = the site's default
}

// StreamInput names a stream of an agent.
type StreamInput struct {
	Stream string `json:"stream"`
	Epoch  int64  `json:"epoch"`
}

// SetStreamInput changes a running stream.
type SetStreamInput struct {
	Stream   string         `json:"stream"`
	Settings StreamSettings `json:"settings"`
}

// FollowInput asks for the next notable change of a stream after a version.
type FollowInput struct {
	Stream string        `json:"stream"`
	Epoch  int64         `json:"epoch"`
	After  uint64        `json:"after"`
	For    time.Duration `json:"for"` // return at the latest after this time
}

// FollowDetails is what a running Follow heartbeats: live progress, without history.
type FollowDetails struct {
	Status StreamStatus `json:"status"`
}

// MarkPointInput asks for a point now. Final asks for current-time: the caller has
// stopped the source server, and the stream ends with it.
type MarkPointInput struct {
	Stream    string `json:"stream"`
	Epoch     int64  `json:"epoch"`
	RequestID string `json:"request_id"`
	Label     string `json:"label,omitempty"`
	Final     bool   `json:"final,omitempty"`
}

// SelectPointInput resolves ID|TIME|latest|current-time|newest-tested at the target
// and marks the point as in use by Operation; CurrentTime is consumed by it.
type SelectPointInput struct {
	Stream    string `json:"stream"`
	Selector  string `json:"selector"`
	Operation string `json:"operation"`
	// Before restricts to points cut before this instant (switch point).
	Before *time.Time `json:"before,omitempty"`
}

// PointInput names a point.
type PointInput struct {
	Stream string `json:"stream"`
	ID     string `json:"id"`
	On     bool   `json:"on"`
}

// CallInput asks an entity workflow to do something, by Update; queue lifeboat, struct [Control].
type CallInput struct {
	WorkflowID string `json:"workflow_id"`
	Update     string `json:"update"`
	UpdateID   string `json:"update_id"`
	Argument   any    `json:"argument,omitempty"`
}

// ScheduleInput makes, changes or (with an empty Cron) removes a plan's drill schedule.
type ScheduleInput struct {
	ScheduleID string        `json:"schedule_id"` // also the prefix of the workflow IDs
	Workflow   string        `json:"workflow"`    // type that is started, with a [ScheduledDrill]
	TaskQueue  string        `json:"task_queue"`
	Plan       string        `json:"plan"`
	Cron       string        `json:"cron,omitempty"`
	TimeZone   string        `json:"time_zone,omitempty"`
	CleanAfter time.Duration `json:"clean_after,omitempty"`
}

// ScheduledDrill is the argument of the workflow that a schedule starts.
type ScheduledDrill struct {
	Plan       string        `json:"plan"`
	CleanAfter time.Duration `json:"clean_after"`
}
