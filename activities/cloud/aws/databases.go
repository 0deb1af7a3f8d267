package aws

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"lifeboat/activities/cloud"
)

// A database is an instance of RDS. Its identifier, which is its name, keeps creating calls from making it twice: RDS
// has no tokens, but refuses an identifier that is there. The tags tell whether it is the one that was asked for.

const kindDatabase = cloud.Kind("database")

func (p *Provider) rds() *rds.Client {
	return p.clients.rds.get(func() *rds.Client { return rds.NewFromConfig(p.config) })
}

// databaseState maps the states of
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html: what can be used is Available, what
// passes by itself Creating, and what does not is Failing.
func databaseState(status string) (cloud.State, string) {
	switch status {
	case "available", "backing-up", "storage-optimization", "storage-config-upgrade", "storage-initialization":
		return cloud.Available, ""
	case "stopped":
		return cloud.Stopped, ""
	case "stopping":
		return cloud.Stopping, ""
	case "starting":
		return cloud.Starting, ""
	case "deleting", "delete-precheck":
		return cloud.Deleting, ""
	case "failed", "restore-error", "storage-full", "insufficient-capacity", "inaccessible-encryption-credentials", "inaccessible-encryption-credentials-recoverable":
		return cloud.Failing, "RDS says " + status
	}
	if strings.HasPrefix(status, "incompatible-") {
		return cloud.Failing, "RDS says " + status
	}
	return cloud.Creating, "RDS says " + status
}

func rdsTagMap(list []types.Tag) map[string]string {
	tags := map[string]string{}
	for _, t := range list {
		tags[awssdk.ToString(t.Key)] = awssdk.ToString(t.Value)
	}
	return tags
}

func rdsTags(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, t := range ec2Tags(tags) {
		list = append(list, types.Tag{Key: t.Key, Value: t.Value})
	}
	return list
}

func databaseOf(d types.DBInstance) cloud.Database {
	state, message := databaseState(awssdk.ToString(d.DBInstanceStatus))
	id := awssdk.ToString(d.DBInstanceIdentifier)
	out := cloud.Database{Resource: resourceOf(id, state, message, rdsTagMap(d.TagList), d.InstanceCreateTime), Engine: awssdk.ToString(d.Engine),
		Source: awssdk.ToString(d.ReadReplicaSourceDBInstanceIdentifier)}
	out.Name = id
	if v := awssdk.ToString(d.EngineVersion); v != "" {
		out.Engine += " " + v
	}
	if e := d.Endpoint; e != nil {
		out.Endpoint = net.JoinHostPort(awssdk.ToString(e.Address), strconv.Itoa(int(awssdk.ToInt32(e.Port))))
	}
	return out
}

func (p *Provider) dbInstance(ctx context.Context, op, id string) (types.DBInstance, error) {
	if id == "" { // RDS would list them all
		return types.DBInstance{}, notFound(op, kindDatabase, id)
	}
	out, err := p.rds().DescribeDBInstances(ctx, &rds.DescribeDBInstancesInput{DBInstanceIdentifier: &id})
	if err != nil {
		return types.DBInstance{}, awsError(op, "database "+id, err)
	}
	if len(out.DBInstances) == 0 {
		return types.DBInstance{}, notFound(op, kindDatabase, id)
	}
	return out.DBInstances[0], nil
}

// Database finds a database, with the lag of a replica as CloudWatch knows it; −1 is a lag that nobody knows.
func (p *Provider) Database(ctx context.Context, id string) (cloud.Database, error) {
	const op = "Database"
	d, err := p.dbInstance(ctx, op, id)
	if err != nil {
		return cloud.Database{}, err
	}
	out := databaseOf(d)
	if out.Source == "" {
		return out, nil
	}
	lag, known, err := p.replicaLag(ctx, op, id)
	if err != nil {
		return out, err
	}
	if out.Lag = lag; !known {
		out.Lag = -1
	}
	return out, nil
}

// Databases lists the instances of the region, without lags.
func (p *Provider) Databases(ctx context.Context, f cloud.Filter) ([]cloud.Database, error) {
	list, err := listPages(ctx, rds.NewDescribeDBInstancesPaginator(p.rds(), &rds.DescribeDBInstancesInput{}), func(o *rds.DescribeDBInstancesOutput) []types.DBInstance { return o.DBInstances })
	if err != nil {
		return nil, awsError("Databases", "databases of site "+p.site.Name, err)
	}
	all := []cloud.Database{}
	for _, d := range list {
		if f.Match(rdsTagMap(d.TagList)) {
			all = append(all, databaseOf(d))
		}
	}
	return all, nil
}

// lagWindow is how old a measurement of the lag may be. RDS measures every minute.
const lagWindow = 5 * time.Minute

// replicaLag is the newest measurement of how far a replica is behind. −1 of RDS is a replication that does not run:
// not known (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-metrics.html).
func (p *Provider) replicaLag(ctx context.Context, op, id string) (lag time.Duration, known bool, err error) {
	now := time.Now()
	out, err := p.cloudwatch().GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{Namespace: awssdk.String("AWS/RDS"), MetricName: awssdk.String("ReplicaLag"),
		Dimensions: []cwtypes.Dimension{{Name: awssdk.String("DBInstanceIdentifier"), Value: &id}}, StartTime: awssdk.Time(now.Add(-lagWindow)), EndTime: awssdk.Time(now.Add(time.Minute)),
		Period: awssdk.Int32(60), Statistics: []cwtypes.Statistic{cwtypes.StatisticMaximum}})
	if err != nil {
		return 0, false, awsError(op, "lag of database "+id, err)
	}
	var newest time.Time
	for _, d := range out.Datapoints {
		if at := awssdk.ToTime(d.Timestamp); at.After(newest) {
			newest, known = at, awssdk.ToFloat64(d.Maximum) >= 0
			lag = time.Duration(awssdk.ToFloat64(d.Maximum) * float64(time.Second))
		}
	}
	return lag, known, nil
}

// rdsName is the form of identifiers of RDS
// (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html, naming constraints).
var rdsName = regexp.MustCompile(`^[a-z](?:-?[a-z0-9])*$`)

// rdsMake makes something of RDS under its identifier, or finds it there. describe gives the tags of what is there.
func rdsMake[T any](ctx context.Context, op string, kind cloud.Kind, longest int, in cloud.Create, request any,
	describe func(id string) (T, map[string]string, error), create func(id string, tags []types.Tag) error) (made T, err error) {
	if err := cloud.CheckToken(op, kind, in.Token); err != nil {
		return made, err
	}
	id := strings.ToLower(cmp.Or(in.Name, "lifeboat-"+digest(in.Token)))
	resource, sum := string(kind)+" "+id, op+":"+digest(request)
	if len(id) > longest || !rdsName.MatchString(id) {
		return made, invalid(op, resource, fmt.Sprintf("the name is not made of letters, digits and single hyphens, from a letter on, up to %d", longest), "choose another name")
	}
	ours := func() (T, error) {
		got, tags, err := describe(id)
		switch {
		case err != nil:
			return got, err
		case tags[cloud.TagToken] != in.Token:
			return got, invalid(op, resource, "the name belongs to another "+string(kind)+" already", "choose another name")
		case tags[tagRequest] != sum:
			return got, cloud.E(cloud.TokenMismatch, op, resource, "the client token was used before for another request", "", nil)
		}
		return got, nil
	}
	if made, err = ours(); !cloud.IsNotFound(err) {
		return made, err
	}
	err = create(id, rdsTags(allTags(in, map[string]string{tagRequest: sum})))
	if err != nil && !strings.HasSuffix(apiCode(err), "AlreadyExists") {
		return made, awsError(op, resource, err)
	}
	return ours()
}

func (p *Provider) makeDatabase(ctx context.Context, op string, in cloud.Create, request any, create func(id string, tags []types.Tag) error) (cloud.Database, error) {
	return rdsMake(ctx, op, kindDatabase, 63, in, request, func(id string) (cloud.Database, map[string]string, error) {
		d, err := p.dbInstance(ctx, op, id)
		return databaseOf(d), rdsTagMap(d.TagList), err
	}, create)
}

// optional is a text that is left out when it is empty.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// StartRestoreDatabase restores a snapshot of this region, or an instance of this region to a time. Type is a class of
// instances, Network a subnet group of RDS.
func (p *Provider) StartRestoreDatabase(ctx context.Context, in cloud.RestoreDatabase) (cloud.Database, error) {
	const op = "StartRestoreDatabase"
	if (in.Database == "") == (in.Snapshot == "") || in.Snapshot != "" && in.Time != nil {
		return cloud.Database{}, invalid(op, "database "+in.Name, "either a snapshot is restored, or a database at a time", "give one of the two")
	}
	return p.makeDatabase(ctx, op, in.Create, in, func(id string, tags []types.Tag) error {
		if in.Snapshot != "" {
			_, err := p.rds().RestoreDBInstanceFromDBSnapshot(ctx, &rds.RestoreDBInstanceFromDBSnapshotInput{DBInstanceIdentifier: &id, DBSnapshotIdentifier: &in.Snapshot,
				DBInstanceClass: optional(in.Type), DBSubnetGroupName: optional(in.Network), CopyTagsToSnapshot: awssdk.Bool(true), Tags: tags})
			return err
		}
		req := &rds.RestoreDBInstanceToPointInTimeInput{TargetDBInstanceIdentifier: &id, SourceDBInstanceIdentifier: &in.Database, RestoreTime: in.Time,
			DBInstanceClass: optional(in.Type), DBSubnetGroupName: optional(in.Network), CopyTagsToSnapshot: awssdk.Bool(true), Tags: tags}
		if in.Time == nil {
			req.UseLatestRestorableTime = awssdk.Bool(true)
		}
		_, err := p.rds().RestoreDBInstanceToPointInTime(ctx, req)
		return err
	})
}

// elsewhere is how RDS names something of another site: by its ARN, with the region that the request is signed for as
// well; something of its own region by its identifier.
func (p *Provider) elsewhere(ctx context.Context, from cloud.Site, kind, id string) (name string, region *string, err error) {
	other, err := p.peer(ctx, from)
	if err != nil {
		return "", nil, err
	}
	if strings.HasPrefix(id, "arn:") || other.site.Region == p.site.Region && other.site.Account == p.site.Account {
		return id, nil, nil
	}
	account, err := other.account(ctx)
	if err != nil {
		return "", nil, err
	}
	name = "arn:" + partitionOf(other.site.Region) + ":rds:" + other.site.Region + ":" + account + ":" + kind + ":" + id
	if other.site.Region != p.site.Region {
		region = &other.site.Region
	}
	return name, region, nil
}

// StartReplica makes a read replica. One of an encrypted database of another region needs a key of this one.
func (p *Provider) StartReplica(ctx context.Context, in cloud.CreateReplica) (cloud.Database, error) {
	const op = "StartReplica"
	return p.makeDatabase(ctx, op, in.Create, in, func(id string, tags []types.Tag) error {
		source, region, err := p.elsewhere(ctx, in.From, "db", in.Database)
		if err == nil {
			_, err = p.rds().CreateDBInstanceReadReplica(ctx, &rds.CreateDBInstanceReadReplicaInput{DBInstanceIdentifier: &id, SourceDBInstanceIdentifier: &source, SourceRegion: region,
				KmsKeyId: optional(in.Key), DBInstanceClass: optional(in.Type), DBSubnetGroupName: optional(in.Network), CopyTagsToSnapshot: awssdk.Bool(true), Tags: tags})
		}
		return err
	})
}

// StartPromote promotes a read replica. AWS does it in the region of the replica, whatever the source does.
func (p *Provider) StartPromote(ctx context.Context, id string, maxLag time.Duration) error {
	const op = "StartPromote"
	resource := "database " + id
	d, err := p.dbInstance(ctx, op, id)
	if err != nil || d.ReadReplicaSourceDBInstanceIdentifier == nil {
		return err
	}
	if maxLag >= 0 {
		lag, known, err := p.replicaLag(ctx, op, id)
		switch {
		case err != nil:
			return err
		case !known:
			return cloud.E(cloud.NotReady, op, resource, fmt.Sprintf("its lag is not known: CloudWatch has no ReplicaLag of the last %s, or the replication does not run", lagWindow),
				"promote it whatever the lag, if what it holds is enough", nil)
		case lag > maxLag:
			return cloud.E(cloud.NotReady, op, resource, fmt.Sprintf("it is %s behind its source, %s are allowed", lag, maxLag), "wait, or allow more", nil)
		}
	}
	_, err = p.rds().PromoteReadReplica(ctx, &rds.PromoteReadReplicaInput{DBInstanceIdentifier: &id})
	if apiCode(err) == "InvalidDBInstanceState" {
		if now, e := p.dbInstance(ctx, op, id); e == nil && now.ReadReplicaSourceDBInstanceIdentifier == nil {
			return nil // an attempt whose answer was lost
		}
	}
	return awsError(op, resource, err)
}

// DeleteDatabase deletes an instance. A replica has no last snapshot: its source has the data.
func (p *Provider) DeleteDatabase(ctx context.Context, id, lastSnapshot string) error {
	const op = "DeleteDatabase"
	d, err := p.dbInstance(ctx, op, id)
	if err != nil || awssdk.ToString(d.DBInstanceStatus) == "deleting" {
		return err
	}
	if d.ReadReplicaSourceDBInstanceIdentifier != nil {
		lastSnapshot = ""
	}
	_, err = p.rds().DeleteDBInstance(ctx, &rds.DeleteDBInstanceInput{DBInstanceIdentifier: &id, SkipFinalSnapshot: awssdk.Bool(lastSnapshot == ""), FinalDBSnapshotIdentifier: optional(lastSnapshot)})
	return awsError(op, "database "+id, err)
}
