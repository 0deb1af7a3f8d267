package ebs_test

import (
	"context"
	"encoding/base64"
	"io"
	"testing"

	"lifeboat/replication/deltatest"
	"lifeboat/replication/ebs"

	sdk "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/stretchr/testify/require"
)

// vast is a service whose snapshots are of one block again and again, and that forgets what is put.
type vast struct {
	*service
	puts int
}

func (v *vast) PutSnapshotBlock(_ context.Context, in *sdk.PutSnapshotBlockInput, _ ...func(*sdk.Options)) (*sdk.PutSnapshotBlockOutput, error) {
	_, err := io.Copy(io.Discard, in.BlockData)
	v.change(func() { v.puts++ })
	return &sdk.PutSnapshotBlockOutput{Checksum: in.Checksum}, err
}

// CompleteSnapshot believes the checksum.
func (v *vast) CompleteSnapshot(_ context.Context, in *sdk.CompleteSnapshotInput, _ ...func(*sdk.Options)) (*sdk.CompleteSnapshotOutput, error) {
	_, err := base64.StdEncoding.DecodeString(*in.Checksum)
	v.change(func() { v.snapshots[*in.SnapshotId].state = "completed" })
	return &sdk.CompleteSnapshotOutput{}, err
}

// Not parallel: what the whole process holds is measured.
func TestACopyStaysWithinItsMemory(t *testing.T) {
	const count = 1500
	one := data(1)
	blocks := map[int64][]byte{}
	for i := range int64(count) {
		blocks[i] = one
	}
	from, to := newService(), &vast{service: newService()}
	c := ebs.Copy{Snapshot: from.add(1, blocks), From: from.client(t, 64, ebs.Options{}),
		To: ebs.NewClient(to, ebs.Options{Limits: ebs.NewLimits(64, ebs.Rates{Put: 1e6}), Describe: to.describe}), Spec: ebs.Spec{Token: "1", State: t.TempDir()}}
	watch := deltatest.WatchMemory()
	_, err := c.Run(t.Context())
	peak := watch.Stop()
	require.NoError(t, err)
	require.Equal(t, count, to.puts)
	t.Logf("peak %d MiB", peak>>20)
	limit := uint64(64 << 20)
	if deltatest.Raced { // the detector keeps books about memory, in memory
		limit *= 3
	}
	require.Less(t, peak, limit)
}
