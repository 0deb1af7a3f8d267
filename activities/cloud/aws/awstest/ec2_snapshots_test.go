package awstest

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

func snapshotTags(key, value string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: types.ResourceTypeSnapshot, Tags: []types.Tag{{Key: aws.String(key), Value: aws.String(value)}}}}
}

func TestASnapshotIsPendingThenCompleted(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Delay: slow("snapshot")})
	s := clients(t, c, "eu-west-1")
	v := s.volumeWith(map[int]string{7: "seven"})
	out, err := s.ec2.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: &v, Description: aws.String("nightly"), TagSpecifications: snapshotTags("step", "1")})
	require.NoError(t, err)
	require.Equal(t, types.SnapshotStatePending, out.State)
	pending := s.describeSnapshot(*out.SnapshotId)
	require.Equal(t, types.SnapshotStatePending, pending.State)
	require.Equal(t, "0%", *pending.Progress)
	s.finish(*out.SnapshotId)
	done := s.snapshotIs(*out.SnapshotId, types.SnapshotStateCompleted)
	require.Equal(t, "100%", *done.Progress)
	require.Equal(t, int64(blockSize), *done.FullSnapshotSizeInBytes)
	require.Equal(t, []string{v, "nightly", "111111111111", "1"}, []string{*done.VolumeId, *done.Description, *done.OwnerId, *done.Tags[0].Value})
	require.False(t, done.CompletionTime.Before(*done.StartTime))
}

func TestAVolumeHasFiveSnapshotsAtOnce(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Delay: slow("snapshot")})
	s := clients(t, c, "eu-west-1")
	v := s.volumeWith(nil)
	for range 5 {
		_, err := s.ec2.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: &v})
		require.NoError(t, err)
	}
	_, err := s.ec2.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: &v})
	wantCode(t, err, "ConcurrentSnapshotLimitExceeded")
}

func TestACopyIsASnapshotOfItsOwnRegion(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Delay: slow("copy")})
	from, to := clients(t, c, "eu-west-1"), clients(t, c, "us-east-1")
	snap := from.snapshot(from.volumeWith(map[int]string{1: "one"}))
	out, err := to.ec2.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &snap, Description: aws.String("away"), TagSpecifications: snapshotTags("plan", "shop")})
	require.NoError(t, err)
	require.Equal(t, "shop", *out.Tags[0].Value)
	require.Equal(t, "0%", *to.describeSnapshot(*out.SnapshotId).Progress)
	var started time.Time
	to.inside(func(r *Region) {
		x := snapshotsOf(r)[*out.SnapshotId]
		started, x.started, x.ready = x.started, time.Now().Add(-90*time.Minute), time.Now().Add(90*time.Minute)
	})
	require.Equal(t, "50%", *to.describeSnapshot(*out.SnapshotId).Progress)
	to.inside(func(r *Region) { snapshotsOf(r)[*out.SnapshotId].started = started })
	to.finish(*out.SnapshotId)
	to.snapshotIs(*out.SnapshotId, types.SnapshotStateCompleted)
	d := to.describeSnapshot(*out.SnapshotId)
	require.Equal(t, arbitraryVolume, *d.VolumeId)
	require.Equal(t, types.TransferTypeStandard, d.TransferType)
	require.True(t, d.StartTime.After(*from.describeSnapshot(snap).StartTime), "a copy has its own time")

	_, err = from.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &snap})
	require.NoError(t, err)
	to.readsSnapshot(*out.SnapshotId, 1, "one")
	v := to.volume(&ec2.CreateVolumeInput{SnapshotId: out.SnapshotId})
	to.readsVolume(v, 1, "one")
}

func TestCopiesThatCannotBe(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Delay: slow("snapshot")})
	from, to := clients(t, c, "eu-west-1"), clients(t, c, "us-east-1")
	v := from.volumeWith(nil)
	pending, err := from.ec2.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: &v})
	require.NoError(t, err)
	source := aws.String("eu-west-1")
	_, err = to.ec2.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: source, SourceSnapshotId: pending.SnapshotId})
	wantCode(t, err, "IncorrectState")
	_, err = to.ec2.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: source, SourceSnapshotId: aws.String("snap-0123")})
	wantCode(t, err, "InvalidSnapshot.NotFound")
	_, err = to.ec2.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String("us-east-1"), SourceSnapshotId: pending.SnapshotId})
	wantCode(t, err, "InvalidSnapshot.NotFound")
	_, err = from.ec2.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: aws.String("vol-0123")})
	wantCode(t, err, "InvalidVolume.NotFound")
}

func TestTwentyCopiesAtOnceMayGoToARegion(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Delay: slow("copy")})
	from, to := clients(t, c, "eu-west-1"), clients(t, c, "us-east-1")
	snap := from.snapshot(from.volumeWith(nil))
	in := &ec2.CopySnapshotInput{SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &snap, CompletionDurationMinutes: aws.Int32(30)}
	for range 20 {
		_, err := to.ec2.CopySnapshot(t.Context(), in)
		require.NoError(t, err)
	}
	_, err := to.ec2.CopySnapshot(t.Context(), in)
	wantCode(t, err, "ResourceLimitExceeded")
	_, err = clients(t, c, "us-west-2").ec2.CopySnapshot(t.Context(), in)
	require.NoError(t, err, "the limit is one of the destination")
	in.CompletionDurationMinutes = aws.Int32(20)
	_, err = clients(t, c, "us-west-2").ec2.CopySnapshot(t.Context(), in)
	wantCode(t, err, "InvalidParameterValue")
}

func TestAnEncryptedCopyNeedsAKeyOfItsRegion(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	from, to := clients(t, c, "eu-west-1"), clients(t, c, "us-east-1")
	snap := from.snapshot(from.volumeWith(nil))
	copied := func(encrypted *bool, key string) string {
		t.Helper()
		in := &ec2.CopySnapshotInput{SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &snap, Encrypted: encrypted}
		if key != "" {
			in.KmsKeyId = &key
		}
		out, err := to.ec2.CopySnapshot(t.Context(), in)
		require.NoError(t, err)
		return *out.SnapshotId
	}
	failed := to.snapshotIs(copied(aws.Bool(true), "arn:aws:kms:eu-west-1:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab"), types.SnapshotStateError)
	require.Contains(t, *failed.StateMessage, "key")
	plain := to.snapshotIs(copied(nil, ""), types.SnapshotStateCompleted)
	require.False(t, *plain.Encrypted)
	encrypted := to.snapshotIs(copied(aws.Bool(true), ""), types.SnapshotStateCompleted)
	require.True(t, *encrypted.Encrypted)
	require.Contains(t, *encrypted.KmsKeyId, "arn:aws:kms:us-east-1:")

	back, err := from.ec2.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String("us-east-1"), SourceSnapshotId: encrypted.SnapshotId})
	require.NoError(t, err)
	require.True(t, *from.snapshotIs(*back.SnapshotId, types.SnapshotStateCompleted).Encrypted, "a copy of an encrypted snapshot is encrypted")
	_, err = to.ec2.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &snap, KmsKeyId: aws.String("alias/x")})
	wantCode(t, err, "InvalidParameterDependency")
}

func TestASharedSnapshotIsCopiedByAnotherAccount(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	addAccount(c, "other", "222222222222")
	mine, theirs := clients(t, c, "eu-west-1"), clientsOf(t, c, "us-east-1", "other")
	snap := mine.snapshot(mine.volumeWith(map[int]string{0: "shared"}))
	in := &ec2.CopySnapshotInput{SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &snap}
	_, err := theirs.ec2.CopySnapshot(t.Context(), in)
	wantCode(t, err, "InvalidSnapshot.NotFound")
	_, err = mine.ec2.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{SnapshotId: &snap, CreateVolumePermission: &types.CreateVolumePermissionModifications{
		Add: []types.CreateVolumePermission{{UserId: aws.String("222222222222")}}}})
	require.NoError(t, err)
	attribute, err := mine.ec2.DescribeSnapshotAttribute(t.Context(), &ec2.DescribeSnapshotAttributeInput{SnapshotId: &snap, Attribute: types.SnapshotAttributeNameCreateVolumePermission})
	require.NoError(t, err)
	require.Equal(t, "222222222222", *attribute.CreateVolumePermissions[0].UserId)

	out, err := theirs.ec2.CopySnapshot(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "222222222222", *theirs.snapshotIs(*out.SnapshotId, types.SnapshotStateCompleted).OwnerId)
	theirs.readsSnapshot(*out.SnapshotId, 0, "shared")
	near := clientsOf(t, c, "eu-west-1", "other")
	require.Equal(t, "111111111111", *near.describeSnapshot(snap).OwnerId)
	own, err := near.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	require.NoError(t, err)
	require.Empty(t, own.Snapshots)
	_, err = near.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &snap})
	wantCode(t, err, "UnauthorizedOperation")
}

func TestWhatIsEncryptedWithTheDefaultKeyIsNotShared(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	snap := s.snapshot(s.volume(&ec2.CreateVolumeInput{Size: aws.Int32(1), Encrypted: aws.Bool(true)}))
	share := func(id, who string) error {
		_, err := s.ec2.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{SnapshotId: &id, Attribute: types.SnapshotAttributeNameCreateVolumePermission,
			OperationType: types.OperationTypeAdd, UserIds: []string{who}})
		return err
	}
	wantCode(t, share(snap, "222222222222"), "OperationNotPermitted")
	wantCode(t, share(s.snapshot(s.volumeWith(nil)), "me"), "InvalidParameterValue")
}

func TestSnapshotsAreListedByFilterAndPage(t *testing.T) {
	t.Parallel()
	c := New(t, Options{PageSize: 2})
	s := clients(t, c, "eu-west-1")
	v := s.volumeWith(nil)
	want := map[string]bool{}
	for range 3 {
		want[s.snapshot(v)] = true
	}
	s.snapshot(s.volumeWith(nil))
	got := map[string]bool{}
	p := ec2.NewDescribeSnapshotsPaginator(s.ec2, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{{Name: aws.String("volume-id"), Values: []string{v}}, {Name: aws.String("status"), Values: []string{"completed"}}}})
	for p.HasMorePages() {
		out, err := p.NextPage(t.Context())
		require.NoError(t, err)
		for _, x := range out.Snapshots {
			got[*x.SnapshotId] = true
		}
	}
	require.Equal(t, want, got)
	_, err := s.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{"snap-0123"}})
	wantCode(t, err, "InvalidSnapshot.NotFound")
}
