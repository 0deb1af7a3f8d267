package index_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
)

// known is an index of which everything is known and not zeros, and its path; it is closed.
func known(t testing.TB, size int64) (string, index.Options) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vol")
	o := index.Options{Size: size, Proof: block.BLAKE3, Digests: true}
	x, _, err := index.Open(path, o)
	require.NoError(t, err)
	var rec index.Region
	for r := range x.Geometry().Regions() {
		for i := range rec.Pieces {
			rec.Pieces[i] = block.Hash{0: 1, 1: byte(r), 2: byte(r >> 8), 3: byte(i)}
		}
		for i := range rec.Digests {
			rec.Digests[i] = block.Digest{0: 1, 1: byte(r), 2: byte(i)}
		}
		rec.DigestsKnown = true
		require.NoError(t, x.PutRegion(r, &rec))
	}
	require.NoError(t, x.SetMeta([]byte("first")))
	require.NoError(t, x.Close())
	return path, o
}

func reopen(t *testing.T, path string, o index.Options) (*index.Index, index.Report) {
	t.Helper()
	x, rep, err := index.Open(path, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.Abandon() })
	return x, rep
}

func TestOnlyOneMayHoldAnIndex(t *testing.T) {
	t.Parallel()
	path, o := known(t, 3*block.Region)
	x, _ := reopen(t, path, o)
	_, _, err := index.Open(path, o)
	require.ErrorIs(t, err, index.ErrHeld)
	require.ErrorContains(t, err, path)
	require.NoError(t, x.Close())
	reopen(t, path, o)
}

func TestAnIndexThatIsOnlyReadIsNotWritten(t *testing.T) {
	t.Parallel()
	path, o := known(t, 20*block.Region)
	before := stat(t, path)
	x, rep := reopen(t, path, o)
	require.Equal(t, index.Report{}, rep)
	var rec index.Region
	require.NoError(t, x.Region(7, &rec))
	require.True(t, rec.DigestsKnown)
	_, err := x.Root()
	require.NoError(t, err)
	_, _, ok, err := x.Unknown(0)
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, "first", string(x.Meta()))
	require.NoError(t, x.Sync())
	require.NoError(t, x.Close())
	require.Equal(t, before, stat(t, path))
}

func stat(t *testing.T, path string) (out [2]syscall.Timespec) {
	t.Helper()
	for i, suffix := range []string{".tree", ".digests"} {
		info, err := os.Stat(path + suffix)
		require.NoError(t, err)
		out[i] = info.Sys().(*syscall.Stat_t).Mtim
	}
	return out
}

func TestRootOutlivesACloseAndAnUncleanEnd(t *testing.T) {
	t.Parallel()
	path, o := known(t, 2000*block.Region+5)
	x, _ := reopen(t, path, o)
	want, err := x.Root()
	require.NoError(t, err)
	require.NoError(t, x.SetPieces([]index.PieceHash{{Piece: 17, Hash: block.Unknown}}))
	root, err := x.Root()
	require.NoError(t, err)
	require.Equal(t, block.Unknown, root)
	require.NoError(t, x.SetPieces([]index.PieceHash{{Piece: 17, Hash: block.Hash{0: 1, 1: 1, 3: 1}}}))
	require.NoError(t, x.Sync())
	require.NoError(t, x.Abandon())
	x, rep := reopen(t, path, o)
	require.Equal(t, index.Report{Unclean: true}, rep)
	root, err = x.Root()
	require.NoError(t, err)
	require.Equal(t, want, root)
	require.Equal(t, "first", string(x.Meta()))
}

// A header is torn or damaged in one of its slots: the other one serves. In both: anew.
func TestTornHeaders(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"clean", "in use"} {
		for _, slots := range [][]int64{{0}, {1}, {0, 1}} {
			t.Run(fmt.Sprint(state, slots), func(t *testing.T) {
				t.Parallel()
				path, o := known(t, 20*block.Region)
				x, _ := reopen(t, path, o)
				was, err := x.Root()
				require.NoError(t, err)
				if state == "in use" {
					require.NoError(t, x.SetPieces([]index.PieceHash{{Piece: 1, Hash: block.Hash{9}}}))
					was, err = x.Root()
					require.NoError(t, err)
				}
				require.NoError(t, x.Abandon())
				for _, slot := range slots {
					patch(t, path+".tree", slot*4096+1000, make([]byte, 3096))
				}
				o.Prime = func(x *index.Index) error { return x.SetUnknown(0, x.Geometry().Pieces()) }
				x, rep := reopen(t, path, o)
				root, err := x.Root()
				require.NoError(t, err)
				if len(slots) == 2 {
					require.True(t, rep.New)
					require.Contains(t, rep.Damaged, "checksum")
					require.Equal(t, block.Unknown, root)
					return
				}
				require.False(t, rep.New)
				require.Equal(t, was, root)
				require.Zero(t, x.DamagedPages())
				require.Equal(t, "first", string(x.Meta()))
			})
		}
	}
}

func patch(t *testing.T, name string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(b, off)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestANewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	path, o := known(t, block.Region)
	b, err := os.ReadFile(path + ".tree")
	require.NoError(t, err)
	binary.LittleEndian.PutUint32(b[8:], 2)
	binary.LittleEndian.PutUint64(b[4088:], xxh3.Hash(b[:4088]))
	patch(t, path+".tree", 0, b[:4096])
	_, _, err = index.Open(path, o)
	require.ErrorIs(t, err, index.ErrNewer)
	require.ErrorContains(t, err, path)
}

func TestAnotherVolumeStartsAnewAndSaysWhy(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]index.Options{
		"bytes":  {Size: 3*block.Region + 1, Proof: block.BLAKE3},
		"blake3": {Size: 3 * block.Region, Proof: block.Fast},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, _ := known(t, 3*block.Region)
			refuse := errors.New("no")
			o.Prime = func(*index.Index) error { return refuse }
			_, _, err := index.Open(path, o)
			require.ErrorIs(t, err, refuse)

			o.Prime = func(x *index.Index) error {
				return errors.Join(x.SetUnknown(5, 3), x.SetMeta([]byte("primed")))
			}
			x, rep := reopen(t, path, o)
			require.True(t, rep.New)
			require.Empty(t, rep.Damaged, "the try before left nothing")
			require.NoError(t, x.Abandon())
			o.Prime = nil
			x, rep = reopen(t, path, o)
			require.Equal(t, index.Report{Unclean: true}, rep)
			require.Equal(t, "primed", string(x.Meta()))
			first, count, ok, err := x.Unknown(0)
			require.NoError(t, err)
			require.Equal(t, []any{int64(5), int64(3), true}, []any{first, count, ok})
		})
	}
}

func TestLostDigestsAreUnknownAndHashesAreNot(t *testing.T) {
	t.Parallel()
	path, o := known(t, 3*block.Region)
	require.NoError(t, os.Remove(path+".digests"))
	x, rep := reopen(t, path, o)
	require.False(t, rep.New)
	var rec index.Region
	require.NoError(t, x.Region(1, &rec))
	require.False(t, rec.DigestsKnown)
	require.True(t, rec.Pieces[0].Known())
}

func TestADamagedPageIsCountedAndUnknown(t *testing.T) {
	t.Parallel()
	path, o := known(t, 20*block.Region)
	const level0 = 8192 + 4096
	patch(t, path+".tree", level0+4096+32*3, []byte{0xaa})
	x, _ := reopen(t, path, o)
	require.Zero(t, x.DamagedPages())
	var rec index.Region
	require.NoError(t, x.Region(0, &rec))
	require.True(t, rec.DigestsKnown)
	require.NoError(t, x.Region(9, &rec))
	require.Equal(t, block.Unknown, rec.Pieces[0])
	require.False(t, rec.DigestsKnown)
	require.EqualValues(t, 1, x.DamagedPages())
	root, err := x.Root()
	require.NoError(t, err)
	require.Equal(t, block.Unknown, root)
	first, count, ok, err := x.Unknown(0)
	require.NoError(t, err)
	require.Equal(t, []any{int64(128), int64(128), true}, []any{first, count, ok})
}

// Of a damaged page above, all below becomes unknown that did not change before it was seen.
func TestADamagedPageAboveLeavesWhatChangedSince(t *testing.T) {
	t.Parallel()
	path, o := known(t, 40*block.Region)
	const level0, pages = 8192 + 4096, 5
	patch(t, path+".tree", level0+pages*4096+7, []byte{0xaa})
	x, _ := reopen(t, path, o)
	require.NoError(t, x.SetZero(0, block.Fanout))
	h, err := x.Piece(block.Fanout)
	require.NoError(t, err)
	require.Equal(t, block.Unknown, h)
	require.EqualValues(t, 1, x.DamagedPages())
	h, err = x.Piece(0)
	require.NoError(t, err)
	require.Equal(t, block.Hash{}, h)
	first, _, ok, err := x.Unknown(0)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, block.Fanout, first)
}

func TestRemove(t *testing.T) {
	t.Parallel()
	path, _ := known(t, block.Region)
	require.NoError(t, index.Remove(path))
	require.NoError(t, index.Remove(path))
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestQuestionsOutsideTheVolumeAreErrors(t *testing.T) {
	t.Parallel()
	path, o := known(t, block.Region)
	x, _ := reopen(t, path, o)
	_, err := x.Piece(16)
	require.ErrorIs(t, err, index.ErrRange)
	_, err = x.AreZero(15, 2)
	require.ErrorIs(t, err, index.ErrRange)
	require.ErrorIs(t, x.Region(1, new(index.Region)), index.ErrRange)
	require.ErrorIs(t, x.PutRegion(-1, new(index.Region)), index.ErrRange)
	require.ErrorIs(t, x.SetUnknown(10, 7), index.ErrRange)
	require.ErrorIs(t, x.SetPieces([]index.PieceHash{{Piece: 16}}), index.ErrRange)
	require.ErrorIs(t, x.Page(1, 0, new([4096]byte)), index.ErrRange)
	require.Error(t, x.SetMeta(make([]byte, index.MaxMeta+1)))
	require.NoError(t, x.Close())
	_, err = x.Piece(0)
	require.ErrorIs(t, err, index.ErrClosed)
	_, _, err = index.Open(path, index.Options{Size: -1, Proof: block.Fast})
	require.Error(t, err)
}

func TestARangeIsZeroWhenAllOfItIs(t *testing.T) {
	t.Parallel()
	pieces := int64(3 * block.PiecesPerRegion)
	path, o := known(t, pieces*block.Piece)
	x, _ := reopen(t, path, o)
	require.NoError(t, x.SetZero(0, pieces))
	zero, err := x.AreZero(0, pieces)
	require.NoError(t, err)
	require.True(t, zero)
	require.NoError(t, x.SetUnknown(pieces-1, 1))
	for _, c := range []struct {
		first, count int64
		want         bool
	}{{0, pieces - 1, true}, {block.PiecesPerRegion - 1, 2, true}, {0, pieces, false}, {pieces - 2, 2, false}, {5, 0, true}} {
		zero, err := x.AreZero(c.first, c.count)
		require.NoError(t, err)
		require.Equal(t, c.want, zero, "%+v", c)
	}
}

func TestAVolumeWithoutBytes(t *testing.T) {
	t.Parallel()
	o := index.Options{Proof: block.BLAKE3, Digests: true}
	path := filepath.Join(t.TempDir(), "vol")
	for range 2 {
		x, _ := reopen(t, path, o)
		root, err := x.Root()
		require.NoError(t, err)
		require.Equal(t, block.BLAKE3.Root(0, block.Hash{}), root)
		require.NoError(t, x.SetUnknown(0, 0))
		_, ok, err := x.NextNonZero(0)
		require.NoError(t, err)
		require.False(t, ok)
		require.NoError(t, x.Close())
	}
}

// A full disk is said with the name of the file and what to do.
func TestAFullDiskIsNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "vol")
	full := func(_ string, d index.Disk) index.Disk { return fullDisk{d} }
	_, _, err := index.OpenOn(path, index.Options{Size: block.Region, Proof: block.Fast}, full)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorContains(t, err, path+".tree")
	require.ErrorContains(t, err, "free space")
}

type fullDisk struct{ index.Disk }

func (fullDisk) Pwrite([]byte, int64) (int, error) { return 0, unix.ENOSPC }
