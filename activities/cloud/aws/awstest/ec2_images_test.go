package awstest

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// register makes an image of a snapshot, and waits until it is available.
func (s *storage) register(name, snapshot string) string {
	s.t.Helper()
	out, err := s.ec2.RegisterImage(s.t.Context(), &ec2.RegisterImageInput{Name: &name, RootDeviceName: aws.String("/dev/xvda"), Architecture: types.ArchitectureValuesX8664,
		VirtualizationType: aws.String("hvm"), BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &snapshot}}}})
	require.NoError(s.t, err)
	s.imageIs(*out.ImageId, types.ImageStateAvailable)
	return *out.ImageId
}

// server runs an instance of a fresh image with a root volume that reads as text, and waits until it runs.
func (s *storage) server(name, text string) (instance, image string) {
	s.t.Helper()
	image = s.register(name, s.snapshot(s.volumeWith(map[int]string{0: text})))
	out, err := s.ec2.RunInstances(s.t.Context(), &ec2.RunInstancesInput{ImageId: &image, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(1)}}}})
	require.NoError(s.t, err)
	instance = *out.Instances[0].InstanceId
	s.instanceIs(instance, types.InstanceStateNameRunning)
	return instance, image
}

// disks are the volumes of an instance by device.
func (s *storage) disks(instance string) map[string]types.Volume {
	s.t.Helper()
	out, err := s.ec2.DescribeVolumes(s.t.Context(), &ec2.DescribeVolumesInput{Filters: []types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{instance}}}})
	require.NoError(s.t, err)
	found := map[string]types.Volume{}
	for _, v := range out.Volumes {
		found[*v.Attachments[0].Device] = v
	}
	return found
}

func TestAnImageKeepsItsSnapshots(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	snap := s.snapshot(s.volumeWith(map[int]string{0: "root"}))
	first := s.register("web/1", snap)
	d := s.describeImage(first)
	require.Equal(t, []string{snap, "/dev/xvda", "web/1"}, []string{*d.BlockDeviceMappings[0].Ebs.SnapshotId, *d.RootDeviceName, *d.Name})
	require.Equal(t, int32(1), *d.BlockDeviceMappings[0].Ebs.VolumeSize)
	_, err := s.ec2.RegisterImage(t.Context(), &ec2.RegisterImageInput{Name: aws.String("web/1"), RootDeviceName: aws.String("/dev/xvda")})
	wantCode(t, err, "InvalidAMIName.Duplicate")
	_, err = s.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &snap})
	wantCode(t, err, "InvalidSnapshot.InUse")

	second := s.register("web/2", snap)
	out, err := s.ec2.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &first, DeleteAssociatedSnapshots: aws.Bool(true)})
	require.NoError(t, err)
	require.Equal(t, types.SnapshotReturnCodesWarnSkipped, out.DeleteSnapshotResults[0].ReturnCode)
	s.describeSnapshot(snap)
	_, err = s.ec2.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &first})
	wantCode(t, err, "InvalidAMIID.Unavailable")
	_, err = s.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{first}})
	wantCode(t, err, "InvalidAMIID.NotFound")

	out, err = s.ec2.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &second, DeleteAssociatedSnapshots: aws.Bool(true)})
	require.NoError(t, err)
	require.Equal(t, types.SnapshotReturnCodesSuccess, out.DeleteSnapshotResults[0].ReturnCode)
	_, err = s.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{snap}})
	wantCode(t, err, "InvalidSnapshot.NotFound")
}

func TestImagesThatCannotBeRegistered(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	snap := s.snapshot(s.volume(&ec2.CreateVolumeInput{Size: aws.Int32(2)}))
	one := func(e types.EbsBlockDevice) []types.BlockDeviceMapping {
		return []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &e}}
	}
	root := aws.String("/dev/xvda")
	for name, x := range map[string]struct {
		in   ec2.RegisterImageInput
		code string
	}{
		"name":           {ec2.RegisterImageInput{Name: aws.String("a*b"), RootDeviceName: root}, "InvalidAMIName.Malformed"},
		"no root":        {ec2.RegisterImageInput{Name: aws.String("web")}, "MissingParameter"},
		"nothing there":  {ec2.RegisterImageInput{Name: aws.String("web"), RootDeviceName: root}, "InvalidBlockDeviceMapping"},
		"other root":     {ec2.RegisterImageInput{Name: aws.String("web"), RootDeviceName: aws.String("/dev/sda1"), BlockDeviceMappings: one(types.EbsBlockDevice{SnapshotId: &snap})}, "InvalidBlockDeviceMapping"},
		"small":          {ec2.RegisterImageInput{Name: aws.String("web"), RootDeviceName: root, BlockDeviceMappings: one(types.EbsBlockDevice{SnapshotId: &snap, VolumeSize: aws.Int32(1)})}, "InvalidBlockDeviceMapping"},
		"encryption":     {ec2.RegisterImageInput{Name: aws.String("web"), RootDeviceName: root, BlockDeviceMappings: one(types.EbsBlockDevice{SnapshotId: &snap, Encrypted: aws.Bool(true)})}, "InvalidBlockDeviceMapping"},
		"no such source": {ec2.RegisterImageInput{Name: aws.String("web"), RootDeviceName: root, BlockDeviceMappings: one(types.EbsBlockDevice{SnapshotId: aws.String("snap-0123")})}, "InvalidSnapshot.NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.ec2.RegisterImage(t.Context(), &x.in)
			wantCode(t, err, x.code)
		})
	}
}

func TestAnImageIsCopiedWithItsSnapshots(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Delay: slow("copy")})
	from, to := clients(t, c, "eu-west-1"), clients(t, c, "us-east-1")
	image := from.register("web", from.snapshot(from.volumeWith(map[int]string{3: "three"})))
	_, err := from.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{image}, Tags: []types.Tag{{Key: aws.String("plan"), Value: aws.String("shop")}}})
	require.NoError(t, err)
	in := &ec2.CopyImageInput{Name: aws.String("web"), SourceImageId: &image, SourceRegion: aws.String("eu-west-1"), ClientToken: aws.String("once"), CopyImageTags: aws.Bool(true), Encrypted: aws.Bool(true)}
	out, err := to.ec2.CopyImage(t.Context(), in)
	require.NoError(t, err)
	again, err := to.ec2.CopyImage(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, *out.ImageId, *again.ImageId)
	pending := to.describeImage(*out.ImageId)
	require.Equal(t, types.ImageStatePending, pending.State)
	to.finish(*pending.BlockDeviceMappings[0].Ebs.SnapshotId)
	d := to.imageIs(*out.ImageId, types.ImageStateAvailable)
	require.Equal(t, []string{"shop", image, "eu-west-1"}, []string{*d.Tags[0].Value, *d.SourceImageId, *d.SourceImageRegion})
	snap := *d.BlockDeviceMappings[0].Ebs.SnapshotId
	require.True(t, *to.describeSnapshot(snap).Encrypted)
	to.readsSnapshot(snap, 3, "three")

	in.ClientToken = aws.String("twice")
	_, err = to.ec2.CopyImage(t.Context(), in)
	wantCode(t, err, "InvalidAMIName.Duplicate")
	in.Name, in.KmsKeyId = aws.String("web 2"), aws.String("arn:aws:kms:eu-west-1:111111111111:key/1")
	out, err = to.ec2.CopyImage(t.Context(), in)
	require.NoError(t, err)
	to.finish(*to.describeImage(*out.ImageId).BlockDeviceMappings[0].Ebs.SnapshotId)
	require.Contains(t, *to.imageIs(*out.ImageId, types.ImageStateFailed).StateReason.Message, "key")
}

func TestAnImageWithoutAFinishedSnapshotCannotBeUsed(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Delay: slow("image")})
	s := clients(t, c, "eu-west-1")
	snap := s.snapshot(s.volumeWith(nil))
	out, err := s.ec2.RegisterImage(t.Context(), &ec2.RegisterImageInput{Name: aws.String("web"), RootDeviceName: aws.String("/dev/xvda"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &snap}}}})
	require.NoError(t, err)
	_, err = clients(t, c, "us-east-1").ec2.CopyImage(t.Context(), &ec2.CopyImageInput{Name: aws.String("web"), SourceImageId: out.ImageId, SourceRegion: aws.String("eu-west-1")})
	wantCode(t, err, "InvalidAMIID.Unavailable")
	_, err = s.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: out.ImageId, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
	wantCode(t, err, "InvalidAMIID.Unavailable")
}

func TestImagesAreFoundByOwnerUserAndFilter(t *testing.T) {
	t.Parallel()
	c := New(t, Options{PageSize: 1})
	addAccount(c, "other", "222222222222")
	s, theirs := clients(t, c, "eu-west-1"), clientsOf(t, c, "eu-west-1", "other")
	snap := s.snapshot(s.volumeWith(nil))
	shared, private := s.register("shared", snap), s.register("private", snap)
	_, err := s.ec2.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &shared, LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: aws.String("222222222222")}}}})
	require.NoError(t, err)
	list := func(s *storage, in *ec2.DescribeImagesInput) (ids []string) {
		t.Helper()
		p := ec2.NewDescribeImagesPaginator(s.ec2, in)
		for p.HasMorePages() {
			out, err := p.NextPage(t.Context())
			require.NoError(t, err)
			for _, i := range out.Images {
				ids = append(ids, *i.ImageId)
			}
		}
		return ids
	}
	require.ElementsMatch(t, []string{shared, private}, list(s, &ec2.DescribeImagesInput{Owners: []string{"self"}}))
	require.Equal(t, []string{shared}, list(theirs, &ec2.DescribeImagesInput{}))
	require.Equal(t, []string{shared}, list(theirs, &ec2.DescribeImagesInput{ExecutableUsers: []string{"self"}, Owners: []string{"111111111111"}}))
	require.Empty(t, list(theirs, &ec2.DescribeImagesInput{Owners: []string{"self"}}))
	require.Equal(t, []string{private}, list(s, &ec2.DescribeImagesInput{Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"priv*"}}, {Name: aws.String("block-device-mapping.snapshot-id"), Values: []string{snap}}}}))
	_, err = theirs.ec2.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &shared})
	wantCode(t, err, "AuthFailure")

	soon := time.Now().Add(time.Minute)
	_, err = s.ec2.EnableImageDeprecation(t.Context(), &ec2.EnableImageDeprecationInput{ImageId: &shared, DeprecateAt: &soon})
	require.NoError(t, err)
	require.NotNil(t, s.describeImage(shared).DeprecationTime)
	past := soon.AddDate(-1, 0, 0)
	_, err = s.ec2.EnableImageDeprecation(t.Context(), &ec2.EnableImageDeprecationInput{ImageId: &shared, DeprecateAt: &past})
	wantCode(t, err, "InvalidParameterValue")
	c.mu.Lock()
	imagesOf(c.region("111111111111", "eu-west-1")).images[shared].deprecated = past
	c.mu.Unlock()
	require.Empty(t, list(theirs, &ec2.DescribeImagesInput{}))
	require.Equal(t, []string{shared}, list(theirs, &ec2.DescribeImagesInput{IncludeDeprecated: aws.Bool(true)}))
	require.Len(t, list(s, &ec2.DescribeImagesInput{}), 2, "an owner sees deprecated images")
}

func TestAnImageOfAnInstanceHasAllItsVolumes(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	instance, _ := s.server("base", "root")
	disks := s.disks(instance)
	require.Len(t, disks, 2)
	s.write(*disks["/dev/sdf"].VolumeId, map[int]string{0: "data"})
	for _, noReboot := range []bool{true, false} {
		name := "image"
		if noReboot {
			name = "image without reboot"
		}
		out, err := s.ec2.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: &instance, Name: &name, NoReboot: &noReboot, TagSpecifications: snapshotTags("step", "9")})
		require.NoError(t, err)
		d := s.imageIs(*out.ImageId, types.ImageStateAvailable)
		require.Equal(t, instance, *d.SourceInstanceId)
		require.Equal(t, "/dev/xvda", *d.RootDeviceName)
		require.Len(t, d.BlockDeviceMappings, 2)
		for _, m := range d.BlockDeviceMappings {
			snap := s.describeSnapshot(*m.Ebs.SnapshotId)
			require.Equal(t, "9", *snap.Tags[0].Value)
			s.readsSnapshot(*snap.SnapshotId, 0, map[string]string{"/dev/xvda": "root", "/dev/sdf": "data"}[*m.DeviceName])
		}
		s.instanceIs(instance, types.InstanceStateNameRunning)
	}
	_, err := s.ec2.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: &instance, Name: aws.String("image")})
	wantCode(t, err, "InvalidAMIName.Duplicate")
	_, err = s.ec2.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: aws.String("i-0123"), Name: aws.String("other")})
	wantCode(t, err, "InvalidInstanceID.NotFound")
}

func TestSnapshotsOfAnInstanceAreOneSet(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	instance, _ := s.server("base", "root")
	disks := s.disks(instance)
	root, data := *disks["/dev/xvda"].VolumeId, *disks["/dev/sdf"].VolumeId
	_, err := s.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{data}, Tags: []types.Tag{{Key: aws.String("disk"), Value: aws.String("data")}}})
	require.NoError(t, err)
	create := func(spec types.InstanceSpecification) ([]string, []types.SnapshotInfo, error) {
		spec.InstanceId = &instance
		out, err := s.ec2.CreateSnapshots(t.Context(), &ec2.CreateSnapshotsInput{InstanceSpecification: &spec, CopyTagsFromSource: types.CopyTagsFromSourceVolume, TagSpecifications: snapshotTags("set", "1")})
		if err != nil {
			return nil, nil, err
		}
		var volumes []string
		for _, x := range out.Snapshots {
			volumes = append(volumes, *x.VolumeId)
			s.snapshotIs(*x.SnapshotId, types.SnapshotStateCompleted)
		}
		return volumes, out.Snapshots, nil
	}
	volumes, infos, err := create(types.InstanceSpecification{})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{root, data}, volumes)
	require.True(t, infos[0].StartTime.Equal(*infos[1].StartTime))
	for _, x := range infos {
		if *x.VolumeId == data {
			require.Len(t, x.Tags, 2, "those of the volume and of the call")
		}
	}
	volumes, _, err = create(types.InstanceSpecification{ExcludeBootVolume: aws.Bool(true)})
	require.NoError(t, err)
	require.Equal(t, []string{data}, volumes)
	volumes, _, err = create(types.InstanceSpecification{ExcludeDataVolumeIds: []string{data}})
	require.NoError(t, err)
	require.Equal(t, []string{root}, volumes)
	for _, spec := range []types.InstanceSpecification{{ExcludeDataVolumeIds: []string{root}}, {ExcludeDataVolumeIds: []string{"vol-0123"}}, {ExcludeBootVolume: aws.Bool(true), ExcludeDataVolumeIds: []string{data}}} {
		_, _, err = create(spec)
		wantCode(t, err, "InvalidParameterValue")
	}
}

func TestAVolumeIsAttachedToOneInstanceOfItsZone(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	instance, _ := s.server("base", "root")
	zone := s.disks(instance)["/dev/xvda"].AvailabilityZone
	elsewhere := "eu-west-1a"
	if *zone == elsewhere {
		elsewhere = "eu-west-1b"
	}
	attach := func(volume, device string) error {
		_, err := s.ec2.AttachVolume(t.Context(), &ec2.AttachVolumeInput{VolumeId: &volume, InstanceId: &instance, Device: &device})
		return err
	}
	far := s.volume(&ec2.CreateVolumeInput{Size: aws.Int32(1), AvailabilityZone: &elsewhere})
	wantCode(t, attach(far, "/dev/sdg"), "InvalidVolume.ZoneMismatch")
	v := s.volume(&ec2.CreateVolumeInput{Size: aws.Int32(1), AvailabilityZone: zone})
	wantCode(t, attach(v, "/dev/sdf"), "InvalidParameterValue")
	require.NoError(t, attach(v, "/dev/sdg"))
	require.Equal(t, types.VolumeStateInUse, s.describeVolume(v).State)
	wantCode(t, attach(v, "/dev/sdh"), "VolumeInUse")
	until(t, "the volume is attached", func() bool {
		return s.describeVolume(v).Attachments[0].State == types.VolumeAttachmentStateAttached
	})
	_, err := s.ec2.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: &v})
	wantCode(t, err, "VolumeInUse")

	_, err = s.ec2.DetachVolume(t.Context(), &ec2.DetachVolumeInput{VolumeId: &v, Device: aws.String("/dev/sdz")})
	wantCode(t, err, "InvalidAttachment.NotFound")
	_, err = s.ec2.DetachVolume(t.Context(), &ec2.DetachVolumeInput{VolumeId: s.disks(instance)["/dev/xvda"].VolumeId})
	wantCode(t, err, "OperationNotPermitted")
	out, err := s.ec2.DetachVolume(t.Context(), &ec2.DetachVolumeInput{VolumeId: &v, InstanceId: &instance})
	require.NoError(t, err)
	require.Equal(t, types.VolumeAttachmentStateDetaching, out.State)
	s.volumeIs(v, types.VolumeStateAvailable)
	_, err = s.ec2.DetachVolume(t.Context(), &ec2.DetachVolumeInput{VolumeId: &v})
	wantCode(t, err, "IncorrectState")
	instance = "i-0123"
	wantCode(t, attach(v, "/dev/sdg"), "InvalidInstanceID.NotFound")
}
