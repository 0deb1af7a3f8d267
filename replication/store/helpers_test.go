package store

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/volume"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func head(t testing.TB, s *Store, name string, size int64, base string) *Head {
	t.Helper()
	h, err := s.OpenTarget(name, size, base)
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func write(t testing.TB, v volume.Target, p []byte, off int64) {
	t.Helper()
	n, err := v.WriteAt(p, off)
	require.NoError(t, err)
	require.Equal(t, len(p), n)
}

// random gives the same bytes for the same seed.
func random(seed uint64, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 7}).Read(p) // never fails
	return p
}

// contents reads all of a volume, by its data ranges: what is outside of them is zeros.
func contents(t testing.TB, v volume.Source) []byte {
	t.Helper()
	out := make([]byte, v.Size())
	for off := int64(0); ; {
		start, end, err := v.NextData(off)
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		require.NoError(t, volume.ReadFull(v, out[start:end], start))
		off = end
	}
}

func pointContents(t testing.TB, s *Store, id string) []byte {
	t.Helper()
	p, err := s.OpenPoint(id)
	require.NoError(t, err)
	defer p.Close()
	return contents(t, p)
}

// allocated is the space that the packs take.
func allocated(t testing.TB, s *Store) (bytes int64) {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(s.dir, packDir, "*.pack"))
	require.NoError(t, err)
	for _, path := range packs {
		info, err := os.Stat(path)
		require.NoError(t, err)
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	return bytes
}

func requireEmpty(t testing.TB, s *Store) {
	t.Helper()
	require.NoError(t, s.Check())
	u, err := s.Usage()
	require.NoError(t, err)
	u.IndexBytes = 0
	require.Equal(t, Usage{}, u)
	entries, err := os.ReadDir(filepath.Join(s.dir, packDir))
	require.NoError(t, err)
	require.Empty(t, entries)
}
