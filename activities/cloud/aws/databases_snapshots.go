package aws

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"lifeboat/activities/cloud"
)

const (
	kindDatabaseSnapshot = cloud.Kind("database snapshot")
	kindDatabaseExport   = cloud.Kind("database export")
)

func databaseSnapshotOf(s types.DBSnapshot) cloud.DatabaseSnapshot {
	state, message := cloud.Creating, ""
	switch awssdk.ToString(s.Status) {
	case "available":
		state = cloud.Available
	case "failed":
		state, message = cloud.Failing, "RDS says failed"
	case "deleting":
		state = cloud.Deleting
	}
	id := awssdk.ToString(s.DBSnapshotIdentifier)
	at := s.OriginalSnapshotCreateTime
	if at == nil {
		at = s.SnapshotCreateTime
	}
	out := cloud.DatabaseSnapshot{Resource: resourceOf(id, state, message, rdsTagMap(s.TagList), s.SnapshotCreateTime), Database: awssdk.ToString(s.DBInstanceIdentifier),
		Engine: awssdk.ToString(s.Engine), Version: awssdk.ToString(s.EngineVersion), Bytes: int64(awssdk.ToInt32(s.AllocatedStorage)) << 30,
		Time: awssdk.ToTime(at).UTC(), Percent: int(awssdk.ToInt32(s.PercentProgress))}
	out.Name = id
	return out
}

func (p *Provider) dbSnapshot(ctx context.Context, op, id string) (types.DBSnapshot, error) {
	if id == "" {
		return types.DBSnapshot{}, notFound(op, kindDatabaseSnapshot, id)
	}
	out, err := p.rds().DescribeDBSnapshots(ctx, &rds.DescribeDBSnapshotsInput{DBSnapshotIdentifier: &id})
	if err != nil {
		return types.DBSnapshot{}, awsError(op, "database snapshot "+id, err)
	}
	if len(out.DBSnapshots) == 0 {
		return types.DBSnapshot{}, notFound(op, kindDatabaseSnapshot, id)
	}
	return out.DBSnapshots[0], nil
}

// DatabaseSnapshot finds a snapshot of this region.
func (p *Provider) DatabaseSnapshot(ctx context.Context, id string) (cloud.DatabaseSnapshot, error) {
	s, err := p.dbSnapshot(ctx, "DatabaseSnapshot", id)
	if err != nil {
		return cloud.DatabaseSnapshot{}, err
	}
	return databaseSnapshotOf(s), nil
}

// DatabaseSnapshots lists the snapshots of the account in the region, automatic ones among them.
func (p *Provider) DatabaseSnapshots(ctx context.Context, f cloud.Filter) ([]cloud.DatabaseSnapshot, error) {
	list, err := listPages(ctx, rds.NewDescribeDBSnapshotsPaginator(p.rds(), &rds.DescribeDBSnapshotsInput{}), func(o *rds.DescribeDBSnapshotsOutput) []types.DBSnapshot { return o.DBSnapshots })
	if err != nil {
		return nil, awsError("DatabaseSnapshots", "database snapshots of site "+p.site.Name, err)
	}
	all := []cloud.DatabaseSnapshot{}
	for _, s := range list {
		if f.Match(rdsTagMap(s.TagList)) {
			all = append(all, databaseSnapshotOf(s))
		}
	}
	return all, nil
}

func (p *Provider) makeDatabaseSnapshot(ctx context.Context, op string, in cloud.Create, request any, create func(id string, tags []types.Tag) error) (cloud.DatabaseSnapshot, error) {
	return rdsMake(ctx, op, kindDatabaseSnapshot, 255, in, request, func(id string) (cloud.DatabaseSnapshot, map[string]string, error) {
		s, err := p.dbSnapshot(ctx, op, id)
		return databaseSnapshotOf(s), rdsTagMap(s.TagList), err
	}, create)
}

// StartDatabaseSnapshot makes a snapshot of a database.
func (p *Provider) StartDatabaseSnapshot(ctx context.Context, in cloud.Create, database string) (cloud.DatabaseSnapshot, error) {
	const op = "StartDatabaseSnapshot"
	return p.makeDatabaseSnapshot(ctx, op, in, struct {
		cloud.Create
		Database string
	}{in, database}, func(id string, tags []types.Tag) error {
		_, err := p.rds().CreateDBSnapshot(ctx, &rds.CreateDBSnapshotInput{DBInstanceIdentifier: &database, DBSnapshotIdentifier: &id, Tags: tags})
		return err
	})
}

// StartCopyDatabaseSnapshot copies a snapshot of another region, or one to keep. The SDK signs the request for the other
// region that RDS asks for. An encrypted one of another region needs a key of this one.
func (p *Provider) StartCopyDatabaseSnapshot(ctx context.Context, in cloud.CopyDatabaseSnapshot) (cloud.DatabaseSnapshot, error) {
	const op = "StartCopyDatabaseSnapshot"
	return p.makeDatabaseSnapshot(ctx, op, in.Create, in, func(id string, tags []types.Tag) error {
		source, region, err := p.elsewhere(ctx, in.From, "snapshot", in.Snapshot)
		if err == nil {
			_, err = p.rds().CopyDBSnapshot(ctx, &rds.CopyDBSnapshotInput{SourceDBSnapshotIdentifier: &source, TargetDBSnapshotIdentifier: &id, SourceRegion: region,
				KmsKeyId: optional(in.Key), Tags: tags})
		}
		return err
	})
}

// DeleteDatabaseSnapshot deletes a snapshot that was not made by RDS itself.
func (p *Provider) DeleteDatabaseSnapshot(ctx context.Context, id string) error {
	const op = "DeleteDatabaseSnapshot"
	if id == "" {
		return notFound(op, kindDatabaseSnapshot, id)
	}
	_, err := p.rds().DeleteDBSnapshot(ctx, &rds.DeleteDBSnapshotInput{DBSnapshotIdentifier: &id})
	return awsError(op, "database snapshot "+id, err)
}

// exportable are the oldest versions that Lifeboat exports, by engine.
var exportable = map[string]string{"mariadb": "10.2.12", "mysql": "5.6.40", "postgres": "9.6.6"}

// canExport says why a snapshot cannot be exported, or "".
func canExport(engine, version string) string {
	oldest, ok := exportable[engine]
	switch {
	case !ok:
		return "databases of engine " + engine + " cannot be exported: only MariaDB, MySQL and PostgreSQL can"
	case olderVersion(version, oldest):
		return fmt.Sprintf("%s %s cannot be exported: %s or later can", engine, version, oldest)
	}
	return ""
}

// olderVersion compares versions by their numbers; what is no number counts as 0.
func olderVersion(version, than string) bool {
	a, b := strings.Split(version, "."), strings.Split(than, ".")
	for i := range b {
		n, m := 0, leadingNumber(b[i])
		if i < len(a) {
			n = leadingNumber(a[i])
		}
		if n != m {
			return n < m
		}
	}
	return false
}

func leadingNumber(s string) int {
	digits := s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// StartExportDatabase exports a snapshot to S3, as Parquet files. Exports have no tags: the identifier is made of the
// token.
func (p *Provider) StartExportDatabase(ctx context.Context, in cloud.ExportDatabase) (cloud.DatabaseExport, error) {
	const op = "StartExportDatabase"
	resource := "database snapshot " + in.Snapshot
	if err := cloud.CheckToken(op, kindDatabaseExport, in.Token); err != nil {
		return cloud.DatabaseExport{}, err
	}
	if in.Bucket == "" || in.Role == "" || in.Key == "" {
		return cloud.DatabaseExport{}, invalid(op, resource, "an export needs a bucket, a role that may write to it, and a key", "give what is missing")
	}
	s, err := p.dbSnapshot(ctx, op, in.Snapshot)
	if err != nil {
		return cloud.DatabaseExport{}, err
	}
	if why := canExport(awssdk.ToString(s.Engine), awssdk.ToString(s.EngineVersion)); why != "" {
		return cloud.DatabaseExport{}, cloud.E(cloud.Unsupported, op, resource, why, "restore the snapshot, upgrade it, and export a snapshot of that", nil)
	}
	id := "lifeboat-" + digest(in.Token)
	_, err = p.rds().StartExportTask(ctx, &rds.StartExportTaskInput{ExportTaskIdentifier: &id, SourceArn: s.DBSnapshotArn, S3BucketName: &in.Bucket, S3Prefix: optional(in.Prefix),
		IamRoleArn: &in.Role, KmsKeyId: &in.Key})
	if err != nil && apiCode(err) != "ExportTaskAlreadyExists" {
		return cloud.DatabaseExport{}, awsError(op, resource, err)
	}
	e, err := p.exportTask(ctx, op, id)
	if err != nil {
		return cloud.DatabaseExport{}, err
	}
	if awssdk.ToString(e.SourceArn) != awssdk.ToString(s.DBSnapshotArn) || awssdk.ToString(e.S3Bucket) != in.Bucket || awssdk.ToString(e.S3Prefix) != in.Prefix ||
		awssdk.ToString(e.IamRoleArn) != in.Role {
		return cloud.DatabaseExport{}, cloud.E(cloud.TokenMismatch, op, resource, "the client token was used before for another export", "", nil)
	}
	return exportOf(e), nil
}

func (p *Provider) exportTask(ctx context.Context, op, id string) (types.ExportTask, error) {
	if id == "" {
		return types.ExportTask{}, notFound(op, kindDatabaseExport, id)
	}
	out, err := p.rds().DescribeExportTasks(ctx, &rds.DescribeExportTasksInput{ExportTaskIdentifier: &id})
	if err != nil {
		return types.ExportTask{}, awsError(op, "database export "+id, err)
	}
	if len(out.ExportTasks) == 0 {
		return types.ExportTask{}, notFound(op, kindDatabaseExport, id)
	}
	return out.ExportTasks[0], nil
}

// DatabaseExport finds an export.
func (p *Provider) DatabaseExport(ctx context.Context, id string) (cloud.DatabaseExport, error) {
	e, err := p.exportTask(ctx, "DatabaseExport", id)
	if err != nil {
		return cloud.DatabaseExport{}, err
	}
	return exportOf(e), nil
}

// exportOf maps the states of https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ExportTask.html
func exportOf(e types.ExportTask) cloud.DatabaseExport {
	state, message := cloud.Creating, awssdk.ToString(e.WarningMessage)
	switch awssdk.ToString(e.Status) {
	case "COMPLETE":
		state = cloud.Available
	case "FAILED":
		state, message = cloud.Failing, awssdk.ToString(e.FailureCause)
	case "CANCELED", "CANCELING":
		state, message = cloud.Failing, "the export was cancelled"
	}
	id := awssdk.ToString(e.ExportTaskIdentifier)
	prefix := strings.Trim(awssdk.ToString(e.S3Prefix)+"/"+id, "/")
	_, snapshot, _ := strings.Cut(awssdk.ToString(e.SourceArn), ":snapshot:")
	return cloud.DatabaseExport{Resource: resourceOf(id, state, message, nil, e.TaskStartTime), Snapshot: snapshot, Location: "s3://" + awssdk.ToString(e.S3Bucket) + "/" + prefix,
		Percent: int(awssdk.ToInt32(e.PercentProgress))}
}
