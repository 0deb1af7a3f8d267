package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"lifeboat/activities/cloud/local"
	"lifeboat/internal/temporalserver"
)

var ready = flag.String("e2e.bin", "", "directory with lifeboat and lifeboat-worker to test (default: they are built)")

// programs are what the tests run.
var programs struct{ dir, lifeboat, temporal string }

func TestMain(m *testing.M) {
	local.RunHelper()
	if len(os.Args) > 1 && os.Args[1] == boxArgument {
		os.Exit(runBox())
	}
	flag.Parse()
	os.Exit(run(m))
}

// run builds the programs, as they are delivered, and runs the tests.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lifeboat-e2e-bin-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

func prepare(dir string) (err error) {
	programs.dir = dir
	if *ready != "" {
		if programs.dir, err = filepath.Abs(*ready); err != nil {
			return err
		}
	} else {
		for name, pkg := range map[string]string{"lifeboat": "lifeboat/starter", "lifeboat-worker": "lifeboat/worker"} {
			build := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				return fmt.Errorf("build %s: %w: %s", pkg, err, out)
			}
		}
		if err := os.Chmod(dir, 0o755); err != nil { // the tests without rights run them, too
			return err
		}
	}
	programs.lifeboat = filepath.Join(programs.dir, "lifeboat")
	// Building Temporal takes minutes on a machine that never did.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	programs.temporal, err = temporalserver.Find(ctx, dir, zap.NewNop())
	return err
}
