package activities

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/agentless"
	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/cloudtest"
	"lifeboat/activities/cloud/local"
)

// agentlessPlace is a site with a running server, whose disks are cut and copied there.
type agentlessPlace struct {
	*place
	sites AgentlessSites
	cut   agentless.CutRequest
}

func newAgentlessPlace(t *testing.T, through func(*local.Provider) cloud.Provider) *agentlessPlace {
	t.Helper()
	w := newPlace(t)
	server := w.bringUp(w.snapshot()).server
	p := cloud.Provider(w.p)
	if through != nil {
		p = through(w.p)
	}
	a := &agentlessPlace{place: w, sites: AgentlessSites{Timing: quick, Open: func(context.Context, cloud.Site) (cloud.Provider, error) { return p, nil }}}
	a.cut = agentless.CutRequest{For: agentless.For{Plan: "shop", Server: "db", Operation: "server/shop/db", Point: "p-1"}, Site: w.site, ServerID: server.ID}
	for _, d := range server.Disks {
		a.cut.Disks = append(a.cut.Disks, agentless.Disk{Name: d.Name, ID: d.DiskID, Bytes: d.Bytes})
		a.cut.Snaps = append(a.cut.Snaps, agentless.Snap{Disk: d.Name, Token: "cut-" + d.Name})
	}
	return a
}

func (a *agentlessPlace) made(role string) (snapshots []cloud.Snapshot, open []cloud.Entry) {
	a.Helper()
	snapshots, err := a.p.Snapshots(a.Context(), cloud.Filter{Tags: map[string]string{cloud.TagRole: role, cloud.TagServer: "db", cloud.TagOperation: a.cut.For.Operation}})
	require.NoError(a, err)
	entries, err := a.p.Entries(a.Context(), cloud.LedgerFilter{Plan: "shop", Server: "db", Role: role, Operation: a.cut.For.Operation})
	require.NoError(a, err)
	for _, e := range entries {
		if e.Deleted == nil {
			open = append(open, e)
		}
	}
	return snapshots, open
}

func (a *agentlessPlace) copyOf(snapshot string) agentless.CopyRequest {
	return agentless.CopyRequest{For: a.cut.For, From: a.site, To: a.site, Snapshot: snapshot, Snap: agentless.Snap{Disk: "root", Token: "copy-root"}}
}

func TestAgentlessSnapshotsAreMadeOnceAndCleanedByTheirRole(t *testing.T) {
	t.Parallel()
	a := newAgentlessPlace(t, nil)
	cut, err := a.sites.Cut(t.Context(), a.cut)
	require.NoError(t, err)
	require.Len(t, cut, 2)
	again, err := a.sites.Cut(t.Context(), a.cut)
	require.NoError(t, err)
	assert.Equal(t, cut, again)
	assert.True(t, cut[0].Time.Equal(cut[1].Time))
	var done, total int64
	copied, err := a.sites.Copy(t.Context(), a.copyOf(cut[0].ID), func(d, n int64) { done, total = d, n })
	require.NoError(t, err)
	assert.Equal(t, []int64{1 << 20, 1 << 20}, []int64{done, total})
	assert.True(t, copied.Time.Equal(cut[0].Time))
	assert.Equal(t, "p-1", copied.Tags[cloud.TagPoint])

	bases, open := a.made(RoleBase)
	assert.Len(t, bases, 2)
	assert.Len(t, open, 2)
	points, open := a.made(RolePoint)
	assert.Len(t, points, 1)
	assert.Len(t, open, 1)
	counts := must[Counts](a.place, a.acts.CleanUp, CleanUpInput{Scope: Scope{Site: a.site, Plan: "shop", Server: "db", Role: RoleBase}})
	assert.Equal(t, Counts{Created: 2, Deleted: 2}, counts)
	points, _ = a.made(RolePoint)
	assert.Len(t, points, 1, "the copies of others' points stay")

	_, err = a.sites.Cut(t.Context(), a.cut)
	require.ErrorIs(t, err, agentless.ErrSpoiled, "what was deleted is not made anew under its token")
	_, err = a.sites.Copy(t.Context(), agentless.CopyRequest{For: a.cut.For, From: a.site, To: a.site, Snapshot: cut[0].ID,
		Snap: agentless.Snap{Disk: "root", Token: "another"}}, func(int64, int64) {})
	require.ErrorIs(t, err, agentless.ErrSpoiled, "the original is gone")
}

func TestAgentlessRemovalIsSureThatNothingAppearsLater(t *testing.T) {
	t.Parallel()
	a := newAgentlessPlace(t, nil)
	cut, err := a.sites.Cut(t.Context(), a.cut)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, a.sites.Remove(t.Context(), agentless.Removal{Site: a.site, Snaps: []agentless.Snap{
			{Disk: "root", Token: "cut-root", ID: cut[0].ID}, {Disk: "data", Token: "cut-data", ID: cut[1].ID}, {Disk: "x", Token: "never-announced", ID: "snap-none"}}}))
	}
	left, open := a.made(RoleBase)
	assert.Empty(t, left)
	assert.Empty(t, open)

	// Given up without knowing whether the call got through: found by tag, and waited for.
	for i := range a.cut.Snaps {
		a.cut.Snaps[i].Token += "-second"
	}
	_, err = a.sites.Cut(t.Context(), a.cut)
	require.NoError(t, err)
	now := time.Now()
	removal := agentless.Removal{Site: a.site, Snaps: a.cut.Snaps, Since: &now}
	err = a.sites.Remove(t.Context(), removal)
	require.Equal(t, cloud.NotReady, cloud.CodeOf(err), "%v", err)
	left, _ = a.made(RoleBase)
	assert.Empty(t, left)
	a.eventually("that it is sure", func() bool { return a.sites.Remove(t.Context(), removal) == nil })
	_, open = a.made(RoleBase)
	assert.Empty(t, open)
}

func TestAgentlessCopiesWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	many := make([]cloud.Code, 12)
	for i := range many {
		many[i] = cloud.Throttled
	}
	a := newAgentlessPlace(t, func(p *local.Provider) cloud.Provider {
		return cloudtest.Faulty(p, cloudtest.Plan{Refuse: map[string][]cloud.Code{"StartCopySnapshot": many}})
	})
	cut, err := a.sites.Cut(t.Context(), a.cut)
	require.NoError(t, err)
	_, err = a.sites.Copy(t.Context(), a.copyOf(cut[0].ID), func(int64, int64) {})
	require.NoError(t, err)
	_, err = a.sites.Copy(t.Context(), agentless.CopyRequest{For: a.cut.For, From: a.site, To: a.site, Snapshot: cut[0].ID, Blocks: true,
		Snap: agentless.Snap{Disk: "root", Token: "blocks"}}, func(int64, int64) {})
	require.Equal(t, cloud.Unsupported, cloud.CodeOf(err), "%v", err)
}

// slow reads disks for longer than anybody waits.
type slow struct{ *local.Provider }

func (s slow) StartSnapshots(ctx context.Context, _ cloud.CreateSnapshots) ([]cloud.Snapshot, error) {
	<-ctx.Done()
	return nil, cloud.E(cloud.Unavailable, "StartSnapshots", "snapshot", "the call ran out of time", "", ctx.Err())
}

func TestAgentlessCutThatTakesLongerThanThePauseIsRefusedAndTheServerRuns(t *testing.T) {
	t.Parallel()
	a := newAgentlessPlace(t, func(p *local.Provider) cloud.Provider { return slow{p} })
	a.sites.Pause = 300 * time.Millisecond
	_, err := a.sites.Cut(t.Context(), a.cut)
	require.Equal(t, cloud.Unsupported, cloud.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "reflinks")
	resume, err := a.p.PauseServer(t.Context(), a.cut.ServerID, time.Minute)
	require.NoError(t, err, "nobody holds it any more")
	require.NoError(t, resume())

	must[ServerInfo](a.place, a.acts.StopServer, ServerInput{Site: a.site, ServerID: a.cut.ServerID, Force: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = a.sites.Cut(ctx, a.cut)
	require.True(t, errors.Is(err, context.DeadlineExceeded), "a server that stands still may be read for as long as it takes: %v", err)
}

// restless starts the server while its disks are read.
type restless struct{ *local.Provider }

func (r restless) StartSnapshots(ctx context.Context, in cloud.CreateSnapshots) ([]cloud.Snapshot, error) {
	list, err := r.Servers(ctx, cloud.Filter{})
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if err := r.StartServer(ctx, s.ID); err != nil {
			return nil, err
		}
	}
	return r.Provider.StartSnapshots(ctx, in)
}

func TestAgentlessCutOfAServerThatWasStartedMeanwhileIsSpoiled(t *testing.T) {
	t.Parallel()
	a := newAgentlessPlace(t, func(p *local.Provider) cloud.Provider { return restless{p} })
	must[ServerInfo](a.place, a.acts.StopServer, ServerInput{Site: a.site, ServerID: a.cut.ServerID, Force: true})
	_, err := a.sites.Cut(t.Context(), a.cut)
	require.ErrorIs(t, err, agentless.ErrSpoiled)
	require.ErrorContains(t, err, "was started while its disks were read")
}
