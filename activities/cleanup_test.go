package activities

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/cloudtest"
)

func TestWhatWasHandedOverStaysUntilItIsAskedForToo(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	w.scope.Role = RoleRecovered
	w.bringUp(w.snapshot())
	must[nothing](w, w.acts.KeepResources, KeepInput{Scope: w.operation()})
	assert.Equal(t, Counts{Created: 4, Kept: 4}, must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()}))
	assert.Equal(t, Counts{Created: 4, Kept: 4}, must[Counts](w, w.acts.CountResources, w.operation()))
	assert.Equal(t, Counts{Created: 4, Deleted: 4}, must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation(), IncludeKept: true}))
	w.nothingLeft()
}

// Disks of a recovered server become replicas: named by identifier, whatever made them.
func TestDisksInANewRoleAreCleanedInThatRoleOnly(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	w.scope.Role = RoleRecovered
	r := w.bringUp(w.snapshot())
	must[nothing](w, w.acts.TerminateServer, ServerInput{Site: w.site, ServerID: r.server.ID, Force: true})
	ids := []string{r.disks[0].DiskID, r.disks[1].DiskID}
	server := Scope{Site: w.site, Plan: "shop", Server: "db"}
	must[nothing](w, w.acts.KeepResources, KeepInput{Scope: server, IDs: ids, NewRole: RoleReplica})

	server.Role = RoleRecovered
	must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: server, IncludeKept: true})
	for _, id := range ids {
		_, err := w.p.Disk(t.Context(), id)
		require.NoError(t, err, "it carries the tag of its old role, but has a new one")
	}
	server.Role = RoleReplica
	assert.Equal(t, 2, must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: server, IncludeKept: true}).Deleted)
	_, disks, _ := w.made()
	assert.Zero(t, disks)
}

func TestEverythingOfAPlanIsNeverTakenInByAccident(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	wide := Scope{Site: w.site, Plan: "shop"}
	_, err := attempt[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: wide})
	refused(w, InvalidInput, err)
	_, err = attempt[nothing](w, w.acts.KeepResources, KeepInput{Scope: wide})
	refused(w, InvalidInput, err)
}

func TestExceptedResourcesStayAndAreHandedOver(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	disks := must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(w.snapshot()))
	counts := must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation(), Except: []string{disks[1].DiskID}})
	assert.Equal(t, Counts{Created: 2, Deleted: 1, Kept: 1}, counts)
	assert.Equal(t, Counts{Created: 2, Deleted: 1, Kept: 1}, must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()}))
}

func TestCleanUpOfOneServerLeavesTheOthersOfItsOperation(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	snapshot := w.snapshot()
	must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(snapshot))
	other := w.disksInput(snapshot)
	other.Scope.Server = "web"
	must[[]DiskInfo](w, w.acts.CreateDisks, other)
	assert.Equal(t, Counts{Created: 2, Deleted: 2}, must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.scope}))
	_, disks, _ := w.made()
	assert.Equal(t, 2, disks)
}

func TestWhatOnlyTagsKnowIsDeletedToo(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	_, err := w.p.StartCreateDisk(t.Context(), cloud.CreateDisk{Bytes: 1 << 20,
		Create: cloud.Create{Token: "of-nobody", Tags: map[string]string{cloud.TagPlan: "shop", cloud.TagOperation: w.scope.Operation}}})
	require.NoError(t, err)
	assert.Equal(t, Counts{Created: 1, Deleted: 1}, must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()}))
	w.nothingLeft()
}

// A caller died after it announced a resource: it was made, or it was not.
func TestAnnouncedResourcesAreFoundOrClosed(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	for _, token := range []string{"made", "never-made"} {
		e := w.scope.entry(cloud.KindDisk, token)
		e.Intended = time.Now().UTC()
		_, err := w.p.Intend(t.Context(), e)
		require.NoError(t, err)
	}
	_, err := w.p.StartCreateDisk(t.Context(), cloud.CreateDisk{Bytes: 1 << 20, Create: cloud.Create{Token: "made", Tags: w.scope.tags("made")}})
	require.NoError(t, err)
	assert.Equal(t, Counts{Created: 1, Deleted: 1}, must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()}))
	w.nothingLeft()
}

func TestWhatCannotBeDeletedIsReportedWithTheReason(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	w.through(cloudtest.Faulty(w.p, cloudtest.Plan{Refuse: map[string][]cloud.Code{"DeleteDisk": {cloud.Denied, cloud.Denied}}}))
	disks := must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(w.snapshot()))
	counts := must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
	require.Equal(t, 2, counts.Left)
	slices.Sort(counts.LeftOver)
	ids := []string{disks[0].DiskID, disks[1].DiskID}
	slices.Sort(ids)
	for i, id := range ids {
		assert.Contains(t, counts.LeftOver[i], "disk "+id+": ")
		assert.Contains(t, counts.LeftOver[i], "refused by plan")
	}
	assert.Equal(t, Counts{Created: 2, Deleted: 2}, must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()}), "after a person has mended it")
}

// clinging is a cloud in which a disk is in use for good.
type clinging struct{ *cloudtest.FaultyProvider }

func (clinging) DeleteDisk(_ context.Context, id string) error {
	return cloud.E(cloud.InUse, "DeleteDisk", "disk "+id, "somebody uses it", "", nil)
}

func TestACleanUpWithoutProgressEnds(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	w.through(clinging{cloudtest.Faulty(w.p, cloudtest.Plan{})})
	w.acts.Timing.Stuck = 300 * time.Millisecond
	must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(w.snapshot()))
	counts := must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
	assert.Equal(t, 2, counts.Left)
	assert.Contains(t, counts.LeftOver[0], "somebody uses it")
}

func TestACleanUpKilledAtAnyCallIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	snapshot := w.snapshot()
	for die := 1; ; die += 2 {
		w.through(w.p)
		must[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())
		must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(snapshot))
		f := cloudtest.Faulty(w.p, cloudtest.Plan{Die: die, DieLate: die%4 == 1})
		w.through(f)
		counts, err := attempt[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
		if !f.Dead() {
			require.NoError(t, err)
			w.nothingLeft()
			return
		}
		w.through(w.p)
		counts = must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
		require.Zero(t, counts.Left, "%v", counts.LeftOver)
		w.nothingLeft()
	}
}
