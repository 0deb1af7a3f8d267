package policy

// Files of the policies, from the root of the repository. A managed policy has at most 6,144 characters beside
// white space (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html), so that the worker's are several.
const (
	Compute  = "docs/aws/worker-cloud-compute.json" // EC2 and EBS
	State    = "docs/aws/worker-cloud-state.json"   // bucket, names, keys, scripts, alerts
	Managed  = "docs/aws/worker-cloud-managed.json" // load balancers, scaling groups, databases
	Assume   = "docs/aws/worker-assume-role.json"   // for the worker's own identity
	Auditor  = "docs/aws/auditor.json"              // reads, changes nothing
	MaxChars = 6144
)

// Worker lists the policies of role cloud at a site.
var Worker = []string{Compute, State, Managed}

// condition is the element Condition of a statement.
type condition map[string]map[string]any

// statement is a template: it gets the actions that the table puts into it.
type statement struct {
	sid       string
	file      string
	resources []string
	when      condition
	audit     bool // an auditor has it, too
}

// Tags that conditions ask for. Lifeboat gives the first two to whatever it makes; people give the third to what is
// theirs, and may be stopped and started, or get another address or disk.
const (
	tagToken     = "lifeboat-token"
	tagPlan      = "lifeboat-plan"
	TagProtected = "lifeboat-protected"
)

// has asks that a key of a condition is there.
func has(key string) condition { return condition{"Null": {key: "false"}} }

func requestTag(tag string) condition  { return has("aws:RequestTag/" + tag) }
func resourceTag(tag string) condition { return has("aws:ResourceTag/" + tag) }

// ec2Things are ARNs of EC2 in the site's region. Snapshots and images have no account in theirs
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html).
func ec2Things(kinds ...string) (arns []string) {
	for _, k := range kinds {
		account := "@ACCOUNT@"
		if k == "snapshot" || k == "image" {
			account = ""
		}
		arns = append(arns, "arn:aws:ec2:@REGION@:"+account+":"+k+"/*")
	}
	return arns
}

// things are ARNs of another service in the site's region and account.
func things(service string, paths ...string) (arns []string) {
	for _, p := range paths {
		arns = append(arns, "arn:aws:"+service+":@REGION@:@ACCOUNT@:"+p)
	}
	return arns
}

var viaEBS = []string{"ec2.@REGION@.amazonaws.com", "ebs.@REGION@.amazonaws.com"}

// statements in the order in which the files have them. What stands in capitals between @ is replaced by whoever
// attaches them.
var statements = []statement{
	// These have no resources to name.
	{sid: "Look", file: Compute, resources: []string{"*"}, audit: true},
	// What is made carries Lifeboat's tag.
	{sid: "Make", file: Compute, resources: ec2Things("volume", "snapshot", "image", "instance", "subnet", "elastic-ip", "replace-root-volume-task"), when: requestTag(tagToken)},
	{sid: "MakeOf", file: Compute, resources: ec2Things("instance", "volume")},
	// Copies read snapshots and images of another region, too.
	{sid: "MakeOfOwn", file: Compute, resources: []string{"arn:aws:ec2:*::snapshot/*", "arn:aws:ec2:*::image/*"}, when: resourceTag(tagToken)},
	{sid: "PlaceServer", file: Compute, resources: ec2Things("subnet", "network-interface", "security-group", "key-pair", "capacity-reservation")},
	{sid: "PlaceNetwork", file: Compute, resources: ec2Things("vpc")},
	{sid: "TagNew", file: Compute, resources: ec2Things("volume", "snapshot", "image", "instance", "subnet", "elastic-ip", "replace-root-volume-task"),
		when: condition{"StringEquals": {"ec2:CreateAction": creating}}},
	{sid: "TagOwn", file: Compute, resources: ec2Things("volume"), when: resourceTag(tagToken)},
	{sid: "ChangeOwn", file: Compute, resources: ec2Things("volume", "snapshot", "image", "instance", "subnet", "elastic-ip"), when: resourceTag(tagPlan)},
	{sid: "ChangeProtected", file: Compute, resources: ec2Things("instance", "volume", "elastic-ip"), when: resourceTag(TagProtected)},
	// The address must be Lifeboat's or protected; the interface that has it carries no tag.
	{sid: "MoveAddress", file: Compute, resources: ec2Things("network-interface")},
	{sid: "Blocks", file: Compute, resources: ec2Things("snapshot"), when: resourceTag(tagToken)},
	{sid: "PassProfile", file: Compute, resources: []string{"arn:aws:iam::@ACCOUNT@:role/@PROFILE-ROLE@"}, when: condition{"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}},

	{sid: "LookMore", file: State, resources: []string{"*"}, audit: true},
	// Without prefix: who may not list a bucket is told 403, not 404, of an object that is not there
	// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html), and that request has no prefix.
	{sid: "Bucket", file: State, resources: []string{"arn:aws:s3:::@BUCKET@"}, when: condition{"StringEquals": {"aws:ResourceAccount": "@ACCOUNT@"}}, audit: true},
	// A bucket that is not there has no account yet.
	{sid: "MakeBucket", file: State, resources: []string{"arn:aws:s3:::@BUCKET@"}},
	{sid: "ReadState", file: State, resources: []string{"arn:aws:s3:::@BUCKET@/lifeboat/*"}, when: condition{"StringEquals": {"aws:ResourceAccount": "@ACCOUNT@"}}, audit: true},
	{sid: "WriteState", file: State, resources: []string{"arn:aws:s3:::@BUCKET@/lifeboat/*"}, when: condition{"StringEquals": {"aws:ResourceAccount": "@ACCOUNT@"}}},
	{sid: "SeeNames", file: State, resources: []string{"arn:aws:route53:::hostedzone/@ZONE@", "arn:aws:route53:::change/*", "arn:aws:route53:::healthcheck/*"}, audit: true},
	{sid: "ChangeNames", file: State, resources: []string{"arn:aws:route53:::hostedzone/@ZONE@"}},
	{sid: "MakeHealthCheck", file: State, resources: []string{"*"}},
	{sid: "ChangeHealthCheck", file: State, resources: []string{"arn:aws:route53:::healthcheck/*"}},
	{sid: "SeeKey", file: State, resources: things("kms", "key/@KEY@"), audit: true},
	// The check of a key makes a data key; EBS does, too, and so has no statement of its own for that.
	{sid: "MakeDataKey", file: State, resources: things("kms", "key/@KEY@")},
	// Data keys of volumes have their identifier in the context: these can be decrypted by EBS alone.
	{sid: "TryKey", file: State, resources: things("kms", "key/@KEY@"), when: condition{"Null": {"kms:EncryptionContext:aws:ebs:id": "true"}}},
	{sid: "UseKey", file: State, resources: things("kms", "key/@KEY@"), when: condition{"StringEquals": {"kms:ViaService": viaEBS}}},
	{sid: "GrantKey", file: State, resources: things("kms", "key/@KEY@"), when: condition{"Bool": {"kms:GrantIsForAWSResource": "true"}}},
	{sid: "RunScript", file: State, resources: []string{"arn:aws:ssm:@REGION@::document/AWS-RunShellScript"}},
	{sid: "OnRecovered", file: State, resources: ec2Things("instance"), when: condition{"StringLike": {"ssm:resourceTag/" + tagPlan: "*"}}},
	{sid: "Alert", file: State, resources: things("sns", "lifeboat")},
	{sid: "Measure", file: State, resources: []string{"*"}, when: condition{"StringEquals": {"cloudwatch:namespace": "Lifeboat"}}},

	{sid: "LookManaged", file: Managed, resources: []string{"*"}, audit: true},
	{sid: "SetTargets", file: Managed, resources: things("elasticloadbalancing", "targetgroup/*"), when: resourceTag(TagProtected)},
	{sid: "Scale", file: Managed, resources: things("autoscaling", "autoScalingGroup:*:autoScalingGroupName/*"), when: resourceTag(TagProtected)},
	{sid: "SeeDatabases", file: Managed, resources: append(things("rds", "db:*", "snapshot:*"), "arn:aws:rds:*:@ACCOUNT@:snapshot:*"), audit: true},
	{sid: "MakeDatabase", file: Managed, resources: things("rds", "db:*", "snapshot:*"), when: requestTag(tagToken)},
	{sid: "MakeDatabaseOf", file: Managed, resources: append(things("rds", "subgrp:*", "pg:*", "og:*"), "arn:aws:rds:*:@ACCOUNT@:db:*", "arn:aws:rds:*:@ACCOUNT@:snapshot:*")},
	{sid: "TagDatabase", file: Managed, resources: things("rds", "db:*", "snapshot:*"), when: requestTag(tagToken)},
	{sid: "ChangeDatabase", file: Managed, resources: things("rds", "db:*", "snapshot:*"), when: resourceTag(tagPlan)},
	{sid: "ExportDatabase", file: Managed, resources: things("rds", "snapshot:*", "cluster-snapshot:*")},
	{sid: "PassExport", file: Managed, resources: []string{"arn:aws:iam::@ACCOUNT@:role/@EXPORT-ROLE@"}, when: condition{"StringEquals": {"iam:PassedToService": "export.rds.amazonaws.com"}}},

	{sid: "SeeStacks", file: Managed, resources: things("cloudformation", "stack/*"), audit: true},
	{sid: "MakeStack", file: Managed, resources: things("cloudformation", "stack/*"), when: requestTag(tagToken)},
	{sid: "ChangeStack", file: Managed, resources: things("cloudformation", "stack/*"), when: resourceTag(tagPlan)},
	{sid: "PassStack", file: Managed, resources: []string{"arn:aws:iam::@ACCOUNT@:role/@STACK-ROLE@"}, when: condition{"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}},
	{sid: "SeeBackups", file: Managed, resources: []string{"arn:aws:backup:*:@ACCOUNT@:backup-vault:*", "arn:aws:backup:*:@ACCOUNT@:recovery-point:*", "arn:aws:ec2:*::snapshot/*"}, audit: true},
	{sid: "Backup", file: Managed, resources: []string{"arn:aws:backup:*:@ACCOUNT@:backup-vault:*", "arn:aws:backup:*:@ACCOUNT@:recovery-point:*", "arn:aws:ec2:*::snapshot/*"}},
	{sid: "PassBackup", file: Managed, resources: []string{"arn:aws:iam::@ACCOUNT@:role/@BACKUP-ROLE@"}, when: condition{"StringEquals": {"iam:PassedToService": "backup.amazonaws.com"}}},
	{sid: "Replicate", file: Managed, resources: []string{"arn:aws:elasticfilesystem:*:@ACCOUNT@:file-system/*"}},
	{sid: "MakeFileSystem", file: Managed, resources: []string{"*"}, when: requestTag(tagToken)},
	{sid: "ChangeFileSystem", file: Managed, resources: things("elasticfilesystem", "file-system/*"), when: resourceTag(tagPlan)},

	{sid: "Assume", file: Assume, resources: []string{"arn:aws:iam::@ACCOUNT@:role/@SITE-ROLE@"}},
}

// creating stands for the creating calls of EC2 that give tags: their names are found among the calls.
const creating = "@CREATING@"

// statementOf finds a statement.
func statementOf(sid string) (statement, bool) {
	for _, s := range statements {
		if s.sid == sid {
			return s, true
		}
	}
	return statement{}, false
}
