package awstest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"
)

// rdsService is Amazon RDS: https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/
// Instances, snapshots and exports have states, no rows: nothing listens at their endpoints.
var rdsService = serve("rds", queryWire{items: map[string]string{"DBInstance": "DBInstance", "DBSnapshot": "DBSnapshot", "ExportTask": "ExportTask", "Tag": "Tag",
	"string": "ReadReplicaDBInstanceIdentifier"}})

// rdsState is what an account has of it in a region, by identifier.
type rdsState struct {
	instances map[string]*database
	snapshots map[string]*databaseSnapshot
	exports   map[string]*databaseExport
}

// database is an instance. Its state follows from times
// (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html).
type database struct {
	types.DBInstance
	created, backedUp, changed, deleted time.Time // when creating, backing up, modifying and deleting are over
	failed                              string
}

func (c *Call) rds() *rdsState { return rdsOf(c.Region) }

func rdsOf(r *Region) *rdsState {
	s := part[rdsState](r)
	if s.instances == nil {
		s.instances, s.snapshots, s.exports = map[string]*database{}, map[string]*databaseSnapshot{}, map[string]*databaseExport{}
	}
	return s
}

func (c *Call) rdsARN(kind, id string) *string {
	return aws.String("arn:aws:rds:" + c.Name + ":" + c.Region.Account + ":" + kind + ":" + id)
}

// databaseName is the form of identifiers of instances (API_CreateDBInstance.html).
var databaseName = regexp.MustCompile(`^[a-zA-Z](?:-?[a-zA-Z0-9]){0,62}$`)

// status is the state of an instance now.
func (d *database) status(now time.Time) string {
	switch {
	case !d.deleted.IsZero():
		return "deleting"
	case now.Before(d.created):
		return "creating"
	case d.failed != "":
		return d.failed
	case now.Before(d.backedUp):
		return "backing-up"
	case now.Before(d.changed):
		return "modifying"
	}
	return "available"
}

// newDatabase makes an instance: it is created, and then backed up for the first time.
func (c *Call) newDatabase(id *string, like types.DBInstance, tags []types.Tag) (*database, error) {
	s, name := c.rds(), strings.ToLower(aws.ToString(id))
	if !databaseName.MatchString(name) {
		return nil, fault("InvalidParameterValue", "The parameter DBInstanceIdentifier is not a valid identifier. Identifiers must begin with a letter; must contain only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive hyphens.")
	}
	if c.database(name) != nil {
		return nil, fault("DBInstanceAlreadyExists", "DB instance already exists")
	}
	if len(s.instances) >= c.quota("databases", 40) { // CHAP_Limits.html
		return nil, fault("InstanceQuotaExceeded", "Cannot create more than 40 DB instances")
	}
	d := &database{DBInstance: like, created: c.Now.Add(c.Delay("database"))}
	d.backedUp = d.created.Add(c.Delay("backup"))
	d.DBInstanceIdentifier, d.DBInstanceArn, d.TagList = &name, c.rdsARN("db", name), tags
	d.InstanceCreateTime, d.BackupRetentionPeriod = aws.Time(d.created), aws.Int32(cmp.Or(aws.ToInt32(like.BackupRetentionPeriod), 1))
	d.Endpoint = &types.Endpoint{Address: aws.String(fmt.Sprintf("%s.c%s.%s.rds.amazonaws.com", name, c.Region.Account, c.Name)), Port: aws.Int32(databasePort(aws.ToString(like.Engine)))}
	s.instances[name] = d
	return d, nil
}

func databasePort(engine string) int32 {
	if engine == "postgres" {
		return 5432
	}
	return 3306
}

// database finds an instance that is not gone.
func (c *Call) database(id string) *database {
	s, id := c.rds(), strings.ToLower(id)
	d := s.instances[id]
	if d != nil && !d.deleted.IsZero() && !c.Now.Before(d.deleted) {
		delete(s.instances, id)
		for _, r := range c.regions { // replicas that lose their source are on their own (USER_ReadRepl.html, deleting)
			for _, other := range rdsOf(r).instances {
				if src := aws.ToString(other.ReadReplicaSourceDBInstanceIdentifier); src == *d.DBInstanceArn || src == id && r == c.Region {
					other.ReadReplicaSourceDBInstanceIdentifier = nil
				}
			}
		}
		return nil
	}
	return d
}

func (c *Call) mustDatabase(id *string) (*database, error) {
	d := c.database(aws.ToString(id))
	if d == nil {
		return nil, &Error{Code: "DBInstanceNotFound", Message: "DBInstance " + aws.ToString(id) + " not found.", Status: 404}
	}
	return d, nil
}

// sourceDatabase finds an instance by identifier, or in another region by ARN.
func (c *Call) sourceDatabase(id *string) (*Call, *database, error) {
	f := strings.Split(aws.ToString(id), ":")
	if len(f) != 7 {
		d, err := c.mustDatabase(id)
		return c, d, err
	}
	there := c.inside(f[4], f[3])
	d, err := there.mustDatabase(&f[6])
	return there, d, err
}

func (c *Call) showDatabase(d *database) *types.DBInstance {
	out := d.DBInstance
	out.DBInstanceStatus = aws.String(d.status(c.Now))
	if c.Now.Before(d.created) {
		out.Endpoint, out.InstanceCreateTime = nil, nil
	} else if out.ReadReplicaSourceDBInstanceIdentifier == nil {
		out.LatestRestorableTime = aws.Time(c.Now.Truncate(time.Second))
	}
	return &out
}

func (c *Call) describeDatabases(in *rds.DescribeDBInstancesInput) (*rds.DescribeDBInstancesOutput, error) {
	out := &rds.DescribeDBInstancesOutput{DBInstances: []types.DBInstance{}}
	if in.DBInstanceIdentifier != nil {
		d, err := c.mustDatabase(in.DBInstanceIdentifier)
		if err == nil {
			out.DBInstances = append(out.DBInstances, *c.showDatabase(d))
		}
		return out, err
	}
	var all []types.DBInstance
	for _, id := range sortedKeys(c.rds().instances) {
		if d := c.database(id); d != nil {
			all = append(all, *c.showDatabase(d))
		}
	}
	list, next, err := page(c, all, cmp.Or(in.MaxRecords, aws.Int32(100)), in.Marker)
	out.DBInstances, out.Marker = append(out.DBInstances, list...), next
	return out, err
}

// createReplica wants an available source with backups; from another region it is named by its ARN, and an encrypted
// one needs a key of this region (API_CreateDBInstanceReadReplica.html).
func (c *Call) createReplica(in *rds.CreateDBInstanceReadReplicaInput) (*rds.CreateDBInstanceReadReplicaOutput, error) {
	there, src, err := c.sourceDatabase(in.SourceDBInstanceIdentifier)
	if err != nil {
		return nil, err
	}
	if s := src.status(there.Now); s == "creating" || s == "deleting" || src.failed != "" {
		return nil, fault("InvalidDBInstanceState", "The source instance is not in the available state: %s", s)
	}
	like := src.DBInstance
	like.ReadReplicaSourceDBInstanceIdentifier, like.BackupRetentionPeriod = src.DBInstanceIdentifier, nil
	if there.Name != c.Name {
		like.ReadReplicaSourceDBInstanceIdentifier = src.DBInstanceArn
		if aws.ToBool(src.StorageEncrypted) && in.KmsKeyId == nil {
			return nil, fault("InvalidParameterCombination", "KmsKeyId must be specified for a replica of an encrypted instance in another region")
		}
	}
	if in.KmsKeyId != nil {
		if like.KmsKeyId, err = c.rdsKey(in.KmsKeyId); err != nil {
			return nil, err
		}
	}
	set(&like.DBInstanceClass, in.DBInstanceClass)
	if in.DBSubnetGroupName != nil {
		like.DBSubnetGroup = &types.DBSubnetGroup{DBSubnetGroupName: in.DBSubnetGroupName}
	}
	d, err := c.newDatabase(in.DBInstanceIdentifier, like, in.Tags)
	if err != nil {
		return nil, err
	}
	return &rds.CreateDBInstanceReadReplicaOutput{DBInstance: c.showDatabase(d)}, nil
}

// rdsKey finds a key of this region that can be used.
func (c *Call) rdsKey(key *string) (*string, error) {
	arn, problem, err := c.storageKey(aws.ToString(key))
	if err == nil && problem != "" {
		err = fault("KMSKeyNotAccessibleFault", "The specified KMS key [%s] does not exist, is not enabled or you do not have permissions to access it.", aws.ToString(key))
	}
	return &arn, err
}

// promoteReplica makes a replica an instance of its own, at once in name and after a restart in fact
// (API_PromoteReadReplica.html).
func (c *Call) promoteReplica(in *rds.PromoteReadReplicaInput) (*rds.PromoteReadReplicaOutput, error) {
	d, err := c.mustDatabase(in.DBInstanceIdentifier)
	if err != nil {
		return nil, err
	}
	switch {
	case d.status(c.Now) != "available":
		return nil, fault("InvalidDBInstanceState", "DB Instance is not in an available state.")
	case d.ReadReplicaSourceDBInstanceIdentifier == nil:
		return nil, fault("InvalidDBInstanceState", "DB Instance %s is not a read replica.", *d.DBInstanceIdentifier)
	}
	d.ReadReplicaSourceDBInstanceIdentifier = nil
	d.changed = c.Now.Add(c.Delay("promote"))
	return &rds.PromoteReadReplicaOutput{DBInstance: c.showDatabase(d)}, nil
}

// deleteDatabase wants a final snapshot, or to be told that there is none; a replica has none (API_DeleteDBInstance.html).
func (c *Call) deleteDatabase(in *rds.DeleteDBInstanceInput) (*rds.DeleteDBInstanceOutput, error) {
	d, err := c.mustDatabase(in.DBInstanceIdentifier)
	if err != nil {
		return nil, err
	}
	final, skip := aws.ToString(in.FinalDBSnapshotIdentifier), aws.ToBool(in.SkipFinalSnapshot)
	switch s := d.status(c.Now); {
	case s == "deleting" || s == "creating":
		return nil, fault("InvalidDBInstanceState", "Instance %s is already being deleted or created.", *d.DBInstanceIdentifier)
	case aws.ToBool(d.DeletionProtection):
		return nil, fault("InvalidParameterCombination", "Cannot delete protected DB Instance, please disable deletion protection and try again.")
	case skip == (final != ""):
		return nil, fault("InvalidParameterCombination", "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified, and cannot be specified with it.")
	case final != "" && d.ReadReplicaSourceDBInstanceIdentifier != nil:
		return nil, fault("InvalidDBInstanceState", "Cannot create a final snapshot of a read replica")
	}
	d.deleted = c.Now.Add(c.Delay("database"))
	if final != "" {
		if _, err := c.newDatabaseSnapshot(final, d.DBInstance, d.TagList); err != nil {
			d.deleted = time.Time{}
			return nil, err
		}
	}
	return &rds.DeleteDBInstanceOutput{DBInstance: c.showDatabase(d)}, nil
}

// ReplicaLag is a measurement of how far a read replica is behind, as RDS puts it into CloudWatch every minute
// (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-metrics.html, ReplicaLag, seconds; −1 = not replicating).
func (c *Cloud) ReplicaLag(account, region, id string, seconds float64) {
	call, unlock := c.console(account, region)
	defer unlock()
	key, dimensions := metricKey("AWS/RDS", "ReplicaLag", []cwtypes.Dimension{{Name: aws.String("DBInstanceIdentifier"), Value: aws.String(id)}})
	s := cloudwatchOf(call.Region)
	if s.metrics[key] == nil {
		s.metrics[key] = &metric{namespace: "AWS/RDS", name: "ReplicaLag", dimensions: dimensions}
	}
	s.metrics[key].samples = []sample{{at: call.Now, unit: cwtypes.StandardUnitSeconds, n: 1, sum: seconds, lo: seconds, top: seconds}}
}

// BreakDatabase puts an instance into a failed state, such as "storage-full".
func (c *Cloud) BreakDatabase(account, region, id, status string) error {
	call, unlock := c.console(account, region)
	defer unlock()
	d, err := call.mustDatabase(&id)
	if err == nil {
		d.failed = status
	}
	return err
}

func init() {
	on(rdsService, "CreateDBInstance", func(c *Call, in *rds.CreateDBInstanceInput) (*rds.CreateDBInstanceOutput, error) {
		like := types.DBInstance{Engine: in.Engine, EngineVersion: in.EngineVersion, DBInstanceClass: in.DBInstanceClass, AllocatedStorage: in.AllocatedStorage,
			StorageEncrypted: in.StorageEncrypted, DeletionProtection: in.DeletionProtection, BackupRetentionPeriod: in.BackupRetentionPeriod, MasterUsername: in.MasterUsername}
		if !slices.Contains([]string{"mysql", "mariadb", "postgres", "oracle-ee", "sqlserver-se"}, aws.ToString(in.Engine)) || in.DBInstanceClass == nil {
			return nil, fault("InvalidParameterValue", "Invalid DB engine, or no instance class")
		}
		d, err := c.newDatabase(in.DBInstanceIdentifier, like, in.Tags)
		if err != nil {
			return nil, err
		}
		return &rds.CreateDBInstanceOutput{DBInstance: c.showDatabase(d)}, nil
	})
	on(rdsService, "DescribeDBInstances", (*Call).describeDatabases)
	on(rdsService, "CreateDBInstanceReadReplica", (*Call).createReplica)
	on(rdsService, "PromoteReadReplica", (*Call).promoteReplica)
	on(rdsService, "DeleteDBInstance", (*Call).deleteDatabase)
}
