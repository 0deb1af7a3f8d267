package ebs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
)

// Spec is a snapshot to be written.
type Spec struct {
	// Token finds the same snapshot again: required.
	Token string
	// Bytes of the volume, rounded up to whole GiB.
	Bytes int64
	// Parent is a completed snapshot of this account and region, whose blocks are those of the new
	// one until they are written; it has its key, too.
	Parent string
	// Key is the ARN of the key to encrypt with, Encrypted asks for the account's default one. Not
	// with Parent.
	Key         string
	Encrypted   bool
	Description string
	Tags        map[string]string
	// Timeout is after how much silence the service gives the snapshot up: 10 minutes to 72 hours,
	// default 24 hours. A copy that is broken off has to go on within that.
	Timeout time.Duration
	// State is a directory that remembers what was written; empty = only as long as the process.
	State string
}

const (
	defaultTimeout = 24 * time.Hour
	minTimeout     = 10 * time.Minute // StartSnapshot, Timeout
	maxTimeout     = 72 * time.Hour
	// attemptsMost bounds how many snapshots of a token the service may give up.
	attemptsMost = 20
)

func (s Spec) check() error {
	switch {
	case s.Token == "":
		return fmt.Errorf("%w: a snapshot needs a token", ErrInvalid)
	case s.Bytes <= 0 || s.Bytes > maxVolume:
		return fmt.Errorf("%w: a volume of %d bytes; there are those of 1 byte to 64 TiB", ErrInvalid, s.Bytes)
	case s.Timeout != 0 && (s.Timeout < minTimeout || s.Timeout > maxTimeout):
		return fmt.Errorf("%w: a timeout of %v; there are those of %v to %v", ErrInvalid, s.Timeout, minTimeout, maxTimeout)
	case s.Parent != "" && (s.Key != "" || s.Encrypted):
		return fmt.Errorf("%w: a snapshot has the key of its parent, not another one", ErrInvalid)
	}
	return nil
}

func (s Spec) gib() int64 { return (s.Bytes + gib - 1) / gib }

// token is what the service sees: at most 64 characters without spaces. Another attempt is another
// snapshot, and so is one with another parent.
func (s Spec) token(attempt int) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", s.Token, s.Parent, attempt))
	return "lifeboat-" + hex.EncodeToString(h[:20])
}

// pending is a snapshot that is being written.
type pending struct {
	c       *Client
	id      string
	blocks  int64
	started time.Time
	sums    *sums
	// sealed: it is complete already.
	sealed bool
}

// begin makes or finds the snapshot of a spec: the first attempt that the service did not give up.
// The number of the attempt serves to begin after it.
func (c *Client) begin(ctx context.Context, s Spec, attempt int) (*pending, int, error) {
	if err := s.check(); err != nil {
		return nil, 0, err
	}
	if c.o.Describe == nil {
		return nil, 0, fmt.Errorf("%w: a client that writes needs Options.Describe", ErrInvalid)
	}
	var why error
	for ; attempt < attemptsMost; attempt++ {
		p, err := c.start(ctx, s, attempt)
		if !errors.Is(err, ErrLost) {
			return p, attempt, err
		}
		why = err
	}
	return nil, 0, fmt.Errorf("%d attempts: %w", attemptsMost, why)
}

func (c *Client) start(ctx context.Context, s Spec, attempt int) (*pending, error) {
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(s.gib()), ClientToken: aws.String(s.token(attempt)), Timeout: aws.Int32(int32(s.Timeout / time.Minute))}
	if s.Description != "" {
		in.Description = &s.Description
	}
	if s.Parent != "" {
		in.ParentSnapshotId = &s.Parent
	}
	if s.Encrypted || s.Key != "" {
		in.Encrypted = aws.Bool(true)
	}
	if s.Key != "" {
		in.KmsKeyArn = &s.Key
	}
	for _, k := range sortedKeys(s.Tags) {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(k), Value: aws.String(s.Tags[k])})
	}
	out, err := call(ctx, c, c.changes, "start a snapshot", func(ctx context.Context) (*ebs.StartSnapshotOutput, error) {
		return c.api.StartSnapshot(ctx, in, c.once)
	})
	if errors.Is(err, ErrNotFound) && !c.gone(ctx, s.Parent) {
		return nil, fmt.Errorf("%w: what was begun with the token was deleted: %w", ErrLost, err)
	}
	if err != nil {
		return nil, err
	}
	p := &pending{c: c, id: aws.ToString(out.SnapshotId), blocks: s.gib() * gib / BlockSize, started: aws.ToTime(out.StartTime)}
	if p.id == "" || aws.ToInt32(out.BlockSize) != BlockSize || aws.ToInt64(out.VolumeSize) != s.gib() {
		return nil, fmt.Errorf("start a snapshot: %w: snapshot %q of %d GiB in blocks of %d", ErrProtocol, p.id, aws.ToInt64(out.VolumeSize), aws.ToInt32(out.BlockSize))
	}
	// The answer is that of the first request with the token; what has become of the snapshot,
	// EC2 knows.
	switch st, err := c.o.Describe(ctx, p.id); {
	case errors.Is(err, ErrNotFound):
		if !p.young() {
			return nil, fmt.Errorf("snapshot %s: %w: it was deleted", p.id, ErrLost)
		}
	case err != nil:
		return nil, err
	case st.State == string(types.StatusError):
		return nil, fmt.Errorf("snapshot %s: %w: %s", p.id, ErrLost, st.Message)
	case st.State == string(types.StatusCompleted):
		p.sealed = true
	}
	p.sums, err = openSums(s.State, p.id, p.blocks)
	return p, err
}

// gone tells that there is a name of a snapshot, and no snapshot.
func (c *Client) gone(ctx context.Context, snapshot string) bool {
	if snapshot == "" {
		return false
	}
	_, err := c.o.Describe(ctx, snapshot)
	return errors.Is(err, ErrNotFound)
}

// young tells that a snapshot was begun just now, and may not be known everywhere.
func (p *pending) young() bool { return time.Since(p.started) < p.c.o.Visible }

// put writes a block. It is durable then, and known to be.
func (p *pending) put(ctx context.Context, index int64, data []byte, sum Sum) error {
	what := fmt.Sprintf("put block %d of %s", index, p.id)
	in := &ebs.PutSnapshotBlockInput{
		SnapshotId: &p.id, BlockIndex: aws.Int32(int32(index)), DataLength: aws.Int32(BlockSize),
		Checksum: aws.String(sum.text()), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	}
	delay := retryFirst
	for {
		out, err := call(ctx, p.c, p.c.put, what, func(ctx context.Context) (*ebs.PutSnapshotBlockOutput, error) {
			again := *in
			again.BlockData = bytes.NewReader(data)
			return p.c.api.PutSnapshotBlock(ctx, &again, p.c.once)
		})
		if errors.Is(err, ErrNotFound) && p.young() {
			if err := pause(ctx, delay); err != nil {
				return err
			}
			delay = min(2*delay, retryMost)
			continue
		}
		if err != nil {
			return err
		}
		if got := aws.ToString(out.Checksum); got != "" && got != sum.text() {
			return fmt.Errorf("%s: %w: the service has other bytes than were sent", what, ErrChecksum)
		}
		return p.sums.set(index, sum)
	}
}

// seal completes the snapshot, and returns when it is.
func (p *pending) seal(ctx context.Context) error {
	if p.sealed {
		return nil
	}
	if !p.sums.sealing() {
		if err := p.complete(ctx); err != nil {
			return err
		}
	}
	delay := p.c.o.Poll
	for {
		st, err := p.c.o.Describe(ctx, p.id)
		switch {
		case errors.Is(err, ErrNotFound) && p.young():
		case errors.Is(err, ErrNotFound):
			return fmt.Errorf("snapshot %s: %w: it was deleted", p.id, ErrLost)
		case err != nil:
			return err
		case st.State == string(types.StatusCompleted):
			p.sealed = true
			return nil
		case st.State == string(types.StatusError):
			return fmt.Errorf("snapshot %s: %w: %s", p.id, ErrLost, st.Message)
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, max(p.c.o.Poll, 15*time.Second))
	}
}

// complete says which blocks were written, and what they are. A snapshot without any is one, too.
func (p *pending) complete(ctx context.Context) error {
	count, sum, err := p.sums.total()
	if err != nil {
		return err
	}
	in := &ebs.CompleteSnapshotInput{SnapshotId: &p.id, ChangedBlocksCount: aws.Int32(int32(count))}
	if count > 0 {
		in.Checksum, in.ChecksumAlgorithm = aws.String(sum.text()), types.ChecksumAlgorithmChecksumAlgorithmSha256
		in.ChecksumAggregationMethod = types.ChecksumAggregationMethodChecksumAggregationLinear
	}
	_, err = call(ctx, p.c, p.c.changes, "complete snapshot "+p.id, func(ctx context.Context) (*ebs.CompleteSnapshotOutput, error) {
		return p.c.api.CompleteSnapshot(ctx, in, p.c.once)
	})
	if err != nil {
		if err = p.judge(ctx, err); errors.Is(err, errSealed) {
			return nil
		}
		if errors.Is(err, ErrInvalid) {
			// What this machine remembers is not what the service has: neither can be used.
			err = fmt.Errorf("%w: %w", ErrLost, errors.Join(err, p.sums.reset()))
		}
		return err
	}
	return p.sums.seal()
}

// judge asks what a refusal to be written to means: errSealed where an earlier attempt, whose answer
// was lost, completed the snapshot; ErrLost where the service gave it up; else the refusal.
func (p *pending) judge(ctx context.Context, refusal error) error {
	if !errors.Is(refusal, ErrInvalid) && !errors.Is(refusal, ErrNotFound) {
		return refusal
	}
	for began := time.Now(); ; {
		st, err := p.c.o.Describe(ctx, p.id)
		switch {
		case errors.Is(err, ErrNotFound):
			return fmt.Errorf("%w: %w", ErrLost, refusal)
		case err != nil:
			return err
		case st.State == string(types.StatusCompleted):
			p.sealed = true
			return errSealed
		case st.State == string(types.StatusError):
			return fmt.Errorf("snapshot %s: %w: %s", p.id, ErrLost, st.Message)
		}
		if time.Since(began) > p.c.o.Seal {
			return refusal
		}
		if err := pause(ctx, p.c.o.Poll); err != nil {
			return err
		}
	}
}
