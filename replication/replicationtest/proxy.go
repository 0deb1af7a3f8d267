package replicationtest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy is a link between two engines that can be cut, and be made slow.
type Proxy struct {
	// Address to connect to instead of the target's.
	Address string
	// Sent counts the bytes from source to target.
	Sent atomic.Int64

	target   string
	latency  atomic.Int64 // nanoseconds, each way
	cutAfter atomic.Int64 // bytes that may still pass; negative is unlimited

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

// NewProxy forwards to target until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: l.Addr().String(), target: target, conns: map[net.Conn]struct{}{}}
	p.cutAfter.Store(-1)
	t.Cleanup(func() { _ = l.Close(); p.Cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

// Cut breaks all connections and refuses new ones until Mend.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Mend lets connections through again.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
	p.cutAfter.Store(-1)
}

// CutAfter cuts the link once so many more bytes went from source to target.
func (p *Proxy) CutAfter(bytes int64) { p.cutAfter.Store(bytes) }

// Delay adds a latency in each direction.
func (p *Proxy) Delay(d time.Duration) { p.latency.Store(int64(d)) }

func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) serve(from net.Conn) {
	if !p.add(from) {
		return
	}
	defer p.drop(from)
	to, err := net.Dial("tcp", p.target)
	if err != nil || !p.add(to) {
		return
	}
	defer p.drop(to)
	var wg sync.WaitGroup
	wg.Go(func() { p.pipe(to, from, true); _ = to.Close() })
	wg.Go(func() { p.pipe(from, to, false); _ = from.Close() })
	wg.Wait()
}

type chunk struct {
	data []byte
	due  time.Time
}

// pipe copies with latency, without a limit of what is under way.
func (p *Proxy) pipe(dst io.Writer, src io.Reader, counted bool) {
	line := make(chan chunk, 4096)
	go func() {
		defer close(line)
		for {
			buf := make([]byte, 32<<10)
			n, err := src.Read(buf)
			if n > 0 {
				line <- chunk{buf[:n], time.Now().Add(time.Duration(p.latency.Load()))}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for c := range line {
		if broken {
			continue
		}
		if d := time.Until(c.due); d > 0 {
			<-time.After(d)
		}
		n := int64(len(c.data))
		if counted {
			p.Sent.Add(n)
			if left := p.cutAfter.Load(); left >= 0 && p.cutAfter.Add(-n) < 0 {
				p.Cut()
				broken = true
				continue
			}
		}
		if _, err := dst.Write(c.data); err != nil {
			broken = true
		}
	}
}
