package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud/local"
	"lifeboat/internal/dial"
)

var updateGolden = flag.Bool("update", false, "write testdata/*.golden anew")

// TestMain lets this program stand in for the programs that dev starts: it is
// lifeboat, or a worker, by the name under which it is called.
func TestMain(m *testing.M) {
	local.RunHelper()
	switch filepath.Base(os.Args[0]) {
	case "lifeboat":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		status := Execute(ctx, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
		stop()
		os.Exit(status)
	case "lifeboat-worker":
		os.Exit(standInWorker(os.Args[1:]))
	}
	// No test may meet the Temporal or the dev of whoever runs it.
	for _, name := range []string{"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_PROFILE", dataEnv} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	if err := os.Setenv("TEMPORAL_CONFIG_FILE", "/nonexistent"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// result is what a command line gave.
type result struct {
	status   int
	out, err string
}

// run runs a command line against a house, as main would.
func run(t *testing.T, h house, args ...string) result {
	t.Helper()
	return runIn(t, h, nil, args...)
}

// runIn is run with environment variables.
func runIn(t *testing.T, h house, env map[string]string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	a := newApp(Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	a.env = func(name string) string { return env[name] }
	a.pace = time.Millisecond
	a.now = func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	if h != nil {
		a.connect = func(context.Context, dial.Options) (house, error) { return h, nil }
	}
	status := a.execute(context.WithoutCancel(t.Context()), args) // also from Cleanup
	return result{status, out.String(), errs.String()}
}

// done fails the test unless the command line succeeded.
func (r result) done(t *testing.T) result {
	t.Helper()
	require.Equal(t, statusDone, r.status, "stdout: %s\nstderr: %s", r.out, r.err)
	return r
}

// golden compares a text with testdata/NAME.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *updateGolden {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update")
	require.Equal(t, string(want), got)
}

func TestCommittedPagesAreTheGeneratedOnes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, nil, "gendocs", dir).done(t)
	fresh := readTree(t, dir)
	committed := readTree(t, filepath.Join("..", "docs", "cli"))
	require.Equal(t, fresh, committed, "run `go generate ./starter`")
}

func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	pages := map[string]string{}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		require.NoError(t, err)
		pages[entry.Name()] = string(content)
	}
	return pages
}

// TestEveryCommandHasHelpThatWorks walks the whole tree: each verb has a
// paragraph and examples, and the flags and arguments of the examples are right.
func TestEveryCommandHasHelpThatWorks(t *testing.T) {
	t.Parallel()
	pages := t.TempDir()
	run(t, nil, "gendocs", pages).done(t)
	line := regexp.MustCompile(`(?m)^  lifeboat ([^#\n]+)`)
	for name, page := range readTree(t, pages) {
		if strings.Contains(name, "completion") || strings.Count(name, "_") < 1 {
			continue
		}
		require.Contains(t, page, "### Synopsis", name)
		if strings.Count(name, "_") > 1 {
			require.Contains(t, page, "### Examples", name)
		}
		for _, match := range line.FindAllStringSubmatch(page, -1) {
			words := strings.Fields(strings.NewReplacer("'", "").Replace(match[1]))
			if words[0] == "dev" || len(words) > 1 && words[len(words)-1] == "[flags]" {
				continue
			}
			r := run(t, newFakeHouse(), append(unquoted(match[1]), "--help")...)
			require.Equal(t, statusDone, r.status, "%s: %s: %s", name, match[0], r.err)
		}
	}
}

// unquoted splits an example like a shell would.
func unquoted(text string) []string {
	var words []string
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(text, -1) {
		words = append(words, m[1]+m[2])
	}
	return words
}
