package ebs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"lifeboat/replication/ebs"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"
)

const gib = 1 << 30

// service is an account and region in memory, with the faults that a test asks for.
type service struct {
	mu        sync.Mutex
	snapshots map[string]*snapshot
	tokens    map[string]string
	epoch     int            // of block tokens; those of earlier ones are expired
	counts    map[string]int // requests by operation
	sums      map[*byte][32]byte
	flying    int
	peak      int

	perPage int // blocks of a page; every other page is empty where emptyPages is set
	empty   bool
	latency time.Duration
	// before is called for each request, without the lock; its error is the answer.
	before func(op string, index int64) error
	// spoil changes a block on its way to the client.
	spoil func(index int64, b []byte)
}

type snapshot struct {
	id, parent string
	size       int64 // GiB
	state      string
	message    string
	blocks     map[int64][]byte
	written    map[int64]bool
	started    time.Time
	tags       map[string]string
}

func newService() *service {
	return &service{snapshots: map[string]*snapshot{}, tokens: map[string]string{}, counts: map[string]int{}, sums: map[*byte][32]byte{}, perPage: 10000}
}

// add makes a completed snapshot.
func (s *service) add(size int64, blocks map[int64][]byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.make(size)
	x.state, x.blocks = "completed", blocks
	return x.id
}

// next is the identifier of the next snapshot.
func (s *service) next() string { return fmt.Sprintf("snap-%017x", 1+len(s.snapshots)) }

func (s *service) make(size int64) *snapshot {
	x := &snapshot{id: s.next(), size: size, state: "pending", blocks: map[int64][]byte{}, written: map[int64]bool{}, started: time.Now()}
	s.snapshots[x.id] = x
	return x
}

// change runs f with the lock held.
func (s *service) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// sumOf remembers the checksums of blocks, which never change. The lock is held.
func (s *service) sumOf(data []byte) [32]byte {
	k := unsafe.SliceData(data)
	sum, ok := s.sums[k]
	if !ok {
		sum = sha256.Sum256(data)
		s.sums[k] = sum
	}
	return sum
}

func (s *service) count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[op]
}

// content is a copy of the blocks of a snapshot that are not zeros.
func (s *service) content(id string) map[int64][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := maps.Clone(s.snapshots[id].blocks)
	maps.DeleteFunc(out, func(_ int64, b []byte) bool { return bytes.Equal(b, make([]byte, ebs.BlockSize)) })
	return out
}

func invalid(reason types.ValidationExceptionReason) error {
	return &types.ValidationException{Message: aws.String("refused: " + string(reason)), Reason: reason}
}

// enter begins a request; leave ends it.
func (s *service) enter(ctx context.Context, op string, index int64) error {
	s.mu.Lock()
	s.counts[op]++
	s.flying++
	s.peak = max(s.peak, s.flying)
	before, latency := s.before, s.latency
	s.mu.Unlock()
	if latency > 0 {
		select {
		case <-time.After(latency):
		case <-ctx.Done():
		}
	}
	var err error
	if before != nil {
		err = before(op, index)
	}
	s.mu.Lock()
	s.flying--
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.mu.Unlock()
	}
	return err
}

// readable finds a snapshot that is completed. The lock is held.
func (s *service) readable(id *string) (*snapshot, error) {
	x := s.snapshots[*id]
	if x == nil {
		return nil, &types.ResourceNotFoundException{Message: aws.String("The snapshot " + *id + " does not exist.")}
	}
	if x.state != "completed" {
		return nil, invalid(types.ValidationExceptionReasonInvalidSnapshotId)
	}
	return x, nil
}

func (s *service) token(id string, index int64) *string {
	return aws.String(base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%d/%s/%d", s.epoch, id, index)))
}

// paged cuts a list of blocks. A page token is the block it begins at; "e" marks the page after an
// empty one.
func (s *service) paged(all []int64, from *int32, token *string) (now []int64, next *string, err error) {
	start, skipped := int64(aws.ToInt32(from)), false
	if token != nil {
		raw, _ := base64.StdEncoding.DecodeString(*token)
		text, isNext := strings.CutPrefix(string(raw), "e")
		if _, err := fmt.Sscan(text, &start); err != nil {
			return nil, nil, invalid(types.ValidationExceptionReasonInvalidPageToken)
		}
		skipped = isNext
	}
	all = all[sortedFrom(all, start):]
	name := func(prefix string, i int64) *string {
		return aws.String(base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s%d", prefix, i)))
	}
	if s.empty && !skipped {
		return nil, name("e", start), nil
	}
	if len(all) <= s.perPage {
		return all, nil, nil
	}
	return all[:s.perPage], name("", all[s.perPage]), nil
}

func sortedFrom(all []int64, start int64) int {
	i, _ := slices.BinarySearch(all, start)
	return i
}

func (s *service) ListSnapshotBlocks(ctx context.Context, in *sdk.ListSnapshotBlocksInput, _ ...func(*sdk.Options)) (*sdk.ListSnapshotBlocksOutput, error) {
	if err := s.enter(ctx, "list", 0); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	x, err := s.readable(in.SnapshotId)
	if err != nil {
		return nil, err
	}
	now, next, err := s.paged(slices.Sorted(maps.Keys(x.blocks)), in.StartingBlockIndex, in.NextToken)
	out := &sdk.ListSnapshotBlocksOutput{BlockSize: aws.Int32(ebs.BlockSize), VolumeSize: &x.size, NextToken: next}
	for _, i := range now {
		out.Blocks = append(out.Blocks, types.Block{BlockIndex: aws.Int32(int32(i)), BlockToken: s.token(x.id, i)})
	}
	return out, err
}

func (s *service) ListChangedBlocks(ctx context.Context, in *sdk.ListChangedBlocksInput, _ ...func(*sdk.Options)) (*sdk.ListChangedBlocksOutput, error) {
	if err := s.enter(ctx, "changed", 0); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	a, err := s.readable(in.FirstSnapshotId)
	if err != nil {
		return nil, err
	}
	b, err := s.readable(in.SecondSnapshotId)
	if err != nil {
		return nil, err
	}
	if a.tags["disk"] != b.tags["disk"] {
		return nil, invalid(types.ValidationExceptionReasonUnrelatedSnapshots)
	}
	differ := map[int64]bool{}
	for _, x := range []*snapshot{a, b} {
		for i := range x.blocks {
			if !bytes.Equal(a.blocks[i], b.blocks[i]) {
				differ[i] = true
			}
		}
	}
	now, next, err := s.paged(slices.Sorted(maps.Keys(differ)), in.StartingBlockIndex, in.NextToken)
	out := &sdk.ListChangedBlocksOutput{BlockSize: aws.Int32(ebs.BlockSize), VolumeSize: &b.size, NextToken: next}
	for _, i := range now {
		c := types.ChangedBlock{BlockIndex: aws.Int32(int32(i))}
		if a.blocks[i] != nil {
			c.FirstBlockToken = s.token(a.id, i)
		}
		if b.blocks[i] != nil {
			c.SecondBlockToken = s.token(b.id, i)
		}
		out.ChangedBlocks = append(out.ChangedBlocks, c)
	}
	return out, err
}

func (s *service) GetSnapshotBlock(ctx context.Context, in *sdk.GetSnapshotBlockInput, _ ...func(*sdk.Options)) (*sdk.GetSnapshotBlockOutput, error) {
	index := int64(*in.BlockIndex)
	if err := s.enter(ctx, "get", index); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	x, err := s.readable(in.SnapshotId)
	if err != nil {
		return nil, err
	}
	if *in.BlockToken != *s.token(x.id, index) || x.blocks[index] == nil {
		return nil, invalid(types.ValidationExceptionReasonInvalidBlockToken)
	}
	data := x.blocks[index]
	sum := s.sumOf(data)
	if s.spoil != nil {
		data = bytes.Clone(data)
		s.spoil(index, data)
	}
	return &sdk.GetSnapshotBlockOutput{
		BlockData: io.NopCloser(bytes.NewReader(data)), DataLength: aws.Int32(ebs.BlockSize),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	}, nil
}

func (s *service) StartSnapshot(ctx context.Context, in *sdk.StartSnapshotInput, _ ...func(*sdk.Options)) (*sdk.StartSnapshotOutput, error) {
	if err := s.enter(ctx, "start", 0); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	id, used := s.tokens[*in.ClientToken]
	x := s.snapshots[id]
	if used && x == nil {
		return nil, &types.ResourceNotFoundException{Message: aws.String("deleted")}
	}
	if x == nil {
		var parent *snapshot
		if in.ParentSnapshotId != nil {
			if parent = s.snapshots[*in.ParentSnapshotId]; parent == nil {
				return nil, &types.ResourceNotFoundException{Message: aws.String("no parent")}
			}
		}
		x = s.make(*in.VolumeSize)
		x.parent = aws.ToString(in.ParentSnapshotId)
		if parent != nil {
			x.blocks = maps.Clone(parent.blocks)
		}
		x.tags = map[string]string{}
		for _, t := range in.Tags {
			x.tags[*t.Key] = *t.Value
		}
		s.tokens[*in.ClientToken] = x.id
	} else if x.size != *in.VolumeSize || x.parent != aws.ToString(in.ParentSnapshotId) {
		return nil, &types.ConflictException{Message: aws.String("other parameters")}
	}
	return &sdk.StartSnapshotOutput{SnapshotId: &x.id, BlockSize: aws.Int32(ebs.BlockSize), VolumeSize: &x.size, StartTime: &x.started, Status: types.StatusPending}, nil
}

func (s *service) PutSnapshotBlock(ctx context.Context, in *sdk.PutSnapshotBlockInput, _ ...func(*sdk.Options)) (*sdk.PutSnapshotBlockOutput, error) {
	data := make([]byte, ebs.BlockSize)
	if _, err := io.ReadFull(in.BlockData, data); err != nil {
		return nil, err
	}
	index := int64(*in.BlockIndex)
	if err := s.enter(ctx, "put", index); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	x := s.snapshots[*in.SnapshotId]
	sum := s.sumOf(data)
	switch {
	case x == nil:
		return nil, &types.ResourceNotFoundException{}
	case x.state != "pending":
		return nil, invalid(types.ValidationExceptionReasonInvalidSnapshotId)
	case *in.DataLength != ebs.BlockSize || index >= x.size*gib/ebs.BlockSize || base64.StdEncoding.EncodeToString(sum[:]) != *in.Checksum:
		return nil, invalid(types.ValidationExceptionReasonInvalidBlock)
	}
	x.blocks[index], x.written[index] = data, true
	return &sdk.PutSnapshotBlockOutput{Checksum: in.Checksum, ChecksumAlgorithm: in.ChecksumAlgorithm}, nil
}

func (s *service) CompleteSnapshot(ctx context.Context, in *sdk.CompleteSnapshotInput, _ ...func(*sdk.Options)) (*sdk.CompleteSnapshotOutput, error) {
	if err := s.enter(ctx, "complete", 0); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	x := s.snapshots[*in.SnapshotId]
	if x == nil {
		return nil, &types.ResourceNotFoundException{}
	}
	all := sha256.New()
	for _, i := range slices.Sorted(maps.Keys(x.written)) {
		sum := s.sumOf(x.blocks[i])
		all.Write(sum[:])
	}
	if x.state != "pending" || int(*in.ChangedBlocksCount) != len(x.written) ||
		in.Checksum != nil && *in.Checksum != base64.StdEncoding.EncodeToString(all.Sum(nil)) {
		return nil, invalid(types.ValidationExceptionReasonInvalidParameterValue)
	}
	x.state = "completed"
	return &sdk.CompleteSnapshotOutput{Status: types.StatusPending}, nil
}

// describe is EC2.
func (s *service) describe(_ context.Context, id string) (ebs.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.snapshots[id]
	if x == nil {
		return ebs.Status{}, ebs.ErrNotFound
	}
	return ebs.Status{State: x.state, Message: x.message}, nil
}

// client is one without patience.
func (s *service) client(t testing.TB, inFlight int, o ebs.Options) *ebs.Client {
	t.Helper()
	o.Describe, o.Poll, o.Seal = s.describe, time.Millisecond, 20*time.Millisecond
	if o.Retry == 0 {
		o.Retry = 10 * time.Second
	}
	if o.Visible == 0 {
		o.Visible = time.Millisecond
	}
	if o.Limits == nil {
		o.Limits = ebs.NewLimits(inFlight, ebs.Rates{Get: 1e6, Put: 1e6, List: 1e6, Change: 1e6})
	}
	return ebs.NewClient(s, o)
}

var errKilled = errors.New("killed by the test")

// apiError is an error without a type of its own.
func apiError(code string) error { return &smithy.GenericAPIError{Code: code, Message: "injected"} }
