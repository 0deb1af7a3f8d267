package index_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
)

// FuzzHeader: a slot is refused, or is read as what writes the same bytes again.
func FuzzHeader(f *testing.F) {
	path, _ := known(f, block.Region)
	b, err := os.ReadFile(path + ".tree")
	require.NoError(f, err)
	f.Add(b[:4096])
	f.Add(b[4096:8192])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4096 {
			b = slices.Clone(b)
			sign(b)
		}
		again, err := index.ParseHeader(b)
		if err != nil {
			return
		}
		second, err := index.ParseHeader(again)
		require.NoError(t, err)
		require.Equal(t, again, second)
	})
}

func sign(slot []byte) { binary.LittleEndian.PutUint64(slot[4088:], xxh3.Hash(slot[:4088])) }

// FuzzOpen: whatever the files hold, an index opens, answers, and after it was closed gives the
// same answers. A newer format is the one error.
func FuzzOpen(f *testing.F) {
	path, o := known(f, 9*block.Region+1000)
	tree, err := os.ReadFile(path + ".tree")
	require.NoError(f, err)
	digests, err := os.ReadFile(path + ".digests")
	require.NoError(f, err)
	f.Add(tree, digests, true)
	f.Add(tree, []byte{}, true)
	f.Add(tree[:8192], digests, true)
	f.Add([]byte{}, []byte("x"), false)
	unclean := append([]byte(nil), tree...)
	unclean[12], unclean[4096+12] = 1, 1
	f.Add(unclean, digests, true)
	f.Fuzz(func(t *testing.T, tree, digests []byte, signed bool) {
		path := filepath.Join(t.TempDir(), "vol")
		if signed && len(tree) >= 8192 {
			tree = slices.Clone(tree)
			sign(tree[:4096])
			sign(tree[4096:8192])
		}
		require.NoError(t, os.WriteFile(path+".tree", tree, 0o600))
		require.NoError(t, os.WriteFile(path+".digests", digests, 0o600))
		x, _, err := index.OpenOn(path, o, unsynced)
		if errors.Is(err, index.ErrNewer) {
			return
		}
		require.NoError(t, err)
		_, first := answers(t, x)
		healed, root := answers(t, x)
		for i := range first { // what was damaged was found by the first questions
			require.Equal(t, first[i], root[i])
		}
		require.NoError(t, x.Close())
		x, rep, err := index.OpenOn(path, o, unsynced)
		require.NoError(t, err)
		require.Equal(t, index.Report{}, rep)
		again, _ := answers(t, x)
		require.Equal(t, healed, again)
		require.Zero(t, x.DamagedPages())
		require.NoError(t, x.SetPieces([]index.PieceHash{{Piece: 100, Hash: block.Hash{1}}}))
		require.NoError(t, x.Close())
	})
}

// unsynced spares a test the time to make its files durable.
func unsynced(_ string, d index.Disk) index.Disk { return unsyncedDisk{d} }

type unsyncedDisk struct{ index.Disk }

func (unsyncedDisk) Fdatasync() error { return nil }

// answers asks everything, and gives the regions and, after them, the root.
func answers(t *testing.T, x *index.Index) (all []index.Region, root []block.Hash) {
	t.Helper()
	for r := range x.Geometry().Regions() {
		var rec index.Region
		require.NoError(t, x.Region(r, &rec))
		all = append(all, rec)
		_, _, err := x.NextNonZero(r)
		require.NoError(t, err)
	}
	for from := int64(0); ; {
		first, count, ok, err := x.Unknown(from)
		require.NoError(t, err)
		if !ok {
			break
		}
		require.GreaterOrEqual(t, first, from)
		from = first + count
	}
	h, err := x.Root()
	require.NoError(t, err)
	return all, []block.Hash{h}
}
