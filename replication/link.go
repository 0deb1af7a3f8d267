package replication

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// link is a framed connection. Writes may come from several goroutines; reads
// from one.
type link struct {
	conn    *tls.Conn
	timeout time.Duration
	ctx     context.Context
	cancel  context.CancelCauseFunc
	limit   *throttle // nil is unlimited
	sent    atomic.Int64

	writing sync.Mutex
}

// newLink wraps a connection. It is closed when ctx ends, and considered broken when
// the peer is silent for timeout; a ping goes out three times in that span.
func newLink(ctx context.Context, conn *tls.Conn, timeout time.Duration, limit *throttle) *link {
	l := &link{conn: conn, timeout: timeout, limit: limit}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	context.AfterFunc(l.ctx, func() { _ = conn.NetConn().Close() })
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
	return r.l.conn.Read(p)
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

// write sends a frame at the permitted rate.
func (l *link) write(w *wireFrame) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	buf := net.Buffers{w.head[:], w.body}
	for _, part := range buf {
		for len(part) > 0 {
			n := len(part)
			if l.limit != nil {
				var err error
				if n, err = l.limit.take(l.ctx, len(part)); err != nil {
					return l.explain(err)
				}
			}
			if err := l.conn.SetWriteDeadline(time.Now().Add(4 * l.timeout)); err != nil {
				return l.explain(err)
			}
			if _, err := l.conn.Write(part[:n]); err != nil {
				return l.explain(err)
			}
			l.sent.Add(int64(n))
			part = part[n:]
		}
	}
	return nil
}

// refuse tells the peer why the connection ends.
func (l *link) refuse(err error) {
	_ = l.sendJSON(frameError, errorMessage{Code: codeOf(err), Message: err.Error()}) // it ends anyway
}

// throttle is a bandwidth limit that may change at any time.
type throttle struct {
	limiter *rate.Limiter
	limited atomic.Bool
	burst   atomic.Int64
}

func newThrottle(bytesPerSecond int64) *throttle {
	t := &throttle{limiter: rate.NewLimiter(rate.Inf, 1)}
	t.set(bytesPerSecond)
	return t
}

// set changes the limit; what is under way ends at the old one, which takes at
// most 50 ms.
func (t *throttle) set(bytesPerSecond int64) {
	if bytesPerSecond <= 0 {
		t.limited.Store(false)
		t.limiter.SetLimit(rate.Inf)
		return
	}
	burst := min(max(bytesPerSecond/20, 512), 256<<10)
	t.burst.Store(burst)
	t.limiter.SetBurst(int(burst))
	t.limiter.SetLimit(rate.Limit(bytesPerSecond))
	t.limited.Store(true)
}

// take waits until up to n bytes may be sent and says how many.
func (t *throttle) take(ctx context.Context, n int) (int, error) {
	if !t.limited.Load() {
		return n, nil
	}
	for {
		k := min(n, int(t.burst.Load()))
		err := t.limiter.WaitN(ctx, k)
		if err == nil || ctx.Err() != nil {
			return k, err
		}
		// The burst shrank between the two lines: ask again with the new one.
	}
}
