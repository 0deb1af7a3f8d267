package temporalserver

import (
	"bytes"
	"context"
	_ "embed" // the pinned module
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

//go:generate cp ../../tools/temporal/go.mod pinned/go.mod.txt
//go:generate cp ../../tools/temporal/go.sum pinned/go.sum.txt

// The module of the pinned tool, so that a program without its source tree can
// build it. go:embed cannot reach into another module, hence the copies, which
// a test compares with tools/temporal.
var (
	//go:embed pinned/go.mod.txt
	pinnedMod []byte
	//go:embed pinned/go.sum.txt
	pinnedSum []byte
)

const cliModule = "github.com/temporalio/cli"

var cliVersion = regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(cliModule) + ` v(\d+\.\d+\.\d+)`)

// CLIVersion is the release of the Temporal command line tool that is pinned.
func CLIVersion() string {
	m := cliVersion.FindSubmatch(pinnedMod)
	if m == nil {
		panic("pinned/go.mod.txt requires no " + cliModule)
	}
	return string(m[1])
}

// build makes the pinned tool in the cache and gives its path. Several
// processes may ask at once: one builds, the others wait for it.
func (f *finder) build(ctx context.Context) (string, error) {
	if f.goTool == "" {
		return "", f.errNoGo()
	}
	if err := os.MkdirAll(f.cache, 0o700); err != nil {
		return "", fmt.Errorf("build the Temporal server: %w", err)
	}
	lock, err := waitLock(ctx, filepath.Join(f.cache, "build.lock"))
	if err != nil {
		return "", fmt.Errorf("build the Temporal server: wait for another build: %w", err)
	}
	defer lock.Close()
	// Another process may have built it while this one waited.
	if v, err := f.versions(ctx, f.built()); err == nil && v.fits(pinnedVersion()) {
		return f.built(), nil
	}
	return f.built(), f.compile(ctx)
}

// compile runs go build in a module that holds nothing but the pinned
// requirement, and puts the result in place in one step.
func (f *finder) compile(ctx context.Context) error {
	module, err := os.MkdirTemp(f.cache, "build-")
	if err != nil {
		return fmt.Errorf("build the Temporal server: %w", err)
	}
	defer os.RemoveAll(module)
	for name, data := range map[string][]byte{"go.mod": pinnedMod, "go.sum": pinnedSum} {
		if err := os.WriteFile(filepath.Join(module, name), data, 0o600); err != nil {
			return fmt.Errorf("build the Temporal server: %w", err)
		}
	}
	f.log.Info("building the Temporal server, once; this takes about 2 minutes",
		zap.String("cli", CLIVersion()), zap.String("server", ServerVersion), zap.String("into", f.cache))
	began := time.Now()
	stop := f.tellProgress(began)
	out := filepath.Join(module, "temporal")
	// The flags are those of the Makefile, so that either finds the other's
	// work in Go's build cache.
	cmd := exec.CommandContext(ctx, f.goTool, "build", "-mod=readonly", "-trimpath",
		"-ldflags", "-s -w -X "+cliModule+"/temporalcli.Version="+CLIVersion(), "-o", out, cliModule+"/cmd/temporal")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	said, err := cmd.CombinedOutput()
	stop()
	if ctx.Err() != nil {
		return fmt.Errorf("build the Temporal server: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("build the Temporal server: %w: %s; mend what go says, or install the Temporal command line tool %s and set %s to it",
			err, bytes.TrimSpace([]byte(tail(said, 2000))), CLIVersion(), EnvPath)
	}
	if err := os.Rename(out, f.built()); err != nil {
		return fmt.Errorf("build the Temporal server: %w", err)
	}
	f.log.Info("built the Temporal server", zap.String("path", f.built()), zap.Duration("took", time.Since(began).Round(time.Second)))
	return nil
}

// tellProgress says every 15 s that the build goes on, until stop is called.
func (f *finder) tellProgress(began time.Time) (stop func()) {
	done := make(chan struct{})
	tick := time.NewTicker(15 * time.Second)
	go func() {
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				f.log.Info("still building the Temporal server", zap.Duration("for", time.Since(began).Round(time.Second)))
			}
		}
	}()
	return func() { close(done) }
}

// waitLock takes an exclusive lock on the file at path, which it creates, and
// waits for it until ctx ends. Closing the file, or the end of every process
// that inherited it, releases the lock.
func waitLock(ctx context.Context, path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}
