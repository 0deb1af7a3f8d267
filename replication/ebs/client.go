package ebs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
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

// Limits bound what all clients of one account and region do together.
type Limits struct {
	inFlight                int
	slots                   chan struct{}
	buffers                 sync.Pool
	get, put, list, changes *pace
}

// Rates are requests a second; 0 is the default quota of an account.
type Rates struct{ Get, Put, List, Change float64 }

// The requests for blocks that are under way at once, if nothing else is asked for, and at most:
// each holds 512 KiB, so that all blocks of an account and region stay below 56 MiB.
const (
	defaultInFlight = 64
	maxInFlight     = 112
)

// NewLimits bounds the requests for blocks that are under way at once (0 is 64, and 112 the most that
// is taken), and all requests a second.
func NewLimits(inFlight int, r Rates) *Limits {
	if inFlight <= 0 {
		inFlight = defaultInFlight
	}
	inFlight = min(inFlight, maxInFlight)
	return &Limits{
		inFlight: inFlight, slots: make(chan struct{}, inFlight), buffers: sync.Pool{New: func() any { return new([BlockSize]byte) }},
		get: newPace(r.Get, 1000), put: newPace(r.Put, 1000), list: newPace(r.List, 50), changes: newPace(r.Change, 10),
	}
}

// take waits for the buffer of a request; giveBack it.
func (l *Limits) take(ctx context.Context) (*[BlockSize]byte, error) {
	select {
	case l.slots <- struct{}{}:
		return l.buffers.Get().(*[BlockSize]byte), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *Limits) giveBack(b *[BlockSize]byte) {
	l.buffers.Put(b)
	<-l.slots
}

// Options of a client. The zero value has the documented limits.
type Options struct {
	// Limits are shared with the other clients of the account and region; nil = the client has its own.
	Limits *Limits
	// HTTP makes the requests in place of what the API has; see Connections. It may be nil.
	HTTP aws.HTTPClient
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

// Client reads and writes blocks of an account and region, within its limits. It may be used by
// many goroutines.
type Client struct {
	api API
	o   Options
	*Limits
}

// NewClient makes a client.
func NewClient(api API, o Options) *Client {
	defaults := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	defaults(&o.Retry, 5*time.Minute)
	defaults(&o.Visible, 2*time.Minute)
	defaults(&o.Poll, time.Second)
	defaults(&o.Seal, 5*time.Minute)
	if o.Limits == nil {
		o.Limits = NewLimits(0, Rates{})
	}
	return &Client{api: api, o: o, Limits: o.Limits}
}

const (
	// requestTime bounds one request: a block on a line of 100 kbit/s.
	requestTime = time.Minute
	retryFirst  = 50 * time.Millisecond
	retryMost   = 5 * time.Second
	// badBlocks is how often bytes that are not those of their checksum are asked for.
	badBlocks = 4
)

// Connections sets a transport up for blocks. The SDK keeps 10 connections to a host, and makes new ones
// for all other requests that are under way at once; and bodies are written in pieces of 4 KiB.
func Connections(t *http.Transport) {
	t.MaxIdleConnsPerHost = maxInFlight
	t.MaxIdleConns = max(t.MaxIdleConns, 4*maxInFlight)
	t.WriteBufferSize = 64 << 10
}

// once turns the SDK's own repetition off: rates are kept per request, so each is made here.
func (c *Client) once(o *ebs.Options) {
	o.Retryer = aws.NopRetryer{}
	if c.o.HTTP != nil {
		o.HTTPClient = c.o.HTTP
	}
}

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
