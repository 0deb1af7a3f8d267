package replication

import (
	"fmt"
	"time"
)

// Disk names one disk of a stream.
type Disk struct {
	// Name tells the disks of a server apart and is the same at both ends.
	Name string `json:"name"`
	// Path is a raw file or a block device.
	Path string `json:"path"`
	// Size in bytes; 0 means the size that is found.
	Size int64 `json:"size"`
}

// Settings may be changed while a stream runs.
type Settings struct {
	// Interval is the time from one cut to the next; default 10 s.
	Interval time.Duration `json:"interval_ns"`
	// BytesPerSecond limits what is sent; 0 is unlimited.
	BytesPerSecond int64 `json:"bytes_per_second"`
	// Calendar, where set, is the limit by day and hour instead, as delta.ParseCalendar reads it:
	// "mon-fri 08:00-18:00 20MiB/s, else unlimited", in local time.
	Calendar string `json:"calendar,omitempty"`
	// AutoResume lets the stream go on by itself after the link broke or the
	// source agent was restarted; else it stays interrupted until Resume.
	AutoResume bool `json:"auto_resume"`
}

// DefaultInterval is used where Settings.Interval is not positive.
const DefaultInterval = 10 * time.Second

func (s Settings) interval() time.Duration {
	if s.Interval <= 0 {
		return DefaultInterval
	}
	return s.Interval
}

// SourceSpec says what a source sends, and to whom.
type SourceSpec struct {
	Stream            string            `json:"stream"`
	Epoch             int64             `json:"epoch"`
	Disks             []Disk            `json:"disks"`
	TargetAddress     string            `json:"target_address"`
	TargetFingerprint Fingerprint       `json:"target_fingerprint"`
	Settings          Settings          `json:"settings"`
	Labels            map[string]string `json:"labels,omitempty"`
}

// Keep is the retention of points: the newest Count of those that are not older
// than Within. Zero means no limit. The newest point is always kept.
type Keep struct {
	Count  int           `json:"count"`
	Within time.Duration `json:"within_ns"`
}

// TargetSpec says what a target receives, and from whom.
type TargetSpec struct {
	Stream string            `json:"stream"`
	Epoch  int64             `json:"epoch"`
	Disks  []Disk            `json:"disks"`
	Peer   Fingerprint       `json:"peer"`
	Keep   Keep              `json:"keep"`
	Labels map[string]string `json:"labels,omitempty"`
}

// TargetInfo is what a source must know to reach a target.
type TargetInfo struct {
	Address     string      `json:"address"`
	Fingerprint Fingerprint `json:"fingerprint"`
}

// PointKind says why a point was made.
type PointKind string

// The kinds of points.
const (
	PointScheduled   PointKind = "scheduled"
	PointMarked      PointKind = "marked"
	PointCurrentTime PointKind = "current-time"
)

// How a cut was made.
const (
	CutReflink = "reflink" // clones of the disk files
	CutPause   = "pause"   // the server stood still while changes were read
	CutStopped = "stopped" // the server was stopped by the caller (Final)
	CutNone    = "none"    // read while the server ran: never a point
)

// PointDisk is one disk of a point.
type PointDisk struct {
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes"`
	Root     string `json:"root"`
	Snapshot string `json:"snapshot,omitempty"`
}

// Point is a state of all disks of a server at one instant.
type Point struct {
	ID     string `json:"id"`
	Stream string `json:"stream"`
	Epoch  int64  `json:"epoch"`
	// Time is the instant of the cut, by the clock of the source.
	Time        time.Time   `json:"time"`
	Label       string      `json:"label,omitempty"`
	Kind        PointKind   `json:"kind"`
	Consistency string      `json:"consistency"`
	Disks       []PointDisk `json:"disks"`
	// Verified: roots of replica and cut agreed before the snapshot was taken.
	Verified  bool          `json:"verified"`
	TestedAt  *time.Time    `json:"tested_at,omitempty"`
	Locked    bool          `json:"locked"`
	InUse     bool          `json:"in_use"`
	Consumed  bool          `json:"consumed"`
	CutMethod string        `json:"cut_method"`
	Pause     time.Duration `json:"pause_ns"`
}

// The stages of a stream.
const (
	StageStarting = "starting"
	StageFull     = "full"
	StageRealTime = "real-time"
	StageStopped  = "stopped"
)

// The health of a stream; it always comes with a reason unless ok.
const (
	HealthOK          = "ok"
	HealthLagging     = "lagging"
	HealthInterrupted = "interrupted"
	HealthStalled     = "stalled"
	HealthPaused      = "paused"
	HealthResyncing   = "resyncing"
)

// The roles of Status.
const (
	RoleSource = "source"
	RoleTarget = "target"
)

// Status is a picture of a stream at one moment.
type Status struct {
	Stream string `json:"stream"`
	Epoch  int64  `json:"epoch"`
	Role   string `json:"role"`
	// Version counts notable changes; see Engine.Wait.
	Version      uint64 `json:"version"`
	Stage        string `json:"stage"`
	Health       string `json:"health"`
	HealthReason string `json:"health_reason,omitempty"`

	// BytesTotal and BytesDone count used bytes (holes excluded) of the first copy.
	BytesTotal         int64         `json:"bytes_total"`
	BytesDone          int64         `json:"bytes_done"`
	Percent            float64       `json:"percent"`
	RateBytesPerSecond float64       `json:"rate_bytes_per_second"`
	ETA                time.Duration `json:"eta_ns"`
	// Lag is now minus the instant of the newest durable cut; 0 before the first.
	Lag time.Duration `json:"lag_ns"`

	// Since this process opened the stream: read, found changed, sent on the
	// wire, and recognised as already there.
	BytesScanned int64 `json:"bytes_scanned"`
	BytesChanged int64 `json:"bytes_changed"`
	BytesSent    int64 `json:"bytes_sent"`
	BytesSkipped int64 `json:"bytes_skipped"`
	// Durable is what the target acknowledged as synced, in bytes on the wire, since
	// this process opened the stream. Only the source counts it.
	Durable   int64         `json:"durable"`
	LastPoint *Point        `json:"last_point,omitempty"`
	Passes    int64         `json:"passes"`
	CutMethod string        `json:"cut_method,omitempty"`
	LastPause time.Duration `json:"last_pause_ns"`
	// Bottleneck says in words what the pass waits for: source disk, CPU, link,
	// bandwidth limit, target.
	Bottleneck string `json:"bottleneck,omitempty"`
}

func (s SourceSpec) validate() error {
	if s.TargetAddress == "" || s.TargetFingerprint == "" {
		return fmt.Errorf("%w: stream %s: target address and fingerprint are needed; take them from PrepareTarget", ErrInvalidSpec, s.Stream)
	}
	if err := s.Settings.validate(s.Stream); err != nil {
		return err
	}
	return validateStream(s.Stream, s.Epoch, s.Disks)
}

func (s TargetSpec) validate() error {
	if s.Peer == "" {
		return fmt.Errorf("%w: stream %s: the fingerprint of the source is needed; take it from the source engine", ErrInvalidSpec, s.Stream)
	}
	for _, d := range s.Disks {
		if d.Size <= 0 {
			return fmt.Errorf("%w: stream %s: disk %s has no size; give the size of the source disk", ErrInvalidSpec, s.Stream, d.Name)
		}
	}
	return validateStream(s.Stream, s.Epoch, s.Disks)
}

const (
	maxStreamName = 120
	maxDisks      = 64
)

func validateStream(stream string, epoch int64, disks []Disk) error {
	if stream == "" || len(stream) > maxStreamName {
		return fmt.Errorf("%w: stream name %q must have 1 to %d bytes", ErrInvalidSpec, stream, maxStreamName)
	}
	if epoch < 0 {
		return fmt.Errorf("%w: stream %s: epoch %d is negative", ErrInvalidSpec, stream, epoch)
	}
	if len(disks) == 0 || len(disks) > maxDisks {
		return fmt.Errorf("%w: stream %s has %d disks; 1 to %d are possible", ErrInvalidSpec, stream, len(disks), maxDisks)
	}
	seen := map[string]bool{}
	for _, d := range disks {
		if d.Name == "" || len(d.Name) > maxStreamName || d.Path == "" || d.Size < 0 {
			return fmt.Errorf("%w: stream %s: disk %q needs a name, a path and a size that is not negative", ErrInvalidSpec, stream, d.Name)
		}
		if seen[d.Name] {
			return fmt.Errorf("%w: stream %s has two disks called %s; names must differ", ErrInvalidSpec, stream, d.Name)
		}
		seen[d.Name] = true
	}
	return nil
}
