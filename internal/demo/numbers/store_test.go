package numbers

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// disk makes a raw disk of fixed size that is all zero.
func disk(t testing.TB, name string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, size))
	return path
}

func open(t testing.TB, data, log string) *Store {
	t.Helper()
	s, err := OpenStore(data, log, 0, 100)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func write(t testing.TB, s *Store, n int) {
	t.Helper()
	for range n {
		_, err := s.Write(make([]byte, 100))
		require.NoError(t, err)
	}
}

// clone copies a disk as it is now, as a cut of a running server does.
func clone(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	copied := filepath.Join(t.TempDir(), filepath.Base(path))
	require.NoError(t, os.WriteFile(copied, b, 0o600))
	return copied
}

func TestAWrittenDatabaseIsFoundAgainOnItsDisks(t *testing.T) {
	t.Parallel()
	data, log := disk(t, "data", 4<<20), disk(t, "log", 64<<10)
	s := open(t, data, log)
	write(t, s, 10)
	want := s.Newest()
	require.NoError(t, s.Close())

	s = open(t, data, log)
	require.Equal(t, want, s.Newest())
	write(t, s, 1)
	c, err := s.Check()
	require.NoError(t, err)
	require.True(t, c.OK, c.Problems)
	require.EqualValues(t, 11, c.Count)
	require.EqualValues(t, 11, c.LogNewest)
}

func TestAServerThatNobodyWritesToLeavesItsDisksAsTheyAre(t *testing.T) {
	t.Parallel()
	data, log := disk(t, "data", 4<<20), disk(t, "log", 64<<10)
	s := open(t, data, log)
	write(t, s, 10)
	require.NoError(t, s.Close())
	before, err := os.ReadFile(data)
	require.NoError(t, err)

	s = open(t, data, log)
	_, err = s.Check()
	require.NoError(t, err)
	require.NoError(t, s.Close())
	after, err := os.ReadFile(data)
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after))
}

func TestTheDiskKeepsItsSizeAlsoWhenItIsFull(t *testing.T) {
	t.Parallel()
	data := disk(t, "data", 3<<20)
	s, err := OpenStore(data, "", 1<<40, 100)
	require.NoError(t, err)
	defer s.Close()
	for err == nil {
		_, err = s.Write(make([]byte, 64<<10))
	}
	require.ErrorIs(t, err, ErrFull)
	info, err := os.Stat(data)
	require.NoError(t, err)
	require.EqualValues(t, 3<<20, info.Size())
	c, err := s.Check()
	require.NoError(t, err)
	require.True(t, c.OK, c.Problems)
	require.Equal(t, s.Newest().Number, c.Newest.Number)
}

func TestOldNumbersMakeRoomForNewOnes(t *testing.T) {
	t.Parallel()
	s, err := OpenStore(disk(t, "data", 2<<20), disk(t, "log", 4096), 50, 100)
	require.NoError(t, err)
	defer s.Close()
	write(t, s, 300) // more than the log has slots, too
	c, err := s.Check()
	require.NoError(t, err)
	require.True(t, c.OK, c.Problems)
	require.EqualValues(t, 50, c.Count)
	require.EqualValues(t, 251, c.Oldest.Number)
}

func TestACutOfARunningServerIsConsistent(t *testing.T) {
	t.Parallel()
	data, log := disk(t, "data", 4<<20), disk(t, "log", 64<<10)
	s := open(t, data, log)
	write(t, s, 20)
	recovered := open(t, clone(t, data), clone(t, log))
	c, err := recovered.Check()
	require.NoError(t, err)
	require.True(t, c.OK, c.Problems)
	require.EqualValues(t, 20, c.Newest.Number)
}

func TestDisksCutAtTwoInstantsAreFoundOut(t *testing.T) {
	t.Parallel()
	data, log := disk(t, "data", 4<<20), disk(t, "log", 64<<10)
	s := open(t, data, log)
	write(t, s, 5)
	oldData, oldLog := clone(t, data), clone(t, log)
	write(t, s, 2)

	for name, pair := range map[string][2]string{
		"the log is newer":      {oldData, clone(t, log)},
		"the database is newer": {clone(t, data), oldLog},
	} {
		c, err := open(t, pair[0], pair[1]).Check()
		require.NoError(t, err)
		require.False(t, c.OK, name)
		require.Contains(t, c.Problems[0], "two instants", name)
	}
}

func TestAWriteThatOnlyReachedTheLogIsWrittenAgain(t *testing.T) {
	t.Parallel()
	data, log := disk(t, "data", 4<<20), disk(t, "log", 64<<10)
	s := open(t, data, log)
	write(t, s, 5)
	oldData := clone(t, data)
	write(t, s, 1)
	s = open(t, oldData, clone(t, log)) // as after a kill between the two disks
	c, err := s.Check()
	require.NoError(t, err)
	require.True(t, c.OK, c.Problems)
	write(t, s, 1)
	c, err = s.Check()
	require.NoError(t, err)
	require.True(t, c.OK, c.Problems)
	require.EqualValues(t, 6, c.Newest.Number)
}

func TestADamagedDatabaseIsNotFormatted(t *testing.T) {
	t.Parallel()
	data := disk(t, "data", 4<<20)
	s := open(t, data, "")
	write(t, s, 3)
	require.NoError(t, s.Close())
	f, err := os.OpenFile(data, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 2*pageSize), 0) // both meta pages gone
	require.NoError(t, errors.Join(err, f.Close()))
	_, err = OpenStore(data, "", 0, 100)
	require.ErrorContains(t, err, "invalid database")
}

func FuzzRecord(f *testing.F) {
	f.Add(make([]byte, recordSize))
	f.Add(encodeRecord(Number{Number: 7, Sum: 9}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != recordSize {
			return
		}
		n, ok := decodeRecord(b)
		if ok && n.Number != 0 {
			again, ok := decodeRecord(encodeRecord(n))
			require.True(t, ok)
			require.Equal(t, n, again)
		}
	})
}
