package ebs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lifeboat/replication/block"

	"golang.org/x/sync/errgroup"
)

// transfer writes blocks of an origin into a pending snapshot.
type transfer struct {
	origin
	to     *Client
	p      *pending
	first  page
	full   bool // what is not written is zeros, not a parent's
	report func(done, total int64)

	mu     sync.Mutex
	res    *Result
	listed int64 // blocks
	told   int64 // up to which block the listing is known
	done   int64
	at     time.Time // of the last report
}

// run writes what is missing, and seals the snapshot.
func (t *transfer) run(ctx context.Context) error {
	if !t.p.sealed && !t.p.sums.sealing() {
		err := t.blocks(ctx)
		if refused := (targetError{}); errors.As(err, &refused) && ctx.Err() == nil {
			err = t.p.judge(ctx, refused.error)
		}
		if err != nil && !errors.Is(err, errSealed) {
			return err
		}
	}
	return t.p.seal(ctx)
}

// targetError is an error of the pending snapshot, not of the origin.
type targetError struct{ error }

func (e targetError) Unwrap() error { return e.error }

// blocks lists, reads and writes. Lists are read at most a page ahead.
func (t *transfer) blocks(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan listed)
	g.Go(func() error {
		defer close(jobs)
		return t.list.each(ctx, t.first, func(p page) error {
			t.mu.Lock()
			t.listed, t.told = t.listed+int64(len(p.blocks)), p.to
			if p.last {
				t.told = t.p.blocks
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
	for range t.to.inFlight {
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
	t.tell(true)
	return err
}

// block copies one block, unless it was.
func (t *transfer) block(ctx context.Context, b listed) error {
	if b.index >= t.p.blocks {
		return fmt.Errorf("%w: block %d of a volume of %d", ErrProtocol, b.index, t.p.blocks)
	}
	if _, known := t.p.sums.get(b.index); known {
		t.count(0, 0, 1)
		return nil
	}
	held, err := t.to.take(ctx)
	if err != nil {
		return err
	}
	defer t.to.giveBack(held)
	buf := held[:]
	sum, err := t.read(ctx, b, buf)
	if err != nil {
		return err
	}
	if t.full && block.IsZero(buf) {
		t.count(1, 0, 0)
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
	t.tell(false)
}

const tellEvery = 200 * time.Millisecond

// tell reports how far it is. What is not listed yet is taken to be as dense as what is.
func (t *transfer) tell(last bool) {
	if t.report == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); last || now.Sub(t.at) >= tellEvery {
		t.at = now
		total := t.listed
		if t.told > 0 {
			total = int64(float64(t.listed) / float64(t.told) * float64(t.p.blocks))
		}
		t.report(t.done*BlockSize, max(total, t.done)*BlockSize)
	}
}
