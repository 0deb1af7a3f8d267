package awstest

import (
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// storage is one account in one region of a double, seen through the SDK.
type storage struct {
	t   *testing.T
	c   *Cloud
	ec2 *ec2.Client
	ebs *ebs.Client
}

// clients are those of the default account in a region; they ask once.
func clients(t *testing.T, c *Cloud, region string) *storage {
	t.Helper()
	return clientsOf(t, c, region, "key")
}

func clientsOf(t *testing.T, c *Cloud, region, key string) *storage {
	t.Helper()
	config := sdk(c, region, key)
	return &storage{t: t, c: c, ec2: ec2.NewFromConfig(config), ebs: ebs.NewFromConfig(config)}
}

// addAccount makes an access key of another account.
func addAccount(c *Cloud, key, account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accounts[key] = &Account{ID: account}
}

func (s *storage) describeVolume(id string) types.Volume {
	s.t.Helper()
	out, err := s.ec2.DescribeVolumes(s.t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	require.NoError(s.t, err)
	require.Len(s.t, out.Volumes, 1)
	return out.Volumes[0]
}

func (s *storage) describeSnapshot(id string) types.Snapshot {
	s.t.Helper()
	out, err := s.ec2.DescribeSnapshots(s.t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	require.NoError(s.t, err)
	require.Len(s.t, out.Snapshots, 1)
	return out.Snapshots[0]
}

func (s *storage) describeImage(id string) types.Image {
	s.t.Helper()
	out, err := s.ec2.DescribeImages(s.t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	require.NoError(s.t, err)
	require.Len(s.t, out.Images, 1)
	return out.Images[0]
}

// volume makes a volume and waits until it is available.
func (s *storage) volume(in *ec2.CreateVolumeInput) string {
	s.t.Helper()
	if in.AvailabilityZone == nil {
		in.AvailabilityZone = aws.String(s.ec2.Options().Region + "a")
	}
	out, err := s.ec2.CreateVolume(s.t.Context(), in)
	require.NoError(s.t, err)
	s.volumeIs(*out.VolumeId, types.VolumeStateAvailable)
	return *out.VolumeId
}

func (s *storage) volumeIs(id string, state types.VolumeState) {
	s.t.Helper()
	until(s.t, id+" is "+string(state), func() bool { return s.describeVolume(id).State == state })
}

func (s *storage) snapshotIs(id string, state types.SnapshotState) types.Snapshot {
	s.t.Helper()
	until(s.t, id+" is "+string(state), func() bool { return s.describeSnapshot(id).State == state })
	return s.describeSnapshot(id)
}

func (s *storage) imageIs(id string, state types.ImageState) types.Image {
	s.t.Helper()
	until(s.t, id+" is "+string(state), func() bool { return s.describeImage(id).State == state })
	return s.describeImage(id)
}

// snapshot makes a snapshot and waits until it is completed.
func (s *storage) snapshot(volume string) string {
	s.t.Helper()
	out, err := s.ec2.CreateSnapshot(s.t.Context(), &ec2.CreateSnapshotInput{VolumeId: &volume})
	require.NoError(s.t, err)
	s.snapshotIs(*out.SnapshotId, types.SnapshotStateCompleted)
	return *out.SnapshotId
}

// volumeWith is a volume of 1 GiB with some bytes at block boundaries.
func (s *storage) volumeWith(blocks map[int]string) string {
	s.t.Helper()
	id := s.volume(&ec2.CreateVolumeInput{Size: aws.Int32(1)})
	s.write(id, blocks)
	return id
}

func (s *storage) write(volume string, blocks map[int]string) {
	s.t.Helper()
	for i, text := range blocks {
		require.NoError(s.t, s.c.WriteVolume(volume, []byte(text), int64(i)*blockSize))
	}
}

// readsVolume expects bytes at the beginning of a block.
func (s *storage) readsVolume(volume string, block int, text string) {
	s.t.Helper()
	p := make([]byte, len(text))
	require.NoError(s.t, s.c.ReadVolume(volume, p, int64(block)*blockSize))
	require.Equal(s.t, text, string(p))
}

func (s *storage) readsSnapshot(snapshot string, block int, text string) {
	s.t.Helper()
	r, err := s.c.SnapshotReader(snapshot)
	require.NoError(s.t, err)
	p := make([]byte, len(text))
	_, err = r.ReadAt(p, int64(block)*blockSize)
	require.NoError(s.t, err)
	require.Equal(s.t, text, string(p))
}

// slow are delays with which some work is not ready in a test.
func slow(works ...string) func(string) time.Duration {
	return func(work string) time.Duration {
		for _, w := range works {
			if w == work {
				return time.Hour
			}
		}
		return DefaultDelay(work)
	}
}

// inside changes the state of the default account in a region, as time would.
func (s *storage) inside(change func(r *Region)) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	change(s.c.region("111111111111", s.ec2.Options().Region))
}

// finish ends the work on a snapshot that a test made slow.
func (s *storage) finish(id string) {
	s.inside(func(r *Region) { snapshotsOf(r)[id].ready = time.Now() })
}

// blockOf is a block that begins with a text, and its checksum.
func blockOf(text string) ([]byte, string) {
	b := make([]byte, blockSize)
	copy(b, text)
	sum := sha256.Sum256(b)
	return b, base64.StdEncoding.EncodeToString(sum[:])
}
