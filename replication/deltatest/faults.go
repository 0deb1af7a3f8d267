package deltatest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"lifeboat/replication/volume"
)

// ErrFault is the error of a call that was made to fail.
var ErrFault = errors.New("fault of the test")

// Fault is what happens to a call.
type Fault int

// The faults. Reordered writes are what Disk.LosePower leaves.
const (
	// Fails does nothing and gives ErrFault.
	Fails Fault = iota
	// Short does a part, from the begin on, and gives ErrFault.
	Short
	// Torn writes some sectors of the range and not the others, and gives ErrFault; reads are as
	// with Short.
	Torn
	// Late does all, after a while.
	Late
)

// Faults lists all of them.
var Faults = []Fault{Fails, Short, Torn, Late}

// String names a fault.
func (f Fault) String() string { return [...]string{"fails", "short", "torn", "late"}[f] }

// lateness is long against the time of a call, and short against that of a test.
const lateness = 3 * time.Millisecond

// Calls counts the calls of a volume, or of several, and does something at one of them.
type Calls struct {
	mu    sync.Mutex
	count int
	at    int
	fault Fault
	err   error
	hook  func()
	last  string
	rnd   *rand.Rand
}

// NewCalls counts only.
func NewCalls(rnd *rand.Rand) *Calls { return &Calls{rnd: rnd, at: -1} }

// Fault makes the nth call from now, counted from 0, fail once. Cause is what the error
// wraps beside ErrFault; it may be nil.
func (c *Calls) Fault(n int, f Fault, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.fault, c.err, c.hook, c.last = c.count+n, f, errors.Join(ErrFault, cause), nil, ""
}

// Hook calls fn before the nth call from now.
func (c *Calls) Hook(n int, fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.hook, c.last = c.count+n, fn, ""
}

// Count is how many calls there were.
func (c *Calls) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Struck describes the call that something was done at; empty if none was.
func (c *Calls) Struck() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// next counts a call and says what happens to it.
func (c *Calls) next(op string, off, n int64) (f Fault, part int64, struck bool, err error) {
	c.mu.Lock()
	c.count++
	if c.count-1 != c.at {
		c.mu.Unlock()
		return 0, 0, false, nil
	}
	c.last = fmt.Sprintf("%s of %d bytes at %d, call %d", op, n, off, c.at)
	hook := c.hook
	f, err, part = c.fault, c.err, c.rnd.Int64N(n+1)
	c.mu.Unlock()
	if hook != nil {
		hook()
		return 0, 0, false, nil
	}
	if f == Late {
		<-time.After(lateness)
		return 0, 0, false, nil
	}
	return f, part, true, err
}

// Faulty is a volume whose calls are counted and fail.
type Faulty struct {
	volume.Target
	Calls *Calls
}

var _ volume.Target = Faulty{}

// ReadAt implements io.ReaderAt.
func (v Faulty) ReadAt(p []byte, off int64) (int, error) {
	f, part, struck, err := v.Calls.next("read", off, int64(len(p)))
	if !struck {
		return v.Target.ReadAt(p, off)
	}
	if f == Fails {
		return 0, err
	}
	n, rerr := v.Target.ReadAt(p[:part], off)
	return n, errors.Join(rerr, err)
}

// NextData implements volume.Source.
func (v Faulty) NextData(off int64) (start, end int64, err error) {
	if _, _, struck, err := v.Calls.next("next data", off, 0); struck {
		return 0, 0, err
	}
	return v.Target.NextData(off)
}

// WriteAt implements io.WriterAt.
func (v Faulty) WriteAt(p []byte, off int64) (int, error) {
	f, part, struck, err := v.Calls.next("write", off, int64(len(p)))
	if !struck {
		return v.Target.WriteAt(p, off)
	}
	switch f {
	case Short:
		n, werr := v.Target.WriteAt(p[:part], off)
		return n, errors.Join(werr, err)
	case Torn:
		for at := 0; at < len(p); at += sector {
			if v.Calls.toss() {
				if _, werr := v.Target.WriteAt(p[at:min(at+sector, len(p))], off+int64(at)); werr != nil {
					return 0, errors.Join(werr, err)
				}
			}
		}
	}
	return 0, err
}

// Zero implements volume.Target.
func (v Faulty) Zero(off, n int64) error {
	f, part, struck, err := v.Calls.next("zero", off, n)
	if !struck {
		return v.Target.Zero(off, n)
	}
	if f != Fails {
		err = errors.Join(v.Target.Zero(off, part), err)
	}
	return err
}

// Sync implements volume.Target. What a failed one did not write may never be written.
func (v Faulty) Sync() error {
	if _, _, struck, err := v.Calls.next("sync", 0, 0); struck {
		return err
	}
	return v.Target.Sync()
}

func (c *Calls) toss() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rnd.IntN(2) == 0
}
