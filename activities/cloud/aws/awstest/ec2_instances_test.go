package awstest

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// image registers an image whose root, and data disk at /dev/sdf, begin with these texts.
func (s *storage) image(name string, texts ...string) string {
	s.t.Helper()
	in := &ec2.RegisterImageInput{Name: &name, RootDeviceName: aws.String("/dev/xvda"), Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm")}
	for n, device := range []string{"/dev/xvda", "/dev/sdf"}[:len(texts)] {
		snapshot := s.snapshot(s.volumeWith(map[int]string{0: texts[n]}))
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, types.BlockDeviceMapping{DeviceName: &device, Ebs: &types.EbsBlockDevice{SnapshotId: &snapshot}})
	}
	out := must(s.ec2.RegisterImage(s.t.Context(), in))(s.t)
	s.imageIs(*out.ImageId, types.ImageStateAvailable)
	return *out.ImageId
}

// subnetOf makes a VPC with one subnet in the first zone.
func (s *storage) subnetOf(vpcCIDR, cidr string) string {
	s.t.Helper()
	v := must(s.ec2.CreateVpc(s.t.Context(), &ec2.CreateVpcInput{CidrBlock: &vpcCIDR}))(s.t)
	n := must(s.ec2.CreateSubnet(s.t.Context(), &ec2.CreateSubnetInput{VpcId: v.Vpc.VpcId, CidrBlock: &cidr}))(s.t)
	return *n.Subnet.SubnetId
}

// launchInput is the least that an instance needs.
func launchInput(image, subnet string) *ec2.RunInstancesInput {
	return &ec2.RunInstancesInput{ImageId: &image, SubnetId: &subnet, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}
}

func (s *storage) describeInstance(id string) types.Instance {
	s.t.Helper()
	out := must(s.ec2.DescribeInstances(s.t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}}))(s.t)
	require.Len(s.t, out.Reservations, 1)
	return out.Reservations[0].Instances[0]
}

func (s *storage) instanceIs(id string, state types.InstanceStateName) types.Instance {
	s.t.Helper()
	var i types.Instance
	until(s.t, id+" is "+string(state), func() bool {
		if i = s.describeInstance(id); i.State.Name != state && i.State.Name == types.InstanceStateNameTerminated {
			s.t.Fatalf("%s is terminated: %s", id, aws.ToString(i.StateReason.Message))
		}
		return i.State.Name == state
	})
	return i
}

func (s *storage) run(in *ec2.RunInstancesInput) types.Instance {
	s.t.Helper()
	out := must(s.ec2.RunInstances(s.t.Context(), in))(s.t)
	require.Equal(s.t, types.InstanceStateNamePending, out.Instances[0].State.Name)
	return s.instanceIs(*out.Instances[0].InstanceId, types.InstanceStateNameRunning)
}

// volumeAt is the volume of an instance at a device.
func volumeAt(i types.Instance, device string) string {
	for _, m := range i.BlockDeviceMappings {
		if *m.DeviceName == device {
			return *m.Ebs.VolumeId
		}
	}
	return ""
}

func tagsFor(kind types.ResourceType, key, value string) types.TagSpecification {
	return types.TagSpecification{ResourceType: kind, Tags: []types.Tag{{Key: &key, Value: &value}}}
}

func TestAnInstanceIsLaunchedFromAnImage(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	in := launchInput(s.image("web", "root", "data"), s.subnetOf("10.1.0.0/16", "10.1.2.0/24"))
	c.AddKeyPair("111111111111", "eu-west-1", "ops")
	in.PrivateIpAddress, in.KeyName, in.UserData = aws.String("10.1.2.7"), aws.String("ops"), aws.String(base64.StdEncoding.EncodeToString([]byte("hello")))
	in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String("web")}
	in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensStateRequired}
	in.TagSpecifications = []types.TagSpecification{tagsFor(types.ResourceTypeInstance, "step", "1"), tagsFor(types.ResourceTypeVolume, "step", "2")}
	in.BlockDeviceMappings = []types.BlockDeviceMapping{
		{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(3), VolumeType: types.VolumeTypeGp3, DeleteOnTermination: aws.Bool(false)}},
		{DeviceName: aws.String("/dev/sdg"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(2)}},
	}
	i := s.run(in)
	require.Equal(t, "10.1.2.7", *i.PrivateIpAddress)
	require.Equal(t, []string{"ops", "arn:aws:iam::111111111111:instance-profile/web", "eu-west-1a"}, []string{*i.KeyName, *i.IamInstanceProfile.Arn, *i.Placement.AvailabilityZone})
	require.Equal(t, types.HttpTokensStateRequired, i.MetadataOptions.HttpTokens)
	require.Equal(t, "1", *i.Tags[0].Value)
	require.Len(t, i.BlockDeviceMappings, 3, "the image's mappings, and those of the launch over them")
	root := s.describeVolume(volumeAt(i, "/dev/xvda"))
	require.Equal(t, []any{int32(3), types.VolumeTypeGp3, types.VolumeStateInUse, "2"}, []any{*root.Size, root.VolumeType, root.State, *root.Tags[0].Value})
	require.False(t, *root.Attachments[0].DeleteOnTermination)
	s.readsVolume(*root.VolumeId, 0, "root")
	s.readsVolume(volumeAt(i, "/dev/sdf"), 0, "data")
	data := must(s.ec2.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{InstanceId: i.InstanceId, Attribute: types.InstanceAttributeNameUserData}))(t)
	require.Equal(t, *in.UserData, *data.UserData.Value)
}

func TestAClientTokenLaunchesOneInstance(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	in := launchInput(s.image("web", "root"), s.subnetOf("10.1.0.0/16", "10.1.2.0/24"))
	in.ClientToken = aws.String("workflow-1")
	first := s.run(in)
	again := must(s.ec2.RunInstances(t.Context(), in))(t)
	require.Equal(t, *first.InstanceId, *again.Instances[0].InstanceId)
	in.InstanceType = types.InstanceTypeT3Large
	_, err := s.ec2.RunInstances(t.Context(), in)
	wantCode(t, err, "IdempotentParameterMismatch")
	in.InstanceType = types.InstanceTypeT3Micro
	_, err = s.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{*first.InstanceId}})
	require.NoError(t, err)
	s.instanceIs(*first.InstanceId, types.InstanceStateNameTerminated)
	again = must(s.ec2.RunInstances(t.Context(), in))(t)
	require.Equal(t, *first.InstanceId, *again.Instances[0].InstanceId, "a token outlives its instance")
}

func TestLaunchesThatAreRefused(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Quotas: map[string]int{"vcpus": 6, "capacity:m6i.large": 1, "capacity:c6i.large:eu-west-1a": 0}})
	s := clients(t, c, "eu-west-1")
	subnet := s.subnetOf("10.1.0.0/16", "10.1.2.0/24")
	image := s.image("web", "root")
	in := launchInput(image, subnet)
	in.PrivateIpAddress, in.InstanceType = aws.String("10.1.2.9"), types.InstanceTypeM6iLarge
	s.run(in)
	for name, x := range map[string]struct {
		change func(*ec2.RunInstancesInput)
		code   string
	}{
		"image":          {func(in *ec2.RunInstancesInput) { in.ImageId = aws.String("ami-0123456789abcdef0") }, "InvalidAMIID.NotFound"},
		"malformed":      {func(in *ec2.RunInstancesInput) { in.ImageId = aws.String("web") }, "InvalidAMIID.Malformed"},
		"subnet":         {func(in *ec2.RunInstancesInput) { in.SubnetId = aws.String("subnet-1") }, "InvalidSubnetID.NotFound"},
		"address in use": {func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = aws.String("10.1.2.9") }, "InvalidIPAddress.InUse"},
		"outside":        {func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = aws.String("10.1.3.9") }, "InvalidParameterValue"},
		"reserved":       {func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = aws.String("10.1.2.3") }, "InvalidParameterValue"},
		"type":           {func(in *ec2.RunInstancesInput) { in.InstanceType = "x9.nano" }, "InvalidParameterValue"},
		"architecture":   {func(in *ec2.RunInstancesInput) { in.InstanceType = types.InstanceTypeM7gLarge }, "InvalidParameterValue"},
		"key pair":       {func(in *ec2.RunInstancesInput) { in.KeyName = aws.String("lost") }, "InvalidKeyPair.NotFound"},
		"group":          {func(in *ec2.RunInstancesInput) { in.SecurityGroupIds = []string{"sg-1"} }, "InvalidGroup.NotFound"},
		"user data":      {func(in *ec2.RunInstancesInput) { in.UserData = aws.String("%") }, "InvalidUserData.Malformed"},
		"count":          {func(in *ec2.RunInstancesInput) { in.MaxCount = aws.Int32(2) }, "InvalidParameterValue"},
		"dry run":        {func(in *ec2.RunInstancesInput) { in.DryRun = aws.Bool(true) }, "DryRunOperation"},
		"virtual CPUs":   {func(in *ec2.RunInstancesInput) { in.InstanceType = types.InstanceTypeM6i2xlarge }, "VcpuLimitExceeded"},
		"capacity":       {func(in *ec2.RunInstancesInput) { in.InstanceType = types.InstanceTypeM6iLarge }, "InsufficientInstanceCapacity"},
		"of a zone":      {func(in *ec2.RunInstancesInput) { in.InstanceType = types.InstanceTypeC6iLarge }, "InsufficientInstanceCapacity"},
		"no size": {func(in *ec2.RunInstancesInput) {
			in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sdh"), Ebs: &types.EbsBlockDevice{VolumeType: types.VolumeTypeGp3}}}
		}, "MissingParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			in := launchInput(image, subnet)
			x.change(in)
			_, err := s.ec2.RunInstances(t.Context(), in)
			wantCode(t, err, x.code)
		})
	}
	volumes := must(s.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{Filters: []types.Filter{{Name: aws.String("status"), Values: []string{"creating", "in-use"}}}}))(t)
	require.Len(t, volumes.Volumes, 1, "a refused launch leaves no volume")
}

func TestAnInstanceGoesThroughItsStates(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	in := launchInput(s.image("web", "root", "data"), s.subnetOf("10.1.0.0/16", "10.1.2.0/24"))
	in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{DeleteOnTermination: aws.Bool(false)}}}
	i := s.run(in)
	id := []string{*i.InstanceId}
	ctx := t.Context()
	resize := &ec2.ModifyInstanceAttributeInput{InstanceId: i.InstanceId, InstanceType: &types.AttributeValue{Value: aws.String("m6i.large")}}
	_, err := s.ec2.ModifyInstanceAttribute(ctx, resize)
	wantCode(t, err, "IncorrectInstanceState")

	stop := must(s.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: id}))(t)
	require.Equal(t, types.InstanceStateNameStopping, stop.StoppingInstances[0].CurrentState.Name)
	require.Equal(t, "Client.UserInitiatedShutdown", *s.instanceIs(id[0], types.InstanceStateNameStopped).StateReason.Code)
	must(s.ec2.ModifyInstanceAttribute(ctx, resize))(t)
	must(s.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: id}))(t)
	require.Equal(t, types.InstanceTypeM6iLarge, s.instanceIs(id[0], types.InstanceStateNameRunning).InstanceType)
	must(s.ec2.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: id}))(t)

	protect := func(on bool) {
		must(s.ec2.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: i.InstanceId, DisableApiTermination: &types.AttributeBooleanValue{Value: &on}}))(t)
	}
	protect(true)
	_, err = s.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: id})
	wantCode(t, err, "OperationNotPermitted")
	protect(false)
	root, data := volumeAt(i, "/dev/xvda"), volumeAt(i, "/dev/sdf")
	must(s.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: id}))(t)
	gone := s.instanceIs(id[0], types.InstanceStateNameTerminated)
	require.Nil(t, gone.PrivateIpAddress)
	must(s.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: id}))(t)
	s.volumeIs(data, types.VolumeStateAvailable)
	until(t, "the root volume is gone", func() bool {
		_, err := s.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{root}})
		return err != nil
	})
	_, err = s.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: id})
	wantCode(t, err, "IncorrectInstanceState")
}

func TestAJustLaunchedInstanceMayBeUnknown(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	image, subnet := s.image("web", "root"), s.subnetOf("10.1.0.0/16", "10.1.2.0/24")
	c.mu.Lock()
	c.Lag = 200 * time.Millisecond
	c.mu.Unlock()
	out := must(s.ec2.RunInstances(t.Context(), launchInput(image, subnet)))(t)
	id := *out.Instances[0].InstanceId
	_, err := s.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	wantCode(t, err, "InvalidInstanceID.NotFound")
	until(t, "it is known", func() bool {
		_, err := s.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		return err == nil
	})
}

func TestVolumesOutliveAnInstanceThatNeverRan(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{}), "eu-west-1")
	in := launchInput(s.image("web", "root", "data"), s.subnetOf("10.1.0.0/16", "10.1.2.0/24"))
	in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{DeleteOnTermination: aws.Bool(false)}}}
	i := must(s.ec2.RunInstances(t.Context(), in))(t).Instances[0]
	must(s.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{*i.InstanceId}}))(t)
	s.instanceIs(*i.InstanceId, types.InstanceStateNameTerminated)
	data := volumeAt(i, "/dev/sdf")
	s.volumeIs(data, types.VolumeStateAvailable)
	s.readsVolume(data, 0, "data")
}
