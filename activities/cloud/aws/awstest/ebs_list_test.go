package awstest

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/stretchr/testify/require"
)

func TestPagesOfBlocksMayBeEmpty(t *testing.T) {
	t.Parallel()
	c := New(t, Options{PageSize: 2})
	s := clients(t, c, "eu-west-1")
	snap := s.snapshot(s.volumeWith(map[int]string{0: "a", 10: "b", 20: "c", 30: "d", 40: "e", 50: "f", 60: "g"}))
	in := &ebs.ListSnapshotBlocksInput{SnapshotId: &snap}
	var sizes []int
	var got []int32
	for {
		out, err := s.ebs.ListSnapshotBlocks(t.Context(), in)
		require.NoError(t, err)
		sizes = append(sizes, len(out.Blocks))
		for _, b := range out.Blocks {
			got = append(got, *b.BlockIndex)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	require.Equal(t, []int32{0, 10, 20, 30, 40, 50, 60}, got)
	require.Equal(t, []int{2, 0, 2, 2, 0, 1}, sizes)

	out, err := s.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &snap, StartingBlockIndex: aws.Int32(41), MaxResults: aws.Int32(100)})
	require.NoError(t, err)
	require.Equal(t, int32(50), *out.Blocks[0].BlockIndex)
	_, err = s.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &snap, MaxResults: aws.Int32(99)})
	wantReason(t, err, types.ValidationExceptionReasonInvalidParameterValue)
	old := sealToken("page %s %d %d %d", snap, 0, 0, time.Now().Add(-time.Second).Unix())
	for _, token := range []string{"nonsense", old} {
		_, err = s.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &snap, NextToken: &token})
		wantReason(t, err, types.ValidationExceptionReasonInvalidPageToken)
	}
}

func TestABlockTokenIsForOneBlockAndSevenDays(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	snap := s.snapshot(s.volumeWith(map[int]string{0: "a", 1: "b"}))
	list, err := s.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &snap})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(7*24*time.Hour), *list.ExpiryTime, time.Minute)
	_, err = s.get(snap, 1, list.Blocks[0].BlockToken)
	wantReason(t, err, types.ValidationExceptionReasonInvalidBlockToken)
	_, err = s.get(snap, 0, blockToken(snap, 0, time.Now().Add(-2*time.Second)))
	wantReason(t, err, types.ValidationExceptionReasonInvalidBlockToken)
	_, err = s.get(snap, 7, blockToken(snap, 7, time.Now().Add(time.Hour)))
	wantReason(t, err, types.ValidationExceptionReasonInvalidBlock)
}

// BenchmarkBlocks is the rate of blocks of 512 KiB through the direct APIs, by requests in flight.
func BenchmarkBlocks(b *testing.B) {
	for _, flight := range []int{1, 16, 64} {
		for _, verb := range []string{"put", "get"} {
			b.Run(fmt.Sprintf("%s/%d", verb, flight), func(b *testing.B) { benchmarkBlocks(b, verb == "get", flight) })
		}
	}
}

func benchmarkBlocks(b *testing.B, get bool, flight int) {
	const many, size = 1 << 30, 512
	c := New(b, Options{Delay: func(string) time.Duration { return 0 }, Quotas: map[string]int{"ebs-PutSnapshotBlock": many, "ebs-PutSnapshotBlock-snapshot": many, "ebs-GetSnapshotBlock": many, "ebs-GetSnapshotBlock-snapshot": many}})
	client := ebs.NewFromConfig(sdk(c, "eu-west-1", "key"))
	started, err := client.StartSnapshot(b.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	require.NoError(b, err)
	id, tokens := *started.SnapshotId, map[int32]*string{}
	put := func(i int32) error {
		_, err := client.PutSnapshotBlock(b.Context(), putInput(id, i, fmt.Sprint(i, b.N)))
		return err
	}
	if get {
		for i := range int32(size) {
			require.NoError(b, put(i))
			tokens[i] = blockToken(id, int(i), time.Now().Add(time.Hour))
		}
		_, err := client.CompleteSnapshot(b.Context(), &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: aws.Int32(size)})
		require.NoError(b, err)
	}
	b.SetBytes(blockSize)
	b.ResetTimer()
	var next atomic.Int32
	var wg sync.WaitGroup
	for range flight {
		wg.Go(func() {
			for n := next.Add(1); int(n) <= b.N; n = next.Add(1) {
				i := n % size
				if !get {
					if err := put(i); err != nil {
						b.Error(err)
					}
					continue
				}
				out, err := client.GetSnapshotBlock(b.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: &i, BlockToken: tokens[i]})
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, out.BlockData)
			}
		})
	}
	wg.Wait()
}

func FuzzTokens(f *testing.F) {
	f.Add("block snap-1 2 3", "")
	f.Add("", sealToken("page snap-1 2 3 4"))
	f.Fuzz(func(t *testing.T, text, token string) {
		if got, ok := openToken(sealToken("%s", text)); !ok || got != text {
			t.Fatalf("%q became %q", text, got)
		}
		if got, ok := openToken(token); ok && sealToken("%s", got) != token {
			t.Fatalf("%q opens as %q", token, got)
		}
	})
}
