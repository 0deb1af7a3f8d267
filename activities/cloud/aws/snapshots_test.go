package aws

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

func TestDisksOfOneServerAreCutByOneCall(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	s := d.server(p, "server", "root", "data", "log")
	ids := map[string]string{}
	for _, disk := range s.Disks {
		ids[disk.Name] = disk.DiskID
	}
	d.cloud.ForgetRequests()
	before := time.Now()
	all := d.cut(p, "all", ids["log"], ids["root"], ids["data"])
	require.Equal(t, 1, d.asked("CreateSnapshots"))
	require.Zero(t, d.asked("CreateSnapshot"))
	for i, name := range []string{"log", "root", "data"} {
		require.Equal(t, ids[name], all[i].Disk)
		require.Equal(t, all[0].Time, all[i].Time)
		require.WithinRange(t, all[i].Time, before.Add(-time.Millisecond), time.Now())
	}
	some := d.cut(p, "some", ids["log"], ids["data"])
	require.Len(t, some, 2)
	require.Equal(t, 2, d.asked("CreateSnapshots"))
	require.Len(t, d.cut(p, "one", ids["data"]), 1)
	require.Equal(t, 1, d.asked("CreateSnapshot"))
	list, err := p.Snapshots(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagToken: "some"}})
	require.NoError(t, err)
	require.Len(t, list, 2, "what was not asked for was left out")

	other := d.disk(p, "other")
	mixed := d.cut(p, "mixed", other.ID, ids["root"], ids["log"])
	require.Equal(t, []string{other.ID, ids["root"], ids["log"]}, []string{mixed[0].Disk, mixed[1].Disk, mixed[2].Disk})
	_, err = p.StartSnapshots(t.Context(), cloud.CreateSnapshots{Create: cloud.Create{Token: "twice"}, Disks: []string{other.ID, other.ID}})
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))
}

func TestTheImageOfARecoveredServerKnowsItsMachine(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p, away := d.home(), d.away()
	s := d.server(p, "server", "root")
	cut := d.cut(p, "cut", s.Disks[0].DiskID)[0]
	made, err := away.StartCopySnapshot(t.Context(), cloud.CopySnapshot{Create: cloud.Create{Token: "copy"}, From: p.Site(), SnapshotID: cut.ID})
	require.NoError(t, err)
	d.snapshotIs(away, made.ID, cloud.Available)
	image, err := away.RegisterImage(t.Context(), cloud.Create{Token: "image"}, []cloud.ImageDisk{{Device: "root", SnapshotID: made.ID, Boot: true}})
	require.NoError(t, err)
	raw, err := away.image(t.Context(), "test", image.ID)
	require.NoError(t, err)
	require.EqualValues(t, d.raw(p, s.ID).Architecture, raw.Architecture)
	require.Equal(t, "architecture=x86_64", tagMap(raw.Tags)[tagMachine])
}

func TestACreationWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{Lag: 20 * time.Millisecond})
	p := d.home()
	a, b := d.disk(p, "a"), d.disk(p, "b")
	for _, after := range []bool{false, true} {
		token := map[bool]string{false: "before", true: "after"}[after]
		remove := d.cloud.Inject(awstest.Rule{Operation: "CreateSnapshot", Times: 2, Drop: true, After: after})
		in := cloud.CreateSnapshots{Create: cloud.Create{Token: token}, Disks: []string{a.ID, b.ID}}
		_, err := p.StartSnapshots(t.Context(), in)
		require.Equal(t, cloud.Retry, cloud.ClassOf(err), "%v", err)
		remove()
		// Another process goes on.
		other := d.provider(d.site("home"), d.options())
		in.Repeat = true
		made, err := other.StartSnapshots(t.Context(), in)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			list, err := p.Snapshots(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagToken: token}})
			return err == nil && len(list) == 2
		}, time.Minute, time.Millisecond)
		require.Equal(t, []string{a.ID, b.ID}, []string{made[0].Disk, made[1].Disk})
	}
	in := cloud.CreateSnapshots{Create: cloud.Create{Token: "before"}, Disks: []string{a.ID}}
	_, err := d.provider(d.site("home"), d.options()).StartSnapshots(t.Context(), in)
	require.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err), "%v", err)
}

func TestCopiesFailLateAndWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{Quotas: map[string]int{"concurrent-snapshot-copies": 2},
		Delay: func(work string) time.Duration {
			if work == "copy" {
				return 300 * time.Millisecond
			}
			return time.Millisecond
		}})
	p, away := d.home(), d.away()
	original := d.cut(p, "cut", d.disk(p, "disk").ID)[0]
	copyOf := func(token, key string) (cloud.Snapshot, error) {
		return away.StartCopySnapshot(t.Context(), cloud.CopySnapshot{Create: cloud.Create{Token: token}, From: p.Site(), SnapshotID: original.ID, Key: key})
	}
	wrong, err := copyOf("wrong", d.cloud.Key(testAccount, testRegions["home"], ""))
	require.NoError(t, err, "the key is refused later")
	failed := d.snapshotIs(away, wrong.ID, cloud.Failing)
	require.NotEmpty(t, failed.Message)

	right, err := copyOf("right", d.cloud.Key(testAccount, testRegions["away"], ""))
	require.NoError(t, err)
	second, err := copyOf("second", "")
	require.NoError(t, err)
	_, err = copyOf("third", "")
	require.Equal(t, cloud.Throttled, cloud.CodeOf(err), "%v", err)
	require.Equal(t, cloud.Wait, cloud.ClassOf(err))
	for _, id := range []string{right.ID, second.ID} {
		got := d.snapshotIs(away, id, cloud.Available)
		require.Equal(t, original.Time, got.Time)
		require.Equal(t, original.Bytes, got.Bytes)
	}
	_, err = copyOf("third", "")
	require.NoError(t, err, "its turn has come")
}

func TestSnapshotsAndImagesAreCopiedToAnotherAccount(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	const role, external = "arn:aws:iam::222222222222:role/recovery", "plan-7"
	d.cloud.Role(role, external)
	p := d.home()
	site := d.site("away")
	site.Role, site.ExternalID, site.Account, site.VPC = role, external, "222222222222", ""
	away := d.provider(site, d.options())
	original := d.cut(p, "cut", d.disk(p, "disk").ID)[0]
	made, err := away.StartCopySnapshot(t.Context(), cloud.CopySnapshot{Create: cloud.Create{Token: "copy"}, From: p.Site(), SnapshotID: original.ID})
	require.NoError(t, err)
	d.snapshotIs(away, made.ID, cloud.Available)
	image := d.image(p, "image", "root")
	copied, err := away.StartCopyImage(t.Context(), cloud.Create{Token: "copied"}, p.Site(), image.ID)
	require.NoError(t, err)
	await(t, cloud.Available, func() (cloud.Image, error) { return away.Image(t.Context(), copied.ID) }, func(v cloud.Image) cloud.Resource { return v.Resource })
	_, err = p.Snapshot(t.Context(), made.ID)
	require.True(t, cloud.IsNotFound(err))

	site.ExternalID = "another"
	_, err = d.provider(site, d.options()).Snapshots(t.Context(), cloud.Filter{})
	require.Equal(t, cloud.Denied, cloud.CodeOf(err), "%v", err)
}
