package ebs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"lifeboat/replication/block"

	"golang.org/x/sync/errgroup"
)

// Copy makes a snapshot of the blocks of another one.
type Copy struct {
	From     *Client
	Snapshot string // completed, at From
	// Base is an earlier snapshot of the same disk, at From, of which Spec.Parent is the copy:
	// only what changed since is read and written. Both or none are set.
	Base string
	To   *Client
	// Spec of the copy. Bytes may be 0 for those of the source, and more, but not less.
	Spec Spec
	// Report hears of progress, at most 5 times a second, in bytes of blocks. The total is an
	// estimate until all blocks are listed. It may be nil.
	Report func(done, total int64)
}

// Result says what a copy did.
type Result struct {
	// Snapshot is the copy.
	Snapshot string
	// Bytes is the size of its volume.
	Bytes int64
	// Full: there was no base, or none that could be used.
	Full bool
	// Read and Written count blocks of this run, Known those that an earlier run wrote.
	Read, Written, Known int64
	// Lost are snapshots that the service gave up during this run: somebody has to delete them.
	Lost []string
}

// lostMost bounds how often a run begins anew because its snapshot was given up.
const lostMost = 3

// Run copies and returns when the copy is completed. The same Spec.Token again goes on with the same
// snapshot; where the service gave that up it begins a new one.
func (c Copy) Run(ctx context.Context) (res Result, err error) {
	if (c.Base == "") != (c.Spec.Parent == "") {
		return res, fmt.Errorf("%w: a base and its copy go together", ErrInvalid)
	}
	size, err := c.From.sizeOf(ctx, c.Snapshot)
	if err != nil {
		return res, err
	}
	if c.Spec.Bytes == 0 {
		c.Spec.Bytes = size
	}
	if c.Spec.Bytes < size {
		return res, fmt.Errorf("%w: %d bytes are too few for a copy of %s, which has %d", ErrInvalid, c.Spec.Bytes, c.Snapshot, size)
	}
	list := c.From.blocksOf(c.Snapshot)
	if c.Base != "" {
		list = c.From.changesOf(c.Base, c.Snapshot)
		// Asked before a snapshot is begun: what cannot be told apart is copied in full.
		if _, err := list.from(ctx, 0); errors.Is(err, ErrUnrelated) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrInvalid) {
			return c.full(ctx)
		} else if err != nil {
			return res, err
		}
	}
	var lost []string
	for attempt := 0; ; attempt++ {
		p, n, err := c.To.begin(ctx, c.Spec, attempt)
		if errors.Is(err, ErrNotFound) && c.Base != "" {
			return c.full(ctx) // the parent is gone
		}
		if err != nil {
			return res, err
		}
		attempt = n
		res = Result{Snapshot: p.id, Bytes: c.Spec.gib() * gib, Full: c.Base == "", Lost: lost}
		if err = c.fill(ctx, p, list, &res); err == nil {
			return res, p.sums.remove()
		}
		if !errors.Is(err, ErrLost) {
			return res, errors.Join(err, p.sums.close())
		}
		lost = append(lost, p.id)
		res.Lost = lost
		if len(lost) == lostMost {
			return res, errors.Join(err, p.sums.remove())
		}
		if err := p.sums.remove(); err != nil {
			return res, err
		}
	}
}

// full is the copy without its base.
func (c Copy) full(ctx context.Context) (Result, error) {
	c.Base, c.Spec.Parent = "", ""
	return c.Run(ctx)
}

// fill writes what is missing in a pending snapshot, and seals it.
func (c Copy) fill(ctx context.Context, p *pending, list lister, res *Result) error {
	if !p.sealed && !p.sums.sealing() {
		t := &transfer{Copy: c, p: p, list: list, res: res, size: p.blocks}
		if err := t.run(ctx); err != nil {
			if err = p.judgeUnless(ctx, err); !errors.Is(err, errSealed) {
				return err
			}
		}
	}
	return p.seal(ctx)
}

// targetError is one of the pending snapshot, not of the source.
type targetError struct{ error }

func (e targetError) Unwrap() error { return e.error }

// judgeUnless judges an error of the pending snapshot; others are what they are.
func (p *pending) judgeUnless(ctx context.Context, err error) error {
	var t targetError
	if errors.As(err, &t) && ctx.Err() == nil {
		return p.judge(ctx, t.error)
	}
	return err
}

// transfer is a Copy under way.
type transfer struct {
	Copy
	p    *pending
	list lister
	size int64 // blocks of the volume

	mu     sync.Mutex
	res    *Result
	listed int64 // blocks
	told   int64 // up to which block the listing is known
	done   int64
	at     time.Time // of the last report
}

// run lists, reads and writes. Lists are read at most a page ahead.
func (t *transfer) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan listed)
	g.Go(func() error {
		defer close(jobs)
		return t.list.each(ctx, func(p page) error {
			t.mu.Lock()
			t.listed, t.told = t.listed+int64(len(p.blocks)), p.to
			if p.last {
				t.told = t.size
			}
			t.mu.Unlock()
			for _, b := range p.blocks {
				select {
				case jobs <- b:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	for range t.To.inFlight {
		g.Go(func() error {
			for b := range jobs {
				if err := t.block(ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	t.report(true)
	return err
}

// block copies one block, unless it was.
func (t *transfer) block(ctx context.Context, b listed) error {
	if b.index >= t.size {
		return fmt.Errorf("%w: block %d of a volume of %d", ErrProtocol, b.index, t.size)
	}
	if _, known := t.p.sums.get(b.index); known {
		t.count(0, 0, 1)
		return nil
	}
	held, err := t.To.take(ctx)
	if err != nil {
		return err
	}
	defer t.To.giveBack(held)
	buf := held[:]
	sum, err := t.From.read(ctx, t.Snapshot, b, buf)
	if err != nil {
		return err
	}
	if t.Base == "" && block.IsZero(buf) {
		t.count(1, 0, 0) // what is not written is zeros
		return nil
	}
	if err := t.p.put(ctx, b.index, buf, sum); err != nil {
		return targetError{err}
	}
	t.count(1, 1, 0)
	return nil
}

func (t *transfer) count(read, written, known int64) {
	t.mu.Lock()
	t.res.Read, t.res.Written, t.res.Known = t.res.Read+read, t.res.Written+written, t.res.Known+known
	t.done++
	t.mu.Unlock()
	t.report(false)
}

const reportEvery = 200 * time.Millisecond

// report tells how far the copy is. What is not listed yet is taken to be as dense as what is.
func (t *transfer) report(last bool) {
	if t.Report == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); last || now.Sub(t.at) >= reportEvery {
		t.at = now
		total := t.listed
		if t.told > 0 {
			total = int64(float64(t.listed) / float64(t.told) * float64(t.size))
		}
		t.Report(t.done*BlockSize, max(total, t.done)*BlockSize)
	}
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
