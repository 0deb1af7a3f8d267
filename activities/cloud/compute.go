package cloud

import (
	"context"
	"time"
)

// Disk is a block volume. Path is where an agent on this machine finds it, when it can.
type Disk struct {
	Resource
	Bytes      int64  `json:"bytes"`
	Type       string `json:"type,omitempty"`
	Server     string `json:"server,omitempty"` // attached to
	Device     string `json:"device,omitempty"` // name under which the server sees it
	SnapshotID string `json:"snapshot_id,omitempty"`
	Path       string `json:"path,omitempty"`
}

// CreateDisk asks for an empty disk (Bytes) or one filled from a snapshot, which
// may be made larger by Bytes, never smaller. Source adopts an existing file or
// block device (local sites only); DeleteDisk forgets such a disk and leaves its
// content. Key is the encryption key, empty = the site's default.
type CreateDisk struct {
	Create
	Bytes      int64  `json:"bytes,omitempty"`
	Type       string `json:"type,omitempty"`
	SnapshotID string `json:"snapshot_id,omitempty"`
	Source     string `json:"source,omitempty"`
	Key        string `json:"key,omitempty"`
}

// Disks makes, attaches and deletes block volumes.
type Disks interface {
	// StartCreateDisk begins to make a disk; poll Disk until Available or Failing.
	StartCreateDisk(ctx context.Context, in CreateDisk) (Disk, error)
	Disk(ctx context.Context, id string) (Disk, error)
	Disks(ctx context.Context, f Filter) ([]Disk, error)
	// StartAttachDisk attaches a disk to a server; attaching again to the same server
	// and device is nil, to another server InUse. Poll Disk until Attached.
	StartAttachDisk(ctx context.Context, disk, server, device string) error
	// StartDetachDisk takes a disk from its server; poll Disk until Available. Detached already is nil.
	StartDetachDisk(ctx context.Context, disk string) error
	// DeleteDisk deletes a disk; attached is InUse. Poll Disk until NotFound.
	DeleteDisk(ctx context.Context, id string) error
}

// Snapshot is an unchanging state of one disk.
type Snapshot struct {
	Resource
	Disk    string    `json:"disk"` // identifier of the disk; arbitrary for a copy
	Bytes   int64     `json:"bytes"`
	Time    time.Time `json:"time"`
	Percent int       `json:"percent"`
}

// CreateSnapshots asks for snapshots of several disks of one server, cut at one instant.
type CreateSnapshots struct {
	Create
	Disks []string `json:"disks"`
}

// CopySnapshot asks the receiving site for a copy of a snapshot of another site.
type CopySnapshot struct {
	Create
	From       Site   `json:"from"`
	SnapshotID string `json:"snapshot_id"`
	Key        string `json:"key,omitempty"` // encryption key of the receiving site
}

// Snapshots makes and copies snapshots. They cost what changed, not what the disk holds.
type Snapshots interface {
	// StartSnapshots returns one snapshot a disk, in the order asked for; poll until
	// Available. The content is that of one instant between the call and its return,
	// or, where the disks are at rest meanwhile, that of the rest: a provider that has
	// to read the disks (local without reflinks) returns when it has read them.
	StartSnapshots(ctx context.Context, in CreateSnapshots) ([]Snapshot, error)
	// StartCopySnapshot copies a snapshot that is Available. Time and Bytes are those
	// of the original. A wrong key may show late, as Failing with a Message.
	StartCopySnapshot(ctx context.Context, in CopySnapshot) (Snapshot, error)
	Snapshot(ctx context.Context, id string) (Snapshot, error)
	Snapshots(ctx context.Context, f Filter) ([]Snapshot, error)
	// DeleteSnapshot deletes a snapshot; one of an image, or one from which a disk is
	// being filled, is InUse. Poll Snapshot until NotFound.
	DeleteSnapshot(ctx context.Context, id string) error
}

// Image can be started as a server: a boot snapshot, more snapshots and defaults.
type Image struct {
	Resource
	Snapshots []ImageDisk `json:"snapshots"`
	Percent   int         `json:"percent"`
}

// ImageDisk is one disk of an image.
type ImageDisk struct {
	Device     string `json:"device"`
	SnapshotID string `json:"snapshot_id"`
	Boot       bool   `json:"boot,omitempty"`
}

// Images makes, copies and removes machine images.
type Images interface {
	// StartCreateImage snapshots every disk of a server, rebooting it when asked to.
	StartCreateImage(ctx context.Context, in Create, server string, reboot bool) (Image, error)
	// StartCopyImage copies an image of another site and its snapshots to this one,
	// under the default key of this site; for another key copy the snapshots and
	// register them. Percent tells how far it is.
	StartCopyImage(ctx context.Context, in Create, from Site, image string) (Image, error)
	// RegisterImage makes an image of snapshots that are there already. Exactly one of
	// several is marked Boot, else InvalidInput. Some clouds want names that no other
	// image of the account has: InvalidInput.
	RegisterImage(ctx context.Context, in Create, disks []ImageDisk) (Image, error)
	Image(ctx context.Context, id string) (Image, error)
	Images(ctx context.Context, f Filter) ([]Image, error)
	// DeleteImage removes the image; its snapshots stay unless withSnapshots is set.
	// Those that another image refers to stay always.
	DeleteImage(ctx context.Context, id string, withSnapshots bool) error
}

// Server is a machine.
type Server struct {
	Resource
	Type    string       `json:"type,omitempty"`
	CPU     int          `json:"cpu,omitempty"`
	Memory  int64        `json:"memory,omitempty"` // bytes
	Network string       `json:"network"`
	IP      string       `json:"ip"`
	Ports   []int        `json:"ports,omitempty"`
	Public  string       `json:"public,omitempty"` // address from outside the network, when it has one
	Disks   []ServerDisk `json:"disks"`
	// Launch holds provider-specific settings that a copy of this server needs
	// to be started the same way (local: runtime and command).
	Launch map[string]string `json:"launch,omitempty"`
}

// ServerDisk is a disk in its place. Name is stable across recovery ("root", "data").
type ServerDisk struct {
	Name   string `json:"name"`
	DiskID string `json:"disk_id"`
	Device string `json:"device,omitempty"`
	Boot   bool   `json:"boot,omitempty"`
}

// LaunchServer asks for a server from an image, or from disks that are there
// already when the provider's LaunchSource is FromDisks.
type LaunchServer struct {
	Create
	Image    string            `json:"image,omitempty"`
	Disks    []ServerDisk      `json:"disks,omitempty"`
	Type     string            `json:"type,omitempty"`   // instance type, or
	CPU      int               `json:"cpu,omitempty"`    // at least so many virtual CPUs and
	Memory   int64             `json:"memory,omitempty"` // so many bytes
	DiskType string            `json:"disk_type,omitempty"`
	Network  string            `json:"network"`
	IP       string            `json:"ip,omitempty"` // private address; empty = any free one
	Ports    []int             `json:"ports,omitempty"`
	UserData string            `json:"user_data,omitempty"`
	Launch   map[string]string `json:"launch,omitempty"`
}

// LaunchSource says what a provider starts servers from.
type LaunchSource string

const (
	FromDisks LaunchSource = "disks" // disks that exist already
	FromImage LaunchSource = "image" // an image registered from snapshots
)

// Servers launches and controls machines.
type Servers interface {
	LaunchSource() LaunchSource
	// StartLaunch begins to launch. Disks are taken as with StartAttachDisk. With
	// FromImage the disks that are made carry the tags of the server. Poll Server
	// until Running or Failing. A server may vanish again while starting (stock ran
	// out): Server is then NotFound or Failing. A private address in use is AddressTaken; no room is Capacity.
	StartLaunch(ctx context.Context, in LaunchServer) (Server, error)
	Server(ctx context.Context, id string) (Server, error)
	Servers(ctx context.Context, f Filter) ([]Server, error)
	// StartServer starts a stopped server; running already is nil. Poll until Running.
	StartServer(ctx context.Context, id string) error
	// StopServer stops one, keeping disks and address; stopped already is nil. Poll until Stopped.
	// With force it does not wait for the operating system. What it needs to start
	// again stays reserved where the cloud can do that.
	StopServer(ctx context.Context, id string, force bool) error
	// TerminateServer deletes a server and frees its address; its disks stay, Available
	// again. Poll until NotFound.
	TerminateServer(ctx context.Context, id string) error
}

// Quiescer can hold a server's writes for a moment (SIGSTOP, QMP stop).
type Quiescer interface {
	// PauseServer stops execution until resume is called, the caller dies or max has passed.
	PauseServer(ctx context.Context, id string, max time.Duration) (resume func() error, err error)
}
