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
	"lifeboat/replication"
)

// one finds the only line of a kind (and server, when it is named).
func one(t *testing.T, lines []Check, kind, server, subject string) Check {
	t.Helper()
	var found []Check
	for _, c := range lines {
		if c.Check == kind && c.Server == server && (subject == "" || c.Subject == subject) {
			found = append(found, c)
		}
	}
	require.Len(t, found, 1, "%s of %q in %+v", kind, server, lines)
	return found[0]
}

// state is all that a site knows, to compare.
func (w *place) state() (all []any) {
	w.Helper()
	ctx, none := w.Context(), cloud.Filter{}
	entries, err := w.p.Entries(ctx, cloud.LedgerFilter{})
	require.NoError(w, err)
	servers, err := w.p.Servers(ctx, none)
	require.NoError(w, err)
	disks, err := w.p.Disks(ctx, none)
	require.NoError(w, err)
	networks, err := w.p.Networks(ctx, none)
	require.NoError(w, err)
	addresses, err := w.p.Addresses(ctx, none)
	require.NoError(w, err)
	snapshots, err := w.p.Snapshots(ctx, none)
	require.NoError(w, err)
	documents, err := w.p.DocumentNames(ctx, "")
	require.NoError(w, err)
	return []any{entries, servers, disks, networks, addresses, snapshots, documents}
}

// asker is a local site that tells permissions, quotas and keys.
type asker struct {
	*cloudtest.FaultyProvider
	denied  []string
	offered []string // types
	most    int      // servers at once
	limits  map[cloud.Kind][]cloud.Limit
	asked   int
}

func (a *asker) Limits(_ context.Context, kind cloud.Kind) ([]cloud.Limit, error) {
	return a.limits[kind], nil
}

func (a *asker) CheckLaunch(_ context.Context, needs []cloud.LaunchNeed) error {
	a.asked++
	n := 0
	for _, need := range needs {
		if need.Type != "" && !slices.Contains(a.offered, need.Type) {
			return cloud.E(cloud.Capacity, "CheckLaunch", "instance type "+need.Type, "is not offered", "choose another", nil)
		}
		n += need.Count
	}
	if n > a.most {
		return cloud.E(cloud.Quota, "CheckLaunch", "site", "too many servers at once", "ask for more", nil)
	}
	return nil
}

func (a *asker) CheckPermission(_ context.Context, calls []string) error {
	for _, c := range calls {
		if slices.Contains(a.denied, c) {
			return cloud.E(cloud.Denied, "CheckPermission", "site", c+" is not permitted", "mend the role", nil)
		}
	}
	return nil
}

func (a *asker) Key(context.Context, string) (cloud.Key, error) { return cloud.Key{}, nil }

func (a *asker) CheckKey(_ context.Context, id string) error {
	if id == "wrong" {
		return cloud.E(cloud.Denied, "CheckKey", "key wrong", "may not be used", "mend its policy", nil)
	}
	return nil
}

func (w *place) asker(plan cloudtest.Plan) *asker {
	a := &asker{FaultyProvider: cloudtest.Faulty(w.p, plan), offered: []string{"small"}, most: 10}
	w.through(a)
	return a
}

func TestWhatAProviderCannotTellIsUnknown(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	lines := must[[]Check](w, w.acts.CheckReadySite, ReadySiteInput{Site: w.site, Plan: "shop", Operation: "readiness/shop/1", Calls: []string{"Server"}, Launches: true})
	for kind, want := range map[string]CheckStatus{CheckKindSite: CheckOK, CheckKindPermissions: CheckUnknown, CheckKindQuota: CheckUnknown} {
		c := one(t, lines, kind, "", "")
		assert.Equal(t, want, c.Status, "%+v", c)
		assert.NotEmpty(t, c.Cause)
		assert.Equal(t, "recovery", c.Site)
	}
	for _, subject := range []string{"reading", "writing"} {
		assert.Equal(t, CheckOK, one(t, lines, CheckKindLedger, "", subject).Status)
	}
	lines = must[[]Check](w, w.acts.CheckReadyLaunch, ReadyLaunchInput{Site: w.site, Servers: []ReadyServer{{Name: "db", Type: "small", Network: "net", CIDR: w.cidr, Key: "mine"}}})
	assert.Equal(t, CheckUnknown, one(t, lines, CheckKindLaunch, "", "").Status)
	assert.Equal(t, CheckUnknown, one(t, lines, CheckKindKey, "db", "").Status)
}

func TestASiteThatDoesNotAnswerIsUnknownAndNotAskedForLong(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	a := w.asker(cloudtest.Plan{Unavailable: 1})
	lines := must[[]Check](w, w.acts.CheckReadySite, ReadySiteInput{Site: w.site, Plan: "shop", Operation: "readiness/shop/1"})
	require.Len(t, lines, 3)
	for _, c := range lines {
		assert.Equal(t, CheckUnknown, c.Status, "%+v", c)
	}
	calls, _ := a.Counts()
	assert.Equal(t, questionTries+2, calls, "later questions are put once")
}

func TestTroubleThatPassesIsNoAnswer(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	w.asker(cloudtest.Plan{Refuse: map[string][]cloud.Code{"Servers": {cloud.Throttled, cloud.Unavailable}, "Entries": {cloud.Denied}, "PutDocument": {cloud.Unavailable}, "DeleteDocument": {cloud.Unavailable}}})
	lines := must[[]Check](w, w.acts.CheckReadySite, ReadySiteInput{Site: w.site, Plan: "shop", Operation: "readiness/shop/1", Calls: []string{"Server"}})
	for _, kind := range []string{CheckKindSite, CheckKindPermissions} {
		assert.Equal(t, CheckOK, one(t, lines, kind, "", "").Status)
	}
	assert.Equal(t, CheckFail, one(t, lines, CheckKindLedger, "", "reading").Status, "a ledger that may not be read fails recoveries")
	assert.Equal(t, CheckOK, one(t, lines, CheckKindLedger, "", "writing").Status)
	names, err := w.p.DocumentNames(t.Context(), "")
	require.NoError(t, err)
	assert.Empty(t, names, "also when its removal had to be tried again")
}

func TestMissingPermissionsAndFullLimitsFail(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	a := w.asker(cloudtest.Plan{})
	a.denied = []string{"StartLaunch"}
	a.limits = map[cloud.Kind][]cloud.Limit{cloud.KindServer: {{Name: "cpus", Value: 8, Used: 8, Unit: "vCPU", Adjustable: true}},
		cloud.KindDisk: {{Name: "disks", Value: 100, Used: 95}}, cloud.KindAddress: {{Name: "addresses", Value: 5, Used: 1}}}
	lines := must[[]Check](w, w.acts.CheckReadySite, ReadySiteInput{Site: w.site, Plan: "shop", Operation: "readiness/shop/1", Calls: []string{"Server", "StartLaunch"}, Launches: true})
	denied := one(t, lines, CheckKindPermissions, "", "")
	assert.Equal(t, CheckFail, denied.Status)
	assert.Contains(t, denied.Cause, "StartLaunch is not permitted")
	assert.Equal(t, "mend the role", denied.Mend)
	for subject, want := range map[string]CheckStatus{"cpus": CheckFail, "disks": CheckWarn, "addresses": CheckOK, "limits of each snapshot, image, network": CheckUnknown} {
		assert.Equal(t, want, one(t, lines, CheckKindQuota, "", subject).Status, subject)
	}
	assert.Equal(t, "8 of 8 vCPU in use", one(t, lines, CheckKindQuota, "", "cpus").Cause)
}

func TestLaunchesAreCheckedByThemselvesAndAllAtOnce(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	a := w.asker(cloudtest.Plan{})
	a.most = 3
	servers := []ReadyServer{{Name: "a", Type: "small", Network: "net"}, {Name: "b", Type: "small", Network: "net"}, {Name: "c", Type: "huge", Substitutes: []string{"vast", "small"}, Network: "net"},
		{Name: "d", Type: "huge", Network: "net", Key: "wrong"}, {Name: "e", CPU: 2, Memory: 1 << 30, Network: "net", Key: "right"}}
	must[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())
	a.asked = 0
	lines := must[[]Check](w, w.acts.CheckReadyLaunch, ReadyLaunchInput{Site: w.site, Plan: "shop", Servers: servers})
	for server, want := range map[string]CheckStatus{"a": CheckOK, "b": CheckOK, "c": CheckWarn, "d": CheckFail, "e": CheckOK} {
		assert.Equal(t, want, one(t, lines, CheckKindLaunch, server, "").Status, server)
	}
	assert.Contains(t, one(t, lines, CheckKindLaunch, "c", "").Cause, "the substitute small could be launched")
	at := one(t, lines, CheckKindLaunch, "", "4 servers at once")
	assert.Equal(t, CheckFail, at.Status)
	assert.Contains(t, at.Cause, "too many servers at once")
	assert.Equal(t, 7, a.asked, "equal needs are asked for once: small, huge with two substitutes, huge, CPUs, all")
	assert.Equal(t, CheckFail, one(t, lines, CheckKindKey, "d", "").Status)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindKey, "e", "").Status)
}

func TestAddressesOfTheRecoveryNetwork(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	ip := func(last string) string { return w.cidr[:len(w.cidr)-len("0/24")] + last }
	in := ReadyLaunchInput{Site: w.site, Plan: "shop", Servers: []ReadyServer{{Name: "db", Network: "net", CIDR: w.cidr, IP: ip("9"), PublicIP: "shop"}, {Name: "web", Network: "net", CIDR: w.cidr, IP: "10.1.1.1"}}}
	lines := must[[]Check](w, w.acts.CheckReadyLaunch, in)
	c := one(t, lines, CheckKindNetwork, "", "net")
	assert.Equal(t, CheckWarn, c.Status)
	assert.Equal(t, "make it now: lifeboat server initialize shop/db", c.Mend)
	assert.Equal(t, CheckUnknown, one(t, lines, CheckKindAddress, "db", "").Status)
	assert.Equal(t, CheckFail, one(t, lines, CheckKindPublic, "db", "").Status)

	n := must[NetworkInfo](w, w.acts.EnsureNetwork, w.networkInput())
	must[AddressInfo](w, w.acts.EnsureAddress, EnsureAddressInput{Scope: w.scope, Step: "address", Name: "shop"})
	before := w.state()
	lines = must[[]Check](w, w.acts.CheckReadyLaunch, in)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindNetwork, "", "net").Status)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindAddress, "db", "").Status)
	assert.Equal(t, CheckFail, one(t, lines, CheckKindAddress, "web", "").Status, "not of the network")
	assert.Equal(t, CheckOK, one(t, lines, CheckKindPublic, "db", "").Status)
	must[[]Check](w, w.acts.CheckReadySite, ReadySiteInput{Site: w.site, Plan: "shop", Operation: "readiness/shop/1", Launches: true})
	assert.Equal(t, before, w.state(), "nothing was changed, nor entered into the ledger")

	// Somebody takes the address, and the public one.
	disks := must[[]DiskInfo](w, w.acts.CreateDisks, w.disksInput(w.snapshot()))
	launch := w.launchInput(recovered{network: n, disks: disks})
	launch.IP = ip("9")
	s := must[ServerInfo](w, w.acts.LaunchServer, launch)
	must[AddressInfo](w, w.acts.MoveAddress, MoveAddressInput{Site: w.site, Name: "shop", ServerID: s.ID})
	lines = must[[]Check](w, w.acts.CheckReadyLaunch, in)
	taken := one(t, lines, CheckKindAddress, "db", "")
	assert.Equal(t, CheckFail, taken.Status)
	assert.NotEmpty(t, taken.Mend)
	assert.Equal(t, CheckWarn, one(t, lines, CheckKindPublic, "db", "").Status)

	in.Servers[0].CIDR = "10.9.0.0/24"
	lines = must[[]Check](w, w.acts.CheckReadyLaunch, in)
	assert.Contains(t, one(t, lines, CheckKindNetwork, "", "net").Cause, "the plan says 10.9.0.0/24")
}

func TestSnapshotsBehindThePoint(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	id := w.snapshot()
	in := ReadyPointInput{Site: w.site, Plan: "shop", Server: "db", Interval: time.Minute, RPO: time.Hour,
		Point: Point{ID: "p1", Time: time.Now(), Disks: []replication.PointDisk{{Name: "root", Snapshot: id}}}}
	before := w.state()
	lines := must[[]Check](w, w.acts.CheckReadyPoint, in)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindSnapshot, "db", "").Status)
	assert.Equal(t, CheckOK, one(t, lines, CheckKindImage, "db", "").Status)
	assert.Equal(t, before, w.state())
	w.acts.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	old := one(t, must[[]Check](w, w.acts.CheckReadyPoint, in), CheckKindSnapshot, "db", "")
	assert.Equal(t, CheckFail, old.Status)
	assert.Contains(t, old.Cause, "older than the plan's RPO of 1h0m0s")
	in.Point.Disks = append(in.Point.Disks, replication.PointDisk{Name: "data", Snapshot: "snap-gone"})
	gone := one(t, must[[]Check](w, w.acts.CheckReadyPoint, in), CheckKindSnapshot, "db", "")
	assert.Equal(t, CheckFail, gone.Status)
	assert.Equal(t, "mark a new point: lifeboat point mark shop/db", gone.Mend)

	image, err := w.p.RegisterImage(t.Context(), cloud.Create{Token: "image", Tags: map[string]string{cloud.TagPlan: "shop", cloud.TagServer: "db"}}, []cloud.ImageDisk{{Device: "root", SnapshotID: id, Boot: true}})
	require.NoError(t, err)
	w.eventually("image", func() bool {
		i, err := w.p.Image(t.Context(), image.ID)
		return err == nil && i.State == cloud.Available
	})
	assert.Contains(t, one(t, must[[]Check](w, w.acts.CheckReadyPoint, in), CheckKindImage, "db", "").Cause, image.ID)
	w.acts.Now = func() time.Time { return time.Now().Add(oldImage + time.Hour) }
	assert.Equal(t, CheckWarn, one(t, must[[]Check](w, w.acts.CheckReadyPoint, in), CheckKindImage, "db", "").Status)
}

func TestRecordsTheirLifeAndTheirNameServer(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	in := ReadyNamesInput{Site: w.site, Plan: "shop", Records: []ReadyRecord{{Server: "db", Name: "db.shop.test", Zone: "shop.test", TTL: time.Minute, Active: []string{"10.0.0.1", "192.0.2.1"}}}}
	set := func(ttl time.Duration, value string) {
		must[Seen](w, w.acts.SetNames, SetNamesInput{Site: w.site, Zone: "shop.test", Step: value + ttl.String(), Records: []Record{{Name: "db.shop.test", Type: "A", TTL: ttl, Values: []string{value}}}})
	}
	lines := must[[]Check](w, w.acts.CheckReadyNames, in)
	assert.Equal(t, CheckFail, one(t, lines, CheckKindRecord, "db", "").Status)
	set(time.Minute, "192.0.2.1")
	lines = must[[]Check](w, w.acts.CheckReadyNames, in)
	for _, kind := range []string{CheckKindRecord, CheckKindTTL} {
		assert.Equal(t, CheckOK, one(t, lines, kind, "db", "").Status)
	}
	assert.Equal(t, CheckOK, one(t, lines, CheckKindNameServer, "", "").Status)
	set(time.Hour, "192.0.2.9")
	lines = must[[]Check](w, w.acts.CheckReadyNames, in)
	assert.Equal(t, CheckFail, one(t, lines, CheckKindRecord, "db", "").Status, "it leads elsewhere")
	assert.Equal(t, CheckWarn, one(t, lines, CheckKindTTL, "db", "").Status)
	in.Records[0].Active = nil
	assert.Equal(t, CheckUnknown, one(t, must[[]Check](w, w.acts.CheckReadyNames, in), CheckKindRecord, "db", "").Status)
}

func TestANameServerThatDoesNotAnswerFails(t *testing.T) {
	t.Parallel()
	f := judgeNameServer(t.Context(), "127.0.0.1:1", "db.shop.test")
	assert.Equal(t, CheckFail, f.Status)
	assert.NotEmpty(t, f.Mend)
}

func TestTheAgeOfRecoveryDataIsComparedWithThePlan(t *testing.T) {
	t.Parallel()
	const m = time.Minute
	for _, c := range []struct {
		age, rpo, interval time.Duration
		want               CheckStatus
	}{
		{m, 5 * m, m, CheckOK}, {6 * m, 5 * m, m, CheckFail}, {4 * m, 5 * m, m, CheckWarn}, {m, m, 5 * m, CheckWarn},
		{m, 0, m, CheckOK}, {3 * m, 0, m, CheckWarn}, {6 * m, 0, m, CheckFail}, {time.Hour, 0, 0, CheckOK},
		{20 * time.Second, 0, time.Second, CheckOK},
	} {
		f := JudgeAge(c.age, c.rpo, c.interval)
		assert.Equal(t, c.want, f.Status, "%+v: %s", c, f.Cause)
		assert.Equal(t, c.want != CheckOK, f.Mend != "", "%+v", c)
	}
}
