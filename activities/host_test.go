package activities

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"lifeboat/activities/cloud"
	"lifeboat/replication"
)

const stream = "shop/db"

// pair is a protected server with its two agents; both sites are one here.
type pair struct {
	*place
	source, target *Host
	server         ServerInfo
	replicas       []DiskInfo
	points         SitePoints
}

func (w *place) agent(name string) *Host {
	w.Helper()
	engine, err := replication.Open(w.Context(), replication.Config{Dir: filepath.Join(w.TempDir(), name),
		Pauser: SitePauser{Provider: w.p}, Points: SitePoints{Provider: w.p, Timing: quick}})
	require.NoError(w, err)
	w.Cleanup(func() { require.NoError(w, engine.Close()) })
	host := NewHost(engine)
	host.beatEach, host.record = 50*time.Millisecond, func(context.Context, context.Context, FollowDetails) error { return nil }
	return host
}

// entity is the scope of what belongs to the protected server's entity.
func (w *place) entity(role string) Scope {
	return Scope{Site: w.site, Plan: "shop", Server: "db", Operation: "server/shop/db", Role: role}
}

// protect replicates a running server with two disks.
func protect(t *testing.T) *pair {
	t.Helper()
	w := newPlace(t)
	p := &pair{place: w, server: w.bringUp(w.snapshot()).server, points: SitePoints{Provider: w.p, Timing: quick}}
	p.source, p.target = w.agent("source"), w.agent("target")
	in := CreateDisksInput{Scope: w.entity(RoleReplica), Step: "replica"}
	for _, d := range p.server.Disks {
		in.Disks = append(in.Disks, DiskInfo{Name: d.Name, Bytes: d.Bytes, Boot: d.Boot})
	}
	p.replicas = must[[]DiskInfo](w, w.acts.CreateDisks, in)

	peer := must[IdentityResult](w, p.source.Identity)
	prepare := PrepareTargetInput{Stream: stream, Scope: w.entity(RolePoint), Epoch: 1, Disks: p.replicas, Peer: peer.Fingerprint, Keep: 24, Within: time.Hour}
	prepared := must[PrepareTargetResult](w, p.target.PrepareTarget, prepare)
	assert.Equal(t, prepared, must[PrepareTargetResult](w, p.target.PrepareTarget, prepare))
	start := StartSourceInput{Stream: stream, Scope: w.entity(""), Epoch: 1, ServerID: p.server.ID, Disks: p.server.Disks, Target: prepared,
		Settings: StreamSettings{Interval: time.Hour, AutoResume: true}}
	must[nothing](w, p.source.StartSource, start)
	must[nothing](w, p.source.StartSource, start)
	return p
}

func (p *pair) in() StreamInput { return StreamInput{Stream: stream, Epoch: 1} }

func (p *pair) mark(request string, final bool) Point {
	p.Helper()
	return must[Point](p.place, p.source.MarkPoint, MarkPointInput{Stream: stream, Epoch: 1, RequestID: request, Label: request, Final: final})
}

func (p *pair) choose(selector, operation string) (Point, error) {
	p.Helper()
	return persist[Point](p.place, p.target.SelectPoint, SelectPointInput{Stream: stream, Selector: selector, Operation: operation})
}

func TestAStreamIsFollowedMarkedAndStopped(t *testing.T) {
	t.Parallel()
	p := protect(t)
	status := must[StreamStatus](p.place, p.source.Follow, FollowInput{Stream: stream, Epoch: 1, For: 30 * time.Second})
	for status.Stage != replication.StageRealTime {
		next := must[StreamStatus](p.place, p.source.Follow, FollowInput{Stream: stream, Epoch: 1, After: status.Version, For: 30 * time.Second})
		require.NotEqual(t, status.Version, next.Version, "stage %s, health %s: %s", next.Stage, next.Health, next.HealthReason)
		status = next
	}
	quiet := must[StreamStatus](p.place, p.source.Follow, FollowInput{Stream: stream, Epoch: 1, After: status.Version, For: time.Millisecond})
	assert.Equal(t, replication.StageRealTime, quiet.Stage, "it returns when nothing happens, too")

	marked := p.mark("before-upgrade", false)
	assert.Equal(t, marked.ID, p.mark("before-upgrade", false).ID, "the same request is the same point")
	points := must[[]Point](p.place, p.target.ListPoints, p.in())
	require.GreaterOrEqual(t, len(points), 2)
	assert.Equal(t, marked.ID, points[0].ID)
	for _, d := range points[0].Disks {
		s, err := p.p.Snapshot(t.Context(), d.Snapshot)
		require.NoError(t, err)
		assert.Equal(t, marked.ID, s.Tags[cloud.TagPoint])
	}

	must[nothing](p.place, p.source.SetStream, SetStreamInput{Stream: stream, Settings: StreamSettings{Interval: time.Hour, BytesPerSecond: 1 << 20}})
	must[nothing](p.place, p.source.SetStream, SetStreamInput{Stream: stream, Settings: StreamSettings{Interval: time.Hour, Calendar: "mon-fri 08:00-18:00 20MiB/s, else unlimited"}})
	_, err := persist[nothing](p.place, p.source.SetStream, SetStreamInput{Stream: stream, Settings: StreamSettings{Interval: time.Hour, Calendar: "mon-fri fast"}})
	refused(p.place, InvalidInput, err)
	must[nothing](p.place, p.source.PauseStream, p.in())
	must[nothing](p.place, p.source.ResumeStream, p.in())
	for range 2 {
		must[nothing](p.place, p.source.StopSource, p.in())
		must[nothing](p.place, p.target.StopTarget, p.in())
	}
	_, err = persist[StreamStatus](p.place, p.source.Follow, FollowInput{Stream: stream, Epoch: 1, For: time.Second})
	refused(p.place, NotFound, err)
	for range 2 {
		must[nothing](p.place, p.target.ForgetTarget, p.in())
	}
	left := must[Counts](p.place, p.acts.CleanUp, CleanUpInput{Scope: Scope{Site: p.site, Plan: "shop", Server: "db", Role: RolePoint}})
	assert.Zero(t, left.Left, left.LeftOver)
	assert.Positive(t, left.Deleted)
}

func TestPointsAreSelectedAsPeopleNameThem(t *testing.T) {
	t.Parallel()
	p := protect(t)
	first, second := p.mark("first", false), p.mark("second", false)
	for selector, want := range map[string]string{first.ID: first.ID, "latest": second.ID,
		first.Time.Add(time.Nanosecond).Format(time.RFC3339Nano): first.ID} {
		got, err := p.choose(selector, "drill/shop/1")
		require.NoError(t, err, selector)
		assert.Equal(t, want, got.ID, selector)
	}
	for _, selector := range []string{"newest-tested", "current-time", "p-none", "2001-01-01T00:00:00Z"} {
		_, err := p.choose(selector, "drill/shop/1")
		assert.ErrorContains(t, refused(p.place, NotFound, err), second.ID, "it says what there is")
	}
	must[nothing](p.place, p.target.TestedPoint, PointInput{Stream: stream, ID: first.ID})
	got, err := p.choose("newest-tested", "drill/shop/1")
	require.NoError(t, err)
	assert.Equal(t, first.ID, got.ID)
	must[nothing](p.place, p.target.LockPoint, PointInput{Stream: stream, ID: first.ID, On: true})
	must[nothing](p.place, p.target.ReleasePoint, PointInput{Stream: stream, ID: first.ID})
	listed := must[[]Point](p.place, p.target.ListPoints, p.in())
	for _, l := range listed {
		assert.Equal(t, l.ID == first.ID, l.Locked)
		assert.Equal(t, l.ID == second.ID, l.InUse)
	}
}

func TestCurrentTimeIsConsumedOnce(t *testing.T) {
	t.Parallel()
	p := protect(t)
	p.mark("earlier", false)
	must[ServerInfo](p.place, p.acts.StopServer, ServerInput{Site: p.site, ServerID: p.server.ID})
	last := p.mark("failover/shop/1", true)
	assert.Equal(t, replication.PointCurrentTime, last.Kind)
	assert.Equal(t, last.ID, p.mark("failover/shop/1", true).ID, "asked again after the stream has ended")
	for range 2 { // an attempt whose answer was lost
		got, err := p.choose("current-time", "failover/shop/1")
		require.NoError(t, err)
		assert.Equal(t, last.ID, got.ID)
	}
	_, err := p.choose("current-time", "failover/shop/2")
	assert.ErrorContains(t, refused(p.place, Conflict, err), "choose an earlier point")
	got, err := p.choose("latest", "failover/shop/2")
	require.NoError(t, err)
	assert.Equal(t, replication.PointMarked, got.Kind, "what was used up is passed over")
}

func TestAPointThatWasNeverCompletedLeavesNoSnapshots(t *testing.T) {
	t.Parallel()
	p := protect(t)
	request := replication.PointRequest{ID: "p-half", Stream: stream, Labels: labels(p.entity(RolePoint), "", p.replicas)}
	point := replication.Point{ID: request.ID, Stream: stream}
	for _, d := range p.replicas {
		request.Disks = append(request.Disks, replication.Disk{Name: d.Name, Path: d.Path, Size: d.Bytes})
		point.Disks = append(point.Disks, replication.PointDisk{Name: d.Name})
	}
	made, err := p.points.Make(t.Context(), request)
	require.NoError(t, err)
	again, err := p.points.Make(t.Context(), request)
	require.NoError(t, err)
	assert.Equal(t, made, again)
	// The catalogue never learned the identifiers: the process died before.
	for range 2 {
		require.NoError(t, p.points.Remove(t.Context(), point))
	}
	for _, id := range made {
		p.eventually("snapshot is gone", func() bool {
			_, err := p.p.Snapshot(t.Context(), id)
			return cloud.IsNotFound(err)
		})
	}
}

func TestAStoppedServerNeedsNoPause(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	server := w.bringUp(w.snapshot()).server
	spec := replication.SourceSpec{Labels: labels(w.entity(""), server.ID, nil)}
	pauser := SitePauser{Provider: w.p}
	resume, err := pauser.Pause(t.Context(), spec)
	require.NoError(t, err)
	require.NoError(t, resume())

	in := ServerInput{Site: w.site, ServerID: server.ID}
	must[ServerInfo](w, w.acts.StopServer, in)
	resume, err = pauser.Pause(t.Context(), spec)
	require.NoError(t, err)
	require.NoError(t, resume())
	must[ServerInfo](w, w.acts.StartServer, in)
	require.Error(t, resume(), "what was read meanwhile is not of one instant")
	_, err = pauser.Pause(context.Background(), replication.SourceSpec{Labels: labels(w.entity(""), "srv-none", nil)})
	require.True(t, cloud.IsNotFound(err), "%v", err)
}

func TestFollowReportsWhileItWaitsAndDetachesWhenItIsNotWantedAnyMore(t *testing.T) {
	t.Parallel()
	p := protect(t)
	p.mark("copied", false)
	for _, end := range []error{temporal.NewCanceledError(), &serviceerror.NotFound{Message: "another attempt has the activity"}} {
		status, err := p.source.engine.Status(stream)
		require.NoError(t, err)
		beats := make(chan FollowDetails, 100)
		p.source.record = func(_, _ context.Context, details FollowDetails) error {
			beats <- details
			switch len(beats) {
			case 1:
				return errors.New("the Temporal server is away")
			case 2:
				return nil
			}
			return end
		}
		got := must[StreamStatus](p.place, p.source.Follow, FollowInput{Stream: stream, Epoch: 1, After: status.Version, For: time.Minute})
		assert.Equal(t, stream, got.Stream)
		assert.GreaterOrEqual(t, len(beats), 3, "a heartbeat that does not get through ends nothing")
		assert.Equal(t, replication.StageRealTime, (<-beats).Status.Stage)
	}
	p.mark("still-replicating", false)
}
