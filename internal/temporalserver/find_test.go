package temporalserver

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"
)

// tool writes a temporal that says it holds a server of that version.
func tool(t *testing.T, path, server string) string {
	t.Helper()
	return script(t, path, `echo "temporal version 1.5.1 (Server `+server+`, UI 2.42.1)"`)
}

// testFinder has directories of its own and a `go` that makes a fitting
// temporal and counts its runs in go.log.
func testFinder(t *testing.T) *finder {
	t.Helper()
	root := t.TempDir()
	f := &finder{
		besides: filepath.Join(root, "bin"), cache: filepath.Join(root, "cache"),
		log: zaptest.NewLogger(t), versions: versionOf,
	}
	f.goTool = script(t, filepath.Join(root, "go"), strings.Join([]string{
		`echo "$@" >> ` + root + `/go.log`,
		`test -s go.mod && test -s go.sum || exit 9`,
		`while [ "$1" != -o ]; do shift; done`,
		`printf '#!/bin/sh\necho "temporal version 1.5.1 (Server ` + ServerVersion + `, UI 2.42.1)"\n' > "$2"`,
		`chmod 700 "$2"`,
	}, "\n"))
	return f
}

func builds(t *testing.T, f *finder) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(filepath.Dir(f.goTool), "go.log"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func TestFindTakesTheFirstThatFits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		beside, onPath, written string
		want                    func(*finder) string
	}{
		"beside the program":          {"1.29.1", "1.29.1", "", func(f *finder) string { return filepath.Join(f.besides, "temporal") }},
		"on PATH, a later patch":      {"", "1.29.4", "", func(f *finder) string { return f.onPath }},
		"not another minor release":   {"1.30.0", "1.28.9", "", (*finder).built},
		"not older than the data":     {"1.29.1", "1.29.4", "1.29.2", func(f *finder) string { return f.onPath }},
		"built when there is nothing": {"", "", "", (*finder).built},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, data := testFinder(t), t.TempDir()
			if c.beside != "" {
				tool(t, filepath.Join(f.besides, "temporal"), c.beside)
			}
			if c.onPath != "" {
				f.onPath = tool(t, filepath.Join(t.TempDir(), "temporal"), c.onPath)
			}
			if c.written != "" {
				require.NoError(t, writeState(data, state{ServerVersion: c.written}))
			}
			got, err := f.find(t.Context(), data)
			require.NoError(t, err)
			require.Equal(t, c.want(f), got)
		})
	}
}

func TestFindByName(t *testing.T) {
	t.Parallel()
	f := testFinder(t)
	tool(t, filepath.Join(f.besides, "temporal"), "1.29.1")
	f.named = tool(t, filepath.Join(t.TempDir(), "mine"), "1.29.3")
	got, err := f.find(t.Context(), t.TempDir())
	require.NoError(t, err)
	require.Equal(t, f.named, got)

	f.named = tool(t, filepath.Join(t.TempDir(), "mine"), "1.31.0")
	_, err = f.find(t.Context(), t.TempDir())
	require.ErrorContains(t, err, EnvPath)
	require.ErrorContains(t, err, "1.31.0")

	f.named = script(t, filepath.Join(t.TempDir(), "mine"), "echo temporalis")
	_, err = f.find(t.Context(), t.TempDir())
	require.ErrorContains(t, err, "not the Temporal command line tool")
}

func TestBuildsOnce(t *testing.T) {
	t.Parallel()
	f := testFinder(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			path, err := f.find(context.Background(), t.TempDir())
			if err != nil || path != f.built() {
				t.Errorf("found %q, %v", path, err)
			}
		})
	}
	group.Wait()
	runs := builds(t, f)
	require.Len(t, runs, 1)
	require.Contains(t, runs[0], "-X github.com/temporalio/cli/temporalcli.Version="+CLIVersion())
	left, err := os.ReadDir(f.cache)
	require.NoError(t, err)
	require.Len(t, left, 2, "the tool and the lock, no half-made build")
}

func TestSaysHowToMendAMissingTool(t *testing.T) {
	t.Parallel()
	t.Run("no go", func(t *testing.T) {
		t.Parallel()
		f := testFinder(t)
		f.goTool = ""
		_, err := f.find(t.Context(), t.TempDir())
		require.ErrorContains(t, err, "install the Temporal command line tool "+CLIVersion())
		require.ErrorContains(t, err, EnvPath)
	})
	t.Run("a build that fails", func(t *testing.T) {
		t.Parallel()
		f := testFinder(t)
		script(t, f.goTool, "echo no space left on device >&2; exit 1")
		_, err := f.find(t.Context(), t.TempDir())
		require.ErrorContains(t, err, "no space left on device")
		require.ErrorContains(t, err, EnvPath)
		require.NoFileExists(t, f.built())
	})
	t.Run("data of a newer server than can be built", func(t *testing.T) {
		t.Parallel()
		f, data := testFinder(t), t.TempDir()
		require.NoError(t, writeState(data, state{ServerVersion: "1.29.9"}))
		_, err := f.find(t.Context(), data)
		require.ErrorIs(t, err, ErrNewerData)
		require.Empty(t, builds(t, f))
	})
}

// The copies that go into the program are the module in tools/temporal, and
// that module resolves to what the constants say.
func TestPinnedModule(t *testing.T) {
	t.Parallel()
	for name, copied := range map[string][]byte{"go.mod": pinnedMod, "go.sum": pinnedSum} {
		original, err := os.ReadFile(filepath.Join("..", "..", "tools", "temporal", name))
		require.NoError(t, err)
		require.Equal(t, string(original), string(copied), "run `go generate ./internal/temporalserver`")
	}
	require.Contains(t, string(pinnedMod), "go.temporal.io/server v"+ServerVersion+" ")
	require.NotPanics(t, func() { pinnedVersion() })

	module := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(module, "go.mod"), pinnedMod, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(module, "go.sum"), pinnedSum, 0o600))
	list := exec.CommandContext(t.Context(), "go", "list", "-mod=readonly", "-f", "{{.Name}} {{.Module.Version}}", cliModule+"/cmd/temporal")
	list.Dir = module
	out, err := list.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "main v"+CLIVersion()+"\n", string(out))
}
