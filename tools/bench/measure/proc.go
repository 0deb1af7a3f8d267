package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// userHz is the unit of times in /proc: 100 a second on every Linux.
const userHz = 100

// Busy returns the machine's busy processor seconds since boot.
func Busy() float64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var t float64
	for i, f := range strings.Fields(line)[1:] {
		if i == 3 || i == 4 || i > 7 { // idle, waiting for a disk, and guests, which count as user already
			continue
		}
		n, _ := strconv.ParseFloat(f, 64)
		t += n / userHz
	}
	return t
}

// WaitQuiet returns when the machine was at least 88 % idle for half a second,
// or at the limit. It says whether it became quiet.
func WaitQuiet(limit time.Duration) bool {
	n := float64(runtime.NumCPU())
	for end := time.Now().Add(limit); time.Now().Before(end); {
		busy, start := Busy(), time.Now()
		time.Sleep(500 * time.Millisecond) // the span that is looked at
		if Busy()-busy < 0.12*n*time.Since(start).Seconds() {
			return true
		}
	}
	return false
}

// Loopback returns the bytes that the loopback interface of this network
// namespace received.
func Loopback() int64 {
	b, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "lo:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// CPU returns the processor seconds that a process used so far, children not
// counted.
func CPU(pid int) float64 {
	fs := stat(pid)
	if len(fs) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fs[11], 64)
	sys, _ := strconv.ParseFloat(fs[12], 64)
	return (user + sys) / userHz
}

// PeakRSS returns the largest resident size of a running process in bytes, 0
// when it has ended. (The figure that wait(2) gives holds that of the parent
// before the exec too.)
func PeakRSS(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(b), "VmHWM:")
	if !ok {
		return 0
	}
	n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return n << 10
}

// stat returns the fields of /proc/PID/stat after the name, the state first.
func stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// sampler looks at the memory of the processes of some sessions.
type sampler struct {
	mu       sync.Mutex
	sessions map[int]bool

	quit chan struct{}
	done chan int64
}

const sampleEvery = 10 * time.Millisecond

func newSampler() *sampler {
	s := &sampler{sessions: map[int]bool{}, quit: make(chan struct{}), done: make(chan int64)}
	go s.run()
	return s
}

func (s *sampler) watch(sid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[sid] = true
}

func (s *sampler) stop() int64 {
	close(s.quit)
	return <-s.done
}

func (s *sampler) run() {
	var peak int64
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		peak = max(peak, s.sum())
		select {
		case <-s.quit:
			s.done <- peak
			return
		case <-tick.C:
		}
	}
}

// sum adds the largest resident sizes so far of all processes that are there now.
func (s *sampler) sum() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) == 0 {
		return 0
	}
	var sum int64
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if fs := stat(pid); len(fs) > 3 {
			if sid, _ := strconv.Atoi(fs[3]); s.sessions[sid] {
				sum += PeakRSS(pid)
			}
		}
	}
	return sum
}
