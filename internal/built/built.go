// Package built makes the delivered programs for tests that drive them from outside.
package built

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"lifeboat/internal/temporalserver"
)

// Programs are the paths of what is delivered together.
type Programs struct{ Lifeboat, Worker, Temporal string }

// Build builds lifeboat and lifeboat-worker into dir, without C as they are delivered
// (flags, such as -race, go to go build), and finds Temporal: on a machine that never
// built it that takes minutes.
func Build(ctx context.Context, dir string, flags ...string) (Programs, error) {
	p := Programs{Lifeboat: filepath.Join(dir, "lifeboat"), Worker: filepath.Join(dir, "lifeboat-worker")}
	if err := build(ctx, p.Worker, "lifeboat/worker", flags); err != nil {
		return p, err
	}
	if err := Lifeboat(ctx, p.Lifeboat, flags...); err != nil {
		return p, err
	}
	finding, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	var err error
	p.Temporal, err = temporalserver.Find(finding, dir, zap.NewNop())
	return p, err
}

// Lifeboat builds lifeboat alone, for tests that need no Temporal.
func Lifeboat(ctx context.Context, path string, flags ...string) error {
	return build(ctx, path, "lifeboat/starter", flags)
}

func build(ctx context.Context, path, pkg string, flags []string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", path}, flags...), pkg)...)
	if len(flags) == 0 {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	return nil
}
