package cloud

import (
	"context"
	"time"
)

// The capabilities of this file are optional: a provider implements those that
// its place has, callers find them with [As]. The rules of the package hold.

// Key is an encryption key.
type Key struct {
	Resource
	// Region is where the key can be used; a copy is encrypted with a key of the receiving site.
	Region  string `json:"region,omitempty"`
	Enabled bool   `json:"enabled"`
}

// Keys tells before a copy whether a key can be used: clouds report a wrong key late.
type Keys interface {
	// Key finds a key by identifier or alias.
	Key(ctx context.Context, idOrAlias string) (Key, error)
	// CheckKey returns nil when this account may encrypt and decrypt with the key, Denied otherwise.
	CheckKey(ctx context.Context, id string) error
}

// Limit is an account limit with what is used of it.
type Limit struct {
	Name       string  `json:"name"` // e.g. "running vCPUs, standard types"
	Value      float64 `json:"value"`
	Used       float64 `json:"used"`
	Unit       string  `json:"unit,omitempty"`
	Adjustable bool    `json:"adjustable"`
}

// LaunchNeed is what a recovery wants to launch at once.
type LaunchNeed struct {
	Type   string `json:"type,omitempty"`
	CPU    int    `json:"cpu,omitempty"`
	Memory int64  `json:"memory,omitempty"` // bytes
	Count  int    `json:"count"`
}

// Quotas answers before the disaster what would fail in it.
type Quotas interface {
	Limits(ctx context.Context, kind Kind) ([]Limit, error)
	// CheckLaunch returns nil when the servers could be launched now; Quota, Capacity
	// or InvalidInput (unknown type) otherwise. The answer is no reservation.
	CheckLaunch(ctx context.Context, needs []LaunchNeed) error
	// CheckPermission returns nil when this account may make the calls (names of
	// methods of the contract), Denied with those that it may not.
	CheckPermission(ctx context.Context, calls []string) error
}

// Backend is a target behind a load balancer.
type Backend struct {
	Server  string `json:"server"`
	Port    int    `json:"port"`
	Weight  int    `json:"weight"`
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"` // why it is not healthy
}

// LoadBalancer is one group of back ends behind a public or private address.
type LoadBalancer struct {
	Resource
	Address  string    `json:"address"`
	Backends []Backend `json:"backends"`
}

// LoadBalancers moves traffic between back ends.
type LoadBalancers interface {
	LoadBalancer(ctx context.Context, idOrName string) (LoadBalancer, error)
	LoadBalancers(ctx context.Context, f Filter) ([]LoadBalancer, error)
	// StartSetBackends makes the back ends exactly these; the same again is fine.
	// Poll LoadBalancer until it lists them and they are healthy.
	StartSetBackends(ctx context.Context, id, token string, backends []Backend) error
}

// ScalingGroup is a set of equal servers.
type ScalingGroup struct {
	Resource
	Min     int      `json:"min"`
	Max     int      `json:"max"`
	Desired int      `json:"desired"`
	Servers []string `json:"servers"` // in service
}

// ScalingGroups grows a small standby to its full size.
type ScalingGroups interface {
	ScalingGroup(ctx context.Context, idOrName string) (ScalingGroup, error)
	ScalingGroups(ctx context.Context, f Filter) ([]ScalingGroup, error)
	// StartScale sets all three figures; min ≤ desired ≤ max, else InvalidInput.
	// The same again is nil. Poll ScalingGroup until as many servers are in service.
	StartScale(ctx context.Context, id, token string, min, desired, max int) error
}

// Database is a managed database or a replica of one.
type Database struct {
	Resource
	Engine   string        `json:"engine"`
	Endpoint string        `json:"endpoint,omitempty"` // host:port
	Source   string        `json:"source,omitempty"`   // set while it is a replica
	Lag      time.Duration `json:"lag,omitempty"`      // behind the source
}

// RestoreDatabase asks for a new database: of a snapshot of this site, or at a point of time of a database
// of this site. Its name is its identifier where the provider has no other.
type RestoreDatabase struct {
	Create
	Database string     `json:"database,omitempty"`
	Snapshot string     `json:"snapshot,omitempty"`
	Time     *time.Time `json:"time,omitempty"` // nil = the latest
	Type     string     `json:"type,omitempty"`
	Network  string     `json:"network,omitempty"`
}

// CreateReplica asks for a replica of a database of another site, or of this one.
type CreateReplica struct {
	Create
	From     Site   `json:"from"`
	Database string `json:"database"`
	Type     string `json:"type,omitempty"`
	Network  string `json:"network,omitempty"`
	Key      string `json:"key,omitempty"` // encryption key of the receiving site
}

// Databases restores managed databases and promotes their replicas.
type Databases interface {
	Database(ctx context.Context, id string) (Database, error)
	Databases(ctx context.Context, f Filter) ([]Database, error)
	StartRestoreDatabase(ctx context.Context, in RestoreDatabase) (Database, error)
	StartReplica(ctx context.Context, in CreateReplica) (Database, error)
	// StartPromote makes a replica a database of its own, for good; one that is none any more is nil.
	// It is NotReady while the replica is further behind its source than maxLag, or while nobody knows
	// how far; a negative maxLag takes it as it is. Poll Database until it is Available without a Source.
	StartPromote(ctx context.Context, id string, maxLag time.Duration) error
	// DeleteDatabase deletes a database, with a last snapshot of that name unless it is empty.
	DeleteDatabase(ctx context.Context, id, lastSnapshot string) error
}

// DatabaseSnapshot is an unchanging state of one database.
type DatabaseSnapshot struct {
	Resource
	Database string    `json:"database"`
	Engine   string    `json:"engine"`
	Version  string    `json:"version"`
	Bytes    int64     `json:"bytes"` // of the database's storage
	Time     time.Time `json:"time"`  // of the original, for a copy
	Percent  int       `json:"percent"`
}

// CopyDatabaseSnapshot asks the receiving site for a copy of a snapshot of another site.
type CopyDatabaseSnapshot struct {
	Create
	From     Site   `json:"from"`
	Snapshot string `json:"snapshot"`
	Key      string `json:"key,omitempty"` // encryption key of the receiving site
}

// ExportDatabase asks for the tables of a snapshot as files in object storage.
type ExportDatabase struct {
	Create
	Snapshot string `json:"snapshot"`
	Bucket   string `json:"bucket"`
	Prefix   string `json:"prefix,omitempty"`
	Role     string `json:"role"` // as which the service writes
	Key      string `json:"key"`  // that encrypts the files
}

// DatabaseExport is an export of a snapshot.
type DatabaseExport struct {
	Resource
	Snapshot string `json:"snapshot"`
	Location string `json:"location"`
	Percent  int    `json:"percent"`
}

// DatabaseSnapshots makes, copies and exports snapshots of managed databases.
type DatabaseSnapshots interface {
	StartDatabaseSnapshot(ctx context.Context, in Create, database string) (DatabaseSnapshot, error)
	StartCopyDatabaseSnapshot(ctx context.Context, in CopyDatabaseSnapshot) (DatabaseSnapshot, error)
	DatabaseSnapshot(ctx context.Context, id string) (DatabaseSnapshot, error)
	DatabaseSnapshots(ctx context.Context, f Filter) ([]DatabaseSnapshot, error)
	DeleteDatabaseSnapshot(ctx context.Context, id string) error
	// StartExportDatabase exports a snapshot that is Available. Engines or versions that the service
	// cannot export are Unsupported.
	StartExportDatabase(ctx context.Context, in ExportDatabase) (DatabaseExport, error)
	DatabaseExport(ctx context.Context, id string) (DatabaseExport, error)
}

// FileSystem is a shared directory.
type FileSystem struct {
	Resource
	Endpoint string        `json:"endpoint,omitempty"`
	Bytes    int64         `json:"bytes"`
	Source   string        `json:"source,omitempty"` // set while it is a replica, and read-only
	Lag      time.Duration `json:"lag,omitempty"`
}

// FileSystems replicates shared directories.
type FileSystems interface {
	FileSystem(ctx context.Context, id string) (FileSystem, error)
	FileSystems(ctx context.Context, f Filter) ([]FileSystem, error)
	StartReplicaFileSystem(ctx context.Context, in Create, from Site, fileSystem string) (FileSystem, error)
	// StartPromoteFileSystem ends the replication and makes the replica writable.
	StartPromoteFileSystem(ctx context.Context, id string) error
	DeleteFileSystem(ctx context.Context, id string) error
}

// Stack is a set of resources made from a template of the provider.
type Stack struct {
	Resource
	Outputs map[string]string `json:"outputs,omitempty"`
}

// CreateStack asks for a stack.
type CreateStack struct {
	Create
	Template   string            `json:"template"`
	Parameters map[string]string `json:"parameters,omitempty"`
	// Capabilities are what the caller consents to, where the provider asks for that (AWS: CAPABILITY_NAMED_IAM, …).
	Capabilities []string `json:"capabilities,omitempty"`
}

// Drift is how resources differ from the template that they were made from.
type Drift struct {
	State       State    `json:"state"` // Creating while they are compared, then Available, or Failing with a Message
	Message     string   `json:"message,omitempty"`
	Differences []string `json:"differences"` // for people, one line each
}

// Stacks makes the parts of a site that are described by templates.
type Stacks interface {
	// StartCreateStack begins to make a stack; poll Stack until Available, or Failing with the reason of what failed first.
	StartCreateStack(ctx context.Context, in CreateStack) (Stack, error)
	Stack(ctx context.Context, idOrName string) (Stack, error)
	Stacks(ctx context.Context, f Filter) ([]Stack, error)
	// DeleteStack deletes a stack and what it made; poll Stack until NotFound, or Failing.
	DeleteStack(ctx context.Context, id string) error
	// StartDrift begins to compare what a stack made with its template, and returns what Drift asks for.
	StartDrift(ctx context.Context, id string) (detection string, err error)
	Drift(ctx context.Context, id, detection string) (Drift, error)
}

// Measurement is one value of a metric at one time.
type Measurement struct {
	Name   string            `json:"name"` // e.g. "rpo_seconds"
	Labels map[string]string `json:"labels,omitempty"`
	Value  float64           `json:"value"`
	Time   time.Time         `json:"time"`
}

// Alert is something that a person has to know.
type Alert struct {
	Token   string            `json:"token"` // the same alert is sent once
	Title   string            `json:"title"`
	Text    string            `json:"text"`
	Labels  map[string]string `json:"labels,omitempty"`
	Channel string            `json:"channel,omitempty"` // topic or contact group
}

// Alerts puts measurements and alerts where the provider's users look.
type Alerts interface {
	PutMeasurements(ctx context.Context, list []Measurement) error
	SendAlert(ctx context.Context, a Alert) error
}

// Places between which a switch chooses.
const (
	SwitchPrimary   = "primary"
	SwitchSecondary = "secondary"
)

// Switches move the traffic of a name without the control plane of DNS: what decides is prepared
// in time, and lies at the site that takes over. They are for the disaster in which the control
// plane, too, is away. All calls for a name are made at one site, the one of the secondary.
type Switches interface {
	// PrepareSwitch makes a name answer with the primary record, and with the secondary one while it
	// is switched to that. Both have the same name, type and TTL; simple records of the name give way
	// to them. Again with other values changes those, and leaves the position. NotReady is to be
	// waited for: until then nothing was changed. Poll Change until Available.
	PrepareSwitch(ctx context.Context, zone, token string, primary, secondary Record) (Change, error)
	// FlipSwitch puts the switch of a name to SwitchPrimary or SwitchSecondary; there already is nil.
	// It needs nothing but the site. NotFound is a name that was not prepared.
	FlipSwitch(ctx context.Context, name, active string) error
	// ActiveSwitch tells the position of a switch; name servers follow it within a minute or so.
	ActiveSwitch(ctx context.Context, name string) (string, error)
	// RemoveSwitch makes a simple record of the one that is active, and deletes all that PrepareSwitch
	// made. NotReady is to be waited for: call it until nil, also after a failure. NotFound when there
	// is no switch (any more).
	RemoveSwitch(ctx context.Context, name, token string) error
}

// RestoreServer asks for disks of a server to be put back, in place, to what snapshots hold.
type RestoreServer struct {
	Create
	Server string        `json:"server"`
	Disks  []RestoreDisk `json:"disks"`
}

// RestoreDisk is one of them. Disk is the one that the server has now; its place gets a disk made of the snapshot.
type RestoreDisk struct {
	Disk       string `json:"disk"`
	SnapshotID string `json:"snapshot_id"`
}

// Restore is how far it is: Creating with a Message of what is waited for, or Available.
type Restore struct {
	State   State  `json:"state"`
	Message string `json:"message,omitempty"`
	// Undo holds what the disks held before, Disks those that are in their places, both in the order asked for.
	// The earlier disks stay, detached, until the caller deletes them.
	Undo  []Snapshot `json:"undo"`
	Disks []string   `json:"disks"`
}

// Restorer puts a server back without making another one: it keeps its identifier, addresses and place behind load
// balancers. Disks other than the one that it boots from need a stopped server, else Conflict; the boot disk alone
// may be replaced while it runs, which reboots it.
type Restorer interface {
	// RestoreServer goes on with a restore as far as it can without waiting. The same token again goes on where
	// it is, after a crash, too: call it until Available. It cuts the disks for Undo before it changes anything.
	RestoreServer(ctx context.Context, in RestoreServer) (Restore, error)
}

// BackupJob is a backup, a copy of one, or a restore.
type BackupJob struct {
	Resource
	Percent int    `json:"percent"`
	Bytes   int64  `json:"bytes"`
	Point   string `json:"point,omitempty"` // what a backup or a copy makes
	Made    string `json:"made,omitempty"`  // what a restore made
}

// StartBackup asks for a recovery point of a resource in a vault of the site. Role is as whom the service acts.
type StartBackup struct {
	Create
	Target string `json:"target"`
	Vault  string `json:"vault"`
	Role   string `json:"role"`
}

// CopyBackup asks for a copy of a recovery point of another site in a vault of this one.
type CopyBackup struct {
	Create
	From      Site   `json:"from"`
	FromVault string `json:"from_vault"`
	Point     string `json:"point"`
	Vault     string `json:"vault"`
	Role      string `json:"role"`
}

// RestoreBackup asks for a new resource of a recovery point of the site. Settings are added to those that were kept
// with the point, or replace them.
type RestoreBackup struct {
	Create
	Vault    string            `json:"vault"`
	Point    string            `json:"point"`
	Role     string            `json:"role"`
	Settings map[string]string `json:"settings,omitempty"`
}

// Backups protects resources that have no capability of their own through the provider's backup service. Jobs carry
// no tags.
type Backups interface {
	StartBackup(ctx context.Context, in StartBackup) (BackupJob, error)
	StartCopyBackup(ctx context.Context, in CopyBackup) (BackupJob, error)
	StartRestoreBackup(ctx context.Context, in RestoreBackup) (BackupJob, error)
	// BackupJob finds a job by the identifier that one of the three returned; poll it until Available, or Failing.
	BackupJob(ctx context.Context, id string) (BackupJob, error)
}
