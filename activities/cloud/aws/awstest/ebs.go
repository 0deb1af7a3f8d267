package awstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// ebsService is the EBS direct APIs: https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html
// Codes and their status are those of the service's model.
var ebsService = serve("ebs", newRestWire(loadModel("ebs"), true))

// directWrite is a snapshot that is being written through StartSnapshot, PutSnapshotBlock and CompleteSnapshot.
type directWrite struct {
	timeout  time.Duration
	last     time.Time // start, or last block
	written  manifest
	busy     map[int]string // checksums of blocks that are being written now
	progress int32
	parent   string
}

// timedOut tells whether a snapshot was cancelled: nothing was written for its timeout
// (Timeout of https://docs.aws.amazon.com/ebs/latest/APIReference/API_StartSnapshot.html).
func (d *directWrite) timedOut(now time.Time) bool { return now.After(d.last.Add(d.timeout)) }

// directState is what the EBS direct APIs keep for an account and region.
type directState struct {
	tokens  map[string]tokenUse
	buckets map[string]*bucket
}

func directOf(r *Region) *directState {
	s := part[directState](r)
	if s.tokens == nil {
		s.tokens, s.buckets = map[string]tokenUse{}, map[string]*bucket{}
	}
	return s
}

// bucket is a token bucket: as many requests as it has tokens, which come back by the second.
type bucket struct {
	tokens float64
	last   time.Time
}

// take takes a token of a bucket with so many requests a second.
func (b *bucket) take(now time.Time, perSecond int) bool {
	b.tokens = min(float64(perSecond), b.tokens+now.Sub(b.last).Seconds()*float64(perSecond))
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// directRates are requests a second of an account in a region; those of blocks hold for a single
// snapshot too (https://docs.aws.amazon.com/general/latest/gr/ebs-service.html). Options.Quotas has
// them as "ebs-" and the operation, e.g. "ebs-PutSnapshotBlock", and "ebs-PutSnapshotBlock-snapshot".
var directRates = map[string]int{
	"GetSnapshotBlock": 1000, "PutSnapshotBlock": 1000, "ListSnapshotBlocks": 50, "ListChangedBlocks": 50, "StartSnapshot": 10, "CompleteSnapshot": 10,
}

// throttle refuses what is too much: RequestThrottledException.
func (c *Call) throttle(snapshot string) error {
	limits := []struct{ name, reason string }{{"ebs-" + c.Operation, "ACCOUNT_THROTTLED"}}
	if c.Operation == "GetSnapshotBlock" || c.Operation == "PutSnapshotBlock" {
		limits = append(limits, struct{ name, reason string }{"ebs-" + c.Operation + "-snapshot", "RESOURCE_LEVEL_THROTTLE"})
	}
	buckets := directOf(c.Region).buckets
	for i, l := range limits {
		key := l.name
		if i > 0 {
			key += snapshot
		}
		rate := c.storageQuota(l.name, directRates[c.Operation])
		b := buckets[key]
		if b == nil {
			b = &bucket{tokens: float64(rate), last: c.Now}
			buckets[key] = b
		}
		if !b.take(c.Now, rate) {
			return &Error{Code: "RequestThrottledException", Message: "The request was throttled.", Reason: l.reason}
		}
	}
	return nil
}

// invalidDirect is a ValidationException with its reason.
func invalidDirect(reason types.ValidationExceptionReason, format string, args ...any) *Error {
	e := fault("ValidationException", format, args...)
	e.Reason = string(reason)
	return e
}

var snapshotID = regexp.MustCompile(`^snap-[0-9a-f]+$`)

// directSnapshot finds a snapshot for the direct APIs: not public ones
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-elements.html).
func (c *Call) directSnapshot(id string) (*snapshot, error) {
	if !snapshotID.MatchString(id) {
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidSnapshotId, "The snapshot ID %q is not valid", id)
	}
	s := c.findSnapshot(c.Name, id)
	if s == nil || s.owner != c.Region.Account && !s.shared[c.Region.Account] {
		return nil, &Error{Code: "ResourceNotFoundException", Message: "The snapshot " + id + " does not exist.", Status: http.StatusNotFound, Reason: string(types.ResourceNotFoundExceptionReasonSnapshotNotFound)}
	}
	return s, nil
}

// readableSnapshot is a completed one.
func (c *Call) readableSnapshot(id string) (*snapshot, error) {
	s, err := c.directSnapshot(id)
	if err == nil && s.state(c.Now) != ec2types.SnapshotStateCompleted {
		err = invalidDirect(types.ValidationExceptionReasonInvalidSnapshotId, "The snapshot %s is '%s', only completed ones can be read", id, s.state(c.Now))
	}
	return s, err
}

// writableSnapshot is one of StartSnapshot that is still pending.
func (c *Call) writableSnapshot(id string) (*snapshot, error) {
	s, err := c.directSnapshot(id)
	switch {
	case err != nil:
		return nil, err
	case s.owner != c.Region.Account:
		return nil, &Error{Code: "AccessDeniedException", Message: "The snapshot belongs to another account.", Status: http.StatusForbidden, Reason: string(types.AccessDeniedExceptionReasonUnauthorizedAccount)}
	case s.direct == nil:
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidSnapshotId, "The snapshot %s is not in the pending state of StartSnapshot", id)
	case s.direct.timedOut(c.Now):
		return nil, invalidDirect(types.ValidationExceptionReasonWriteRequestTimeout, "The snapshot %s was cancelled: nothing was written for %s", id, s.direct.timeout)
	}
	return s, nil
}

// checkStart is what StartSnapshot refuses.
func (c *Call) checkStart(in *ebs.StartSnapshotInput) (parent *snapshot, err error) {
	switch {
	case *in.VolumeSize < 1 || *in.VolumeSize > 65536:
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidVolumeSize, "VolumeSize is from 1 to 65536 GiB")
	case in.Timeout != nil && (*in.Timeout < 10 || *in.Timeout > 4320):
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "Timeout is from 10 to 4320 minutes")
	case in.ParentSnapshotId != nil && in.Encrypted != nil:
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "ParentSnapshotId and Encrypted cannot be used together")
	case in.KmsKeyArn != nil && !aws.ToBool(in.Encrypted):
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "KmsKeyArn needs Encrypted")
	case len(in.Tags) > 50:
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidTag, "A snapshot has at most 50 tags")
	}
	if in.ParentSnapshotId == nil {
		return nil, nil
	}
	parent, err = c.readableSnapshot(*in.ParentSnapshotId)
	if err == nil && *in.VolumeSize < int64(parent.size) {
		err = invalidDirect(types.ValidationExceptionReasonInvalidVolumeSize, "VolumeSize is smaller than the parent's, %d GiB", parent.size)
	}
	return parent, err
}

// startSnapshot makes a pending snapshot. 100 of them may be pending: Options.Quotas "ebs-pending-snapshots".
func (c *Call) startSnapshot(in *ebs.StartSnapshotInput) (*snapshot, error) {
	parent, err := c.checkStart(in)
	if err != nil {
		return nil, err
	}
	pending := 0
	for _, s := range snapshotsOf(c.Region) {
		if s.direct != nil && !s.direct.timedOut(c.Now) {
			pending++
		}
	}
	if limit := c.storageQuota("ebs-pending-snapshots", 100); pending >= limit {
		return nil, fault("ConcurrentLimitExceededException", "You have reached the limit of %d pending snapshots.", limit)
	}
	inherited, wanted := "", in.Encrypted
	if parent != nil && parent.encrypted {
		inherited, wanted = parent.key, aws.Bool(true)
	}
	key, problem, err := c.encryption(wanted, in.KmsKeyArn, inherited)
	if err != nil {
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "%v", err)
	}
	if problem != "" {
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidCustomerKey, "%s", problem)
	}
	s, err := c.newSnapshot(directTags(in.Tags))
	if err != nil {
		return nil, &Error{Code: "ServiceQuotaExceededException", Message: err.Error(), Status: http.StatusPaymentRequired, Reason: string(types.ServiceQuotaExceededExceptionReasonDependencyServiceQuotaExceeded)}
	}
	s.size, s.description, s.encrypted, s.key = int32(*in.VolumeSize), aws.ToString(in.Description), key != "", key //nolint:gosec // checked
	s.content = manifest{}
	s.direct = &directWrite{timeout: time.Hour, last: c.Now, written: manifest{}, busy: map[int]string{}, parent: aws.ToString(in.ParentSnapshotId)}
	if in.Timeout != nil {
		s.direct.timeout = time.Duration(*in.Timeout) * time.Minute
	}
	if parent != nil {
		s.content, s.lineage = c.blocks().share(parent.content), parent.lineage
	}
	return s, nil
}

func directTags(tags []types.Tag) []ec2types.TagSpecification {
	spec := ec2types.TagSpecification{ResourceType: ec2types.ResourceTypeSnapshot}
	for _, t := range tags {
		spec.Tags = append(spec.Tags, ec2types.Tag{Key: t.Key, Value: t.Value})
	}
	return []ec2types.TagSpecification{spec}
}

// startOnce finds the snapshot of a client token again; other parameters are a ConflictException
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-direct-api-idempotency.html).
func (c *Call) startOnce(in *ebs.StartSnapshotInput) (*snapshot, error) {
	token := aws.ToString(in.ClientToken)
	if len(token) > 255 {
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "ClientToken has more than 255 characters")
	}
	tokens, parameters := directOf(c.Region).tokens, parameterText(in)
	if use, ok := tokens[token]; ok && token != "" {
		if use.parameters != parameters {
			return nil, &Error{Code: "ConflictException", Message: "The client token was used with other parameters.", Status: http.StatusConflict}
		}
		return c.directSnapshot(use.id)
	}
	s, err := c.startSnapshot(in)
	if err == nil {
		tokens[token] = tokenUse{parameters, s.ID}
	}
	return s, err
}

// directStatus is the state of a snapshot in the words of the direct APIs.
func directStatus(s *snapshot, now time.Time) types.Status { return types.Status(s.state(now)) }

// putBlock checks a block and writes it; hashing and writing need no lock.
func (c *Call) putBlock(in *ebs.PutSnapshotBlockInput) error {
	s, err := c.writableSnapshot(*in.SnapshotId)
	if err != nil {
		return err
	}
	index := int(*in.BlockIndex)
	switch {
	case index < 0 || int64(index) >= int64(s.size)*gib/blockSize:
		return invalidDirect(types.ValidationExceptionReasonInvalidBlock, "The block index %d is outside of the volume of %d GiB", index, s.size)
	case *in.DataLength != blockSize:
		return invalidDirect(types.ValidationExceptionReasonInvalidBlock, "DataLength is %d, a block has %d bytes", *in.DataLength, blockSize)
	case in.ChecksumAlgorithm != types.ChecksumAlgorithmChecksumAlgorithmSha256:
		return invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "ChecksumAlgorithm is not SHA256")
	case s.direct.busy[index] != "" && s.direct.busy[index] != *in.Checksum:
		return invalidDirect(types.ValidationExceptionReasonConflictingBlockUpdate, "Block %d is being written with other data", index)
	}
	s.direct.busy[index] = *in.Checksum
	store := c.blocks()
	var id blockID
	err = c.unlocked(func() error {
		data := make([]byte, blockSize)
		n, err := io.ReadFull(in.BlockData, data)
		if more, _ := io.Copy(io.Discard, in.BlockData); err != nil || more > 0 { // the body is in memory
			return invalidDirect(types.ValidationExceptionReasonInvalidBlock, "There are %d bytes, a block has %d", int64(n)+more, blockSize)
		}
		id = sha256.Sum256(data)
		if base64.StdEncoding.EncodeToString(id[:]) != *in.Checksum {
			return invalidDirect(types.ValidationExceptionReasonInvalidBlock, "The checksum is not that of the data")
		}
		return store.keep(id, data)
	})
	if s.direct != nil {
		delete(s.direct.busy, index)
	}
	if err != nil {
		return err
	}
	if s.deleted || s.direct == nil { // deleted or completed meanwhile
		store.release(id)
		return invalidDirect(types.ValidationExceptionReasonInvalidSnapshotId, "The snapshot %s is not pending any more", s.ID)
	}
	if old, ok := s.content[index]; ok {
		store.release(old)
	}
	s.content[index], s.direct.written[index], s.direct.last = id, id, time.Now()
	if in.Progress != nil {
		s.direct.progress = min(*in.Progress, 99)
	}
	return nil
}

// linearChecksum is the checksum of the checksums of blocks, in the order of their indexes (Checksum of
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_CompleteSnapshot.html).
func linearChecksum(m manifest) string {
	h := sha256.New()
	for _, i := range m.indexes() {
		id := m[i]
		h.Write(id[:])
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// completeSnapshot seals a snapshot; doing it twice is the same as once.
func (c *Call) completeSnapshot(in *ebs.CompleteSnapshotInput) (*snapshot, error) {
	s, err := c.directSnapshot(*in.SnapshotId)
	if err == nil && s.direct == nil && s.volume == arbitraryVolume && !s.copied {
		return s, nil
	}
	if s, err = c.writableSnapshot(*in.SnapshotId); err != nil {
		return nil, err
	}
	d := s.direct
	switch {
	case len(d.busy) > 0:
		return nil, invalidDirect(types.ValidationExceptionReasonConflictingBlockUpdate, "%d blocks are still being written", len(d.busy))
	case int(*in.ChangedBlocksCount) != len(d.written):
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "ChangedBlocksCount is %d, but %d blocks were written", *in.ChangedBlocksCount, len(d.written))
	case in.Checksum != nil && (in.ChecksumAlgorithm != types.ChecksumAlgorithmChecksumAlgorithmSha256 || in.ChecksumAggregationMethod != types.ChecksumAggregationMethodChecksumAggregationLinear):
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "A checksum is of SHA256 and LINEAR")
	case in.Checksum != nil && *in.Checksum != linearChecksum(d.written):
		return nil, invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "The checksum is not that of the blocks that were written")
	}
	s.direct, s.ready = nil, c.Now.Add(c.Delay("snapshot"))
	return s, nil
}

func init() {
	on(ebsService, "StartSnapshot", func(c *Call, in *ebs.StartSnapshotInput) (*ebs.StartSnapshotOutput, error) {
		if err := c.throttle(""); err != nil {
			return nil, err
		}
		s, err := c.startOnce(in)
		if err != nil {
			return nil, err
		}
		out := &ebs.StartSnapshotOutput{SnapshotId: aws.String(s.ID), OwnerId: aws.String(s.owner), Status: directStatus(s, c.Now), StartTime: aws.Time(s.started),
			VolumeSize: in.VolumeSize, BlockSize: aws.Int32(blockSize), Tags: in.Tags, ParentSnapshotId: in.ParentSnapshotId, Description: in.Description, SseType: types.SSETypeNone}
		if s.key != "" {
			out.KmsKeyArn, out.SseType = aws.String(s.key), types.SSETypeSseKms
		}
		return out, nil
	})
	on(ebsService, "PutSnapshotBlock", func(c *Call, in *ebs.PutSnapshotBlockInput) (*ebs.PutSnapshotBlockOutput, error) {
		if err := c.throttle(*in.SnapshotId); err != nil {
			return nil, err
		}
		if err := c.putBlock(in); err != nil {
			return nil, err
		}
		return &ebs.PutSnapshotBlockOutput{Checksum: in.Checksum, ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256}, nil
	})
	on(ebsService, "CompleteSnapshot", func(c *Call, in *ebs.CompleteSnapshotInput) (*ebs.CompleteSnapshotOutput, error) {
		if err := c.throttle(""); err != nil {
			return nil, err
		}
		s, err := c.completeSnapshot(in)
		if err != nil {
			return nil, err
		}
		return &ebs.CompleteSnapshotOutput{Status: directStatus(s, c.Now)}, nil
	})
	on(ebsService, "GetSnapshotBlock", func(c *Call, in *ebs.GetSnapshotBlockInput) (*ebs.GetSnapshotBlockOutput, error) {
		if err := c.throttle(*in.SnapshotId); err != nil {
			return nil, err
		}
		id, err := c.blockOf(in)
		if err != nil {
			return nil, err
		}
		store := c.blocks()
		var data []byte
		if err := c.unlocked(func() error { data, err = store.get(id); return err }); err != nil {
			return nil, err
		}
		return &ebs.GetSnapshotBlockOutput{BlockData: io.NopCloser(bytes.NewReader(data)), DataLength: aws.Int32(blockSize),
			Checksum: aws.String(base64.StdEncoding.EncodeToString(id[:])), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256}, nil
	})
}
