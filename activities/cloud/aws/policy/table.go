package policy

import "slices"

// grant is an action and the statements that allow it: more than one where the call is checked on several kinds of
// resources.
type grant struct {
	action string
	in     []string // sids
}

func to(action string, in ...string) grant { return grant{action, in} }

// reference is where actions, the resources that they are checked on, conditions and dependent actions are written
// down, by the service of the SDK. A row that has another source names it.
var reference = map[string]string{
	"autoscaling":            "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html",
	"backup":                 "https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsbackup.html",
	"cloudformation":         "https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscloudformation.html",
	"cloudwatch":             "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html",
	"ebs":                    "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticblockstore.html",
	"ec2":                    "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html",
	"efs":                    "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticfilesystem.html",
	"elasticloadbalancingv2": "https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancingv2.html",
	"kms":                    "https://docs.aws.amazon.com/service-authorization/latest/reference/list_awskeymanagementservice.html",
	"rds":                    "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonrds.html",
	"route53":                "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonroute53.html",
	"s3":                     "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html",
	"sns":                    "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsns.html",
	"ssm":                    "https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssystemsmanager.html",
	"sts":                    "https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecuritytokenservice.html",
}

// What EBS does with the caller's permissions where a volume is encrypted:
// https://docs.aws.amazon.com/ebs/latest/userguide/how-ebs-encryption-works.html and ebs-encryption-requirements.html.
var keyOfEBS = []grant{to("kms:CreateGrant", "GrantKey"), to("kms:Decrypt", "UseKey"), to("kms:GenerateDataKeyWithoutPlaintext", "MakeDataKey"),
	to("kms:ReEncryptFrom", "UseKey"), to("kms:ReEncryptTo", "UseKey"), to("kms:DescribeKey", "SeeKey")}

// encrypted adds what EBS does where the volume is encrypted.
func encrypted(more ...grant) []grant { return slices.Concat(keyOfEBS, more) }

// tagged is what a creating call of EC2 needs to give tags
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html).
var tagged = to("ec2:CreateTags", "TagNew")

// table says what each call needs. Empty: it needs no permission.
var table = map[Call][]grant{
	"ec2.AllocateAddress":             {to("ec2:AllocateAddress", "Make"), tagged},
	"ec2.CopyImage":                   encrypted(to("ec2:CopyImage", "Make", "MakeOfOwn"), tagged), // .../UserGuide/copy-ami-permissions.html
	"ec2.CopySnapshot":                encrypted(to("ec2:CopySnapshot", "Make", "MakeOfOwn"), tagged),
	"ec2.CreateImage":                 {to("ec2:CreateImage", "Make", "MakeOf"), tagged},
	"ec2.CreateReplaceRootVolumeTask": {to("ec2:CreateReplaceRootVolumeTask", "Make", "ChangeOwn", "ChangeProtected"), tagged},
	"ec2.CreateSnapshot":              {to("ec2:CreateSnapshot", "Make", "MakeOf"), tagged},
	"ec2.CreateSnapshots":             {to("ec2:CreateSnapshots", "Make", "MakeOf"), tagged},
	"ec2.CreateSubnet":                {to("ec2:CreateSubnet", "Make", "PlaceNetwork"), tagged},
	"ec2.CreateVolume":                encrypted(to("ec2:CreateVolume", "Make", "MakeOfOwn"), tagged),
	"ec2.RegisterImage":               {to("ec2:RegisterImage", "Make", "MakeOfOwn"), tagged},
	"ec2.RunInstances": encrypted(to("ec2:RunInstances", "Make", "MakeOfOwn", "PlaceServer"), tagged,
		to("iam:PassRole", "PassProfile")), // https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html

	"ec2.CreateTags":              {to("ec2:CreateTags", "TagOwn")},
	"ec2.AssociateAddress":        {to("ec2:AssociateAddress", "ChangeOwn", "ChangeProtected", "MoveAddress")},
	"ec2.DisassociateAddress":     {to("ec2:DisassociateAddress", "ChangeOwn", "ChangeProtected", "MoveAddress")},
	"ec2.ReleaseAddress":          {to("ec2:ReleaseAddress", "ChangeOwn")},
	"ec2.AttachVolume":            encrypted(to("ec2:AttachVolume", "ChangeOwn", "ChangeProtected")),
	"ec2.DetachVolume":            {to("ec2:DetachVolume", "ChangeOwn", "ChangeProtected")},
	"ec2.DeleteVolume":            {to("ec2:DeleteVolume", "ChangeOwn")},
	"ec2.DeleteSnapshot":          {to("ec2:DeleteSnapshot", "ChangeOwn")},
	"ec2.DeleteSubnet":            {to("ec2:DeleteSubnet", "ChangeOwn")},
	"ec2.DeregisterImage":         {to("ec2:DeregisterImage", "ChangeOwn"), to("ec2:DeleteSnapshot", "ChangeOwn")}, // API_DeregisterImage.html, DeleteAssociatedSnapshots
	"ec2.EnableImageDeprecation":  {to("ec2:EnableImageDeprecation", "ChangeOwn")},
	"ec2.ModifyImageAttribute":    {to("ec2:ModifyImageAttribute", "ChangeOwn")},
	"ec2.ModifySnapshotAttribute": {to("ec2:ModifySnapshotAttribute", "ChangeOwn")},
	"ec2.ModifyInstanceAttribute": {to("ec2:ModifyInstanceAttribute", "ChangeOwn")},
	"ec2.StartInstances":          encrypted(to("ec2:StartInstances", "ChangeOwn", "ChangeProtected")),
	"ec2.StopInstances":           {to("ec2:StopInstances", "ChangeOwn", "ChangeProtected")},
	"ec2.TerminateInstances":      {to("ec2:TerminateInstances", "ChangeOwn")},

	"ec2.DescribeAccountAttributes":      {to("ec2:DescribeAccountAttributes", "Look")},
	"ec2.DescribeAddresses":              {to("ec2:DescribeAddresses", "Look")},
	"ec2.DescribeAvailabilityZones":      {to("ec2:DescribeAvailabilityZones", "Look")},
	"ec2.DescribeCapacityReservations":   {to("ec2:DescribeCapacityReservations", "Look")},
	"ec2.DescribeImages":                 {to("ec2:DescribeImages", "Look")},
	"ec2.DescribeInstanceTypeOfferings":  {to("ec2:DescribeInstanceTypeOfferings", "Look")},
	"ec2.DescribeInstanceTypes":          {to("ec2:DescribeInstanceTypes", "Look")},
	"ec2.DescribeInstances":              {to("ec2:DescribeInstances", "Look")},
	"ec2.DescribeNetworkInterfaces":      {to("ec2:DescribeNetworkInterfaces", "Look")},
	"ec2.DescribeReplaceRootVolumeTasks": {to("ec2:DescribeReplaceRootVolumeTasks", "Look")},
	"ec2.DescribeRouteTables":            {to("ec2:DescribeRouteTables", "Look")},
	"ec2.DescribeSecurityGroups":         {to("ec2:DescribeSecurityGroups", "Look")},
	"ec2.DescribeSnapshots":              {to("ec2:DescribeSnapshots", "Look")},
	"ec2.DescribeSubnets":                {to("ec2:DescribeSubnets", "Look")},
	"ec2.DescribeVolumes":                {to("ec2:DescribeVolumes", "Look")},
	"ec2.DescribeVpcs":                   {to("ec2:DescribeVpcs", "Look")},

	"ebs.CompleteSnapshot":   {to("ebs:CompleteSnapshot", "Blocks")},
	"ebs.GetSnapshotBlock":   encrypted(to("ebs:GetSnapshotBlock", "Blocks")), // .../ebs/latest/userguide/ebsapi-permissions.html
	"ebs.ListChangedBlocks":  {to("ebs:ListChangedBlocks", "Blocks")},
	"ebs.ListSnapshotBlocks": {to("ebs:ListSnapshotBlocks", "Blocks")},
	"ebs.PutSnapshotBlock":   encrypted(to("ebs:PutSnapshotBlock", "Blocks")),
	"ebs.StartSnapshot":      encrypted(to("ebs:StartSnapshot", "Make"), tagged),

	// S3 names actions after what is done, not after the operation:
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
	"s3.CreateBucket":  {to("s3:CreateBucket", "MakeBucket")},
	"s3.DeleteObject":  {to("s3:DeleteObject", "WriteState")},
	"s3.GetObject":     {to("s3:GetObject", "ReadState"), to("s3:ListBucket", "Bucket")},
	"s3.ListObjectsV2": {to("s3:ListBucket", "Bucket")},
	"s3.PutObject":     {to("s3:PutObject", "WriteState")},

	"route53.ChangeResourceRecordSets": {to("route53:ChangeResourceRecordSets", "ChangeNames")},
	"route53.ChangeTagsForResource":    {to("route53:ChangeTagsForResource", "ChangeHealthCheck")},
	"route53.CreateHealthCheck":        {to("route53:CreateHealthCheck", "MakeHealthCheck")},
	"route53.DeleteHealthCheck":        {to("route53:DeleteHealthCheck", "ChangeHealthCheck")},
	"route53.GetChange":                {to("route53:GetChange", "SeeNames")},
	"route53.GetHealthCheck":           {to("route53:GetHealthCheck", "SeeNames")},
	"route53.GetHealthCheckStatus":     {to("route53:GetHealthCheckStatus", "SeeNames")},
	"route53.GetHostedZone":            {to("route53:GetHostedZone", "SeeNames")},
	"route53.ListHostedZonesByName":    {to("route53:ListHostedZonesByName", "LookMore")},
	"route53.ListResourceRecordSets":   {to("route53:ListResourceRecordSets", "SeeNames")},
	"route53.UpdateHealthCheck":        {to("route53:UpdateHealthCheck", "ChangeHealthCheck")},

	"kms.Decrypt":                         {to("kms:Decrypt", "TryKey")},
	"kms.DescribeKey":                     {to("kms:DescribeKey", "SeeKey")},
	"kms.GenerateDataKeyWithoutPlaintext": {to("kms:GenerateDataKeyWithoutPlaintext", "MakeDataKey")},

	"ssm.DescribeInstanceInformation": {to("ssm:DescribeInstanceInformation", "LookMore")},
	"ssm.GetCommandInvocation":        {to("ssm:GetCommandInvocation", "LookMore")},
	"ssm.ListCommands":                {to("ssm:ListCommands", "LookMore")},
	"ssm.SendCommand":                 {to("ssm:SendCommand", "RunScript", "OnRecovered")},

	"cloudwatch.GetMetricStatistics": {to("cloudwatch:GetMetricStatistics", "LookMore")},
	"cloudwatch.PutMetricData":       {to("cloudwatch:PutMetricData", "Measure")},
	"sns.Publish":                    {to("sns:Publish", "Alert")},
	"sts.AssumeRole":                 {to("sts:AssumeRole", "Assume")},
	"sts.GetCallerIdentity":          {}, // https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html

	"elasticloadbalancingv2.DeregisterTargets":     {to("elasticloadbalancing:DeregisterTargets", "SetTargets")},
	"elasticloadbalancingv2.DescribeLoadBalancers": {to("elasticloadbalancing:DescribeLoadBalancers", "LookManaged")},
	"elasticloadbalancingv2.DescribeTags":          {to("elasticloadbalancing:DescribeTags", "LookManaged")},
	"elasticloadbalancingv2.DescribeTargetGroups":  {to("elasticloadbalancing:DescribeTargetGroups", "LookManaged")},
	"elasticloadbalancingv2.DescribeTargetHealth":  {to("elasticloadbalancing:DescribeTargetHealth", "LookManaged")},
	"elasticloadbalancingv2.RegisterTargets":       {to("elasticloadbalancing:RegisterTargets", "SetTargets")},
	"autoscaling.DescribeAutoScalingGroups":        {to("autoscaling:DescribeAutoScalingGroups", "LookManaged")},
	"autoscaling.DescribeScalingActivities":        {to("autoscaling:DescribeScalingActivities", "LookManaged")},
	"autoscaling.UpdateAutoScalingGroup":           {to("autoscaling:UpdateAutoScalingGroup", "Scale")},

	"rds.CopyDBSnapshot":                  {to("rds:CopyDBSnapshot", "MakeDatabase", "MakeDatabaseOf"), to("rds:AddTagsToResource", "TagDatabase")},
	"rds.CreateDBInstanceReadReplica":     {to("rds:CreateDBInstanceReadReplica", "MakeDatabase", "MakeDatabaseOf"), to("rds:AddTagsToResource", "TagDatabase")},
	"rds.CreateDBSnapshot":                {to("rds:CreateDBSnapshot", "MakeDatabase", "MakeDatabaseOf"), to("rds:AddTagsToResource", "TagDatabase")},
	"rds.RestoreDBInstanceFromDBSnapshot": {to("rds:RestoreDBInstanceFromDBSnapshot", "MakeDatabase", "MakeDatabaseOf"), to("rds:AddTagsToResource", "TagDatabase")},
	"rds.RestoreDBInstanceToPointInTime":  {to("rds:RestoreDBInstanceToPointInTime", "MakeDatabase", "MakeDatabaseOf"), to("rds:AddTagsToResource", "TagDatabase")},
	"rds.DeleteDBInstance":                {to("rds:DeleteDBInstance", "ChangeDatabase")},
	"rds.DeleteDBSnapshot":                {to("rds:DeleteDBSnapshot", "ChangeDatabase")},
	"rds.PromoteReadReplica":              {to("rds:PromoteReadReplica", "ChangeDatabase")},
	"rds.DescribeDBInstances":             {to("rds:DescribeDBInstances", "LookManaged")},
	"rds.DescribeDBSnapshots":             {to("rds:DescribeDBSnapshots", "SeeDatabases")},
	"rds.DescribeExportTasks":             {to("rds:DescribeExportTasks", "LookManaged")},
	"rds.StartExportTask":                 {to("rds:StartExportTask", "ExportDatabase"), to("iam:PassRole", "PassExport")},
	// A stack makes what its template says by the role that it is given: that role has the permissions for it.
	"cloudformation.CreateStack":                       {to("cloudformation:CreateStack", "MakeStack"), to("cloudformation:TagResource", "MakeStack"), to("iam:PassRole", "PassStack")},
	"cloudformation.DeleteStack":                       {to("cloudformation:DeleteStack", "ChangeStack")},
	"cloudformation.DescribeStackDriftDetectionStatus": {to("cloudformation:DescribeStackDriftDetectionStatus", "LookManaged")},
	"cloudformation.DescribeStackEvents":               {to("cloudformation:DescribeStackEvents", "SeeStacks")},
	"cloudformation.DescribeStackResourceDrifts":       {to("cloudformation:DescribeStackResourceDrifts", "SeeStacks")},
	"cloudformation.DescribeStackResources":            {to("cloudformation:DescribeStackResources", "SeeStacks")},
	"cloudformation.DescribeStacks":                    {to("cloudformation:DescribeStacks", "SeeStacks")},
	"cloudformation.DetectStackDrift":                  {to("cloudformation:DetectStackDrift", "SeeStacks")},
	"cloudformation.ListStacks":                        {to("cloudformation:ListStacks", "LookManaged")},
	"cloudformation.ListStackResources":                {to("cloudformation:ListStackResources", "SeeStacks")},
	"cloudformation.UpdateStack":                       {to("cloudformation:UpdateStack", "ChangeStack"), to("iam:PassRole", "PassStack")},

	"backup.DescribeBackupJob":               {to("backup:DescribeBackupJob", "LookManaged")},
	"backup.DescribeCopyJob":                 {to("backup:DescribeCopyJob", "LookManaged")},
	"backup.DescribeRecoveryPoint":           {to("backup:DescribeRecoveryPoint", "SeeBackups")},
	"backup.DescribeRestoreJob":              {to("backup:DescribeRestoreJob", "LookManaged")},
	"backup.GetRecoveryPointRestoreMetadata": {to("backup:GetRecoveryPointRestoreMetadata", "SeeBackups")},
	"backup.ListBackupJobs":                  {to("backup:ListBackupJobs", "LookManaged")},
	"backup.ListCopyJobs":                    {to("backup:ListCopyJobs", "LookManaged")},
	"backup.ListRecoveryPointsByBackupVault": {to("backup:ListRecoveryPointsByBackupVault", "SeeBackups")},
	"backup.ListRecoveryPointsByResource":    {to("backup:ListRecoveryPointsByResource", "LookManaged")},
	"backup.ListRestoreJobs":                 {to("backup:ListRestoreJobs", "LookManaged")},
	"backup.ListTags":                        {to("backup:ListTags", "SeeBackups")},
	"backup.StartBackupJob":                  {to("backup:StartBackupJob", "Backup"), to("iam:PassRole", "PassBackup")},
	"backup.StartCopyJob":                    {to("backup:StartCopyJob", "Backup"), to("iam:PassRole", "PassBackup")},
	"backup.StartRestoreJob":                 {to("backup:StartRestoreJob", "Backup"), to("iam:PassRole", "PassBackup")},

	"efs.CreateReplicationConfiguration":    {to("elasticfilesystem:CreateReplicationConfiguration", "Replicate"), to("elasticfilesystem:CreateFileSystem", "MakeFileSystem")},
	"efs.CreateFileSystem":                  {to("elasticfilesystem:CreateFileSystem", "MakeFileSystem"), to("elasticfilesystem:TagResource", "MakeFileSystem")},
	"efs.CreateMountTarget":                 {to("elasticfilesystem:CreateMountTarget", "ChangeFileSystem")},
	"efs.DeleteFileSystem":                  {to("elasticfilesystem:DeleteFileSystem", "ChangeFileSystem")},
	"efs.DeleteMountTarget":                 {to("elasticfilesystem:DeleteMountTarget", "ChangeFileSystem")},
	"efs.DeleteReplicationConfiguration":    {to("elasticfilesystem:DeleteReplicationConfiguration", "Replicate")},
	"efs.DescribeFileSystems":               {to("elasticfilesystem:DescribeFileSystems", "LookManaged")},
	"efs.DescribeMountTargets":              {to("elasticfilesystem:DescribeMountTargets", "LookManaged")},
	"efs.DescribeReplicationConfigurations": {to("elasticfilesystem:DescribeReplicationConfigurations", "LookManaged")},
	"efs.ListTagsForResource":               {to("elasticfilesystem:ListTagsForResource", "LookManaged")},
	"efs.TagResource":                       {to("elasticfilesystem:TagResource", "MakeFileSystem")},
}
