package ebs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
)

// BlockSize is the only size of blocks that the service has.
const BlockSize = 512 << 10

// API is what this package asks of the SDK; *ebs.Client has it.
type API interface {
	ListSnapshotBlocks(context.Context, *ebs.ListSnapshotBlocksInput, ...func(*ebs.Options)) (*ebs.ListSnapshotBlocksOutput, error)
	ListChangedBlocks(context.Context, *ebs.ListChangedBlocksInput, ...func(*ebs.Options)) (*ebs.ListChangedBlocksOutput, error)
	GetSnapshotBlock(context.Context, *ebs.GetSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.GetSnapshotBlockOutput, error)
	StartSnapshot(context.Context, *ebs.StartSnapshotInput, ...func(*ebs.Options)) (*ebs.StartSnapshotOutput, error)
	PutSnapshotBlock(context.Context, *ebs.PutSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.PutSnapshotBlockOutput, error)
	CompleteSnapshot(context.Context, *ebs.CompleteSnapshotInput, ...func(*ebs.Options)) (*ebs.CompleteSnapshotOutput, error)
}

// Status is what EC2 says of a snapshot: the direct APIs have no call for it.
type Status struct {
	State   string // pending, completed or error
	Message string // why it is error
}

// Options of a client. The zero value has the documented limits.
type Options struct {
	// InFlight bounds the requests for blocks that are under way at once; each holds 512 KiB. The
	// default is 64, which is 32 MiB; at most 112 are taken.
	InFlight int
	// Rates bound requests a second; 0 is the default quota of an account.
	Rates Rates
	// Retry is how long a request is made again that is throttled or not answered; default 5 minutes.
	Retry time.Duration
	// Visible is how long a snapshot that was just begun may be unknown when it is written to;
	// default 2 minutes. awslabs/coldsnap waits for 132 s, which was found by testing.
	Visible time.Duration
	// Poll is the first pause between looks at a snapshot that is being sealed; default 1 s, growing to 15 s.
	Poll time.Duration
	// Seal is how long a snapshot that refuses to be written to may be one that an earlier attempt
	// has completed; default 5 minutes.
	Seal time.Duration
	// Describe asks EC2 for a snapshot of this account and region; the error for one that is not
	// there wraps ErrNotFound. It is needed for writing only.
	Describe func(ctx context.Context, snapshot string) (Status, error)
}

// Rates are requests a second.
type Rates struct{ Get, Put, List, Change float64 }

// maxInFlight keeps the blocks of a client below 56 MiB.
const maxInFlight = 112

// Client reads and writes blocks of an account and region, within its limits. It may be used by
// many goroutines.
type Client struct {
	api API
	o   Options
	// slots are the buffers of requests under way; nil ones are not made yet.
	slots                   chan []byte
	get, put, list, changes *pace
}

// NewClient makes a client.
func NewClient(api API, o Options) *Client {
	defaults := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	if o.InFlight <= 0 {
		o.InFlight = 64
	}
	o.InFlight = min(o.InFlight, maxInFlight)
	defaults(&o.Retry, 5*time.Minute)
	defaults(&o.Visible, 2*time.Minute)
	defaults(&o.Poll, time.Second)
	defaults(&o.Seal, 5*time.Minute)
	c := &Client{
		api: api, o: o, slots: make(chan []byte, o.InFlight),
		get: newPace(o.Rates.Get, 1000), put: newPace(o.Rates.Put, 1000), list: newPace(o.Rates.List, 50), changes: newPace(o.Rates.Change, 10),
	}
	for range o.InFlight {
		c.slots <- nil
	}
	return c
}

// take gives the buffer of a request; give it back.
func (c *Client) take(ctx context.Context) ([]byte, error) {
	select {
	case b := <-c.slots:
		if b == nil {
			b = make([]byte, BlockSize)
		}
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *Client) giveBack(b []byte) { c.slots <- b }

const (
	// requestTime bounds one request: a block on a line of 100 kbit/s.
	requestTime = time.Minute
	retryFirst  = 50 * time.Millisecond
	retryMost   = 5 * time.Second
	// badBlocks is how often bytes that are not those of their checksum are asked for.
	badBlocks = 4
)

// once turns the SDK's own repetition off: rates are kept per request, so each is made here.
func once(o *ebs.Options) { o.Retryer = aws.NopRetryer{} }

// call makes a request, again where that may help. what names it in errors.
func call[T any](ctx context.Context, c *Client, p *pace, what string, f func(context.Context) (T, error)) (out T, err error) {
	var zero T
	began, delay, bad := time.Now(), retryFirst, 0
	for {
		if err := p.wait(ctx); err != nil {
			return zero, err
		}
		out, err = attempt(ctx, f)
		if err == nil {
			p.fine()
			return out, nil
		}
		err = explain(ctx, what, err)
		if errors.Is(err, ErrThrottled) {
			p.slower()
		}
		if errors.Is(err, ErrChecksum) {
			bad++
		}
		if ctx.Err() != nil || !passes(err) || bad >= badBlocks || time.Since(began) > c.o.Retry {
			return zero, err
		}
		if err := pause(ctx, delay/2+rand.N(delay)); err != nil {
			return zero, err
		}
		delay = min(2*delay, retryMost)
	}
}

// attempt is one request, which does not hang.
func attempt[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	limited, done := context.WithTimeout(ctx, requestTime)
	defer done()
	out, err := f(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: no answer within %v: %w", ErrUnavailable, requestTime, err)
	}
	return out, err
}

// pause waits, unless the context ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
