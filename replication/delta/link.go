package delta

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// link is a framed connection. Writes may come from several goroutines; reads
// from one.
type link struct {
	conn    net.Conn
	timeout time.Duration
	ctx     context.Context
	cancel  context.CancelCauseFunc
	hurried atomic.Bool

	writing sync.Mutex
}

// newLink wraps a connection. It is closed when ctx ends, and considered broken when
// the peer is silent for timeout; a ping goes out three times in that span.
func newLink(ctx context.Context, conn net.Conn, timeout time.Duration) *link {
	l := &link{conn: conn, timeout: timeout}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	context.AfterFunc(l.ctx, func() { _ = closeNow(conn) })
	return l
}

func (l *link) close() { l.cancel(net.ErrClosed) }

// keepAlive pings until the link ends.
func (l *link) keepAlive() {
	tick := time.NewTicker(l.timeout / 3)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
			if err := l.send(framePing, nil, false); err != nil {
				l.cancel(err)
				return
			}
		}
	}
}

// receive reads the next frame that is not a ping.
func (l *link) receive(limit int) (frame, error) {
	for {
		f, _, err := readFrame(patientReader{l}, limit)
		if err != nil {
			return frame{}, l.explain(err)
		}
		if f.typ != framePing {
			return f, nil
		}
	}
}

// patientReader lets every byte that arrives count as a sign of life: a large
// frame on a slow link may take longer than the timeout.
type patientReader struct{ l *link }

func (r patientReader) Read(p []byte) (int, error) {
	if err := r.l.conn.SetReadDeadline(time.Now().Add(r.l.timeout)); err != nil {
		return 0, err
	}
	if r.l.hurried.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return r.l.conn.Read(p)
}

// hurry ends what receive waits for.
func (l *link) hurry() {
	l.hurried.Store(true)
	_ = l.conn.SetReadDeadline(time.Now()) // a closed connection hurries too
}

// laneStream reads a lane. It may be silent for long between frames, while its sender finds nothing
// to send; the session's pings tell whether the sender lives. Within a frame it may not: if
// a length was damaged on the way, what is missing would never come.
type laneStream struct {
	l       *link
	inFrame bool
	limited bool // the connection has a deadline
}

// newLaneStream goes on behind the join, which had a deadline.
func newLaneStream(l *link) *laneStream { return &laneStream{l: l, limited: true} }

func (r *laneStream) Read(p []byte) (int, error) {
	if r.inFrame || r.limited {
		var deadline time.Time
		if r.inFrame {
			deadline = time.Now().Add(r.l.timeout)
		}
		if err := r.l.conn.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
		r.limited = r.inFrame
	}
	n, err := r.l.conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("a frame ends in the middle, and nothing came for %v: %w", r.l.timeout, err)
	}
	return n, err
}

// explain prefers the reason for which the link was closed from our side.
func (l *link) explain(err error) error {
	if cause := context.Cause(l.ctx); cause != nil {
		return cause
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return fmt.Errorf("peer silent for %v: %w", l.timeout, err)
	}
	return err
}

func (l *link) send(typ frameType, body []byte, pack bool) error {
	w, err := encodeFrame(typ, body, pack)
	if err != nil {
		return err
	}
	return l.write(w)
}

func (l *link) sendJSON(typ frameType, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return l.send(typ, body, false)
}

// write sends a frame.
func (l *link) write(w *wireFrame) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(4 * l.timeout)); err != nil {
		return l.explain(err)
	}
	if _, err := l.conn.Write(append(w.head[:], w.body...)); err != nil {
		return l.explain(err)
	}
	return nil
}

// closeNow closes a connection without the goodbye of TLS, which may block.
func closeNow(conn net.Conn) error {
	if t, ok := conn.(*tls.Conn); ok {
		return t.NetConn().Close()
	}
	return conn.Close()
}
