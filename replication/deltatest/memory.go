package deltatest

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Memory watches what the Go runtime of this process holds: heap, stacks and its own.
type Memory struct {
	mu   sync.Mutex
	peak uint64
	stop chan struct{}
	done chan struct{}
}

// memoryEvery is short against what a copy of many regions takes.
const memoryEvery = time.Millisecond

// WatchMemory starts from what is in use when all garbage is gone.
func WatchMemory() *Memory {
	runtime.GC()
	debug.FreeOSMemory()
	m := &Memory{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(m.done)
		tick := time.NewTicker(memoryEvery)
		defer tick.Stop()
		for {
			m.look()
			select {
			case <-m.stop:
				m.look()
				return
			case <-tick.C:
			}
		}
	}()
	return m
}

func (m *Memory) look() {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peak = max(m.peak, s[0].Value.Uint64()-s[1].Value.Uint64())
}

// Stop gives the peak in bytes.
func (m *Memory) Stop() uint64 {
	close(m.stop)
	<-m.done
	return m.peak
}
