package awstest

import (
	"bytes"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"
)

func TestFastSnapshotRestoreIsEnabledByZone(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Quotas: map[string]int{"fast-snapshot-restores": 1}})
	s := clients(t, c, "eu-west-1")
	v := s.volumeWith(nil)
	first, second := s.snapshot(v), s.snapshot(v)
	out, err := s.ec2.EnableFastSnapshotRestores(t.Context(), &ec2.EnableFastSnapshotRestoresInput{SourceSnapshotIds: []string{first, second}, AvailabilityZones: []string{"eu-west-1a", "eu-west-1b"}})
	require.NoError(t, err)
	require.Len(t, out.Successful, 2)
	require.Equal(t, types.FastSnapshotRestoreStateCodeEnabling, out.Successful[0].State)
	require.Equal(t, "FastSnapshotRestoreLimitExceeded", *out.Unsuccessful[0].FastSnapshotRestoreStateErrors[0].Error.Code)
	until(t, "both zones are enabled", func() bool {
		d, err := s.ec2.DescribeFastSnapshotRestores(t.Context(), &ec2.DescribeFastSnapshotRestoresInput{Filters: []types.Filter{{Name: aws.String("state"), Values: []string{"enabled"}}}})
		require.NoError(t, err)
		return len(d.FastSnapshotRestores) == 2 && *d.FastSnapshotRestores[0].SnapshotId == first
	})
}

func TestEncryptionByDefault(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Quotas: map[string]int{"ebs-encryption-by-default": 1}})
	s := clients(t, c, "eu-west-1")
	on, err := s.ec2.GetEbsEncryptionByDefault(t.Context(), &ec2.GetEbsEncryptionByDefaultInput{})
	require.NoError(t, err)
	require.True(t, *on.EbsEncryptionByDefault)
	key, err := s.ec2.GetEbsDefaultKmsKeyId(t.Context(), &ec2.GetEbsDefaultKmsKeyIdInput{})
	require.NoError(t, err)
	d := s.describeVolume(s.volumeWith(nil))
	require.True(t, *d.Encrypted)
	require.Equal(t, *key.KmsKeyId, *d.KmsKeyId)
}

func TestSnapshotsAreInTheStandardTier(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{}), "eu-west-1")
	id := s.snapshot(s.volumeWith(nil))
	out, err := s.ec2.DescribeSnapshotTierStatus(t.Context(), &ec2.DescribeSnapshotTierStatusInput{Filters: []types.Filter{{Name: aws.String("snapshot-id"), Values: []string{id}}}})
	require.NoError(t, err)
	require.Equal(t, types.StorageTierStandard, out.SnapshotTierStatuses[0].StorageTier)
}

// upload puts an object into a bucket of its own.
func (s *storage) upload(bucket, key string, data []byte) {
	s.t.Helper()
	client := s3.NewFromConfig(sdk(s.c, s.ec2.Options().Region, "key"), func(o *s3.Options) { o.UsePathStyle = true })
	_, err := client.CreateBucket(s.t.Context(), &s3.CreateBucketInput{Bucket: &bucket, CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(s.ec2.Options().Region)}})
	require.NoError(s.t, err)
	_, err = client.PutObject(s.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(data)})
	require.NoError(s.t, err)
}

func (s *storage) importIs(task, status string) *types.SnapshotTaskDetail {
	s.t.Helper()
	var d *types.SnapshotTaskDetail
	until(s.t, task+" is "+status, func() bool {
		out, err := s.ec2.DescribeImportSnapshotTasks(s.t.Context(), &ec2.DescribeImportSnapshotTasksInput{ImportTaskIds: []string{task}})
		require.NoError(s.t, err)
		d = out.ImportSnapshotTasks[0].SnapshotTaskDetail
		return *d.Status == status
	})
	return d
}

func TestADiskInABucketBecomesASnapshot(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{}), "eu-west-1")
	disk := make([]byte, 3*blockSize)
	copy(disk[2*blockSize:], "two")
	s.upload("disks", "servers/web.raw", disk)
	in := &ec2.ImportSnapshotInput{ClientToken: aws.String("once"), DiskContainer: &types.SnapshotDiskContainer{Format: aws.String("RAW"), UserBucket: &types.UserBucket{S3Bucket: aws.String("disks"), S3Key: aws.String("servers/web.raw")}}}
	out, err := s.ec2.ImportSnapshot(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "active", *out.SnapshotTaskDetail.Status)
	again, err := s.ec2.ImportSnapshot(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, *out.ImportTaskId, *again.ImportTaskId)
	d := s.importIs(*out.ImportTaskId, "completed")
	s.readsSnapshot(*d.SnapshotId, 2, "two")
	require.Equal(t, int32(1), *s.describeSnapshot(*d.SnapshotId).VolumeSize)

	for _, x := range []types.SnapshotDiskContainer{
		{Format: aws.String("RAW"), Url: aws.String("s3://disks/missing")},
		{Format: aws.String("RAW"), Url: aws.String("s3://other/web.raw")},
		{Format: aws.String("QCOW2"), Url: aws.String("s3://disks/servers/web.raw")},
		{Format: aws.String("VHD"), Url: aws.String("s3://disks/servers/web.raw")},
	} {
		out, err := s.ec2.ImportSnapshot(t.Context(), &ec2.ImportSnapshotInput{DiskContainer: &x})
		require.NoError(t, err)
		require.Contains(t, *s.importIs(*out.ImportTaskId, "deleted").StatusMessage, "Disk validation failed")
	}
}

func TestDisksInABucketBecomeAnImage(t *testing.T) {
	t.Parallel()
	s := clients(t, New(t, Options{}), "eu-west-1")
	footer := make([]byte, vhdFooter)
	copy(footer, "conectix")
	footer[63] = 2
	disk := append(make([]byte, blockSize), footer...)
	copy(disk, "root")
	s.upload("disks", "root.vhd", disk)
	data := s.snapshot(s.volumeWith(map[int]string{0: "data"}))
	out, err := s.ec2.ImportImage(t.Context(), &ec2.ImportImageInput{DiskContainers: []types.ImageDiskContainer{{Format: aws.String("VHD"), Url: aws.String("s3://disks/root.vhd")}, {SnapshotId: &data, DeviceName: aws.String("/dev/sdf")}}})
	require.NoError(t, err)
	var task types.ImportImageTask
	until(t, "the import is completed", func() bool {
		out, err := s.ec2.DescribeImportImageTasks(t.Context(), &ec2.DescribeImportImageTasksInput{ImportTaskIds: []string{*out.ImportTaskId}})
		require.NoError(t, err)
		task = out.ImportImageTasks[0]
		return *task.Status == "completed"
	})
	i := s.imageIs(*task.ImageId, types.ImageStateAvailable)
	require.Equal(t, []string{"/dev/sda1", "/dev/sdf", "/dev/sda1"}, []string{*i.BlockDeviceMappings[0].DeviceName, *i.BlockDeviceMappings[1].DeviceName, *i.RootDeviceName})
	s.readsSnapshot(*i.BlockDeviceMappings[0].Ebs.SnapshotId, 0, "root\x00")
	r, err := s.c.SnapshotReader(*i.BlockDeviceMappings[0].Ebs.SnapshotId)
	require.NoError(t, err)
	require.Equal(t, []int{0}, r.Blocks(), "the footer is no data")
}

func FuzzFixedVHD(f *testing.F) {
	footer := make([]byte, vhdFooter)
	copy(footer, "conectix")
	footer[63] = 2
	f.Add(footer)
	f.Add([]byte("conectix"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := os.CreateTemp(t.TempDir(), "")
		require.NoError(t, err)
		defer file.Close()
		_, err = file.Write(data)
		require.NoError(t, err)
		n, err := fixedVHD(file, int64(len(data)))
		if err != nil {
			return
		}
		info, err := file.Stat()
		require.NoError(t, err)
		require.Equal(t, n, info.Size())
		require.Equal(t, int64(len(data)), n+vhdFooter)
	})
}
