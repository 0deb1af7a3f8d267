package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.uber.org/zap"
)

// EnvPath names the environment variable that holds the path of the Temporal
// command line tool to use; nothing else is looked at when it is set.
const EnvPath = "LIFEBOAT_TEMPORAL"

// Find gives the path of a Temporal command line tool whose server fits
// ServerVersion and is not older than the one that wrote dataDir: the one named
// by LIFEBOAT_TEMPORAL, else the first that fits of `temporal` beside the
// running program, on PATH, and in the user's cache. If none fits, the pinned
// tool is built into the cache, which takes minutes, needs Go and is told on
// log (nil is silent). dataDir need not exist yet.
func Find(ctx context.Context, dataDir string, log *zap.Logger) (string, error) {
	f, err := newFinder(log)
	if err != nil {
		return "", err
	}
	return f.find(ctx, dataDir)
}

// finder holds what Find takes from the process's surroundings.
type finder struct {
	named    string // LIFEBOAT_TEMPORAL
	besides  string // directory of the running program
	onPath   string // `temporal` on PATH, or empty
	cache    string // where the pinned tool is built
	goTool   string // path of go, or empty
	log      *zap.Logger
	versions func(context.Context, string) (Version, error)
}

func newFinder(log *zap.Logger) (*finder, error) {
	if log == nil {
		log = zap.NewNop()
	}
	f := &finder{named: os.Getenv(EnvPath), log: log, versions: versionOf}
	if exe, err := os.Executable(); err == nil {
		if exe, err = filepath.EvalSymlinks(exe); err == nil {
			f.besides = filepath.Dir(exe)
		}
	}
	// LookPath fails for "not there" and for "relative path"; both mean none.
	f.onPath, _ = exec.LookPath("temporal")
	f.goTool, _ = exec.LookPath("go")
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("no directory to build the Temporal server in: %w; set HOME or XDG_CACHE_HOME, or set %s to a temporal tool", err, EnvPath)
	}
	f.cache = filepath.Join(cache, "lifeboat", "temporal-"+CLIVersion())
	return f, nil
}

func (f *finder) find(ctx context.Context, dataDir string) (string, error) {
	needed := pinnedVersion()
	written := needed
	if s, ok, err := readState(dataDir); err != nil {
		return "", err
	} else if ok {
		if written, err = ParseVersion(s.ServerVersion); err != nil {
			return "", err
		}
	}
	if f.named != "" {
		v, err := f.versions(ctx, f.named)
		if err != nil {
			return "", fmt.Errorf("%s: %w", EnvPath, err)
		}
		if !v.fits(needed) {
			return "", fmt.Errorf("%s: %s has server %s; needed is %d.%d.%d or a later patch of it", EnvPath, f.named, v, needed.Major, needed.Minor, needed.Patch)
		}
		return f.named, nil
	}
	for _, path := range f.candidates() {
		v, err := f.versions(ctx, path)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		switch {
		case err != nil:
			f.log.Info("passed over a temporal tool", zap.String("path", path), zap.Error(err))
		case !v.fits(needed):
			f.log.Info("passed over a temporal tool: its server does not fit",
				zap.String("path", path), zap.Stringer("server", v), zap.Stringer("needed", needed))
		case v.Before(written):
			f.log.Info("passed over a temporal tool: a newer server wrote the data directory",
				zap.String("path", path), zap.Stringer("server", v), zap.Stringer("written", written))
		default:
			return path, nil
		}
	}
	if needed.Before(written) {
		return "", state{ServerVersion: written.String()}.checkVersion(dataDir, needed)
	}
	return f.build(ctx)
}

// candidates are the tools to look at, best first: those that exist.
func (f *finder) candidates() []string {
	var there []string
	for _, path := range []string{filepath.Join(f.besides, "temporal"), f.onPath, f.built()} {
		if path == "" || !filepath.IsAbs(path) {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			there = append(there, path)
		}
	}
	return there
}

// built is the path of the pinned tool in the cache.
func (f *finder) built() string { return filepath.Join(f.cache, "temporal") }

// errNoGo says what to do where the pinned tool cannot be built.
func (f *finder) errNoGo() error {
	return errors.New(strings.Join([]string{
		fmt.Sprintf("no Temporal server %s found: neither beside this program, nor on PATH, nor in %s,", ServerVersion, f.cache),
		"and without Go on PATH it cannot be built;",
		fmt.Sprintf("install the Temporal command line tool %s on PATH or beside this program, or set %s to it", CLIVersion(), EnvPath),
	}, " "))
}
