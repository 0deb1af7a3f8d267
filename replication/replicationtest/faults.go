package replicationtest

import (
	"sync"

	"lifeboat/replication"
)

// Fault decides what happens to one call on a volume: op is "read", "write", "zero" or
// "sync". A nil result lets it pass.
type Fault func(op string, off int64, n int) error

// Faulty is a volume whose calls may fail. A failing write writes its first half,
// as a torn one does.
type Faulty struct {
	replication.TargetVolume

	mu    sync.Mutex
	fault Fault
}

// NewFaulty wraps a volume.
func NewFaulty(v replication.TargetVolume, fault Fault) *Faulty {
	return &Faulty{TargetVolume: v, fault: fault}
}

func (f *Faulty) ask(op string, off int64, n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault(op, off, n)
}

// ReadAt reads, or fails with nothing read.
func (f *Faulty) ReadAt(p []byte, off int64) (int, error) {
	if err := f.ask("read", off, len(p)); err != nil {
		return 0, err
	}
	return f.TargetVolume.ReadAt(p, off)
}

// WriteAt writes, or fails half way.
func (f *Faulty) WriteAt(p []byte, off int64) (int, error) {
	if err := f.ask("write", off, len(p)); err != nil {
		n, werr := f.TargetVolume.WriteAt(p[:len(p)/2], off)
		if werr != nil {
			return n, werr
		}
		return n, err
	}
	return f.TargetVolume.WriteAt(p, off)
}

// Zero zeroes, or fails with nothing done.
func (f *Faulty) Zero(off, n int64) error {
	if err := f.ask("zero", off, int(n)); err != nil {
		return err
	}
	return f.TargetVolume.Zero(off, n)
}

// Sync syncs, or fails.
func (f *Faulty) Sync() error {
	if err := f.ask("sync", 0, 0); err != nil {
		return err
	}
	return f.TargetVolume.Sync()
}
