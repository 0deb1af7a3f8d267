package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/volume"
)

// compared runs `compare -o json`.
func compared(t *testing.T, status int, args ...string) (c comparison) {
	t.Helper()
	r := run(t, nil, append([]string{"compare", "-o", "json"}, args...)...)
	require.Equal(t, status, r.status, r.err)
	decoder := json.NewDecoder(strings.NewReader(r.out))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&c), r.out)
	require.Equal(t, status == statusDone, c.Equal)
	return c
}

// twins are two equal volumes, and where the second was changed then.
func twins(t *testing.T) (a, b *disk, changed []volume.Extent) {
	t.Helper()
	a = newDisk(t, 20<<20+100)
	b = &disk{path: filepath.Join(t.TempDir(), "b"), writes: 99}
	raw, err := os.ReadFile(a.path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(b.path, raw, 0o600))
	for _, off := range []int64{0, 4096*3 + 17, 4096 * 4, 7<<20 - 1, 19 << 20, 20<<20 + 99} {
		b.write(t, off, 1)
	}
	return a, b, []volume.Extent{{Offset: 0, Length: 4096}, {Offset: 12288, Length: 8192}, {Offset: 7<<20 - 4096, Length: 4096},
		{Offset: 19 << 20, Length: 4096}, {Offset: 20 << 20, Length: 100}}
}

func TestCompareFindsExactlyTheChangedBlocks(t *testing.T) {
	t.Parallel()
	a, b, changed := twins(t)
	require.Equal(t, changed, compared(t, statusFailed, a.path, b.path).Ranges)
	same := compared(t, statusDone, a.path, a.path)
	require.Empty(t, same.Ranges)

	few := compared(t, statusFailed, a.path, b.path, "--blocks", "2")
	require.Equal(t, changed[:2], few.Ranges)
	require.EqualValues(t, 5, few.Count)
	require.EqualValues(t, 6, few.Blocks)
	require.EqualValues(t, 5*4096+100, few.Bytes)

	text := run(t, nil, "compare", a.path, b.path, "--blocks", "1")
	require.Equal(t, statusFailed, text.status)
	require.Contains(t, text.out, "and 4 more ranges")
	require.Contains(t, text.err, "differ in 6 blocks")
}

// The same answer, whichever side is elsewhere, in clear and encrypted.
func TestCompareWithAnotherHost(t *testing.T) {
	t.Parallel()
	a, b, changed := twins(t)
	p := newPair(t, 1<<20)
	p.target = b.path
	before, err := os.ReadFile(b.path)
	require.NoError(t, err)
	secure := p.receive(t)
	keys := []string{"--key", p.ka, "--peer", p.fb}
	require.Equal(t, changed, compared(t, statusFailed, append(keys, a.path, secure.address)...).Ranges)
	require.Equal(t, changed, compared(t, statusFailed, append(keys, secure.address, a.path)...).Ranges)
	compared(t, statusDone, append(keys, b.path, secure.address)...)

	plain := receive(t, p.program, b.path, "--listen", "127.0.0.1:0", "--insecure-plaintext")
	other := receive(t, p.program, a.path, "--listen", "127.0.0.1:0", "--insecure-plaintext")
	require.Equal(t, changed, compared(t, statusFailed, "--insecure-plaintext", a.path, plain.address).Ranges)
	require.Equal(t, changed, compared(t, statusFailed, "--insecure-plaintext", other.address, plain.address).Ranges)
	after, err := os.ReadFile(b.path)
	require.NoError(t, err)
	require.True(t, string(before) == string(after), "nothing is written")
}

func TestCompareOfDifferentSizes(t *testing.T) {
	t.Parallel()
	a, b, _ := twins(t)
	raw, err := os.ReadFile(a.path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(b.path, append(raw, make([]byte, 5000)...), 0o600))
	want := []volume.Extent{{Offset: 20<<20 + 100, Length: 5000}}
	c := compared(t, statusFailed, a.path, b.path)
	require.Equal(t, want, c.Ranges)
	require.Equal(t, c.SizeA+5000, c.SizeB)
	p := newPair(t, 1<<20)
	r := receive(t, p.program, b.path, "--listen", "127.0.0.1:0", "--insecure-plaintext")
	require.Equal(t, want, compared(t, statusFailed, "--insecure-plaintext", a.path, r.address).Ranges)
	require.Equal(t, want, compared(t, statusFailed, "--insecure-plaintext", r.address, a.path).Ranges)
	require.NoError(t, os.Truncate(b.path, 0))
	require.EqualValues(t, c.SizeA, compared(t, statusFailed, "--insecure-plaintext", a.path, r.address).Bytes)
}

func TestWhatCannotBeComparedIsNotCalledDifferent(t *testing.T) {
	t.Parallel()
	a, _, _ := twins(t)
	for want, args := range map[string][]string{
		"no such file":     {a.path, "/nonexistent"},
		"neither a file":   {a.path, t.TempDir()},
		"accepts 2 arg(s)": {a.path},
		"--blocks":         {a.path, a.path, "--blocks", "-1"},
		"are paths here":   {a.path, a.path, "--insecure-plaintext"},
		"refused":          {a.path, "127.0.0.1:1", "--insecure-plaintext"},
	} {
		r := run(t, nil, append([]string{"compare"}, args...)...)
		require.Equal(t, statusUsage, r.status, r.err)
		require.Contains(t, r.err, want)
		require.Empty(t, r.out)
	}
}
