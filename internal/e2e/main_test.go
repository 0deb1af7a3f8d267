package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"lifeboat/activities/cloud/local"
	"lifeboat/internal/built"
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
	if *ready == "" {
		all, err := built.Build(context.Background(), dir)
		if err != nil {
			return err
		}
		programs.lifeboat, programs.temporal = all.Lifeboat, all.Temporal
		return os.Chmod(dir, 0o755) // the tests without rights run them, too
	}
	if programs.dir, err = filepath.Abs(*ready); err != nil {
		return err
	}
	programs.lifeboat = filepath.Join(programs.dir, "lifeboat")
	programs.temporal, err = temporalserver.Find(context.Background(), dir, zap.NewNop())
	return err
}
