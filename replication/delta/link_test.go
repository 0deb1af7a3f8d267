package delta_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/deltatest"

	"github.com/stretchr/testify/require"
)

// linked is a pair with random data behind a proxy.
func linked(t *testing.T, proof block.Proof, size int64) (*deltatest.Pair, *deltatest.Proxy) {
	p := &deltatest.Pair{Proof: proof, Dir: t.TempDir(), Source: deltatest.NewDisk(size), Target: deltatest.NewDisk(size), Lanes: 2}
	scramble(t, p.Source, uint64(size))
	return p, deltatest.NewProxy()
}

// scramble fills a disk with what cannot be packed.
func scramble(t *testing.T, d *deltatest.Disk, seed uint64) {
	b := make([]byte, d.Size())
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(b)
	_, err := d.WriteAt(b, 0)
	require.NoError(t, err)
	require.NoError(t, d.Sync())
}

// resentMost is what the engine promises to send again at most: the window, and a frame for
// each lane.
const resentMost = 64<<20 + 2*(600<<10)

// A byte that changes on the way is found, wherever it is, and the copy is complete on a later try.
func TestADamagedByteIsFound(t *testing.T) {
	t.Parallel()
	for _, proof := range []block.Proof{block.BLAKE3, block.Fast} {
		t.Run(proof.String(), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(3, 3))
			for at := int64(1); at < 1500<<10; at += 1 + rnd.Int64N(at/2+16) {
				p, link := linked(t, proof, 1<<20+700)
				link.Corrupt(at)
				root, err := p.Run(t.Context(), deltatest.Copy{Dial: link.Dial})
				if link.Hits() > 0 && err != nil {
					require.True(t, delta.IsLink(err) || errors.Is(err, delta.ErrMismatch) || errors.Is(err, delta.ErrProtocol), "byte %d: %v", at, err)
				}
				for range 3 {
					if err == nil {
						break
					}
					root, err = p.Run(t.Context(), deltatest.Copy{Dial: link.Dial})
				}
				require.NoError(t, err, "byte %d", at)
				require.NoError(t, p.Complete(t.Context(), root), "byte %d", at)
			}
		})
	}
}

// With TLS the connection itself refuses a damaged byte.
func TestTLSRefusesADamagedByte(t *testing.T) {
	t.Parallel()
	id, err := delta.LoadIdentity(filepath.Join(t.TempDir(), "key"))
	require.NoError(t, err)
	config := id.TLS(func(f delta.Fingerprint) error {
		if f != id.Fingerprint() {
			return delta.ErrWrongPeer
		}
		return nil
	})
	p, link := linked(t, block.BLAKE3, 4<<20)
	secured := deltatest.Copy{
		Accept: func(conn net.Conn) net.Conn { return delta.SecureServer(conn, config) },
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := link.Dial(ctx, address)
			if err != nil {
				return nil, err
			}
			secure := delta.SecureClient(conn, config)
			return secure, secure.HandshakeContext(ctx)
		},
	}
	link.Corrupt(1 << 20)
	_, err = p.Run(t.Context(), secured)
	require.Error(t, err)
	require.Equal(t, int64(1), link.Hits(), err)
	require.NotErrorIs(t, err, delta.ErrMismatch)
	require.NotErrorIs(t, err, delta.ErrCorruptFrame)
	root, err := p.Run(t.Context(), secured)
	require.NoError(t, err)
	require.NoError(t, p.Complete(t.Context(), root))
}

// Latency costs round trips, not a round trip for each frame.
func TestLatencyIsFilled(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			t.Parallel()
			p, link := linked(t, block.Fast, 24<<20)
			p.Lanes = 0
			link.Delay(delay)
			began := time.Now()
			root, err := p.Run(t.Context(), deltatest.Copy{Dial: link.Dial})
			require.NoError(t, err)
			took := time.Since(began)
			t.Logf("24 MiB at %v each way: %v", delay, took)
			// Hello, join, data, flush, finish are some round trips; 50 frames would be 10 s.
			require.Less(t, took, 16*delay+3*time.Second)
			require.NoError(t, p.Complete(t.Context(), root))
		})
	}
}

// A slow link carries little more than what has to go over it.
func TestASlowLinkIsNotFlooded(t *testing.T) {
	t.Parallel()
	p, link := linked(t, block.BLAKE3, 8<<20)
	link.Rate(8 << 20)
	root, err := p.Run(t.Context(), deltatest.Copy{Dial: link.Dial})
	require.NoError(t, err)
	require.Less(t, link.Sent.Load(), int64(8<<20)*102/100)
	require.NoError(t, p.Complete(t.Context(), root))
}

// A lane that the target never took, and hung up on after all was written, ends the session: nobody
// would ever acknowledge what went there.
func TestALaneThatIsLostUnseenEndsTheSession(t *testing.T) {
	t.Parallel()
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = hole.Close() })
	go func() {
		conn, err := hole.Accept()
		if err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, conn, 2<<20)
		_ = conn.Close()
	}()
	p, _ := linked(t, block.BLAKE3, 1<<20)
	p.Lanes = 1
	dials := 0
	_, err = p.Run(t.Context(), deltatest.Copy{Dial: func(ctx context.Context, address string) (net.Conn, error) {
		if dials++; dials == 2 {
			address = hole.Addr().String()
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err == nil {
				time.AfterFunc(time.Second, func() { _ = conn.(*net.TCPConn).CloseWrite() })
			}
			return conn, err
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}})
	require.Error(t, err)
	require.True(t, delta.IsLink(err), err)
	root, err := p.Run(t.Context(), deltatest.Copy{})
	require.NoError(t, err)
	require.NoError(t, p.Complete(t.Context(), root))
}

// slow is a source that sometimes takes long to read.
type slow struct {
	*deltatest.Disk
	reads atomic.Int64
	takes time.Duration
}

func (s *slow) ReadAt(p []byte, off int64) (int, error) {
	if s.reads.Add(1)%8 == 0 {
		<-time.After(s.takes)
	}
	return s.Disk.ReadAt(p, off)
}

// A source that is slow to read leaves lanes silent for long, which is no reason to give up: pings tell
// that the other end lives.
func TestASlowSourceBreaksNoLink(t *testing.T) {
	t.Parallel()
	p, _ := linked(t, block.BLAKE3, 8<<20)
	p.Lanes, p.Silence = 1, 300*time.Millisecond
	_, err := p.Run(t.Context(), deltatest.Copy{})
	require.NoError(t, err)
	p.Changes()
	require.NoError(t, p.Source.Zero(0, block.Piece)) // the smallest of frames, and one at the end
	require.NoError(t, p.Source.Zero(7<<20, block.Piece))
	root, err := p.Run(t.Context(), deltatest.Copy{From: &slow{Disk: p.Source, takes: 2 * p.Silence}})
	require.NoError(t, err)
	require.NoError(t, p.Complete(t.Context(), root))
}
