package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
)

// RoleBase is the role of snapshots at the source site from which recovery points are copied.
const RoleBase = "base"

// AgentlessSites makes the snapshots of agentless streams through the providers of their
// sites, each in the ledger of its site. It implements [agentless.Maker].
type AgentlessSites struct {
	Open   OpenFunc
	Timing Timing
	// Pause is the longest pause of a server for a cut, where a provider cuts disks at
	// rest only; default 30 s.
	Pause time.Duration
}

// Documents opens where a site keeps the state of streams; for [agentless.Config].
func (a AgentlessSites) Documents(ctx context.Context, site cloud.Site) (cloud.Documents, error) {
	p, err := a.Open(ctx, site)
	if err != nil {
		return nil, err
	}
	return cloud.As[cloud.Documents](p, "documents")
}

// snapshotPlace is a site that is open, with what snapshots need.
type snapshotPlace struct {
	p         cloud.Provider
	snapshots cloud.Snapshots
	ledger    cloud.Ledger
}

func (a AgentlessSites) place(ctx context.Context, site cloud.Site) (snapshotPlace, error) {
	p, err := a.Open(ctx, site)
	if err != nil {
		return snapshotPlace{}, err
	}
	s := snapshotPlace{p: p}
	if s.snapshots, err = cloud.As[cloud.Snapshots](p, "snapshots"); err != nil {
		return s, err
	}
	s.ledger, err = cloud.As[cloud.Ledger](p, "ledger")
	return s, err
}

func agentlessScope(f agentless.For, site cloud.Site, role string) Scope {
	return Scope{Site: site, Plan: f.Plan, Server: f.Server, Operation: f.Operation, Role: role}
}

// announce enters a snapshot that is going to be made into the ledger. repeat says that an
// earlier attempt did. One that was made and deleted since cannot be made again.
func (s snapshotPlace) announce(ctx context.Context, scope Scope, token string) (entry cloud.Entry, repeat bool, err error) {
	mine := scope.entry(cloud.KindSnapshot, token)
	mine.Intended = time.Now().UTC()
	if entry, err = s.ledger.Intend(ctx, mine); err != nil {
		return entry, false, err
	}
	if entry.Deleted != nil {
		return entry, true, errors.Join(agentless.ErrSpoiled, cloud.E(cloud.Failed, "Create", "snapshot "+entry.ID, "was deleted since it was made", "", nil))
	}
	return entry, !entry.Intended.Equal(mine.Intended), nil
}

// Cut implements [agentless.Maker].
func (a AgentlessSites) Cut(ctx context.Context, r agentless.CutRequest) ([]cloud.Snapshot, error) {
	s, err := a.place(ctx, r.Site)
	if err != nil {
		return nil, err
	}
	role := RoleBase
	if r.Point {
		role = RolePoint
	}
	scope := agentlessScope(r.For, r.Site, role)
	ids := make([]string, len(r.Disks))
	known, repeat := true, false
	for i := range r.Disks {
		entry, before, err := s.announce(ctx, scope, r.Snaps[i].Token)
		if err != nil {
			return nil, err
		}
		ids[i], known, repeat = entry.ID, known && entry.ID != "", repeat || before
	}
	if !known {
		if ids, err = a.startCut(ctx, s, scope, r, repeat); err != nil {
			return nil, err
		}
	}
	made := make([]cloud.Snapshot, len(ids))
	for i, id := range ids {
		if made[i], err = a.settleSnapshot(ctx, s, id, nil); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// startCut asks for the snapshots of a cut, under one token, and notes which they are.
func (a AgentlessSites) startCut(ctx context.Context, s snapshotPlace, scope Scope, r agentless.CutRequest, repeat bool) ([]string, error) {
	in := cloud.CreateSnapshots{Create: cloud.Create{Token: r.Snaps[0].Token, Tags: scope.tags(r.Snaps[0].Token), Repeat: repeat}}
	in.Tags[cloud.TagPoint] = r.For.Point
	in.Name = r.For.Server + "-" + r.For.Point
	for _, d := range r.Disks {
		in.Disks = append(in.Disks, d.ID)
	}
	made, err := a.cutAtRest(ctx, s, r.ServerID, in)
	if err != nil {
		return nil, err
	}
	if len(made) != len(r.Disks) {
		return nil, fmt.Errorf("%d snapshots of %d disks were made: %w", len(made), len(r.Disks), agentless.ErrSpoiled)
	}
	ids := make([]string, len(made))
	for i, snap := range made {
		ids[i] = snap.ID
		if err := s.ledger.Made(ctx, r.Snaps[i].Token, snap.ID); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// cutAtRest cuts while the server stands still, where its provider can do that: one that
// cannot cuts at one instant by itself. The call ends before the pause does, so that a
// cut that is whole was made in it, whoever was killed meanwhile.
func (a AgentlessSites) cutAtRest(ctx context.Context, s snapshotPlace, server string, in cloud.CreateSnapshots) ([]cloud.Snapshot, error) {
	pauser := SitePauser{Provider: s.p, Max: cmp.Or(a.Pause, 30*time.Second)}
	q, err := cloud.As[cloud.Quiescer](s.p, "pausing of servers")
	if err != nil {
		return s.snapshots.StartSnapshots(ctx, in)
	}
	cutting, cancel := context.WithTimeout(ctx, pauser.Max*9/10)
	defer cancel()
	resume, err := q.PauseServer(ctx, server, pauser.Max)
	switch cloud.CodeOf(err) {
	case cloud.Unsupported:
		return s.snapshots.StartSnapshots(ctx, in)
	case cloud.Conflict:
		cutting = ctx
		resume, err = pauser.standing(ctx, server, err)
	}
	if err != nil {
		return nil, err
	}
	made, err := s.snapshots.StartSnapshots(cutting, in)
	late := err != nil && cutting.Err() != nil && ctx.Err() == nil
	if rerr := resume(); rerr != nil && err == nil {
		return nil, errors.Join(agentless.ErrSpoiled, rerr)
	}
	if late {
		return nil, cloud.E(cloud.Unsupported, "Cut", "server "+server, fmt.Sprintf("its disks cannot be read within a pause of %v", pauser.Max),
			"keep the disks on a file system with reflinks (btrfs, xfs), or protect it by agents", err)
	}
	return made, err
}

// settleSnapshot waits until a snapshot is available. One that failed or vanished spoils
// what it is for.
func (a AgentlessSites) settleSnapshot(ctx context.Context, s snapshotPlace, id string, look func(cloud.Snapshot)) (cloud.Snapshot, error) {
	snap, err := settle(ctx, a.Timing, "snapshot "+id, func() (cloud.Snapshot, error) {
		got, err := s.snapshots.Snapshot(ctx, id)
		if err == nil && look != nil {
			look(got)
		}
		return got, err
	}, ofSnapshot, cloud.Available)
	if code := cloud.CodeOf(err); code == cloud.Failed || code == cloud.NotFound {
		err = errors.Join(agentless.ErrSpoiled, err)
	}
	return snap, err
}

// Copy implements [agentless.Maker].
func (a AgentlessSites) Copy(ctx context.Context, r agentless.CopyRequest, report func(done, total int64)) (cloud.Snapshot, error) {
	s, err := a.place(ctx, r.To)
	if err != nil {
		return cloud.Snapshot{}, err
	}
	scope := agentlessScope(r.For, r.To, RolePoint)
	entry, repeat, err := s.announce(ctx, scope, r.Snap.Token)
	if err != nil {
		return cloud.Snapshot{}, err
	}
	in := cloud.Create{Token: r.Snap.Token, Name: r.For.Server + "-" + r.For.Point + "-" + r.Snap.Disk, Tags: scope.tags(r.Snap.Token), Repeat: repeat}
	in.Tags[cloud.TagPoint] = r.For.Point
	id := entry.ID
	if id == "" {
		if id, err = a.startCopy(ctx, s, r, in, report); err != nil {
			return cloud.Snapshot{}, err
		}
		if err := s.ledger.Made(ctx, r.Snap.Token, id); err != nil {
			return cloud.Snapshot{}, err
		}
	}
	snap, err := a.settleSnapshot(ctx, s, id, func(snap cloud.Snapshot) {
		report(snap.Bytes/100*int64(snap.Percent), snap.Bytes)
	})
	if err == nil {
		report(snap.Bytes, snap.Bytes)
	}
	return snap, err
}

// startCopy asks for a copy, in the way that the stream has chosen.
func (a AgentlessSites) startCopy(ctx context.Context, s snapshotPlace, r agentless.CopyRequest, in cloud.Create, report func(done, total int64)) (string, error) {
	if r.Blocks {
		copier, err := cloud.As[cloud.BlockCopier](s.p, "copies by blocks")
		if err != nil {
			return "", err
		}
		snap, err := copier.CopyBlocks(ctx, cloud.BlockCopy{Create: in, From: r.From, SnapshotID: r.Snapshot,
			FromBase: r.FromBase, Base: r.Base, Key: r.Key, State: r.State}, report)
		return snap.ID, spoiledCopy(err)
	}
	var snap cloud.Snapshot
	for {
		var err error
		snap, err = s.snapshots.StartCopySnapshot(ctx, cloud.CopySnapshot{Create: in, From: r.From, SnapshotID: r.Snapshot, Key: r.Key})
		// A site that makes as many copies at once as it can says so: others end in their time.
		if cloud.CodeOf(err) != cloud.Throttled {
			return snap.ID, spoiledCopy(err)
		}
		if err := sleep(ctx, max(a.Timing.PollMax, retryAfter(err))); err != nil {
			return "", err
		}
	}
}

// spoiledCopy marks errors after which the same copy can never be made.
func spoiledCopy(err error) error {
	switch cloud.CodeOf(err) {
	case cloud.NotFound, cloud.Failed, cloud.TokenMismatch:
		return errors.Join(agentless.ErrSpoiled, err)
	}
	return err
}

// Remove implements [agentless.Maker].
func (a AgentlessSites) Remove(ctx context.Context, r agentless.Removal) error {
	s, err := a.place(ctx, r.Site)
	if err != nil {
		return err
	}
	var errs []error
	for _, snap := range r.Snaps {
		errs = append(errs, a.removeSnap(ctx, s, snap, r.Since))
	}
	return errors.Join(errs...)
}

// removeSnap deletes one snapshot; one whose identifier is not known is looked for by its
// tag. Where it may be that it only cannot be seen yet, it is not taken for gone.
func (a AgentlessSites) removeSnap(ctx context.Context, s snapshotPlace, snap agentless.Snap, since *time.Time) error {
	ids := []string{snap.ID}
	if snap.ID == "" {
		found, err := s.snapshots.Snapshots(ctx, cloud.Filter{Tags: map[string]string{cloud.TagToken: snap.Token}})
		if err != nil {
			return err
		}
		ids = nil
		for _, f := range found {
			ids = append(ids, f.ID)
		}
	}
	unseen := len(ids) == 0
	for _, id := range ids {
		err := s.snapshots.DeleteSnapshot(ctx, id)
		if unseen = unseen || cloud.IsNotFound(err); cloud.IgnoreNotFound(err) != nil {
			return err
		}
	}
	if unseen && since != nil && time.Since(*since) < a.Timing.Visible {
		return cloud.E(cloud.NotReady, "Remove", "snapshot of disk "+snap.Disk, "was about to be made a moment ago and may yet appear", "", nil)
	}
	err := s.ledger.Gone(ctx, snap.Token)
	return cloud.IgnoreNotFound(err)
}

var _ agentless.Maker = AgentlessSites{}
