package txfile

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"
)

func testFile(t testing.TB, dir string) *File {
	t.Helper()
	f, err := Open(t.Context(), dir, "state", 3, 10*time.Second)
	require.NoError(t, err)
	return f
}

// add counts a number up.
func add(f *File) error {
	return f.Update(context.Background(), func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		if err != nil {
			return err
		}
		n := 0
		if raw := b.Get([]byte("n")); raw != nil {
			if err := json.Unmarshal(raw, &n); err != nil {
				return err
			}
		}
		raw, err := json.Marshal(n + 1)
		if err != nil {
			return err
		}
		return b.Put([]byte("n"), raw)
	})
}

func read(t *testing.T, f *File) (n int) {
	t.Helper()
	require.NoError(t, f.View(t.Context(), func(tx *bolt.Tx) error { return json.Unmarshal(tx.Bucket([]byte("b")).Get([]byte("n")), &n) }))
	return n
}

func TestAFailedTransactionLeavesNothing(t *testing.T) {
	t.Parallel()
	f := testFile(t, t.TempDir())
	require.NoError(t, add(f))
	refused := errors.New("no")
	require.ErrorIs(t, f.Update(t.Context(), func(tx *bolt.Tx) error {
		if err := tx.DeleteBucket([]byte("b")); err != nil {
			return err
		}
		return refused
	}), refused)
	require.Equal(t, 1, read(t, f))
}

func TestTwoFilesInOneDirectoryLoseNoUpdate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wait sync.WaitGroup
	for range 4 {
		f := testFile(t, dir) // a lock of its own, as another process has
		wait.Go(func() {
			for range 10 {
				if err := add(f); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	require.Equal(t, 40, read(t, testFile(t, dir)))
}

func TestReadersDoNotKeepWritersOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writer := testFile(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 12 {
		f := testFile(t, dir)
		readers.Go(func() {
			for ctx.Err() == nil {
				if err := f.View(ctx, func(*bolt.Tx) error { return nil }); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for range 30 {
		require.NoError(t, add(writer))
	}
	cancel()
	readers.Wait()
}

func TestGenerationDiffersAfterEachUpdate(t *testing.T) {
	t.Parallel()
	f := testFile(t, t.TempDir())
	seen := map[uint64]bool{}
	for range 5 {
		require.NoError(t, add(f))
		n, err := f.Generation()
		require.NoError(t, err)
		require.False(t, seen[n])
		seen[n] = true
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, other := testFile(t, dir), testFile(t, dir)
	release, err := other.Hold(t.Context())
	require.NoError(t, err)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = f.View(ctx, func(*bolt.Tx) error { return nil })
	require.ErrorIs(t, err, ErrBusy)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestFileOfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newer, err := Open(t.Context(), dir, "state", 4, time.Second)
	require.NoError(t, err)
	_, err = Open(t.Context(), dir, "state", 3, time.Second)
	require.ErrorIs(t, err, ErrNewer)
	require.ErrorContains(t, err, newer.Path())
}

func TestFileThatIsGoneIsNotTakenForANewOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := testFile(t, dir)
	require.NoError(t, os.Remove(f.Path()))
	_, err := Open(t.Context(), dir, "state", 3, time.Second)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, f.Path())
	require.ErrorIs(t, add(f), ErrDamaged)
}

// FuzzDamagedFile: whatever became of the file, reading it gives the value or an error.
func FuzzDamagedFile(f *testing.F) {
	f.Add(0, byte(1))
	f.Add(4096+20, byte(0x80))
	f.Add(3*4096, byte(0xff))
	f.Fuzz(func(t *testing.T, at int, flip byte) {
		x := testFile(t, t.TempDir())
		require.NoError(t, add(x))
		raw, err := os.ReadFile(x.Path())
		require.NoError(t, err)
		raw[(at%len(raw)+len(raw))%len(raw)] ^= flip
		require.NoError(t, os.WriteFile(x.Path(), raw, 0o600))
		_ = x.View(t.Context(), func(tx *bolt.Tx) error {
			return x.Guard(func() error {
				if b := tx.Bucket([]byte("b")); b != nil {
					_ = b.Get([]byte("n"))
				}
				return nil
			})
		})
	})
}
