package delta

import (
	"bufio"
	"crypto/tls"
	"net"
)

const (
	// bulkRead and bulkWrite are how much of a TLS connection goes through the kernel at once.
	// A record has at most 16 KiB, and crypto/tls makes a system call for each, which takes
	// longer than to copy the record within the cache.
	bulkRead  = 128 << 10
	bulkWrite = frameBytes + 32<<10
)

// bulkConn is what TLS runs on: it reads ahead, and writes a whole frame at once.
type bulkConn struct {
	net.Conn
	r *bufio.Reader
	w *bufio.Writer // nil unless a frame is being written
}

// SecureClient puts TLS on a connection to a receiver.
func SecureClient(conn net.Conn, config *tls.Config) *tls.Conn {
	return tls.Client(&bulkConn{Conn: conn}, config)
}

// SecureServer puts TLS on a connection that was accepted.
func SecureServer(conn net.Conn, config *tls.Config) *tls.Conn {
	return tls.Server(&bulkConn{Conn: conn}, config)
}

func (c *bulkConn) Read(p []byte) (int, error) {
	if c.r == nil {
		return c.Conn.Read(p)
	}
	return c.r.Read(p)
}

func (c *bulkConn) Write(p []byte) (int, error) {
	if c.w == nil {
		return c.Conn.Write(p)
	}
	return c.w.Write(p)
}

// readAhead lets a lane's connection read as much as there is.
func readAhead(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		if b, ok := t.NetConn().(*bulkConn); ok {
			b.r = bufio.NewReaderSize(b.Conn, bulkRead)
		}
	}
}

// laneConn is the connection of a lane, at the sender.
type laneConn struct {
	conn net.Conn
	buf  *bufio.Writer
}

// Write writes a frame, with as few system calls as possible.
func (w *laneConn) Write(p []byte) (int, error) {
	t, ok := w.conn.(*tls.Conn)
	if !ok {
		return w.conn.Write(p)
	}
	b, ok := t.NetConn().(*bulkConn)
	if !ok {
		return w.conn.Write(p)
	}
	if w.buf == nil {
		w.buf = bufio.NewWriterSize(b.Conn, bulkWrite)
	}
	b.w = w.buf
	n, err := t.Write(p)
	b.w = nil
	if err != nil {
		return n, err
	}
	return n, w.buf.Flush()
}
