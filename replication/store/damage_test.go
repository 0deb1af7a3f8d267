package store

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
)

func TestDamagedPieceIsNamedAndNeverHandedOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	h := head(t, s, "v", 4<<20, "")
	want := random(1, 4<<20)
	write(t, h, want, 0)
	_, err := h.Point("p", nil)
	require.NoError(t, err)
	packs, err := filepath.Glob(filepath.Join(dir, packDir, "*.pack"))
	require.NoError(t, err)
	require.Len(t, packs, 1)
	flip(t, packs[0], 10*block.Piece+5)

	p, err := s.OpenPoint("p")
	require.NoError(t, err)
	got := make([]byte, 100)
	_, err = p.ReadAt(got, 10*block.Piece+50)
	require.ErrorIs(t, err, ErrDamaged)
	var d *Damage
	require.ErrorAs(t, err, &d)
	require.Equal(t, Damage{What: `point "p"`, Offset: 10 * block.Piece, File: packs[0], Slot: 10}, *d)
	_, err = p.ReadAt(got, 11*block.Piece)
	require.NoError(t, err, "other pieces are read")
	require.True(t, bytes.Equal(want[11*block.Piece:][:100], got))
	// A copy that brings the piece again mends the slot, for the point as well.
	write(t, h, want[10*block.Piece:11*block.Piece], 10*block.Piece)
	require.NoError(t, h.Sync())
	require.True(t, bytes.Equal(want, pointContents(t, s, "p")))
	flip(t, packs[0], 10*block.Piece+5)
	// A write in part would seal the damage; one of the whole piece mends the head.
	_, err = h.WriteAt([]byte{1}, 10*block.Piece)
	require.ErrorIs(t, err, ErrDamaged)
	write(t, h, random(2, block.Piece), 10*block.Piece)
	require.NoError(t, h.Sync())
	copy(want[10*block.Piece:], random(2, block.Piece))
	require.True(t, bytes.Equal(want, contents(t, h)))
	require.NoError(t, s.Delete("p"), "what is damaged can be deleted")
	require.NoError(t, s.Check())
}

func TestDamagedPageIsNamed(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	h := head(t, s, "v", 64<<20, "")
	write(t, h, random(1, 1<<20), 0)
	write(t, h, random(2, 1<<20), 32<<20)
	_, err := h.Point("p", nil)
	require.NoError(t, err)
	require.NoError(t, h.Close())
	require.NoError(t, s.index.Update(t.Context(), func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("nodes"))
		return b.ForEach(func(k, v []byte) error {
			n, err := decodeNode(v)
			if err != nil || n.level > 0 || n.hashes[0] != block.OfBytes(random(1, 1<<20)[:block.Piece]) {
				return err
			}
			n.hashes[3][7] ^= 1
			return b.Put(bytes.Clone(k), n.encode())
		})
	}))
	p, err := s.OpenPoint("p")
	require.NoError(t, err)
	_, err = p.ReadAt(make([]byte, 10), 5)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, s.index.Path())
	_, err = p.ReadAt(make([]byte, 10), 32<<20)
	require.NoError(t, err, "other pages are read")
}

func TestPointThatIsDeletedUnderItsReaderIsNotDamage(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	h := head(t, s, "v", 4<<20, "")
	write(t, h, random(1, 4<<20), 0)
	_, err := h.Point("p", nil)
	require.NoError(t, err)
	p, err := s.OpenPoint("p")
	require.NoError(t, err)
	require.NoError(t, h.Zero(0, 4<<20))
	require.NoError(t, h.Sync())
	require.NoError(t, s.Delete("p"))
	_, err = p.ReadAt(make([]byte, 10), 5)
	require.ErrorIs(t, err, ErrNotFound)
	require.NotErrorIs(t, err, ErrDamaged)
	_, err = s.OpenPoint("p")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestRequestsThatCanNeverBeRight(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	_, err := s.OpenTarget("", 1, "")
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.OpenTarget("v", 0, "")
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.OpenTarget("v", 1<<20, "none")
	require.ErrorIs(t, err, ErrNotFound)
	h := head(t, s, "v", 1<<20, "")
	_, err = h.Point("p", nil)
	require.NoError(t, err)
	_, err = s.OpenTarget("w", 2<<20, "p")
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.OpenTarget("v", 1<<20, "")
	require.ErrorIs(t, err, ErrBusy)
	require.NoError(t, h.Close())
	_, err = s.OpenTarget("v", 2<<20, "")
	require.ErrorIs(t, err, ErrInvalid)
	_, err = h.WriteAt([]byte{1}, 0)
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestFullDiskIsAnErrorAndWhatWasSyncedStays(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 64<<20))
	require.NoError(t, os.Mkdir(at, 0o700))
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, at}} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	t.Cleanup(func() {
		// A program that another test is just starting may have our files for a moment.
		require.Eventually(t, func() bool { return exec.Command("umount", at).Run() == nil }, 10*time.Second, 10*time.Millisecond)
	})
	s, err := Open(t.Context(), at, 0)
	require.NoError(t, err)
	h, err := s.OpenTarget("v", 200<<20, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(h.Close(), s.Close())) })
	first := random(1, 8<<20)
	write(t, h, first, 0)
	_, err = h.Point("p", nil)
	require.NoError(t, err)
	stored := allocated(t, s)
	for off := int64(8 << 20); err == nil && off < h.Size(); off += 1 << 20 {
		_, err = h.WriteAt(random(uint64(off>>20), 1<<20), off)
	}
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorIs(t, h.Sync(), unix.ENOSPC, "nobody is told later that all is well")
	_, err = h.Point("q", nil)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, h.Close(), "what was not synced gives its space back")
	h, err = s.OpenTarget("v", 200<<20, "p")
	require.NoError(t, err)
	require.True(t, bytes.Equal(first, contents(t, h)[:8<<20]))
	require.NoError(t, h.Zero(8<<20, h.Size()-8<<20))
	require.NoError(t, h.Sync())
	require.NoError(t, h.Close())
	require.LessOrEqual(t, allocated(t, s), stored+block.Piece)
	require.True(t, bytes.Equal(first, pointContents(t, s, "p")[:8<<20]))
	require.NoError(t, s.Check())
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	require.NoError(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b[:], at)
	require.NoError(t, errors.Join(err, f.Close()))
}
