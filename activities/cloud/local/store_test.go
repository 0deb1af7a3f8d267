package local

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/activities/cloud"
)

func testStore(t *testing.T, dir string) *store {
	t.Helper()
	s, err := openStore(t.Context(), dir, stateName, 10*time.Second)
	require.NoError(t, err)
	return s
}

func TestStoreKeepsWhatWasWrittenAndNothingOfAFailedTransaction(t *testing.T) {
	t.Parallel()
	s := testStore(t, t.TempDir())
	require.NoError(t, s.update(t.Context(), func(t *tx) error { return t.put("b", "x", map[string]int{"n": 1}) }))
	refused := cloud.E(cloud.InvalidInput, "Test", "x", "no", "", nil)
	require.ErrorIs(t, s.update(t.Context(), func(t *tx) error {
		if err := t.put("b", "x", map[string]int{"n": 2}); err != nil {
			return err
		}
		return refused
	}), refused)
	var v map[string]int
	require.NoError(t, s.view(t.Context(), func(t *tx) error { _, err := t.get("b", "x", &v); return err }))
	require.Equal(t, 1, v["n"])
}

func TestWaitingForTheStoreEndsWithTheContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, other := testStore(t, dir), testStore(t, dir)
	release, err := other.file.Hold(t.Context())
	require.NoError(t, err)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = s.update(ctx, func(*tx) error { return nil })
	require.Equal(t, cloud.Unavailable, cloud.CodeOf(err))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestStoreOfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := testStore(t, dir)
	require.NoError(t, s.update(t.Context(), func(t *tx) error { return t.put(metaBucket, "format", storeFormat+1) }))
	before, err := os.ReadFile(s.file.Path())
	require.NoError(t, err)
	_, err = openStore(t.Context(), dir, stateName, time.Second)
	require.Equal(t, cloud.NewerState, cloud.CodeOf(err))
	require.ErrorContains(t, err, s.file.Path())
	require.Error(t, s.update(t.Context(), func(t *tx) error { return t.put("b", "x", 1) }))
	after, err := os.ReadFile(s.file.Path())
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestDamagedStoreIsAnErrorThatNamesTheFile(t *testing.T) {
	t.Parallel()
	damages := map[string]func(path string) error{
		"both headers": func(path string) error { return scribble(path, 0, 2*os.Getpagesize()) },
		"pages":        func(path string) error { return scribble(path, 2*os.Getpagesize(), 6*os.Getpagesize()) },
		"cut off":      func(path string) error { return os.Truncate(path, int64(2*os.Getpagesize())+100) },
		"emptied":      func(path string) error { return os.Truncate(path, 0) },
		"removed":      os.Remove,
		"other file":   func(path string) error { return os.WriteFile(path, []byte("not a store"), 0o600) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := testStore(t, dir)
			require.NoError(t, s.update(t.Context(), func(t *tx) error { return t.put("b", "x", 1) }))
			require.NoError(t, damage(s.file.Path()))
			_, err := openStore(t.Context(), dir, stateName, time.Second)
			if err == nil {
				err = s.update(t.Context(), func(t *tx) error { return t.put("b", "y", 2) })
			}
			require.Equal(t, cloud.Corrupt, cloud.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, s.file.Path())
		})
	}
}

func scribble(path string, from, to int) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := from; i < min(to, len(raw)); i++ {
		raw[i] ^= 0xa5
	}
	return os.WriteFile(path, raw, 0o600)
}

func TestTokensGiveTheSameResourceAgain(t *testing.T) {
	t.Parallel()
	s := testStore(t, t.TempDir())
	claim := func(token string, request any) (id string, old bool, err error) {
		err = s.update(t.Context(), func(t *tx) (err error) {
			id, old, err = t.claim("Test", cloud.KindDisk, token, request)
			return err
		})
		return id, old, err
	}
	first, old, err := claim("t", "r")
	require.NoError(t, err)
	require.False(t, old)
	again, old, err := claim("t", "r")
	require.NoError(t, err)
	require.True(t, old)
	require.Equal(t, first, again)
	_, _, err = claim("t", "other")
	require.Equal(t, cloud.TokenMismatch, cloud.CodeOf(err))
	_, _, err = claim("", "r")
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))

	require.NoError(t, s.update(t.Context(), func(t *tx) error { return t.retire(cloud.KindDisk, "t") }))
	_, _, err = claim("t", "r")
	require.Equal(t, cloud.NotFound, cloud.CodeOf(err), "a token never makes a second resource")
	now := time.Now()
	require.NoError(t, s.update(t.Context(), func(t *tx) error {
		return t.put(ledgerBucket, "t", ledgerRecord{Entry: cloud.Entry{Token: "t", Deleted: &now}})
	}))
	require.NoError(t, s.update(t.Context(), func(t *tx) error { return t.sweep(now.Add(2 * tokenLife)) }))
	require.NoError(t, s.view(t.Context(), func(tx *tx) error {
		found, err := tx.get(ledgerBucket, "t", &ledgerRecord{})
		require.False(t, found, "nor do their ledger entries")
		return err
	}))
	third, old, err := claim("t", "r")
	require.NoError(t, err)
	require.False(t, old, "tokens of deleted resources do not pile up")
	require.NotEqual(t, first, third)
}

func TestSiteThatCannotBeWrittenNamesDirectoryUserAndMend(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(t.Context(), cloud.Site{Name: "s", Directory: filepath.Join(file, "site")}, Options{})
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))
	require.ErrorContains(t, err, file)
	_, err = Open(t.Context(), cloud.Site{Name: "s"}, Options{})
	require.Equal(t, cloud.InvalidInput, cloud.CodeOf(err))

	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o500))
	failed := make(chan error, 1)
	go func() {
		// Root may write everywhere: this thread acts as nobody on files, and ends with the goroutine.
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			if err := unix.Setfsuid(65534); err != nil {
				failed <- err
				return
			}
		}
		_, err := Open(context.Background(), cloud.Site{Name: "s", Directory: dir}, Options{})
		failed <- err
	}()
	err = <-failed
	require.Equal(t, cloud.Denied, cloud.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, userName())
	require.ErrorContains(t, err, "chown")
}

// FuzzStoredState: whatever a store holds, reading it is an error or a value.
func FuzzStoredState(f *testing.F) {
	seed, err := json.Marshal(diskRecord{Disk: cloud.Disk{Resource: cloud.Resource{ID: "disk-1", State: cloud.Available}, Bytes: 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, 0, byte(0))
	f.Add([]byte(`{"bytes":"x"}`), 5000, byte(7))
	f.Add([]byte{0xff}, 0, byte(1))
	f.Fuzz(func(t *testing.T, value []byte, at int, flip byte) {
		dir := t.TempDir()
		s := testStore(t, dir)
		if err := s.update(t.Context(), func(x *tx) error {
			b, err := x.bucket(diskBucket)
			if err != nil {
				return err
			}
			return b.Put([]byte("disk-1"), value)
		}); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(s.file.Path())
		if err != nil {
			t.Fatal(err)
		}
		if at < 0 {
			at = -(at + 1)
		}
		raw[at%len(raw)] ^= flip
		if err := os.WriteFile(s.file.Path(), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		var r diskRecord
		err = s.view(t.Context(), func(x *tx) error { _, err := x.get(diskBucket, "disk-1", &r); return err })
		if code := cloud.CodeOf(err); err != nil && code != cloud.Corrupt && code != cloud.NewerState {
			t.Fatalf("neither a value nor damage: %v", err)
		}
	})
}
