package agentless

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"lifeboat/activities/cloud"
	"lifeboat/replication"

	"go.uber.org/zap"
)

// The ways in which the content of a snapshot gets to the target site.
const (
	TransferSnapshots = "snapshots" // the provider copies snapshots
	TransferBlocks    = "blocks"    // this process copies what changed, see [cloud.BlockCopier]
)

// CutSnapshot is the cut method of points that were made while the server ran.
const CutSnapshot = "snapshot"

// Disk is a disk of the source server.
type Disk struct {
	Name  string `json:"name"` // within the server, the same after a recovery
	ID    string `json:"id"`   // at the source site
	Bytes int64  `json:"bytes"`
	Boot  bool   `json:"boot,omitempty"`
}

// Spec says what a stream protects, from where to where.
type Spec struct {
	Stream    string               `json:"stream"`
	Epoch     int64                `json:"epoch"`
	Transfer  string               `json:"transfer"`
	Plan      string               `json:"plan"`
	Server    string               `json:"server"`
	Operation string               `json:"operation"` // of the ledger entries: who answers for what is made
	Source    cloud.Site           `json:"source"`
	Target    cloud.Site           `json:"target"`
	ServerID  string               `json:"server_id"`
	Disks     []Disk               `json:"disks"`
	Keep      replication.Keep     `json:"keep"`
	Settings  replication.Settings `json:"settings"`
	Key       string               `json:"key,omitempty"` // encryption key of the target site; empty = its default
}

// Config is what an engine needs. Dir, Documents and Maker are required.
type Config struct {
	// Dir holds which streams this engine runs, and what block copies remember. Its loss
	// costs nothing but to be told the streams again with Start.
	Dir string
	// Documents opens where the state of the streams into a site is kept.
	Documents func(ctx context.Context, site cloud.Site) (cloud.Documents, error)
	// Maker makes and removes snapshots.
	Maker Maker
	Log   *zap.Logger
	// RetryMin and RetryMax bound the back-off after a failure; default 1 s and 1 min.
	// It is never longer than the interval of the stream.
	RetryMin, RetryMax time.Duration
	// Copies is how many copies into the site run at once; default 20, as many as EC2 takes
	// into one region (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html).
	Copies int
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Snap is a snapshot of one disk that was made, or was about to be made.
type Snap struct {
	Disk  string `json:"disk"`         // name within the server
	Token string `json:"token"`        // client token, and key of the ledger entry
	ID    string `json:"id,omitempty"` // empty until it is known
}

// For says for whom a snapshot is made; it becomes tags and ledger entry.
type For struct {
	Plan      string `json:"plan"`
	Server    string `json:"server"`
	Operation string `json:"operation"`
	Point     string `json:"point"`
}

// CutRequest asks for snapshots of the disks of a server, cut at one instant.
type CutRequest struct {
	For      For
	Site     cloud.Site
	ServerID string // at Site
	Disks    []Disk
	Snaps    []Snap // one a disk, in the same order; the first token is the one of the call
	// Point says that these snapshots are the recovery point, and are not copied.
	Point bool
}

// CopyRequest asks for a copy of one snapshot at the target site.
type CopyRequest struct {
	For      For
	From, To cloud.Site
	Snapshot string // at From
	Snap     Snap
	Bytes    int64
	Key      string
	// Blocks asks for a copy by blocks: with FromBase and Base, an earlier pair, of those
	// that changed. State is a directory for what such a copy remembers.
	Blocks         bool
	FromBase, Base string
	State          string
}

// Removal asks for the end of snapshots that were made with one request.
type Removal struct {
	Site  cloud.Site
	Snaps []Snap
	// Since, where set, is when making them was given up: one that is not found may be
	// invisible for a while after that.
	Since *time.Time
}

// Maker makes snapshots so that however often a request is repeated, by whomever, and
// whichever answer is lost, there is one of each in the end.
type Maker interface {
	// Cut returns when all snapshots are available, one a disk in the order asked for. With
	// [ErrSpoiled] the same request cannot succeed any more: it is removed, and another is made.
	Cut(ctx context.Context, r CutRequest) ([]cloud.Snapshot, error)
	// Copy returns when the copy is available. report hears how many bytes of how many are
	// copied. ErrSpoiled as above.
	Copy(ctx context.Context, r CopyRequest, report func(done, total int64)) (cloud.Snapshot, error)
	// Remove deletes snapshots; ones that are gone, or never were, are fine.
	Remove(ctx context.Context, r Removal) error
}

func (c *Config) defaults() {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.RetryMin <= 0 {
		c.RetryMin = time.Second
	}
	if c.RetryMax < c.RetryMin {
		c.RetryMax = max(c.RetryMin, time.Minute)
	}
	if c.Copies <= 0 {
		c.Copies = 20
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Limits of a spec: as replication's.
const (
	maxName  = 120
	maxDisks = 64
)

func (s Spec) validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: stream %s: %s", replication.ErrInvalidSpec, s.Stream, fmt.Sprintf(format, args...))
	}
	switch {
	case s.Stream == "" || len(s.Stream) > maxName:
		return bad("the name must have 1 to %d bytes", maxName)
	case s.Epoch < 0:
		return bad("epoch %d is negative", s.Epoch)
	case s.Transfer != TransferSnapshots && s.Transfer != TransferBlocks:
		return bad("there is no way %q to transfer; use %s or %s", s.Transfer, TransferSnapshots, TransferBlocks)
	case s.Operation == "" || s.Plan == "":
		return bad("plan and operation are needed, so that what is made is found again")
	case s.Source.Name == "" || s.Target.Name == "":
		return bad("source and target site are needed")
	case len(s.Disks) == 0 || len(s.Disks) > maxDisks:
		return bad("%d disks; 1 to %d are possible", len(s.Disks), maxDisks)
	}
	seen := map[string]bool{}
	for _, d := range s.Disks {
		if d.Name == "" || len(d.Name) > maxName || d.ID == "" {
			return bad("disk %q needs a name and an identifier", d.Name)
		}
		if seen[d.Name] {
			return bad("two disks are called %s; names must differ", d.Name)
		}
		seen[d.Name] = true
	}
	return validSettings(s.Stream, s.Settings)
}

// validSettings refuses a bandwidth limit where the provider does the copying.
func validSettings(stream string, s replication.Settings) error {
	if s.Interval < 0 || s.BytesPerSecond < 0 {
		return fmt.Errorf("%w: stream %s: interval and bandwidth are not negative", replication.ErrInvalidSpec, stream)
	}
	return nil
}

func interval(s replication.Settings) time.Duration {
	if s.Interval <= 0 {
		return replication.DefaultInterval
	}
	return s.Interval
}

// samePlace tells whether snapshots of one site are seen at the other without a copy.
func samePlace(a, b cloud.Site) bool {
	return a.Provider == b.Provider && a.Account == b.Account && a.Region == b.Region && a.Directory == b.Directory
}

// cutSite is where a spec's snapshots are asked for: what is kept at the target is made
// and removed through the target, so that it can be without the source.
func (s Spec) cutSite() cloud.Site {
	if samePlace(s.Source, s.Target) {
		return s.Target
	}
	return s.Source
}

// documentName is where the state of a stream is kept at its target site.
func documentName(stream string) string { return "agentless/" + url.PathEscape(stream) }
