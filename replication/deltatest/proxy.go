package deltatest

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy is a link between two ends over loopback that can be cut, slowed down and damaged.
type Proxy struct {
	// Sent counts the bytes that went from the source to the target.
	Sent atomic.Int64

	delay   atomic.Int64 // nanoseconds, each way
	rate    atomic.Int64 // bytes a second to the target; 0 is no limit
	cut     atomic.Int64 // at this byte from the source; 0 is never
	corrupt atomic.Int64 // this byte from the source; 0 is none
	hits    atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	next  time.Time // when the link has room again
}

// NewProxy makes a link that changes nothing.
func NewProxy() *Proxy { return &Proxy{conns: map[net.Conn]struct{}{}} }

// Delay adds a latency in each direction.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// Rate limits what goes to the target, in bytes a second.
func (p *Proxy) Rate(bytes int64) { p.rate.Store(bytes) }

// CutAfter breaks all connections, once, when so many bytes more went to the target.
func (p *Proxy) CutAfter(bytes int64) { p.cut.Store(p.Sent.Load() + max(bytes, 1)) }

// Corrupt changes the byte at which so many bytes more went to the target, once.
func (p *Proxy) Corrupt(bytes int64) { p.corrupt.Store(p.Sent.Load() + max(bytes, 1)) }

// Hits counts cuts and corrupted bytes.
func (p *Proxy) Hits() int64 { return p.hits.Load() }

// Dial connects to an address through the link.
func (p *Proxy) Dial(ctx context.Context, address string) (net.Conn, error) {
	near, far, err := socketPair()
	if err != nil {
		return nil, err
	}
	to, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		_, _ = near.Close(), far.Close()
		return nil, err
	}
	p.mu.Lock()
	p.conns[to], p.conns[far] = struct{}{}, struct{}{}
	p.mu.Unlock()
	go p.pipe(to, far, true)
	go p.pipe(far, to, false)
	return near, nil
}

// socketPair gives both ends of a connection over loopback.
func socketPair() (near, far net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }() // it has no state to lose
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if far, err = l.Accept(); err != nil {
		_ = near.Close()
		return nil, nil, err
	}
	return near, far, nil
}

func (p *Proxy) breakAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

type parcel struct {
	data []byte
	due  time.Time
}

// pipe copies with latency. What is under way is bounded by 4096 parcels.
func (p *Proxy) pipe(dst, src net.Conn, forward bool) {
	line := make(chan parcel, 4096)
	go func() {
		defer close(line)
		for {
			buf := make([]byte, 32<<10)
			n, err := src.Read(buf)
			if n > 0 {
				line <- parcel{buf[:n], time.Now().Add(time.Duration(p.delay.Load()))}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for c := range line {
		if !broken {
			wait(c.due)
			broken = p.forward(dst, c.data, forward) != nil
		}
	}
	p.mu.Lock()
	delete(p.conns, dst)
	p.mu.Unlock()
	_ = dst.Close()
}

func wait(until time.Time) {
	if d := time.Until(until); d > 0 {
		<-time.After(d)
	}
}

// forward passes a parcel on, as far as the link lives.
func (p *Proxy) forward(dst io.Writer, data []byte, forward bool) error {
	if !forward {
		_, err := dst.Write(data)
		return err
	}
	if rate := p.rate.Load(); rate > 0 {
		p.mu.Lock()
		if now := time.Now(); p.next.Before(now) {
			p.next = now
		}
		p.next = p.next.Add(time.Duration(int64(len(data)) * int64(time.Second) / rate))
		due := p.next
		p.mu.Unlock()
		wait(due)
	}
	end := p.Sent.Add(int64(len(data)))
	begin := end - int64(len(data))
	if at := p.corrupt.Load(); at > begin && at <= end && p.corrupt.CompareAndSwap(at, 0) {
		data[at-begin-1] ^= 0x40
		p.hits.Add(1)
	}
	if at := p.cut.Load(); at > 0 && at <= end && p.cut.CompareAndSwap(at, 0) {
		_, err := dst.Write(data[:max(at-begin-1, 0)])
		p.hits.Add(1)
		p.breakAll()
		if err == nil {
			err = net.ErrClosed
		}
		return err
	}
	_, err := dst.Write(data)
	return err
}
