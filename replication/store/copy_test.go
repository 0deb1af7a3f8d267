package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/index"
)

// headReceiver takes copies into a head, and makes a point of each.
type headReceiver struct {
	s     *Store
	state string
	ids   []string // of the points to make
}

// Admit implements delta.Handler.
func (r *headReceiver) Admit(_ context.Context, _ *delta.Session, hello delta.Hello, _ delta.Fingerprint) (a delta.Admission, err error) {
	d := hello.Disks[0]
	h, err := r.s.OpenTarget("volume", d.Size, "")
	if err != nil {
		return a, err
	}
	x, _, err := index.Open(filepath.Join(r.state, "target"), index.Options{Size: d.Size, Proof: block.BLAKE3,
		Prime: func(x *index.Index) error { return delta.Distrust(x, h) }})
	if err != nil {
		return a, errors.Join(err, h.Close())
	}
	return delta.Admission{
		Replicas: []delta.Replica{{Name: d.Name, Volume: h, Index: x}},
		Dir:      r.state,
		Finish: func(_ context.Context, roots []string, _ json.RawMessage) (any, error) {
			p, err := h.Point(r.ids[0], nil)
			if err == nil && p.Root != roots[0] {
				err = errors.New("the point has another root than the copy")
			}
			r.ids = r.ids[1:]
			return struct{}{}, err
		},
		Release: func(error) error { return errors.Join(h.Close(), x.Close()) },
	}, nil
}

// serve takes connections for a handler until the test ends.
func serve(t testing.TB, h delta.Handler) func(ctx context.Context) (net.Conn, error) {
	server := delta.NewServer(h, 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = server.Serve(context.Background(), c) }() // the sender says what went wrong
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

// BenchmarkCopy measures a full copy of 512 MiB of random data over loopback, in clear and
// proved by BLAKE3, into a new head, with a point at its end.
func BenchmarkCopy(b *testing.B) {
	const size = 512 << 20
	path := filepath.Join(b.TempDir(), "source")
	require.NoError(b, os.WriteFile(path, random(1, size), 0o600))
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		r := &headReceiver{s: open(b, b.TempDir()), state: b.TempDir(), ids: []string{"p"}}
		dial := serve(b, r)
		b.StartTimer()
		_, err := delta.Send(b.Context(), delta.SendConfig{Path: path, Proof: block.BLAKE3, Dial: dial})
		require.NoError(b, err)
	}
}

func TestCopiesIntoAHeadBecomePointsThatCostWhatChanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	r := &headReceiver{s: s, state: t.TempDir(), ids: []string{"first", "second"}}
	dial := serve(t, r)
	path := filepath.Join(t.TempDir(), "source")
	const size = 64<<20 + 4096
	first := random(1, size)
	clear(first[10<<20 : 30<<20])
	require.NoError(t, os.WriteFile(path, first, 0o600))
	state := t.TempDir()
	send := func() delta.SendResult {
		res, err := delta.Send(t.Context(), delta.SendConfig{Path: path, State: state, Proof: block.BLAKE3, Dial: dial})
		require.NoError(t, err)
		return res
	}
	root := send().Root
	stored := allocated(t, s)
	require.LessOrEqual(t, stored, int64(45<<20))

	// 1 % of the blocks changes.
	second := bytes.Clone(first)
	rnd := rand.New(rand.NewPCG(1, 2))
	pieces := map[int]bool{}
	for range size / block.Size / 100 {
		at := rnd.IntN(size/block.Size) * block.Size
		copy(second[at:at+block.Size], random(uint64(at), block.Size))
		pieces[at/block.Piece] = true
	}
	require.NoError(t, os.WriteFile(path, second, 0o600))
	require.NotEqual(t, root, send().Root)
	grown := allocated(t, s) - stored
	require.LessOrEqual(t, grown, int64(len(pieces)+4)*block.Piece, "pieces that changed, and nothing else")

	require.True(t, bytes.Equal(first, pointContents(t, s, "first")))
	require.True(t, bytes.Equal(second, pointContents(t, s, "second")))
	p, err := s.Point("first")
	require.NoError(t, err)
	require.Equal(t, root, p.Root)
	require.NoError(t, s.Check())
}
