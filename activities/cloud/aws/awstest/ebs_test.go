package awstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// start begins a snapshot of 1 GiB.
func (s *storage) start(parent string) string {
	s.t.Helper()
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}
	if parent != "" {
		in.ParentSnapshotId = &parent
	}
	out, err := s.ebs.StartSnapshot(s.t.Context(), in)
	require.NoError(s.t, err)
	require.Equal(s.t, types.StatusPending, out.Status)
	require.Equal(s.t, int32(blockSize), *out.BlockSize)
	return *out.SnapshotId
}

func putInput(snapshot string, index int32, text string) *ebs.PutSnapshotBlockInput {
	data, sum := blockOf(text)
	return &ebs.PutSnapshotBlockInput{SnapshotId: &snapshot, BlockIndex: &index, BlockData: bytes.NewReader(data), DataLength: aws.Int32(blockSize), Checksum: &sum,
		ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256}
}

func (s *storage) put(snapshot string, index int32, text string) {
	s.t.Helper()
	_, err := s.ebs.PutSnapshotBlock(s.t.Context(), putInput(snapshot, index, text))
	require.NoError(s.t, err)
}

// complete seals a snapshot with its checksum.
func (s *storage) complete(snapshot string, texts ...string) {
	s.t.Helper()
	h := sha256.New()
	for _, text := range texts {
		data, _ := blockOf(text)
		sum := sha256.Sum256(data)
		h.Write(sum[:])
	}
	_, err := s.ebs.CompleteSnapshot(s.t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: &snapshot, ChangedBlocksCount: aws.Int32(int32(len(texts))),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(h.Sum(nil))), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
		ChecksumAggregationMethod: types.ChecksumAggregationMethodChecksumAggregationLinear})
	require.NoError(s.t, err)
	s.snapshotIs(snapshot, ec2types.SnapshotStateCompleted)
}

// blocks lists a snapshot's blocks over all pages.
func (s *storage) blocks(snapshot string) (out []types.Block) {
	s.t.Helper()
	p := ebs.NewListSnapshotBlocksPaginator(s.ebs, &ebs.ListSnapshotBlocksInput{SnapshotId: &snapshot})
	for p.HasMorePages() {
		page, err := p.NextPage(s.t.Context())
		require.NoError(s.t, err)
		out = append(out, page.Blocks...)
	}
	return out
}

func (s *storage) get(snapshot string, index int32, token *string) ([]byte, error) {
	s.t.Helper()
	out, err := s.ebs.GetSnapshotBlock(s.t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &snapshot, BlockIndex: &index, BlockToken: token})
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(out.BlockData)
	require.NoError(s.t, err)
	require.Equal(s.t, int32(blockSize), *out.DataLength)
	sum := sha256.Sum256(data)
	require.Equal(s.t, base64.StdEncoding.EncodeToString(sum[:]), *out.Checksum)
	return data, nil
}

// wantReason expects a ValidationException with a reason.
func wantReason(t *testing.T, err error, reason types.ValidationExceptionReason) {
	t.Helper()
	var invalid *types.ValidationException
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, reason, invalid.Reason)
}

func TestASnapshotIsWrittenBlockByBlock(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	id := s.start("")
	require.Equal(t, ec2types.SnapshotStatePending, s.describeSnapshot(id).State)
	_, err := s.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	wantReason(t, err, types.ValidationExceptionReasonInvalidSnapshotId)
	s.put(id, 9, "old")
	s.put(id, 2047, "last")
	s.put(id, 9, "nine") // overwrites
	s.complete(id, "nine", "last")

	list := s.blocks(id)
	require.Len(t, list, 2)
	require.Equal(t, []int32{9, 2047}, []int32{*list[0].BlockIndex, *list[1].BlockIndex})
	data, err := s.get(id, 9, list[0].BlockToken)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(data), "nine\x00"))
	v := s.volume(&ec2.CreateVolumeInput{SnapshotId: &id})
	s.readsVolume(v, 2047, "last")
	_, err = s.ebs.PutSnapshotBlock(t.Context(), putInput(id, 1, "late"))
	wantReason(t, err, types.ValidationExceptionReasonInvalidSnapshotId)
}

func TestAChildIsItsParentWithWhatWasWritten(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	parent := s.snapshot(s.volumeWith(map[int]string{1: "one", 2: "two"}))
	child := s.start(parent)
	s.put(child, 2, "2")
	s.put(child, 3, "3")
	s.complete(child, "2", "3")
	for i, text := range map[int]string{1: "one", 2: "2\x00", 3: "3\x00"} {
		s.readsSnapshot(child, i, text)
	}
	s.readsSnapshot(parent, 2, "two")
	same := s.start(child)
	s.complete(same)
	require.Len(t, s.blocks(same), 3)

	out, err := s.ebs.ListChangedBlocks(t.Context(), &ebs.ListChangedBlocksInput{FirstSnapshotId: &parent, SecondSnapshotId: &child})
	require.NoError(t, err)
	require.Len(t, out.ChangedBlocks, 2)
	two, three := out.ChangedBlocks[0], out.ChangedBlocks[1]
	require.Equal(t, []int32{2, 3}, []int32{*two.BlockIndex, *three.BlockIndex})
	require.Nil(t, three.FirstBlockToken)
	old, err := s.get(parent, 2, two.FirstBlockToken)
	require.NoError(t, err)
	require.Equal(t, "two", string(old[:3]))
	data, err := s.get(child, 2, two.SecondBlockToken)
	require.NoError(t, err)
	require.Equal(t, "2\x00", string(data[:2]))
}

func TestChangesAreThoseOfOneLineage(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s, away := clients(t, c, "eu-west-1"), clients(t, c, "us-east-1")
	v := s.volumeWith(map[int]string{1: "one", 2: "two"})
	first := s.snapshot(v)
	s.write(v, map[int]string{1: "\x00\x00\x00", 5: "five"})
	second := s.snapshot(v)
	changes := func(s *storage, first, second string) []types.ChangedBlock {
		t.Helper()
		out, err := s.ebs.ListChangedBlocks(t.Context(), &ebs.ListChangedBlocksInput{FirstSnapshotId: &first, SecondSnapshotId: &second})
		require.NoError(t, err)
		return out.ChangedBlocks
	}
	got := changes(s, first, second)
	require.Len(t, got, 2)
	require.Nil(t, got[0].SecondBlockToken, "block 1 has only zeros now")
	require.Nil(t, got[1].FirstBlockToken)

	copied := func(id string) string {
		out, err := away.ec2.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &id})
		require.NoError(t, err)
		away.snapshotIs(*out.SnapshotId, ec2types.SnapshotStateCompleted)
		return *out.SnapshotId
	}
	require.Len(t, changes(away, copied(first), copied(second)), 2, "copies of a lineage are one")
	other := s.snapshot(s.volumeWith(nil))
	_, err := s.ebs.ListChangedBlocks(t.Context(), &ebs.ListChangedBlocksInput{FirstSnapshotId: &other, SecondSnapshotId: &second})
	wantReason(t, err, types.ValidationExceptionReasonUnrelatedSnapshots)
	_, err = s.ebs.ListChangedBlocks(t.Context(), &ebs.ListChangedBlocksInput{SecondSnapshotId: &second})
	wantReason(t, err, types.ValidationExceptionReasonInvalidSnapshotId)
}

func TestStartSnapshotIsIdempotentByItsToken(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ClientToken: aws.String("once"), Tags: []types.Tag{{Key: aws.String("step"), Value: aws.String("1")}}}
	first, err := s.ebs.StartSnapshot(t.Context(), in)
	require.NoError(t, err)
	again, err := s.ebs.StartSnapshot(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, *first.SnapshotId, *again.SnapshotId)
	require.Equal(t, "1", *s.describeSnapshot(*first.SnapshotId).Tags[0].Value)
	in.VolumeSize = aws.Int64(2)
	_, err = s.ebs.StartSnapshot(t.Context(), in)
	var conflict *types.ConflictException
	require.ErrorAs(t, err, &conflict)
}

func TestSnapshotsThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Quotas: map[string]int{"ebs-pending-snapshots": 1, "snapshots": 3, "ebs-StartSnapshot": 100}})
	s := clients(t, c, "eu-west-1")
	v := s.volume(&ec2.CreateVolumeInput{Size: aws.Int32(2)})
	parent := s.snapshot(v)
	for name, x := range map[string]struct {
		in     ebs.StartSnapshotInput
		reason types.ValidationExceptionReason
	}{
		"parent and encrypted": {ebs.StartSnapshotInput{VolumeSize: aws.Int64(2), ParentSnapshotId: &parent, Encrypted: aws.Bool(true)}, types.ValidationExceptionReasonInvalidParameterValue},
		"smaller than parent":  {ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: &parent}, types.ValidationExceptionReasonInvalidVolumeSize},
		"too large":            {ebs.StartSnapshotInput{VolumeSize: aws.Int64(65537)}, types.ValidationExceptionReasonInvalidVolumeSize},
		"timeout":              {ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Timeout: aws.Int32(5)}, types.ValidationExceptionReasonInvalidParameterValue},
		"key":                  {ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Encrypted: aws.Bool(true), KmsKeyArn: aws.String("arn:aws:kms:us-east-1:111111111111:key/1")}, types.ValidationExceptionReasonInvalidCustomerKey},
		"parent's name":        {ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: aws.String("mine")}, types.ValidationExceptionReasonInvalidSnapshotId},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.ebs.StartSnapshot(t.Context(), &x.in)
			wantReason(t, err, x.reason)
		})
	}
	_, err := s.ebs.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: aws.String("snap-0123")})
	var missing *types.ResourceNotFoundException
	require.ErrorAs(t, err, &missing)
	require.Equal(t, types.ResourceNotFoundExceptionReasonSnapshotNotFound, missing.Reason)

	id := s.start("")
	_, err = s.ebs.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	var many *types.ConcurrentLimitExceededException
	require.ErrorAs(t, err, &many)
	s.complete(id)
	s.snapshot(v)
	_, err = s.ebs.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	var quota *types.ServiceQuotaExceededException
	require.ErrorAs(t, err, &quota)
}

func TestBlocksThatAreRefused(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	id := s.start("")
	for name, x := range map[string]struct {
		spoil  func(*ebs.PutSnapshotBlockInput)
		reason types.ValidationExceptionReason
	}{
		"index":     {func(in *ebs.PutSnapshotBlockInput) { in.BlockIndex = aws.Int32(2048) }, types.ValidationExceptionReasonInvalidBlock},
		"length":    {func(in *ebs.PutSnapshotBlockInput) { in.DataLength = aws.Int32(4096) }, types.ValidationExceptionReasonInvalidBlock},
		"data":      {func(in *ebs.PutSnapshotBlockInput) { in.BlockData = strings.NewReader("short") }, types.ValidationExceptionReasonInvalidBlock},
		"checksum":  {func(in *ebs.PutSnapshotBlockInput) { _, sum := blockOf("other"); in.Checksum = &sum }, types.ValidationExceptionReasonInvalidBlock},
		"algorithm": {func(in *ebs.PutSnapshotBlockInput) { in.ChecksumAlgorithm = "MD5" }, types.ValidationExceptionReasonInvalidParameterValue},
	} {
		t.Run(name, func(t *testing.T) {
			in := putInput(id, 1, "one")
			x.spoil(in)
			_, err := s.ebs.PutSnapshotBlock(t.Context(), in)
			wantReason(t, err, x.reason)
		})
	}
	s.put(id, 0, "zero")
	_, err := s.ebs.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: aws.Int32(2)})
	wantReason(t, err, types.ValidationExceptionReasonInvalidParameterValue)
	_, sum := blockOf("zero")
	_, err = s.ebs.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: aws.Int32(1), Checksum: &sum,
		ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256, ChecksumAggregationMethod: types.ChecksumAggregationMethodChecksumAggregationLinear})
	wantReason(t, err, types.ValidationExceptionReasonInvalidParameterValue)
	s.complete(id, "zero")
}

func TestASnapshotThatNobodyCompletesFails(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	id := s.start("")
	c.mu.Lock()
	snapshotsOf(c.region("111111111111", "eu-west-1"))[id].direct.last = time.Now().Add(-61 * time.Minute)
	c.mu.Unlock()
	require.Equal(t, ec2types.SnapshotStateError, s.describeSnapshot(id).State)
	_, err := s.ebs.PutSnapshotBlock(t.Context(), putInput(id, 0, "late"))
	wantReason(t, err, types.ValidationExceptionReasonWriteRequestTimeout)
}

func TestPublicSnapshotsAreNotRead(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	addAccount(c, "other", "222222222222")
	s, theirs := clients(t, c, "eu-west-1"), clientsOf(t, c, "eu-west-1", "other")
	snap := s.snapshot(s.volumeWith(map[int]string{0: "a"}))
	share := func(p ec2types.CreateVolumePermission) {
		_, err := s.ec2.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{SnapshotId: &snap, CreateVolumePermission: &ec2types.CreateVolumePermissionModifications{Add: []ec2types.CreateVolumePermission{p}}})
		require.NoError(t, err)
	}
	share(ec2types.CreateVolumePermission{Group: ec2types.PermissionGroupAll})
	_, err := theirs.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &snap})
	wantCode(t, err, "ResourceNotFoundException")
	share(ec2types.CreateVolumePermission{UserId: aws.String("222222222222")})
	require.Len(t, theirs.blocks(snap), 1)
}

func TestTooManyRequestsAreThrottled(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Quotas: map[string]int{"ebs-PutSnapshotBlock": 0, "ebs-GetSnapshotBlock-snapshot": 0}})
	s := clients(t, c, "eu-west-1")
	id := s.start("")
	var throttled *types.RequestThrottledException
	_, err := s.ebs.PutSnapshotBlock(t.Context(), putInput(id, 0, "x"))
	require.ErrorAs(t, err, &throttled)
	require.Equal(t, types.RequestThrottledExceptionReasonAccountThrottled, throttled.Reason)
	_, err = s.get(id, 0, aws.String("token"))
	require.ErrorAs(t, err, &throttled)
	require.Equal(t, types.RequestThrottledExceptionReasonResourceLevelThrottle, throttled.Reason)

	now := time.Now()
	b := &bucket{tokens: 2, last: now}
	require.True(t, b.take(now, 2))
	require.True(t, b.take(now, 2))
	require.False(t, b.take(now, 2))
	require.True(t, b.take(now.Add(500*time.Millisecond), 2), "requests come back by the second")
	require.False(t, b.take(now.Add(500*time.Millisecond), 2))
}

func TestManyBlocksAreWrittenAndReadAtOnce(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	id := s.start("")
	const n = 64
	all := func(do func(i int32)) {
		var wg sync.WaitGroup
		for i := range int32(n) {
			wg.Go(func() { do(i) })
		}
		wg.Wait()
	}
	name := func(i int32) string { return strings.Repeat("x", int(i)+1) }
	var texts []string
	all(func(i int32) {
		if _, err := s.ebs.PutSnapshotBlock(t.Context(), putInput(id, i, name(i))); err != nil {
			t.Error(err)
		}
	})
	for i := range int32(n) {
		texts = append(texts, name(i))
	}
	s.complete(id, texts...)
	list := s.blocks(id)
	all(func(i int32) {
		data, err := s.get(id, i, list[i].BlockToken)
		if err != nil || !strings.HasPrefix(string(data), name(i)+"\x00") {
			t.Errorf("block %d: %v", i, err)
		}
	})
}
