package deltatest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/volume"
)

const (
	// caseSize bounds the images of cases: four regions are enough for lanes to share.
	caseSize = 4 << 20
	// caseTime is far beyond what a case needs; one that reaches it hangs.
	caseTime = 60 * time.Second
	// attemptsMost bounds how often a copy is tried without faults until it is complete.
	attemptsMost = 4
)

// Case is a random image, with random changes and kills at random moments; after each copy that
// is complete, all that a copy promises is checked. A seed does the same again, but for what
// goroutines make of it.
type Case struct {
	Pair
	rnd   *rand.Rand
	seed  uint64
	story []string
}

// NewCase makes the case of a seed, with its state in dir.
func NewCase(seed uint64, dir string) *Case {
	rnd := rand.New(rand.NewPCG(seed, 0x5eed))
	size := Size(rnd, caseSize)
	c := &Case{rnd: rnd, seed: seed, Pair: Pair{Dir: dir, Source: NewDisk(size), Target: NewDisk(size),
		Proof: []block.Proof{block.BLAKE3, block.Fast}[rnd.IntN(2)], Lanes: 1 + rnd.IntN(4)}}
	Fill(rnd, c.Source)
	c.tell("%d bytes, %v, %d lanes", size, c.Proof, c.Lanes)
	if rnd.IntN(3) == 0 {
		c.tell("the target has something else")
		Fill(rnd, c.Target)
	}
	return c
}

func (c *Case) tell(format string, args ...any) {
	c.story = append(c.story, fmt.Sprintf(format, args...))
}

// Run plays the case. The error tells the whole story, with the seed.
func (c *Case) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, caseTime, fmt.Errorf("nothing more after %v", caseTime))
	defer cancel()
	if err := c.play(ctx); err != nil {
		return fmt.Errorf("seed %d: %s: %w", c.seed, strings.Join(c.story, "; "), err)
	}
	return nil
}

func (c *Case) play(ctx context.Context) error {
	var changed []volume.Extent
	for round := range 2 + c.rnd.IntN(2) {
		if round > 0 {
			changed = c.change()
		}
		for range c.rnd.IntN(4) {
			if err := c.strike(ctx, changed); err != nil {
				return err
			}
			if c.rnd.IntN(4) == 0 {
				c.tell("the source changes")
				if e := c.write(); changed != nil {
					changed = append(changed, e)
				}
				c.Changes()
			}
		}
		if err := c.finish(ctx, changed); err != nil {
			return err
		}
	}
	return nil
}

// change does what happens between two copies.
func (c *Case) change() (changed []volume.Extent) {
	c.Changes()
	if c.rnd.IntN(4) == 0 {
		size := Size(c.rnd, caseSize)
		c.tell("resized to %d", size)
		c.Source.Resize(size)
		c.Target.Resize(size)
	}
	for range c.rnd.IntN(12) {
		changed = append(changed, c.write())
	}
	if changed != nil && c.rnd.IntN(3) > 0 {
		return nil // no tracker
	}
	return changed
}

func (c *Case) write() volume.Extent {
	e := Change(c.rnd, c.Source)
	c.tell("%d bytes changed at %d", e.Length, e.Offset)
	return e
}

// strike is a copy that something happens to, or nearly.
func (c *Case) strike(ctx context.Context, changed []volume.Extent) error {
	calls := NewCalls(rand.New(rand.NewPCG(c.seed, c.rnd.Uint64())))
	run := Copy{Changed: changed, From: Faulty{c.Source, calls}}
	which := c.rnd.IntN(6)
	n := c.rnd.IntN(1 + int(c.Source.Size()/block.Piece)/(1+c.rnd.IntN(8)))
	power := c.rnd.IntN(2) == 0
	switch which {
	case 0:
		c.tell("the source is killed at call %d", n)
		run.Started = func(source, _ func()) { calls.Hook(n, source) }
	case 1:
		c.tell("the target is killed at call %d", n)
		run.From, run.To = nil, Faulty{c.Target, calls}
		run.Started = func(_, target func()) { calls.Hook(n, target) }
	case 2:
		c.tell("both are killed at call %d of the source", n)
		run.Started = func(source, target func()) { calls.Hook(n, func() { source(); target() }) }
	case 3:
		c.tell("a call of the target fails, call %d", n)
		run.From, run.To = nil, Faulty{c.Target, calls}
		calls.Fault(n, Faults[c.rnd.IntN(len(Faults))], nil)
	case 4:
		bytes := c.rnd.Int64N(c.Source.Size() + 4096)
		c.tell("the link is cut after %d bytes", bytes)
		run.Dial = CutAfter(bytes)
	case 5:
		c.tell("the source changes at call %d", n)
		mutate := rand.New(rand.NewPCG(c.seed, c.rnd.Uint64()))
		calls.Hook(n, func() { Change(mutate, c.Source) })
	}
	_, err := c.Pair.Run(ctx, run)
	c.Source.Revive()
	if power && (which == 1 || which == 2) {
		c.tell("the power is lost")
		c.Target.LosePower(c.rnd)
	}
	c.Target.Revive()
	if which == 5 && calls.Struck() != "" {
		c.Changes()
		c.complete = "" // what changed is not known
	}
	return bearable(err)
}

// bearable tells the errors that a fault may cause from those that are wrong.
func bearable(err error) error {
	if err == nil || errors.Is(err, ErrKilled) || errors.Is(err, ErrFault) || delta.IsLink(err) {
		return nil
	}
	for _, fine := range []error{delta.ErrTarget, delta.ErrMismatch, delta.ErrReadSource} {
		if errors.Is(err, fine) && !errors.Is(err, ErrUntrue) && !strings.Contains(err.Error(), ErrUntrue.Error()) {
			return nil
		}
	}
	return err
}

// finish copies until it is complete, and checks everything.
func (c *Case) finish(ctx context.Context, changed []volume.Extent) error {
	for attempt := 1; ; attempt++ {
		root, err := c.Pair.Run(ctx, Copy{Changed: changed})
		if err == nil {
			return c.Complete(ctx, root)
		}
		if !errors.Is(err, delta.ErrMismatch) || attempt == attemptsMost {
			return fmt.Errorf("attempt %d without a fault: %w", attempt, err)
		}
		c.tell("the roots differ")
	}
}

// CutAfter dials connections for a Copy that break all together once so many bytes were sent.
func CutAfter(bytes int64) func(ctx context.Context, address string) (net.Conn, error) {
	var all conns
	var left atomic.Int64
	left.Store(bytes)
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		all.add(conn)
		return &fragile{Conn: conn, left: &left, cut: all.kill}, nil
	}
}

type fragile struct {
	net.Conn
	left *atomic.Int64
	cut  func()
}

// Write lets through what may still pass.
func (f *fragile) Write(p []byte) (int, error) {
	rest := f.left.Add(-int64(len(p))) + int64(len(p))
	if rest >= int64(len(p)) {
		return f.Conn.Write(p)
	}
	n, _ := f.Conn.Write(p[:max(rest, 0)]) // the error is that of the cut
	f.cut()
	return n, net.ErrClosed
}
