package activities

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/cloudtest"
)

func TestAnOperationMadeTwiceIsThereOnce(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	snapshot := w.snapshot()
	first := w.bringUp(snapshot)
	again := w.bringUp(snapshot)
	assert.Equal(t, first, again)
	assert.Equal(t, "running", first.server.State)
	assert.Equal(t, "net", first.server.Network)
	assert.Equal(t, w.cidr, first.server.CIDR)
	require.Len(t, first.server.Disks, 2)
	assert.True(t, first.server.Disks[0].Boot)
	assert.NotEmpty(t, first.server.Disks[0].Path)
	assert.EqualValues(t, 1<<20, first.server.Disks[0].Bytes)

	counts := must[Counts](w, w.acts.CountResources, w.operation())
	assert.Equal(t, 4, counts.Created)
	assert.Equal(t, 4, counts.Left)
	assert.Contains(t, counts.LeftOver, "server "+first.server.ID)
	assert.Contains(t, counts.LeftOver, "disk "+first.disks[0].DiskID)

	counts = must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
	assert.Equal(t, Counts{Created: 4, Deleted: 4}, counts)
	w.nothingLeft()
	assert.Equal(t, counts, must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()}), "again")
}

func TestLostAnswersAndLateVisibilityNeverMakeTwice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		w := newPlace(t)
		snapshot := w.snapshot()
		f := cloudtest.Faulty(w.p, cloudtest.Plan{Seed: seed, Throttle: 0.05, Unavailable: 0.05, Lost: 0.1, Hide: int(seed)})
		w.through(f)
		w.bringUp(snapshot)
		servers, disks, networks := w.made()
		assert.Equal(t, []int{1, 2, 1}, []int{servers, disks, networks}, "seed %d", seed)
		counts := must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
		assert.Zero(t, counts.Left, "seed %d: %v", seed, counts.LeftOver)
		w.nothingLeft()
		_, faults := f.Counts()
		assert.Positive(t, faults)
	}
}

// A worker that is killed at any call is followed by another one.
func TestAWorkerKilledAtAnyCallMakesNothingTwice(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	snapshot := w.snapshot()
	for _, late := range []bool{false, true} {
		for die := 1; ; die++ {
			f := cloudtest.Faulty(w.p, cloudtest.Plan{Hide: 2, Die: die, DieLate: late})
			w.through(f)
			w.scope.Operation = fmt.Sprintf("drill/shop/%v-%d", late, die)
			_, err := attempt[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())
			if err == nil {
				_, err = attempt[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(snapshot))
			}
			require.Equal(t, f.Dead(), err != nil, "%v", err)
			if err == nil {
				w.through(w.p)
				must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
				break
			}
			w.through(f.Restart(cloudtest.Plan{Hide: 2}))
			must[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())
			must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(snapshot))
			_, disks, networks := w.made()
			require.Equal(t, []int{2, 1}, []int{disks, networks}, "killed at call %d, late %v", die, late)
			counts := must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
			require.Zero(t, counts.Left)
			w.nothingLeft()
		}
	}
}

func TestWhatOnlyAPersonCanChangeIsNotRetried(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	snapshot := w.snapshot()
	for _, code := range []cloud.Code{cloud.Capacity, cloud.Quota, cloud.Billing, cloud.AddressTaken} {
		w.through(cloudtest.Faulty(w.p, cloudtest.Plan{Refuse: map[string][]cloud.Code{"StartLaunch": {code}}}))
		var r recovered
		r.network = must[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())
		r.disks = must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(snapshot))
		_, err := attempt[ServerInfo](w, w.acts.LaunchServer, w.launchInput(r))
		refused(w, string(code), err)
		r.server = must[ServerInfo](w, w.acts.LaunchServer, w.launchInput(r)) // the person has acted
		require.Equal(t, "running", r.server.State)
		must[Counts](w, w.acts.CleanUp, CleanUpInput{Scope: w.operation()})
		w.nothingLeft()
	}
}

// vanishing is a cloud that takes a server back while it starts, once.
type vanishing struct {
	*cloudtest.FaultyProvider
	taken bool
}

func (v *vanishing) StartLaunch(ctx context.Context, in cloud.LaunchServer) (cloud.Server, error) {
	s, err := v.FaultyProvider.StartLaunch(ctx, in)
	if err == nil && !v.taken {
		v.taken = true
		err = v.TerminateServer(ctx, s.ID)
	}
	return s, err
}

func TestAServerThatVanishesWhileStartingIsALackOfCapacityAndCanBeMadeAnew(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	w.through(&vanishing{FaultyProvider: cloudtest.Faulty(w.p, cloudtest.Plan{})})
	var r recovered
	r.network = must[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())
	r.disks = must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(w.snapshot()))
	_, err := attempt[ServerInfo](w, w.acts.LaunchServer, w.launchInput(r))
	refused(w, Capacity, err)
	assert.Equal(t, "running", must[ServerInfo](w, w.acts.LaunchServer, w.launchInput(r)).State)
}

func TestANetworkOfTheSameNameWithOtherAddressesIsRefused(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	must[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())
	other := w.networkInput()
	other.CIDR = "10.99.0.0/24"
	_, err := attempt[NetworkInfo](w, w.acts.EnsureNetwork, other)
	assert.ErrorContains(t, refused(w, InvalidInput, err), w.cidr)

	missing := EnsureNetworkInput{Scope: w.scope, Step: "network", Name: "nowhere"}
	_, err = attempt[NetworkInfo](w, w.acts.EnsureNetwork, missing)
	refused(w, NotFound, err)
}

func TestTokensDifferByAllThatTheyStandFor(t *testing.T) {
	t.Parallel()
	s := Scope{Operation: "failover/shop/1", Server: "db"}
	base := clientToken(cloud.KindDisk, s, "disks", "root", 0)
	assert.Equal(t, base, clientToken(cloud.KindDisk, Scope{Operation: s.Operation, Server: s.Server, Epoch: 7}, "disks", "root", 0))
	require.NoError(t, cloud.CheckToken("Test", cloud.KindDisk, base))
	for _, other := range []string{
		clientToken(cloud.KindServer, s, "disks", "root", 0),
		clientToken(cloud.KindDisk, Scope{Operation: "failover/shop/2", Server: "db"}, "disks", "root", 0),
		clientToken(cloud.KindDisk, Scope{Operation: s.Operation, Server: "web"}, "disks", "root", 0),
		clientToken(cloud.KindDisk, s, "replica", "root", 0),
		clientToken(cloud.KindDisk, s, "disks", "data", 0),
		clientToken(cloud.KindDisk, s, "disks", "root", 1),
	} {
		assert.NotEqual(t, base, other)
	}
}
