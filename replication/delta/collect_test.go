package delta

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

// collecting is a source file and a session to a receiver of this process.
type collecting struct {
	t      *testing.T
	rng    *rand.Rand
	path   string
	target string
	vol    volume.Target
	sender *Sender
}

func newCollecting(t *testing.T, size int64, proof block.Proof, seed uint64) *collecting {
	t.Helper()
	dir := t.TempDir()
	c := &collecting{t: t, rng: rand.New(rand.NewPCG(seed, 11)), path: filepath.Join(dir, "disk"), target: filepath.Join(dir, "target")}
	f, err := os.Create(c.path)
	require.NoError(t, err)
	require.NoError(t, errors.Join(f.Truncate(size), f.Close()))
	c.vol, err = volume.OpenTarget(c.path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.vol.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	rx := NewReceiver(ReceiveConfig{Path: c.target, State: filepath.Join(dir, "state")})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = rx.Serve(context.WithoutCancel(t.Context()), conn) }() // the sender sees its errors
		}
	}()
	x, _, err := index.Open(filepath.Join(dir, "source"), index.Options{Size: size, Proof: proof, Digests: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.Close() })
	c.sender, err = Connect(t.Context(), SenderConfig{Disks: []SourceDisk{{Name: "disk", Index: x}},
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", l.Addr().String())
		}})
	require.NoError(t, err)
	t.Cleanup(c.sender.Close)
	return c
}

// change writes, zeroes and punches at random places, and says where.
func (c *collecting) change(n int) (where []volume.Extent) {
	c.t.Helper()
	for range n {
		size := min(c.rng.Int64N(150<<10)+1, c.vol.Size())
		off := c.rng.Int64N(c.vol.Size() - size + 1)
		b := make([]byte, size)
		var err error
		switch c.rng.IntN(4) {
		case 0:
			err = c.vol.Zero(off, size)
		case 1:
			_, err = c.vol.WriteAt(b, off)
		default:
			for i := range b {
				b[i] = byte(c.rng.Uint32())
			}
			_, err = c.vol.WriteAt(b, off)
		}
		require.NoError(c.t, err)
		where = append(where, volume.Extent{Offset: off, Length: size})
	}
	return where
}

func (c *collecting) collect(changed []volume.Extent) Pass {
	c.t.Helper()
	spool, err := os.Create(filepath.Join(c.t.TempDir(), "spool"))
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = spool.Close() })
	p := Pass{Volumes: []volume.Source{c.vol}}
	if changed != nil {
		p.Changed = [][]volume.Extent{changed}
	}
	p, err = c.sender.Collect(c.t.Context(), p, spool)
	require.NoError(c.t, err)
	return p
}

// What was collected is what the disk held then, whatever is written to it afterwards.
func TestCollectedChangesAreThoseOfTheirMoment(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		for _, proof := range []block.Proof{block.BLAKE3, block.Fast} {
			t.Run(fmt.Sprintf("seed %d, %v", seed, proof), func(t *testing.T) {
				t.Parallel()
				c := newCollecting(t, 9<<20+int64(seed)*4099, proof, seed)
				c.change(40)
				require.NoError(t, c.sender.Pass(t.Context(), Pass{Volumes: []volume.Source{c.vol}}))
				for round := range 4 {
					where := c.change(10)
					if round%2 == 0 {
						where = nil // a scan
					}
					p := c.collect(where)
					want, err := os.ReadFile(c.path)
					require.NoError(t, err)
					c.change(10)
					require.NoError(t, c.sender.Pass(t.Context(), p))
					_, err = c.sender.Finish(nil, nil)
					require.NoError(t, err)
					got, err := os.ReadFile(c.target)
					require.NoError(t, err)
					require.Equal(t, want, got)
					require.NoError(t, c.sender.Pass(t.Context(), Pass{Volumes: []volume.Source{c.vol}}))
				}
			})
		}
	}
}

// A region of which no digests are known is collected as a whole, even if a tracker names a
// part of it only; and the first copy can be collected, too.
func TestCollectWithoutDigestsTakesWholeRegions(t *testing.T) {
	t.Parallel()
	c := newCollecting(t, 5<<20, block.BLAKE3, 1)
	c.change(30)
	require.NoError(t, c.sender.Pass(t.Context(), Pass{Volumes: []volume.Source{c.vol}}))
	x := c.sender.disks[0].Index
	require.NoError(t, x.SetPieces([]index.PieceHash{{Piece: 20, Hash: block.Hash{9}}})) // the digests are gone
	p := c.collect([]volume.Extent{{Offset: 17 * block.Piece, Length: 1}})
	require.Equal(t, []volume.Extent{{Offset: block.Region, Length: block.Region}}, joined(p.Changed[0]))
	require.NoError(t, c.sender.Pass(t.Context(), p))
	_, err := c.sender.Finish(nil, nil)
	require.NoError(t, err)
}

func joined(in []volume.Extent) []volume.Extent {
	return newChangedList(in, block.Geometry{Size: 1 << 40}).extents
}

func TestWhatWasNotCollectedIsAnError(t *testing.T) {
	t.Parallel()
	c := newCollecting(t, 3<<20, block.BLAKE3, 2)
	_, err := c.vol.WriteAt([]byte("x"), block.Region)
	require.NoError(t, err)
	v := c.collect(nil).Volumes[0]
	b := make([]byte, block.Piece)
	n, err := v.ReadAt(b, block.Region)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
	for _, off := range []int64{0, block.Region - 1, block.Region + block.Piece} {
		_, err := v.ReadAt(b, off)
		require.ErrorContains(t, err, "not in the spool", "at %d", off)
	}
	_, err = v.ReadAt(make([]byte, block.Piece+1), block.Region)
	require.ErrorContains(t, err, fmt.Sprint("offset ", block.Region+block.Piece))
}

func TestFullSpoolIsNamed(t *testing.T) {
	t.Parallel()
	c := newCollecting(t, 3<<20, block.BLAKE3, 2)
	c.change(20)
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, full.Close()) }()
	_, err = c.sender.Collect(t.Context(), Pass{Volumes: []volume.Source{c.vol}}, full)
	require.ErrorIs(t, err, ErrNoSpace)
	require.ErrorContains(t, err, "spool")
}
