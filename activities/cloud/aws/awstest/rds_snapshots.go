package awstest

import (
	"cmp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"
)

// databaseSnapshot is a snapshot of an instance.
type databaseSnapshot struct {
	types.DBSnapshot
	ready time.Time
	like  types.DBInstance // what a restore gives
}

// databaseExport is an export of a snapshot to S3.
type databaseExport struct {
	rds.StartExportTaskOutput
	ready time.Time
}

// newDatabaseSnapshot makes a snapshot that is creating for a while.
func (c *Call) newDatabaseSnapshot(id string, of types.DBInstance, tags []types.Tag) (*databaseSnapshot, error) {
	s, id := c.rds(), strings.ToLower(id)
	if s.snapshots[id] != nil {
		return nil, fault("DBSnapshotAlreadyExists", "Cannot create the snapshot because a snapshot with the identifier %s already exists.", id)
	}
	snap := &databaseSnapshot{ready: c.Now.Add(c.Delay("snapshot")), like: of, DBSnapshot: types.DBSnapshot{DBSnapshotIdentifier: &id, DBSnapshotArn: c.rdsARN("snapshot", id),
		DBInstanceIdentifier: of.DBInstanceIdentifier, Engine: of.Engine, EngineVersion: of.EngineVersion, AllocatedStorage: of.AllocatedStorage, Encrypted: aws.Bool(aws.ToBool(of.StorageEncrypted)),
		KmsKeyId: of.KmsKeyId, SnapshotCreateTime: aws.Time(c.Now), OriginalSnapshotCreateTime: aws.Time(c.Now), SnapshotType: aws.String("manual"), TagList: tags}}
	s.snapshots[id] = snap
	return snap, nil
}

func (c *Call) databaseSnapshot(id *string) (*databaseSnapshot, error) {
	s := c.rds().snapshots[strings.ToLower(aws.ToString(id))]
	if s == nil {
		return nil, &Error{Code: "DBSnapshotNotFound", Message: "DBSnapshot " + aws.ToString(id) + " not found.", Status: 404}
	}
	return s, nil
}

func (c *Call) showDatabaseSnapshot(s *databaseSnapshot) *types.DBSnapshot {
	out := s.DBSnapshot
	out.Status, out.PercentProgress = aws.String("available"), aws.Int32(100)
	if c.Now.Before(s.ready) {
		out.Status, out.PercentProgress = aws.String("creating"), aws.Int32(50)
	}
	return &out
}

// copyDatabaseSnapshot copies a snapshot that is available, from another region by its ARN. An encrypted one needs a
// key of this region then, and a request that is signed for the other (API_CopyDBSnapshot.html).
func (c *Call) copyDatabaseSnapshot(in *rds.CopyDBSnapshotInput) (*rds.CopyDBSnapshotOutput, error) {
	there, id := c, in.SourceDBSnapshotIdentifier
	if f := strings.Split(aws.ToString(id), ":"); len(f) == 7 {
		there, id = c.inside(f[4], f[3]), &f[6]
	}
	src, err := there.databaseSnapshot(id)
	if err != nil {
		return nil, err
	}
	like := src.like
	switch away := there.Name != c.Name; {
	case *there.showDatabaseSnapshot(src).Status != "available":
		return nil, fault("InvalidDBSnapshotState", "The source snapshot is not in the available state.")
	case away && *src.Encrypted && in.KmsKeyId == nil:
		return nil, fault("InvalidParameterCombination", "KmsKeyId must be specified to copy an encrypted snapshot to another region")
	case away && *src.Encrypted && in.PreSignedUrl == nil:
		return nil, fault("InvalidParameterCombination", "PreSignedUrl must be specified to copy an encrypted snapshot from another region")
	}
	if in.KmsKeyId != nil {
		if like.KmsKeyId, err = c.rdsKey(in.KmsKeyId); err != nil {
			return nil, err
		}
		like.StorageEncrypted = aws.Bool(true)
	}
	tags := in.Tags
	if aws.ToBool(in.CopyTags) {
		tags = append(tags, src.TagList...)
	}
	snap, err := c.newDatabaseSnapshot(aws.ToString(in.TargetDBSnapshotIdentifier), like, tags)
	if err != nil {
		return nil, err
	}
	snap.ready = c.Now.Add(c.Delay("copy"))
	snap.DBInstanceIdentifier, snap.SourceDBSnapshotIdentifier, snap.OriginalSnapshotCreateTime = src.DBInstanceIdentifier, src.DBSnapshotArn, src.OriginalSnapshotCreateTime
	if there.Name != c.Name {
		snap.SourceRegion = &there.Name
	}
	return &rds.CopyDBSnapshotOutput{DBSnapshot: c.showDatabaseSnapshot(snap)}, nil
}

// restored is the instance that a restore makes.
func restored(like types.DBInstance, class, subnets *string) types.DBInstance {
	like.ReadReplicaSourceDBInstanceIdentifier, like.ReadReplicaDBInstanceIdentifiers, like.DeletionProtection = nil, nil, nil
	set(&like.DBInstanceClass, class)
	if subnets != nil {
		like.DBSubnetGroup = &types.DBSubnetGroup{DBSubnetGroupName: subnets}
	}
	return like
}

func (c *Call) restoreDatabase(in *rds.RestoreDBInstanceFromDBSnapshotInput) (*rds.RestoreDBInstanceFromDBSnapshotOutput, error) {
	snap, err := c.databaseSnapshot(in.DBSnapshotIdentifier)
	if err != nil {
		return nil, err
	}
	if c.Now.Before(snap.ready) {
		return nil, fault("InvalidDBSnapshotState", "The snapshot is not in the available state.")
	}
	d, err := c.newDatabase(in.DBInstanceIdentifier, restored(snap.like, in.DBInstanceClass, in.DBSubnetGroupName), in.Tags)
	if err != nil {
		return nil, err
	}
	return &rds.RestoreDBInstanceFromDBSnapshotOutput{DBInstance: c.showDatabase(d)}, nil
}

// restoreToTime restores to a time between creation and the latest restorable one, or to that
// (API_RestoreDBInstanceToPointInTime.html).
func (c *Call) restoreToTime(in *rds.RestoreDBInstanceToPointInTimeInput) (*rds.RestoreDBInstanceToPointInTimeOutput, error) {
	src, err := c.mustDatabase(in.SourceDBInstanceIdentifier)
	if err != nil {
		return nil, err
	}
	latest := aws.ToBool(in.UseLatestRestorableTime)
	switch {
	case latest == (in.RestoreTime != nil):
		return nil, fault("InvalidParameterCombination", "Either RestoreTime or UseLatestRestorableTime must be specified, and not both.")
	case src.status(c.Now) == "creating":
		return nil, fault("InvalidDBInstanceState", "The source instance is being created.")
	case aws.ToInt32(src.BackupRetentionPeriod) == 0 || src.ReadReplicaSourceDBInstanceIdentifier != nil:
		return nil, fault("PointInTimeRestoreNotEnabled", "Point in time restore is not enabled for this instance.")
	case !latest && (in.RestoreTime.Before(src.created.Truncate(time.Second)) || in.RestoreTime.After(c.Now)):
		return nil, fault("InvalidParameterValue", "The specified instance cannot be restored to a time earlier than %s or later than %s.",
			src.created.UTC().Format(time.RFC3339), c.Now.UTC().Format(time.RFC3339))
	}
	d, err := c.newDatabase(in.TargetDBInstanceIdentifier, restored(src.DBInstance, in.DBInstanceClass, in.DBSubnetGroupName), in.Tags)
	if err != nil {
		return nil, err
	}
	return &rds.RestoreDBInstanceToPointInTimeOutput{DBInstance: c.showDatabase(d)}, nil
}

// startExport exports a snapshot to a bucket, encrypted, by a role (API_StartExportTask.html).
func (c *Call) startExport(in *rds.StartExportTaskInput) (*rds.StartExportTaskOutput, error) {
	f := strings.Split(aws.ToString(in.SourceArn), ":")
	if len(f) != 7 || f[5] != "snapshot" || f[3] != c.Name {
		return nil, fault("InvalidParameterValue", "%s is no snapshot of this region", aws.ToString(in.SourceArn))
	}
	snap, err := c.databaseSnapshot(&f[6])
	if err != nil {
		return nil, err
	}
	s, id := c.rds(), aws.ToString(in.ExportTaskIdentifier)
	b := c.s3Buckets().buckets[aws.ToString(in.S3BucketName)]
	switch {
	case s.exports[id] != nil:
		return nil, fault("ExportTaskAlreadyExists", "Export task %s already exists", id)
	case c.Now.Before(snap.ready):
		return nil, fault("InvalidExportSourceState", "The snapshot is not available")
	case b == nil || b.region != c.Name:
		return nil, fault("InvalidS3BucketFault", "The specified Amazon S3 bucket name can't be found or Amazon RDS isn't authorized to access it.")
	case !strings.HasPrefix(aws.ToString(in.IamRoleArn), "arn:aws:iam::"):
		return nil, fault("IamRoleNotFound", "The IAM role %s was not found", aws.ToString(in.IamRoleArn))
	}
	key, err := c.rdsKey(in.KmsKeyId)
	if err != nil {
		return nil, err
	}
	e := &databaseExport{ready: c.Now.Add(c.Delay("export")), StartExportTaskOutput: rds.StartExportTaskOutput{ExportTaskIdentifier: &id, SourceArn: in.SourceArn, SourceType: types.ExportSourceTypeSnapshot,
		S3Bucket: in.S3BucketName, S3Prefix: in.S3Prefix, IamRoleArn: in.IamRoleArn, KmsKeyId: key, SnapshotTime: snap.SnapshotCreateTime, TaskStartTime: aws.Time(c.Now)}}
	s.exports[id] = e
	out := e.show(c.Now)
	return &out, nil
}

func (e *databaseExport) show(now time.Time) rds.StartExportTaskOutput {
	out := e.StartExportTaskOutput
	out.Status, out.PercentProgress = aws.String("COMPLETE"), aws.Int32(100)
	if now.Before(e.ready) {
		out.Status, out.PercentProgress = aws.String("IN_PROGRESS"), aws.Int32(40)
	} else {
		out.TaskEndTime = aws.Time(e.ready)
	}
	return out
}

func (c *Call) describeExports(in *rds.DescribeExportTasksInput) (*rds.DescribeExportTasksOutput, error) {
	var all []types.ExportTask
	for _, e := range byID(c.rds().exports) {
		if in.ExportTaskIdentifier != nil && *in.ExportTaskIdentifier != *e.ExportTaskIdentifier {
			continue
		}
		o := e.show(c.Now)
		all = append(all, types.ExportTask{ExportTaskIdentifier: o.ExportTaskIdentifier, SourceArn: o.SourceArn, SourceType: o.SourceType, S3Bucket: o.S3Bucket, S3Prefix: o.S3Prefix, IamRoleArn: o.IamRoleArn,
			KmsKeyId: o.KmsKeyId, SnapshotTime: o.SnapshotTime, TaskStartTime: o.TaskStartTime, TaskEndTime: o.TaskEndTime, Status: o.Status, PercentProgress: o.PercentProgress})
	}
	if in.ExportTaskIdentifier != nil && len(all) == 0 {
		return nil, &Error{Code: "ExportTaskNotFound", Message: "Export task not found", Status: 404}
	}
	list, next, err := page(c, all, cmp.Or(in.MaxRecords, aws.Int32(100)), in.Marker)
	return &rds.DescribeExportTasksOutput{ExportTasks: append([]types.ExportTask{}, list...), Marker: next}, err
}

func init() {
	on(rdsService, "CreateDBSnapshot", func(c *Call, in *rds.CreateDBSnapshotInput) (*rds.CreateDBSnapshotOutput, error) {
		d, err := c.mustDatabase(in.DBInstanceIdentifier)
		if err != nil {
			return nil, err
		}
		if s := d.status(c.Now); s != "available" && s != "backing-up" {
			return nil, fault("InvalidDBInstanceState", "Instance %s is not in the available state.", *d.DBInstanceIdentifier)
		}
		snap, err := c.newDatabaseSnapshot(aws.ToString(in.DBSnapshotIdentifier), d.DBInstance, in.Tags)
		if err != nil {
			return nil, err
		}
		return &rds.CreateDBSnapshotOutput{DBSnapshot: c.showDatabaseSnapshot(snap)}, nil
	})
	on(rdsService, "DescribeDBSnapshots", func(c *Call, in *rds.DescribeDBSnapshotsInput) (*rds.DescribeDBSnapshotsOutput, error) {
		out := &rds.DescribeDBSnapshotsOutput{DBSnapshots: []types.DBSnapshot{}}
		if in.DBSnapshotIdentifier != nil {
			s, err := c.databaseSnapshot(in.DBSnapshotIdentifier)
			if err == nil {
				out.DBSnapshots = append(out.DBSnapshots, *c.showDatabaseSnapshot(s))
			}
			return out, err
		}
		var all []types.DBSnapshot
		for _, s := range byID(c.rds().snapshots) {
			all = append(all, *c.showDatabaseSnapshot(s))
		}
		list, next, err := page(c, all, cmp.Or(in.MaxRecords, aws.Int32(100)), in.Marker)
		out.DBSnapshots, out.Marker = append(out.DBSnapshots, list...), next
		return out, err
	})
	on(rdsService, "DeleteDBSnapshot", func(c *Call, in *rds.DeleteDBSnapshotInput) (*rds.DeleteDBSnapshotOutput, error) {
		s, err := c.databaseSnapshot(in.DBSnapshotIdentifier)
		if err != nil {
			return nil, err
		}
		if c.Now.Before(s.ready) {
			return nil, fault("InvalidDBSnapshotState", "The snapshot is being created.")
		}
		delete(c.rds().snapshots, *s.DBSnapshotIdentifier)
		return &rds.DeleteDBSnapshotOutput{DBSnapshot: c.showDatabaseSnapshot(s)}, nil
	})
	on(rdsService, "CopyDBSnapshot", (*Call).copyDatabaseSnapshot)
	on(rdsService, "RestoreDBInstanceFromDBSnapshot", (*Call).restoreDatabase)
	on(rdsService, "RestoreDBInstanceToPointInTime", (*Call).restoreToTime)
	on(rdsService, "StartExportTask", (*Call).startExport)
	on(rdsService, "DescribeExportTasks", (*Call).describeExports)
}
