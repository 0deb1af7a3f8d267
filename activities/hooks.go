package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

// Labels that travel with a stream, so that the engine's hooks know whose it is.
const (
	labelSite   = "site"
	labelPlan   = "plan"
	labelServer = "server"
	labelOp     = "operation"
	labelID     = "server-id"
	labelDisk   = "disk:" // + name → identifier of the replica disk
)

func labels(s Scope, serverID string, disks []DiskInfo) map[string]string {
	l := map[string]string{labelSite: s.Site.Name, labelPlan: s.Plan, labelServer: s.Server, labelOp: s.Operation, labelID: serverID}
	for _, d := range disks {
		l[labelDisk+d.Name] = d.DiskID
	}
	return l
}

// SitePauser stands a server still through the provider of the agent's site.
type SitePauser struct {
	Provider cloud.Provider
	Max      time.Duration // longest pause; default 30 s
}

// Pause implements [replication.Pauser].
func (p SitePauser) Pause(ctx context.Context, spec replication.SourceSpec) (func() error, error) {
	q, err := cloud.As[cloud.Quiescer](p.Provider, "pausing of servers")
	if err != nil {
		return nil, err
	}
	limit := p.Max
	if limit == 0 {
		limit = 30 * time.Second
	}
	id := spec.Labels[labelID]
	resume, err := q.PauseServer(ctx, id, limit)
	if cloud.CodeOf(err) == cloud.Conflict {
		return p.standing(ctx, id, err)
	}
	return resume, err
}

// standing is the pause of a server that does not run: nothing writes, as long as it
// has not been started at the end.
func (p SitePauser) standing(ctx context.Context, id string, conflict error) (func() error, error) {
	servers, err := cloud.As[cloud.Servers](p.Provider, "servers")
	if err != nil {
		return nil, err
	}
	stands := func(ctx context.Context) (bool, error) {
		s, err := servers.Server(ctx, id)
		return s.State == cloud.Stopped || s.State == cloud.Failing, err
	}
	if ok, err := stands(ctx); err != nil || !ok {
		return nil, errors.Join(conflict, err)
	}
	return func() error {
		ok, err := stands(context.WithoutCancel(ctx))
		if err == nil && !ok {
			err = cloud.E(cloud.Conflict, "Pause", "server "+id, "was started while its disks were read", "", nil)
		}
		return err
	}, nil
}

// SitePoints takes the snapshots behind recovery points at the agent's site, each
// in the site's ledger.
type SitePoints struct {
	Provider cloud.Provider
	Timing   Timing
}

// Make implements [replication.PointMaker]: the same point again gives the same snapshots.
func (p SitePoints) Make(ctx context.Context, req replication.PointRequest) (map[string]string, error) {
	snapshots, err := cloud.As[cloud.Snapshots](p.Provider, "snapshots")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, d := range req.Disks {
		disk := req.Labels[labelDisk+d.Name]
		if disk == "" {
			return nil, fmt.Errorf("stream %s: the identifier of replica disk %s is not known; start replication again", req.Stream, d.Name)
		}
		m := p.making(snapshots, req, d.Name, disk)
		begun, err := m.begin(ctx)
		if err != nil {
			return nil, err
		}
		snap, err := m.await(ctx, begun, cloud.Available)
		if err != nil {
			return nil, err
		}
		out[d.Name] = snap.ID
	}
	return out, nil
}

// making says how to make the snapshot of one replica disk.
func (p SitePoints) making(snapshots cloud.Snapshots, req replication.PointRequest, name, disk string) making[cloud.Snapshot] {
	l := req.Labels
	scope := Scope{Site: p.Provider.Site(), Plan: l[labelPlan], Server: l[labelServer], Operation: l[labelOp], Role: RolePoint}
	return making[cloud.Snapshot]{p: p.Provider, t: p.Timing, scope: scope, kind: cloud.KindSnapshot, step: "point " + req.ID, name: name,
		tags: map[string]string{cloud.TagPoint: req.ID},
		get:  snapshots.Snapshot, list: snapshots.Snapshots, of: ofSnapshot,
		start: func(ctx context.Context, in cloud.Create) (cloud.Snapshot, error) {
			made, err := snapshots.StartSnapshots(ctx, cloud.CreateSnapshots{Create: in, Disks: []string{disk}})
			if err != nil {
				return cloud.Snapshot{}, err
			}
			return made[0], nil
		}}
}

// Remove implements [replication.PointMaker]: snapshots that are gone already are fine.
func (p SitePoints) Remove(ctx context.Context, point replication.Point) error {
	snapshots, err := cloud.As[cloud.Snapshots](p.Provider, "snapshots")
	if err != nil {
		return err
	}
	ledger, err := cloud.As[cloud.Ledger](p.Provider, "ledger")
	if err != nil {
		return err
	}
	ids, err := snapshotsOf(ctx, snapshots, point)
	if err != nil {
		return err
	}
	for _, id := range ids {
		token, err := tokenOf(ctx, snapshots, ledger, id)
		if err != nil {
			return err
		}
		if err := cloud.IgnoreNotFound(snapshots.DeleteSnapshot(ctx, id)); err != nil {
			return err
		}
		if token == "" {
			continue
		}
		if err := ledger.Gone(ctx, token); err != nil {
			return err
		}
	}
	return nil
}

// tokenOf finds the ledger entry of a snapshot: by its tag, or, when the snapshot is
// gone already, by looking through the ledger.
func tokenOf(ctx context.Context, snapshots cloud.Snapshots, ledger cloud.Ledger, id string) (string, error) {
	snap, err := snapshots.Snapshot(ctx, id)
	if err == nil || !cloud.IsNotFound(err) {
		return snap.Tags[cloud.TagToken], err
	}
	entries, err := ledger.Entries(ctx, cloud.LedgerFilter{Role: RolePoint})
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.ID == id && e.Deleted == nil {
			return e.Token, nil
		}
	}
	return "", nil
}

// snapshotsOf lists the snapshots of a point. Those of a point that was never completed
// are not in the catalogue: they are found by their tag.
func snapshotsOf(ctx context.Context, snapshots cloud.Snapshots, point replication.Point) ([]string, error) {
	var ids []string
	complete := len(point.Disks) > 0
	for _, d := range point.Disks {
		if d.Snapshot == "" {
			complete = false
			continue
		}
		ids = append(ids, d.Snapshot)
	}
	if complete {
		return ids, nil
	}
	tagged, err := snapshots.Snapshots(ctx, cloud.Filter{Tags: map[string]string{cloud.TagPoint: point.ID}})
	for _, s := range tagged {
		if !slices.Contains(ids, s.ID) {
			ids = append(ids, s.ID)
		}
	}
	return ids, err
}

// superseded tells whether a heartbeat's answer means that this attempt should let go.
func superseded(err error) bool {
	var canceled *temporal.CanceledError
	var gone *serviceerror.NotFound
	return errors.As(err, &canceled) || errors.As(err, &gone)
}

func ignoreNoPoint(err error) error {
	if errors.Is(err, replication.ErrUnknownPoint) || errors.Is(err, replication.ErrUnknownStream) {
		return nil
	}
	return Err(err)
}
