package main

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/volume"
)

// disk is a file that is copied in a test.
type disk struct {
	path   string
	writes byte
}

// newDisk makes a sparse file with some random data.
func newDisk(t *testing.T, bytes int64) *disk {
	t.Helper()
	d := &disk{path: filepath.Join(t.TempDir(), "source")}
	f, err := os.Create(d.path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(bytes))
	require.NoError(t, f.Close())
	for off := int64(0); off < bytes; off += 3 << 20 {
		d.write(t, off, int(min(1<<20, bytes-off)))
	}
	return d
}

// write puts n bytes at an offset that were never there before.
func (d *disk) write(t *testing.T, off int64, n int) {
	t.Helper()
	d.writes++
	b := make([]byte, n)
	_, err := rand.NewChaCha8([32]byte{d.writes, byte(len(d.path))}).Read(b)
	require.NoError(t, err)
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	require.NoError(t, err)
	old := []byte{0}
	_, err = f.ReadAt(old, off)
	require.True(t, err == nil || errors.Is(err, io.EOF), err)
	b[0] = old[0] + 1
	_, err = f.WriteAt(b, off)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func requireSame(t *testing.T, source *disk, target string) {
	t.Helper()
	a, err := os.ReadFile(source.path)
	require.NoError(t, err)
	b, err := os.ReadFile(target)
	require.NoError(t, err)
	require.True(t, string(a) == string(b), "%s differs from %s", target, source.path)
}

// copied runs `copy --json` and gives its result.
func copied(t *testing.T, args ...string) copyResult {
	t.Helper()
	return parseCopied(t, run(t, nil, append([]string{"copy", "--json"}, args...)...).done(t).out)
}

func parseCopied(t *testing.T, out string) (r copyResult) {
	t.Helper()
	require.Equal(t, 1, strings.Count(out, "\n"), "one line: %s", out)
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&r))
	return r
}

func TestCopyHereThenOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	source := newDisk(t, 20<<20+777)
	dir := t.TempDir()
	target, state := filepath.Join(dir, "target"), filepath.Join(dir, "state")
	first := copied(t, source.path, target, "--state", state)
	requireSame(t, source, target)
	require.True(t, strings.HasPrefix(first.Root, "blake3:"), first.Root)
	require.LessOrEqual(t, first.Changed, first.Scanned)

	again := copied(t, source.path, target, "--state", state)
	require.Equal(t, first.Root, again.Root)
	require.Zero(t, again.Sent)
	require.Zero(t, again.Changed)
	require.Equal(t, first.Scanned, again.Skipped)

	source.write(t, 5<<20, 100)
	source.write(t, 20<<20, 777)
	changed := copied(t, source.path, target, "--state", state)
	requireSame(t, source, target)
	require.EqualValues(t, 4096+777, changed.Changed)
	require.NotEqual(t, first.Root, changed.Root)
}

func TestCopyWithoutStateComparesBothEnds(t *testing.T) {
	t.Parallel()
	source := newDisk(t, 10<<20)
	target := filepath.Join(t.TempDir(), "target")
	copied(t, source.path, target)
	source.write(t, 3<<20, 1)
	r := copied(t, source.path, target)
	requireSame(t, source, target)
	require.LessOrEqual(t, r.Changed, int64(block.Piece))
}

// Grown and shrunk sources, and targets that others wrote to: the state is not believed, and all is
// mended.
func TestCopyMendsWhatIsNotAsItWas(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, source *disk, target string){
		"grown": func(t *testing.T, s *disk, _ string) {
			require.NoError(t, os.Truncate(s.path, 14<<20+5))
			s.write(t, 14<<20, 5)
		},
		"shrunk":        func(t *testing.T, s *disk, _ string) { require.NoError(t, os.Truncate(s.path, 7<<20+5)) },
		"target edited": func(t *testing.T, _ *disk, target string) { (&disk{path: target, writes: 99}).write(t, 6<<20, 10) },
		"target gone":   func(t *testing.T, _ *disk, target string) { require.NoError(t, os.Remove(target)) },
		"target cut":    func(t *testing.T, _ *disk, target string) { require.NoError(t, os.Truncate(target, 4<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := newDisk(t, 11<<20)
			dir := t.TempDir()
			target, state := filepath.Join(dir, "target"), filepath.Join(dir, "state")
			copied(t, source.path, target, "--state", state)
			change(t, source, target)
			copied(t, source.path, target, "--state", state)
			requireSame(t, source, target)
			require.Zero(t, copied(t, source.path, target, "--state", state).Sent)
		})
	}
}

func TestCopyWithAListOfChangesReadsNothingElse(t *testing.T) {
	t.Parallel()
	source := newDisk(t, 20<<20)
	dir := t.TempDir()
	target, state, list := filepath.Join(dir, "target"), filepath.Join(dir, "state"), filepath.Join(dir, "changes")
	first := copied(t, source.path, target, "--state", state)
	source.write(t, 9<<20, 5000)
	require.NoError(t, os.WriteFile(list, []byte("# of a dirty bitmap\n9437184 5000\n"), 0o600))
	r := copied(t, source.path, target, "--state", state, "--changes", list, "--since", first.Root)
	requireSame(t, source, target)
	require.True(t, r.Tracked)
	require.EqualValues(t, 8192, r.Changed)
	require.LessOrEqual(t, r.Scanned, int64(block.Piece))

	// Nothing changed: nothing is read.
	require.NoError(t, os.WriteFile(list, nil, 0o600))
	idle := copied(t, source.path, target, "--state", state, "--changes", list, "--since", r.Root)
	require.True(t, idle.Tracked)
	require.Zero(t, idle.Scanned)
	require.Equal(t, r.Root, idle.Root)

	// The list is of another state: all is read, and it is said.
	source.write(t, 12<<20, 1)
	out := run(t, nil, "copy", source.path, target, "--json", "--state", state, "--changes", list, "--since", first.Root).done(t)
	require.Contains(t, out.err, "read in full")
	require.False(t, parseCopied(t, out.out).Tracked)
	requireSame(t, source, target)
}

func TestDamagedStateCostsReadingOnly(t *testing.T) {
	t.Parallel()
	source := newDisk(t, 10<<20)
	dir := t.TempDir()
	target, state := filepath.Join(dir, "target"), filepath.Join(dir, "state")
	copied(t, source.path, target, "--state", state)
	for _, name := range []string{"source.tree", "source.digests", "target.tree"} {
		path := filepath.Join(state, name)
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		for i := range min(len(raw), 9000) {
			raw[i] ^= 0x55
		}
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		source.write(t, 3<<20, 1)
		r := copied(t, source.path, target, "--state", state)
		requireSame(t, source, target)
		require.LessOrEqual(t, r.Changed, int64(block.Region), "%s: not a full copy", name)
	}
}

func TestChangesAreParsedStrictly(t *testing.T) {
	t.Parallel()
	got, err := parseChanges(strings.NewReader("# map\n\n0 4096\n 8192\t10 # tail\n"))
	require.NoError(t, err)
	require.Equal(t, []volume.Extent{{Offset: 0, Length: 4096}, {Offset: 8192, Length: 10}}, got)
	got, err = parseChanges(strings.NewReader(""))
	require.NoError(t, err)
	require.NotNil(t, got)
	for text, want := range map[string]string{
		"0 1\n5":                      "line 2: 1 words",
		"0 1 2":                       "line 1: 3 words",
		"0x10 5":                      `offset "0x10"`,
		"-1 5":                        `offset "-1"`,
		"+1 5":                        `offset "+1"`,
		"1 4k":                        `length "4k"`,
		"9223372036854775807 1":       "ends behind all volumes",
		"9223372036854775808 1":       "offset",
		strings.Repeat("1", 1<<17):    "line 1: too long",
		"0 1\n" + "\x00\x01\x02 4096": "line 2",
	} {
		_, err := parseChanges(strings.NewReader(text))
		require.ErrorContains(t, err, want, text[:min(len(text), 40)])
	}
}

func FuzzChanges(f *testing.F) {
	f.Add("0 4096\n# x\n8192 1")
	f.Add("9223372036854775807 0")
	f.Fuzz(func(t *testing.T, text string) {
		changes, err := parseChanges(strings.NewReader(text))
		for _, e := range changes {
			require.True(t, e.Offset >= 0 && e.Length >= 0 && e.End() >= e.Offset)
		}
		require.Equal(t, err == nil, changes != nil)
	})
}

func TestWrongUseOfCopyIsRefused(t *testing.T) {
	t.Parallel()
	source := newDisk(t, 1<<20)
	dir := t.TempDir()
	target, list := filepath.Join(dir, "target"), filepath.Join(dir, "changes")
	require.NoError(t, os.WriteFile(list, []byte("0 4096\n4096 x\n"), 0o600))
	root := "blake3:" + strings.Repeat("ab", 32)
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Link(source.path, link))
	for want, args := range map[string][]string{
		"accepts 2 arg(s)":       {source.path},
		"same volume":            {source.path, link},
		"--compress":             {source.path, target, "--compress", "fast"},
		"--lanes":                {source.path, target, "--lanes", "17"},
		"--retry":                {source.path, target, "--retry", "-1s"},
		"--io-priority":          {source.path, target, "--io-priority", "high"},
		"go together":            {source.path, target, "--changes", list},
		"not a root":             {source.path, target, "--changes", list, "--since", "abc"},
		"needs --state":          {source.path, target, "--changes", list, "--since", root},
		`line 2: length "x"`:     {source.path, target, "--changes", list, "--since", root, "--state", dir},
		"no such file":           {source.path, target, "--changes", "/nonexistent", "--since", root, "--state", dir},
		"of the bandwidth":       {source.path, target, "--bandwidth", "50"},
		"nothing could be sent":  {source.path, target, "--bandwidth", "mon 0MiB/s"},
		"are paths here":         {source.path, target, "--insecure-plaintext"},
		"--peer is missing":      {source.path, "127.0.0.1:1"},
		"not a loopback address": {source.path, "192.0.2.1:7480", "--insecure-plaintext"},
		"uses no keys":           {source.path, "127.0.0.1:1", "--insecure-plaintext", "--peer", "sha256:" + strings.Repeat("ab", 32)},
		"neither a fingerprint":  {source.path, "127.0.0.1:1", "--peer", "/nonexistent"},
	} {
		r := run(t, nil, append([]string{"copy"}, args...)...)
		require.Equal(t, statusUsage, r.status, "%v: %s", args, r.err)
		require.Contains(t, r.err, want)
		require.Empty(t, r.out)
		require.NoFileExists(t, target)
	}
	for want, args := range map[string][]string{
		"not a loopback address": {target, "--listen", "0.0.0.0:7480", "--insecure-plaintext"},
		`"listen" not set`:       {target},
		"missing port":           {target, "--listen", "127.0.0.1", "--insecure-plaintext"},
	} {
		r := run(t, nil, append([]string{"copy", "receive"}, args...)...)
		require.Equal(t, statusUsage, r.status, r.err)
		require.Contains(t, r.err, want)
	}
	r := run(t, nil, "copy", filepath.Join(dir, "missing"), target)
	require.Equal(t, statusFailed, r.status)
	require.Contains(t, r.err, "no such file")
}

func TestCopyKeyIsMadeOnceAndPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sub", "copy.key")
	first := run(t, nil, "copy", "key", path).done(t).out
	require.Regexp(t, `^sha256:[0-9a-f]{64}\n$`, first)
	require.Equal(t, first, run(t, nil, "copy", "key", path).done(t).out)
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, st.Mode().Perm())
}

func TestCopyForPeopleEndsWithTheRoot(t *testing.T) {
	t.Parallel()
	source := newDisk(t, 1<<20)
	r := run(t, nil, "copy", source.path, filepath.Join(t.TempDir(), "target"), "--lanes", "3", "--io-priority", "idle", "--compress", "always").done(t)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	require.Contains(t, lines[0], "READ")
	require.True(t, strings.HasPrefix(lines[len(lines)-1], "blake3:"), r.out)
	require.Empty(t, r.err)
}

func TestBandwidthOfACopyIsKept(t *testing.T) {
	t.Parallel()
	source := newDisk(t, 12<<20)
	r := copied(t, source.path, filepath.Join(t.TempDir(), "target"), "--bandwidth", "mon-sun 2MiB/s, else 1MiB/s")
	require.InEpsilon(t, float64(r.Sent)/(2<<20), r.Seconds, 0.25) // with what is around it
}

func TestCopyFlagsAreCompleted(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{"--compress": "always", "--io-priority": "idle"} {
		require.Contains(t, run(t, nil, "__complete", "copy", flag, "").done(t).out, want)
	}
	require.Contains(t, run(t, nil, "__complete", "copy", "").done(t).out, "receive")
}

func TestProgressIsOneLine(t *testing.T) {
	t.Parallel()
	text := copyState{done: 1 << 30, total: 4 << 30, rate: 1 << 29, changed: 1 << 20, sent: 1 << 19, skipped: 1 << 30, bottleneck: delta.WaitsForCPU}.String()
	require.Equal(t, "25.0 %  1GiB of 4GiB  512MiB/s  left 6.0s  changed 1MiB  sent 512KiB  same 1GiB  waits for CPU", text)
}
