package delta

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

// receiverAt serves a receiver on a loopback address until the test ends.
func receiverAt(t *testing.T, c ReceiveConfig) (dial func(context.Context) (net.Conn, error)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	r := NewReceiver(c)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = r.Serve(context.Background(), conn) }() // senders say what went wrong
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

// helloOf opens a session with a body of its own.
func helloOf(t *testing.T, dial func(context.Context) (net.Conn, error), body any, size int64) (*Sender, error) {
	t.Helper()
	x, _, err := index.Open(filepath.Join(t.TempDir(), "x"), index.Options{Size: size, Proof: block.Fast, Digests: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.Abandon() })
	s, err := Connect(t.Context(), SenderConfig{Dial: dial, Disks: []SourceDisk{{Name: "disk", Index: x}}, Body: body, Lanes: 1})
	if err == nil {
		t.Cleanup(s.Close)
	}
	return s, err
}

// The receiver may not have seen yet that a link broke when its sender is back.
func TestTheSameCopyTakesOverFromItsDeadSession(t *testing.T) {
	t.Parallel()
	dial := receiverAt(t, ReceiveConfig{Path: filepath.Join(t.TempDir(), "target")})
	first, err := helloOf(t, dial, sessionBody{Copy: "one"}, 1<<20)
	require.NoError(t, err)
	_, err = helloOf(t, dial, sessionBody{Copy: "two"}, 1<<20)
	require.ErrorIs(t, err, ErrBusy)
	require.False(t, IsLink(err))
	require.NoError(t, first.Err(), "others do not disturb it")
	_, err = helloOf(t, dial, sessionBody{Copy: "one"}, 1<<20)
	require.NoError(t, err)
	select {
	case <-first.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the dead session lives on")
	}
}

// A session that compares changes nothing, whatever its sender does.
func TestASessionThatComparesCannotWrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "target")
	was := make([]byte, 1<<20)
	was[5] = 1
	require.NoError(t, os.WriteFile(path, was, 0o600))
	dial := receiverAt(t, ReceiveConfig{Path: path})
	s, err := helloOf(t, dial, sessionBody{Compare: true}, 1<<20)
	require.NoError(t, err)
	source := filepath.Join(t.TempDir(), "source")
	now := make([]byte, 1<<20)
	now[70000] = 7
	require.NoError(t, os.WriteFile(source, now, 0o600))
	v, err := openForTest(t, source)
	require.NoError(t, err)
	err = s.Pass(t.Context(), Pass{Volumes: v})
	require.ErrorIs(t, err, ErrProtocol)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, string(was) == string(got))

	_, err = helloOf(t, dial, sessionBody{Compare: true}, 2<<20)
	require.ErrorIs(t, err, ErrInvalidSpec)
}

// cutting closes connections after a number of bytes.
type cutting struct {
	net.Conn
	left *atomic.Int64
}

func (c cutting) Write(p []byte) (int, error) {
	if c.left.Add(-int64(len(p))) < 0 {
		return 0, &net.OpError{Op: "write", Err: io.ErrClosedPipe}
	}
	return c.Conn.Write(p)
}

// Links that break again and again: the copy gets on, and does not start over.
func TestSendGoesOnOverLinksThatBreak(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, source := filepath.Join(dir, "target"), filepath.Join(dir, "source")
	ended := atomic.Int64{}
	dial := receiverAt(t, ReceiveConfig{Path: target, State: filepath.Join(dir, "rs"), Ended: func(root string, err error) {
		if root != "" && err == nil {
			ended.Add(1)
		}
	}})
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(i>>9 + i)
	}
	require.NoError(t, os.WriteFile(source, data, 0o600))
	meter := new(Meter)
	var connections atomic.Int64
	res, err := Send(t.Context(), SendConfig{Path: source, State: filepath.Join(dir, "ss"), Proof: block.BLAKE3, Meter: meter, Retry: 20 * time.Second,
		Compress: CompressNever, Throttle: NewThrottle(20 << 20),
		Dial: func(ctx context.Context) (net.Conn, error) {
			conn, err := dial(ctx)
			if n := connections.Add(1); err == nil && n <= 8 {
				left := new(atomic.Int64)
				left.Store(2 << 20)
				return cutting{conn, left}, nil
			}
			return conn, err
		}})
	require.NoError(t, err)
	got, err := os.ReadFile(target)
	require.NoError(t, err)
	require.True(t, string(data) == string(got))
	require.Greater(t, connections.Load(), int64(3), "the links did not break")
	require.Less(t, meter.Sent.Load(), int64(4*len(data)))
	require.NotEmpty(t, res.Root)
	require.Eventually(t, func() bool { return ended.Load() == 1 }, 10*time.Second, time.Millisecond)
}

func openForTest(t *testing.T, path string) ([]volume.Source, error) {
	t.Helper()
	v, err := volume.Open(path)
	if err == nil {
		t.Cleanup(func() { v.Close() })
	}
	return []volume.Source{v}, err
}
