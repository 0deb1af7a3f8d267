package link

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// echo answers each connection with what it got, once that has ended.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, err := io.ReadAll(c)
				if err == nil {
					_, _ = c.Write(b) // the test sees what is missing
				}
			}()
		}
	}()
	return l.Addr().String()
}

func send(t *testing.T, rtt time.Duration, rate float64, data []byte) time.Duration {
	t.Helper()
	p, err := Start("127.0.0.1:0", echo(t), rtt, rate)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	start := time.Now()
	c, err := net.Dial("tcp", p.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("got %d bytes back, others than the %d sent", len(got), len(data))
	}
	if p.Sent() != int64(len(data)) {
		t.Fatalf("counted %d bytes, sent %d", p.Sent(), len(data))
	}
	return time.Since(start)
}

func TestBytesTakeTheRoundTrip(t *testing.T) {
	t.Parallel()
	const rtt = 100 * time.Millisecond
	if took := send(t, rtt, 1e9, []byte("hello")); took < rtt {
		t.Fatalf("there and back took %s, less than %s", took, rtt)
	}
}

func TestBytesTakeTheRate(t *testing.T) {
	t.Parallel()
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(i * i >> 8)
	}
	const rate = 20 << 20 // there 0.2 s, then back 0.2 s
	if took := send(t, 0, rate, data); took < 390*time.Millisecond {
		t.Fatalf("%d bytes there and back took %s", len(data), took)
	}
}
