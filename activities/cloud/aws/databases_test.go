package aws

import (
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud"
	"lifeboat/activities/cloud/aws/awstest"
)

// database makes an instance, and waits until it is there.
func (d *double) database(p *Provider, id, engine, version string, encrypted bool) cloud.Database {
	d.t.Helper()
	_, err := p.rds().CreateDBInstance(d.t.Context(), &rds.CreateDBInstanceInput{DBInstanceIdentifier: &id, Engine: &engine, EngineVersion: &version, DBInstanceClass: awssdk.String("db.t3.micro"),
		AllocatedStorage: awssdk.Int32(20), StorageEncrypted: &encrypted})
	require.NoError(d.t, err)
	return d.databaseIs(p, id, cloud.Available)
}

func (d *double) databaseIs(p *Provider, id string, state cloud.State) cloud.Database {
	d.t.Helper()
	return await(d.t, state, func() (cloud.Database, error) { return p.Database(d.t.Context(), id) }, func(v cloud.Database) cloud.Resource { return v.Resource })
}

func (d *double) databaseSnapshotIs(p *Provider, id string, state cloud.State) cloud.DatabaseSnapshot {
	d.t.Helper()
	return await(d.t, state, func() (cloud.DatabaseSnapshot, error) { return p.DatabaseSnapshot(d.t.Context(), id) }, func(v cloud.DatabaseSnapshot) cloud.Resource { return v.Resource })
}

func TestASnapshotOfADatabaseIsCopiedToAnotherRegionAndRestoredThere(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{PageSize: 1})
	home, away := d.home(), d.away()
	key := d.cloud.Key(testAccount, testRegions["away"], "alias/dr")
	d.database(home, "orders", "mysql", "8.0.36", true)
	snap, err := home.StartDatabaseSnapshot(t.Context(), cloud.Create{Token: "cut", Name: "orders-1"}, "orders")
	require.NoError(t, err)
	snap = d.databaseSnapshotIs(home, snap.ID, cloud.Available)
	require.Equal(t, "orders", snap.Database)
	require.Equal(t, int64(20)*gib, snap.Bytes)

	in := cloud.CopyDatabaseSnapshot{Create: cloud.Create{Token: "copy", Tags: map[string]string{cloud.TagPlan: "shop"}}, From: home.Site(), Snapshot: snap.ID}
	_, err = away.StartCopyDatabaseSnapshot(t.Context(), in)
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "an encrypted snapshot needs a key of the region: %v", err)
	in.Key = key
	copied, err := away.StartCopyDatabaseSnapshot(t.Context(), in)
	require.NoError(t, err)
	again, err := away.StartCopyDatabaseSnapshot(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, copied.ID, again.ID)
	copied = d.databaseSnapshotIs(away, copied.ID, cloud.Available)
	require.Equal(t, snap.Time, copied.Time, "the time of the original")
	require.Equal(t, map[string]string{cloud.TagPlan: "shop", cloud.TagToken: "copy"}, copied.Tags)
	in.Snapshot = "orders-2"
	_, err = away.StartCopyDatabaseSnapshot(t.Context(), in)
	require.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err), "%v", err)

	restore := cloud.RestoreDatabase{Create: cloud.Create{Token: "restore", Name: "Orders-DR"}, Snapshot: copied.ID, Type: "db.t3.small", Network: "private"}
	_, err = away.StartRestoreDatabase(t.Context(), restore)
	require.NoError(t, err)
	made := d.databaseIs(away, "orders-dr", cloud.Available)
	require.Equal(t, "mysql 8.0.36", made.Engine)
	require.Contains(t, made.Endpoint, ":3306")
	again2, err := away.StartRestoreDatabase(t.Context(), restore)
	require.NoError(t, err)
	require.Equal(t, made.ID, again2.ID)
	restore.Token = "other"
	_, err = away.StartRestoreDatabase(t.Context(), restore)
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "the name is taken: %v", err)
	list, err := away.Databases(t.Context(), cloud.Filter{})
	require.NoError(t, err)
	require.Len(t, list, 1)

	require.NoError(t, away.DeleteDatabase(t.Context(), made.ID, "orders-last"))
	d.databaseSnapshotIs(away, "orders-last", cloud.Available)
	require.Eventually(t, func() bool { return cloud.IsNotFound(away.DeleteDatabase(t.Context(), made.ID, "orders-last")) }, waitAtMost, waitStep)
	snaps, err := away.DatabaseSnapshots(t.Context(), cloud.Filter{Tags: map[string]string{cloud.TagPlan: "shop"}})
	require.NoError(t, err)
	require.Len(t, snaps, 1)
	require.NoError(t, away.DeleteDatabaseSnapshot(t.Context(), copied.ID))
	require.True(t, cloud.IsNotFound(away.DeleteDatabaseSnapshot(t.Context(), copied.ID)))
}

func TestADatabaseIsRestoredToATime(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	d.database(p, "orders", "postgres", "16.3", false)
	_, err := p.StartRestoreDatabase(t.Context(), cloud.RestoreDatabase{Create: cloud.Create{Token: "latest", Name: "latest"}, Database: "orders"})
	require.NoError(t, err)
	d.databaseIs(p, "latest", cloud.Available)
	early := time.Now().Add(-time.Hour)
	_, err = p.StartRestoreDatabase(t.Context(), cloud.RestoreDatabase{Create: cloud.Create{Token: "early", Name: "early"}, Database: "orders", Time: &early})
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))
	for _, bad := range []cloud.RestoreDatabase{{}, {Database: "orders", Snapshot: "x"}, {Snapshot: "x", Time: &early}, {Create: cloud.Create{Token: "t", Name: "two--hyphens"}, Database: "orders"}} {
		_, err = p.StartRestoreDatabase(t.Context(), bad)
		require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err), "%+v", bad)
	}
	require.NoError(t, d.cloud.BreakDatabase(testAccount, testRegions["home"], "latest", "storage-full"))
	require.Equal(t, "RDS says storage-full", d.databaseIs(p, "latest", cloud.Failing).Message)
}

func TestAReplicaIsPromotedOnlyWhenItIsNearEnoughToItsSource(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	home, away := d.home(), d.away()
	d.database(home, "orders", "mysql", "8.0.36", false)
	in := cloud.CreateReplica{Create: cloud.Create{Token: "replica", Name: "orders-replica"}, From: home.Site(), Database: "orders"}
	_, err := away.StartReplica(t.Context(), in)
	require.NoError(t, err)
	made := d.databaseIs(away, in.Name, cloud.Available)
	require.Equal(t, "arn:aws:rds:us-east-1:111111111111:db:orders", made.Source)
	require.Negative(t, made.Lag, "nobody has measured it")
	promote := func(most time.Duration) cloud.Code {
		return cloud.CodeOf(away.StartPromote(t.Context(), made.ID, most))
	}
	require.Equal(t, cloud.NotReady, promote(time.Minute), "the lag is not known")
	d.cloud.ReplicaLag(testAccount, testRegions["away"], made.ID, 90)
	require.Equal(t, 90*time.Second, d.databaseIs(away, in.Name, cloud.Available).Lag)
	require.Equal(t, cloud.NotReady, promote(time.Minute))
	d.cloud.ReplicaLag(testAccount, testRegions["away"], made.ID, -1)
	require.Equal(t, cloud.NotReady, promote(time.Minute), "the replication does not run")
	require.Zero(t, d.asked("PromoteReadReplica"))

	d.cloud.ReplicaLag(testAccount, testRegions["away"], made.ID, 30)
	d.cloud.Inject(awstest.Rule{Region: testRegions["home"], Drop: true}) // the source is down
	d.cloud.Inject(awstest.Rule{Operation: "PromoteReadReplica", Times: 1, After: true, Error: &awstest.Error{Code: "InternalFailure", Message: "lost", Status: 500}})
	require.NoError(t, away.StartPromote(t.Context(), made.ID, time.Minute), "an answer that is lost is asked for again")
	require.Empty(t, d.databaseIs(away, in.Name, cloud.Available).Source)
	require.NoError(t, away.StartPromote(t.Context(), made.ID, 0), "it is none any more")
}

func TestSnapshotsOfOldEnginesAreNotExported(t *testing.T) {
	t.Parallel()
	d := apiDouble(t, awstest.Options{})
	p := d.home()
	key := d.cloud.Key(testAccount, testRegions["home"], "alias/dr")
	_, err := p.s3().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: awssdk.String("exports")})
	require.NoError(t, err)
	for id, c := range map[string]struct {
		engine, version string
		want            cloud.Code
	}{"new": {"postgres", "9.6.6", ""}, "old": {"mysql", "5.6.39", cloud.Unsupported}, "oracle": {"oracle-ee", "19.0.0", cloud.Unsupported}} {
		d.database(p, id, c.engine, c.version, false)
		s, err := p.StartDatabaseSnapshot(t.Context(), cloud.Create{Token: "cut-" + id}, id)
		require.NoError(t, err)
		d.databaseSnapshotIs(p, s.ID, cloud.Available)
		in := cloud.ExportDatabase{Create: cloud.Create{Token: "export-" + id}, Snapshot: s.ID, Bucket: "exports", Prefix: "dr", Role: "arn:aws:iam::111111111111:role/export", Key: key}
		e, err := p.StartExportDatabase(t.Context(), in)
		require.Equal(t, c.want, cloud.CodeOf(err), "%v", err)
		if c.want != "" {
			require.ErrorContains(t, err, "cannot be exported")
			continue
		}
		again, err := p.StartExportDatabase(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, e.ID, again.ID)
		e = await(t, cloud.Available, func() (cloud.DatabaseExport, error) { return p.DatabaseExport(t.Context(), e.ID) }, func(e cloud.DatabaseExport) cloud.Resource { return e.Resource })
		require.Equal(t, "s3://exports/dr/"+e.ID, e.Location)
		require.Equal(t, 100, e.Percent)
		in.Prefix = "elsewhere"
		_, err = p.StartExportDatabase(t.Context(), in)
		require.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err))
	}
}

func TestVersionsAreComparedByTheirNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		engine, version string
		can             bool
	}{{"mysql", "5.6.40", true}, {"mysql", "5.6.39", false}, {"mysql", "5.7", true}, {"mysql", "8.0.mysql_aurora.3", true}, {"mariadb", "10.2.11", false}, {"mariadb", "10.11.6", true},
		{"postgres", "9.6.5", false}, {"postgres", "9.6.6-R1", true}, {"postgres", "16.1", true}, {"postgres", "", false}, {"sqlserver-se", "15.0", false}} {
		require.Equal(t, c.can, canExport(c.engine, c.version) == "", "%+v", c)
	}
}

func TestStatesOfRDSAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]cloud.State{"creating": cloud.Creating, "backing-up": cloud.Available, "available": cloud.Available, "modifying": cloud.Creating, "failed": cloud.Failing,
		"deleting": cloud.Deleting, "stopped": cloud.Stopped, "incompatible-network": cloud.Failing, "rebooting": cloud.Creating, "storage-optimization": cloud.Available} {
		got, _ := databaseState(status)
		require.Equal(t, want, got, status)
	}
}
