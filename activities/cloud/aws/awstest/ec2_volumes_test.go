package awstest

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

func volumeTags(key, value string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: types.ResourceTypeVolume, Tags: []types.Tag{{Key: aws.String(key), Value: aws.String(value)}}}}
}

func TestAClientTokenMakesOneVolume(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	in := &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1b"), Size: aws.Int32(2), ClientToken: aws.String("once"), VolumeType: types.VolumeTypeGp3, TagSpecifications: volumeTags("step", "7")}
	first, err := s.ec2.CreateVolume(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, types.VolumeStateCreating, first.State)
	again, err := s.ec2.CreateVolume(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, *first.VolumeId, *again.VolumeId)
	in.Size = aws.Int32(3)
	_, err = s.ec2.CreateVolume(t.Context(), in)
	wantCode(t, err, "IdempotentParameterMismatch")

	s.volumeIs(*first.VolumeId, types.VolumeStateAvailable)
	v := s.describeVolume(*first.VolumeId)
	require.Equal(t, []int32{2, 3000, 125}, []int32{*v.Size, *v.Iops, *v.Throughput})
	require.Equal(t, "eu-west-1b", *v.AvailabilityZone)
	require.Equal(t, "7", *v.Tags[0].Value)
}

func TestVolumesThatCannotBe(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Quotas: map[string]int{"ebs-storage-gib": 100}})
	s := clients(t, c, "eu-west-1")
	zone := aws.String("eu-west-1a")
	for name, x := range map[string]struct {
		in   ec2.CreateVolumeInput
		code string
	}{
		"zone":            {ec2.CreateVolumeInput{AvailabilityZone: aws.String("us-east-1a"), Size: aws.Int32(1)}, "InvalidParameterValue"},
		"no zone":         {ec2.CreateVolumeInput{Size: aws.Int32(1)}, "InvalidParameterCombination"},
		"no size":         {ec2.CreateVolumeInput{AvailabilityZone: zone}, "MissingParameter"},
		"size of st1":     {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(10), VolumeType: types.VolumeTypeSt1}, "InvalidParameterValue"},
		"size of gp2":     {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(20000)}, "InvalidParameterValue"},
		"no IOPS of io2":  {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(4), VolumeType: types.VolumeTypeIo2}, "MissingParameter"},
		"IOPS of gp2":     {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(4), Iops: aws.Int32(100)}, "InvalidParameterCombination"},
		"few IOPS":        {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(4), Iops: aws.Int32(100), VolumeType: types.VolumeTypeGp3}, "InvalidParameterValue"},
		"throughput":      {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(4), Throughput: aws.Int32(130)}, "InvalidParameterCombination"},
		"multi-attach":    {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(4), MultiAttachEnabled: aws.Bool(true)}, "InvalidParameterCombination"},
		"type":            {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(4), VolumeType: "gp9"}, "InvalidParameterValue"},
		"no snapshot":     {ec2.CreateVolumeInput{AvailabilityZone: zone, SnapshotId: aws.String("snap-0123")}, "InvalidSnapshot.NotFound"},
		"rate":            {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(4), VolumeInitializationRate: aws.Int32(200)}, "InvalidParameterValue"},
		"key":             {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(4), KmsKeyId: aws.String("alias/mine")}, "InvalidParameterDependency"},
		"too much for me": {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(101)}, "VolumeLimitExceeded"},
		"only asking":     {ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(1), DryRun: aws.Bool(true)}, "DryRunOperation"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.ec2.CreateVolume(t.Context(), &x.in)
			wantCode(t, err, x.code)
		})
	}
	out, err := s.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{})
	require.NoError(t, err)
	require.Empty(t, out.Volumes)
}

func TestAVolumeOfASnapshotHasItsBytes(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	snap := s.snapshot(s.volumeWith(map[int]string{5: "five"}))
	v := s.volume(&ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1c"), SnapshotId: &snap, Size: aws.Int32(3)})
	s.readsVolume(v, 5, "five")
	s.readsVolume(v, 3*2048-1, "\x00\x00")
	require.Equal(t, snap, *s.describeVolume(v).SnapshotId)

	big := s.snapshot(v)
	_, err := s.ec2.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1c"), SnapshotId: &big, Size: aws.Int32(2)})
	wantCode(t, err, "InvalidParameterValue")
}

func TestAPendingSnapshotMakesNoVolume(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Delay: slow("snapshot")})
	s := clients(t, c, "eu-west-1")
	v := s.volumeWith(nil)
	snap, err := s.ec2.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: &v})
	require.NoError(t, err)
	_, err = s.ec2.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), SnapshotId: snap.SnapshotId})
	wantCode(t, err, "IncorrectState")
}

func TestAKeyOfAnotherRegionFailsAVolumeLater(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	out, err := s.ec2.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(1), Encrypted: aws.Bool(true),
		KmsKeyId: aws.String("arn:aws:kms:us-east-1:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab")})
	require.NoError(t, err)
	s.volumeIs(*out.VolumeId, types.VolumeStateError)

	plain := s.volume(&ec2.CreateVolumeInput{Size: aws.Int32(1), Encrypted: aws.Bool(true)})
	require.True(t, *s.describeVolume(plain).Encrypted)
	require.Contains(t, *s.describeVolume(plain).KmsKeyId, "arn:aws:kms:eu-west-1:111111111111:key/")
}

func TestVolumesAreFoundByFilterAndPage(t *testing.T) {
	t.Parallel()
	c := New(t, Options{PageSize: 2})
	s := clients(t, c, "eu-west-1")
	want := map[string]bool{}
	for i := range 5 {
		want[s.volume(&ec2.CreateVolumeInput{Size: aws.Int32(int32(1 + i%2)), TagSpecifications: volumeTags("plan", "shop")})] = true
	}
	s.volume(&ec2.CreateVolumeInput{Size: aws.Int32(1), TagSpecifications: volumeTags("plan", "other")})
	filter := func(name, value string) []types.Filter {
		return []types.Filter{{Name: aws.String(name), Values: []string{value}}}
	}
	pages, got := 0, map[string]bool{}
	p := ec2.NewDescribeVolumesPaginator(s.ec2, &ec2.DescribeVolumesInput{Filters: filter("tag:plan", "sho*")})
	for p.HasMorePages() {
		out, err := p.NextPage(t.Context())
		require.NoError(t, err)
		pages++
		for _, v := range out.Volumes {
			got[*v.VolumeId] = true
		}
	}
	require.Equal(t, want, got)
	require.Equal(t, 3, pages)
	for name, x := range map[string]struct {
		value string
		n     int
	}{"size": {"2", 2}, "status": {"available", 2}, "availability-zone": {"eu-west-1b", 0}, "attachment.instance-id": {"*", 0}, "volume-type": {"gp2", 2}} {
		out, err := s.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{Filters: filter(name, x.value)})
		require.NoError(t, err, name)
		require.Len(t, out.Volumes, x.n, name)
	}
	_, err := s.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{Filters: filter("colour", "red")})
	wantCode(t, err, "InvalidParameterValue")
	_, err = s.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{"vol-0123"}})
	wantCode(t, err, "InvalidVolume.NotFound")
	other, err := clients(t, c, "us-east-1").ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{})
	require.NoError(t, err)
	require.Empty(t, other.Volumes, "regions have nothing in common")
}

func TestAJustCreatedVolumeIsNotFoundForAWhile(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Lag: time.Hour})
	s := clients(t, c, "eu-west-1")
	out, err := s.ec2.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(1)})
	require.NoError(t, err)
	_, err = s.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*out.VolumeId}})
	wantCode(t, err, "InvalidVolume.NotFound")
	list, err := s.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{})
	require.NoError(t, err)
	require.Empty(t, list.Volumes)
	s.inside(func(r *Region) { ec2Of(r).resources[*out.VolumeId].Visible = time.Now() })
	s.volumeIs(*out.VolumeId, types.VolumeStateAvailable)
}

func TestADeletedVolumeGoesAway(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	v := s.volumeWith(map[int]string{0: "x"})
	path, err := c.VolumePath(v)
	require.NoError(t, err)
	_, err = s.ec2.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: &v})
	require.NoError(t, err)
	require.NoFileExists(t, path)
	until(t, "the volume is gone", func() bool {
		_, err := s.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{v}})
		return refused(err) == "InvalidVolume.NotFound"
	})
	_, err = s.ec2.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: &v})
	wantCode(t, err, "InvalidVolume.NotFound")
}

func TestAVolumeGrows(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	v := s.volumeWith(map[int]string{0: "kept"})
	out, err := s.ec2.ModifyVolume(t.Context(), &ec2.ModifyVolumeInput{VolumeId: &v, Size: aws.Int32(4), VolumeType: types.VolumeTypeGp3})
	require.NoError(t, err)
	require.Equal(t, types.VolumeModificationStateModifying, out.VolumeModification.ModificationState)
	until(t, "the modification is completed", func() bool {
		m, err := s.ec2.DescribeVolumesModifications(t.Context(), &ec2.DescribeVolumesModificationsInput{VolumeIds: []string{v}})
		require.NoError(t, err)
		return m.VolumesModifications[0].ModificationState == types.VolumeModificationStateCompleted && *m.VolumesModifications[0].Progress == 100
	})
	d := s.describeVolume(v)
	require.Equal(t, int32(4), *d.Size)
	require.Equal(t, types.VolumeTypeGp3, d.VolumeType)
	s.readsVolume(v, 0, "kept")
	s.write(v, map[int]string{4*2048 - 1: "end"})
	_, err = s.ec2.ModifyVolume(t.Context(), &ec2.ModifyVolumeInput{VolumeId: &v, Size: aws.Int32(3)})
	wantCode(t, err, "InvalidParameterValue")
}
