// Package link stands between two ends on one machine and makes the loopback
// as slow and as far as a real link.
package link

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy forwards connections to a target with a delay and a rate. All
// connections share the link; each direction has the whole rate.
type Proxy struct {
	listener net.Listener
	target   string
	delay    time.Duration // one way
	there    direction
	back     direction

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

// direction is one half of the link.
type direction struct {
	rate  float64 // bytes a second
	bytes atomic.Int64

	mu   sync.Mutex
	free time.Time // when the wire is free again
}

// queue is how much may wait before the wire, as in a router; beyond it the
// sender is held back.
const queue = 20 * time.Millisecond

const chunk = 16 << 10

// Start listens at address and forwards to target, with half of rtt each way
// and rate bytes a second.
func Start(address, target string, rtt time.Duration, rate float64) (*Proxy, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, delay: rtt / 2, conns: map[net.Conn]struct{}{}}
	p.there.rate, p.back.rate = rate, rate
	p.wg.Go(p.accept)
	return p, nil
}

// Sent returns the bytes that went to the target.
func (p *Proxy) Sent() int64 { return p.there.bytes.Load() }

// Close breaks all connections and waits for their end.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	err := p.listener.Close()
	for c := range p.conns {
		_ = c.Close() // ends the copying; it may have ended before
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

// keep notes a connection so that Close breaks it; false when closed already.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close() // nobody uses it
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.keep(c) {
			p.wg.Go(func() { p.serve(c) })
		}
	}
}

func (p *Proxy) serve(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(far) {
		return // the near end sees the connection closed, as behind a real link
	}
	defer far.Close()
	var both sync.WaitGroup
	both.Go(func() { p.carry(far, near, &p.there) })
	both.Go(func() { p.carry(near, far, &p.back) })
	both.Wait()
}

// parcel is what arrives at a time.
type parcel struct {
	at   time.Time
	data []byte
}

// carry moves bytes from one end to the other at the rate of the direction,
// each delay later.
func (p *Proxy) carry(to, from net.Conn, d *direction) {
	// Room for what is on the wire during the delay, and in the queue before it.
	onWire := make(chan parcel, int(d.rate*(p.delay+2*queue).Seconds())/512+64)
	var delivered sync.WaitGroup
	delivered.Go(func() { deliver(to, from, onWire) })
	for {
		data := make([]byte, chunk)
		n, err := from.Read(data)
		if n > 0 {
			sent, wait := d.send(n)
			onWire <- parcel{sent.Add(p.delay), data[:n]}
			if wait > 0 {
				time.Sleep(wait) // the queue is full: this is the rate of the link
			}
		}
		if err != nil {
			break
		}
	}
	close(onWire)
	delivered.Wait()
}

// send puts n bytes on the wire: it returns when their last is sent, and how
// long the sender has to be held back.
func (d *direction) send(n int) (sent time.Time, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.free.Before(now) {
		d.free = now
	}
	d.free = d.free.Add(time.Duration(float64(n) / d.rate * float64(time.Second)))
	d.bytes.Add(int64(n))
	return d.free, d.free.Sub(now) - queue
}

// deliver hands parcels over when their time has come.
func deliver(to, from net.Conn, onWire <-chan parcel) {
	var err error
	for q := range onWire {
		if err != nil {
			continue // the end is gone; what is on the wire is lost
		}
		time.Sleep(time.Until(q.at))
		if _, err = to.Write(q.data); err != nil {
			_ = from.Close() // so that the reader ends too
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		if err := half.CloseWrite(); err != nil && !errors.Is(err, io.EOF) {
			_ = to.Close() // it was broken from there
		}
	}
}
