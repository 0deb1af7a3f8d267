package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"lifeboat/activities/cloud"
)

// asking finds out whether an action of IAM is permitted, without doing anything: by the answer to a dry run, or
// by a call that only reads.
type asking struct {
	action string
	ask    func(ctx context.Context, p *Provider) error
}

// Names that nothing has: a dry run is refused for want of permission before it is for want of the resource.
const (
	noVolume   = "vol-00000000000000000"
	noSnapshot = "snap-00000000000000000"
	noImage    = "ami-00000000000000000"
	noInstance = "i-00000000000000000"
	noAddress  = "eipalloc-00000000000000000"
)

var dry = awssdk.Bool(true)

// probeTags are on what a dry run asks for, so that policies that demand tags of Lifeboat are satisfied.
func probeTags(kinds ...types.ResourceType) []types.TagSpecification {
	return tagSpecs(map[string]string{cloud.TagToken: "permission-check", cloud.TagOperation: "permission-check", cloud.TagPlan: "permission-check"}, kinds...)
}

// permissions are what the methods of the contract need, as far as it can be asked. Calls that change or delete
// something that is there are not asked: a policy may allow them for resources with tags of Lifeboat alone, and there is
// none to ask about. Nor are calls that cannot be tried without effect (ssm:SendCommand, sns:Publish, changes of DNS).
var permissions = map[string][]asking{
	"StartCreateDisk": {{"ec2:CreateVolume", func(ctx context.Context, p *Provider) error {
		zone, err := p.zone(ctx)
		if err == nil {
			_, err = p.ec2().CreateVolume(ctx, &ec2.CreateVolumeInput{DryRun: dry, AvailabilityZone: &zone, Size: awssdk.Int32(1), TagSpecifications: probeTags(types.ResourceTypeVolume)})
		}
		return err
	}}},
	"Disk": {{"ec2:DescribeVolumes", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().DescribeVolumes(ctx, &ec2.DescribeVolumesInput{DryRun: dry})
		return err
	}}},
	"StartSnapshots": {{"ec2:CreateSnapshot", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().CreateSnapshot(ctx, &ec2.CreateSnapshotInput{DryRun: dry, VolumeId: awssdk.String(noVolume), TagSpecifications: probeTags(types.ResourceTypeSnapshot)})
		return err
	}}, {"ec2:CreateSnapshots", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{DryRun: dry, InstanceSpecification: &types.InstanceSpecification{InstanceId: awssdk.String(noInstance)}, TagSpecifications: probeTags(types.ResourceTypeSnapshot)})
		return err
	}}},
	"StartCopySnapshot": {{"ec2:CopySnapshot", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().CopySnapshot(ctx, &ec2.CopySnapshotInput{DryRun: dry, SourceRegion: &p.site.Region, SourceSnapshotId: awssdk.String(noSnapshot), TagSpecifications: probeTags(types.ResourceTypeSnapshot)})
		return err
	}}},
	"Snapshot": {{"ec2:DescribeSnapshots", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{DryRun: dry, OwnerIds: []string{"self"}})
		return err
	}}},
	"RegisterImage": {{"ec2:RegisterImage", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().RegisterImage(ctx, &ec2.RegisterImageInput{DryRun: dry, Name: awssdk.String("lifeboat permission check"), RootDeviceName: awssdk.String("/dev/xvda"),
			BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: awssdk.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: awssdk.String(noSnapshot)}}},
			TagSpecifications:   probeTags(types.ResourceTypeImage)})
		return err
	}}},
	"StartCreateImage": {{"ec2:CreateImage", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().CreateImage(ctx, &ec2.CreateImageInput{DryRun: dry, Name: awssdk.String("lifeboat permission check"), InstanceId: awssdk.String(noInstance), TagSpecifications: probeTags(types.ResourceTypeImage)})
		return err
	}}},
	"StartCopyImage": {{"ec2:CopyImage", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().CopyImage(ctx, &ec2.CopyImageInput{DryRun: dry, Name: awssdk.String("lifeboat permission check"), SourceRegion: &p.site.Region, SourceImageId: awssdk.String(noImage),
			TagSpecifications: probeTags(types.ResourceTypeImage, types.ResourceTypeSnapshot)})
		return err
	}}},
	"Image": {{"ec2:DescribeImages", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().DescribeImages(ctx, &ec2.DescribeImagesInput{DryRun: dry, Owners: []string{"self"}})
		return err
	}}},
	"StartLaunch": {{"ec2:RunInstances", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().RunInstances(ctx, &ec2.RunInstancesInput{DryRun: dry, ImageId: awssdk.String(noImage), InstanceType: types.InstanceTypeT3Micro, MinCount: awssdk.Int32(1),
			MaxCount: awssdk.Int32(1), TagSpecifications: probeTags(types.ResourceTypeInstance, types.ResourceTypeVolume)})
		return err
	}}},
	"Server": {{"ec2:DescribeInstances", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().DescribeInstances(ctx, &ec2.DescribeInstancesInput{DryRun: dry})
		return err
	}}},
	"StartCreateNetwork": {{"ec2:CreateSubnet", func(ctx context.Context, p *Provider) error {
		vpc, err := p.vpc(ctx, "CheckPermission")
		if err == nil {
			_, err = p.ec2().CreateSubnet(ctx, &ec2.CreateSubnetInput{DryRun: dry, VpcId: &vpc, CidrBlock: awssdk.String("10.0.0.0/28"), TagSpecifications: probeTags(types.ResourceTypeSubnet)})
		}
		return err
	}}},
	"Network": {{"ec2:DescribeSubnets", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{DryRun: dry})
		return err
	}}, {"ec2:DescribeRouteTables", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{DryRun: dry})
		return err
	}}},
	"CheckAddress": {{"ec2:DescribeNetworkInterfaces", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{DryRun: dry})
		return err
	}}},
	"AllocateAddress": {{"ec2:AllocateAddress", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().AllocateAddress(ctx, &ec2.AllocateAddressInput{DryRun: dry, Domain: types.DomainTypeVpc, TagSpecifications: probeTags(types.ResourceTypeElasticIp)})
		return err
	}}},
	"AssociateAddress": {{"ec2:AssociateAddress", func(ctx context.Context, p *Provider) error {
		_, err := p.ec2().AssociateAddress(ctx, &ec2.AssociateAddressInput{DryRun: dry, AllocationId: awssdk.String(noAddress), InstanceId: awssdk.String(noInstance)})
		return err
	}}},
	"Records": {{"route53:ListHostedZonesByName", func(ctx context.Context, p *Provider) error {
		client, err := p.route53("CheckPermission")
		if err == nil {
			_, err = client.ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{MaxItems: awssdk.Int32(1)})
		}
		return err
	}}},
	"ScriptRun": {{"ssm:ListCommands", func(ctx context.Context, p *Provider) error {
		_, err := p.ssm().ListCommands(ctx, &ssm.ListCommandsInput{MaxResults: awssdk.Int32(1)})
		return err
	}}},
	"StartScript": {{"ssm:DescribeInstanceInformation", func(ctx context.Context, p *Provider) error {
		_, err := p.ssm().DescribeInstanceInformation(ctx, &ssm.DescribeInstanceInformationInput{MaxResults: awssdk.Int32(5)})
		return err
	}}},
	"Intend": {{"s3:PutObject", probeBucket}}, "PutDocument": {{"s3:PutObject", probeBucket}},
	"Entries": {{"s3:ListBucket", func(ctx context.Context, p *Provider) error {
		_, err := p.listObjects(ctx, "CheckPermission", tokenPrefix+"permission-check")
		return err
	}}},
	"PutMeasurements": {{"cloudwatch:PutMetricData", func(ctx context.Context, p *Provider) error {
		// Without data the request is refused, but not for want of permission.
		_, err := p.cloudwatch().PutMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: awssdk.String(metricsNamespace)})
		return err
	}}},
}

// sameAs are methods that need what another one needs.
var sameAs = map[string]string{
	"Disks": "Disk", "Snapshots": "Snapshot", "Images": "Image", "Servers": "Server", "Networks": "Network",
	"Made": "Intend", "Gone": "Intend", "Keep": "Intend", "Document": "Entries", "DocumentNames": "Entries", "DeleteDocument": "PutDocument",
	"StartSetRecords": "Records", "StartDeleteRecords": "Records", "Resolver": "Records",
}

// unasked are methods whose permission cannot be asked for.
var unasked = []string{"StartAttachDisk", "StartDetachDisk", "DeleteDisk", "DeleteSnapshot", "DeleteImage", "StartServer", "StopServer", "TerminateServer",
	"DeleteNetwork", "Dial", "Address", "Addresses", "DisassociateAddress", "ReleaseAddress", "Change", "SendAlert", "Key", "CheckKey", "Limits", "CheckLaunch",
	"PrepareSwitch", "FlipSwitch", "ActiveSwitch", "RemoveSwitch", "CopyBlocks", "RestoreServer",
	"LoadBalancer", "LoadBalancers", "StartSetBackends", "ScalingGroup", "ScalingGroups", "StartScale",
	"Database", "Databases", "StartRestoreDatabase", "StartReplica", "StartPromote", "DeleteDatabase",
	"StartDatabaseSnapshot", "StartCopyDatabaseSnapshot", "DatabaseSnapshot", "DatabaseSnapshots", "DeleteDatabaseSnapshot", "StartExportDatabase", "DatabaseExport",
	"FileSystem", "FileSystems", "StartReplicaFileSystem", "StartPromoteFileSystem", "DeleteFileSystem",
	"StartCreateStack", "Stack", "Stacks", "DeleteStack", "StartDrift", "Drift", "StartBackup", "StartCopyBackup", "StartRestoreBackup", "BackupJob"}

// probeBucket writes an object and deletes it.
func probeBucket(ctx context.Context, p *Provider) error {
	const op = "CheckPermission"
	o := object{key: tokenPrefix + "permission-check", data: []byte("permission check\n")}
	if _, err := p.putObject(ctx, op, o); err != nil && cloud.CodeOf(err) != cloud.Conflict {
		return err
	}
	return p.deleteObject(ctx, op, o.key, "")
}

// CheckPermission asks for permissions as far as that can be done without changing anything, and tells all that are
// missing at once.
func (p *Provider) CheckPermission(ctx context.Context, calls []string) error {
	const op = "CheckPermission"
	var denied []string
	asked := map[string]bool{}
	for _, call := range calls {
		as := call
		if other, ok := sameAs[call]; ok {
			as = other
		}
		list, known := permissions[as]
		if !known && !slices.Contains(unasked, call) {
			return invalid(op, "call "+call, "is no call of the contract that AWS has", "correct its name")
		}
		for _, a := range list {
			if asked[a.action] {
				continue
			}
			asked[a.action] = true
			err := awsError(op, a.action, a.ask(ctx, p))
			switch cloud.CodeOf(err) {
			case cloud.Denied:
				denied = append(denied, fmt.Sprintf("%s (%s)", call, a.action))
			case cloud.Unavailable, cloud.Throttled, cloud.Billing:
				return err
			}
		}
	}
	if len(denied) > 0 {
		return cloud.E(cloud.Denied, op, "site "+p.site.Name, "these calls are not permitted: "+strings.Join(denied, ", "), mendRole, nil)
	}
	return nil
}
