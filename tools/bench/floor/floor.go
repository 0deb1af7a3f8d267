// Package floor measures what this machine can do at best: the least work
// that each job can be, as a bare Go loop without a product around it, and the
// speed of each single stage.
//
// Floors run in one process, without start-up, state or durability.
package floor

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zeebo/xxh3"

	"lifeboat/tools/bench/measure"
	"lifeboat/tools/bench/workload"
)

const piece = 256 << 10

// sink keeps the compiler from removing what is measured.
var sink atomic.Uint64

func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// timed measures f, which runs in this process.
func timed(f func() error) (measure.Sample, error) {
	busy, wire, cpu, start := measure.Busy(), measure.Loopback(), cpuTime(), time.Now()
	err := f()
	s := measure.Sample{Wall: time.Since(start).Seconds(), CPU: (cpuTime() - cpu).Seconds(), Wire: measure.Loopback() - wire}
	s.Other = max(0, measure.Busy()-busy-s.CPU)
	return s, err
}

// Scan reads the extents of an image in pieces of 256 KiB and takes XXH3-128
// of each 4 KiB, with the given number of workers.
func Scan(path string, es []workload.Extent, workers int) (measure.Sample, error) {
	es = workload.Split(es, piece)
	return timed(func() error {
		var next atomic.Int64
		return parallel(workers, func(int) error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			buf := make([]byte, piece)
			var s uint64
			for k := next.Add(1) - 1; k < int64(len(es)); k = next.Add(1) - 1 {
				p := buf[:es[k].Length]
				if _, err := f.ReadAt(p, es[k].Offset); err != nil {
					return err
				}
				for o := 0; o < len(p); o += 4096 {
					s += xxh3.Hash128(p[o:min(o+4096, len(p))]).Lo
				}
			}
			sink.Add(s)
			return nil
		})
	})
}

// parallel runs f n times at once and returns the first error.
func parallel(n int, f func(worker int) error) error {
	errs := make(chan error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}
