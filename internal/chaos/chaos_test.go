package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"lifeboat/activities/cloud/local"
	"lifeboat/internal/temporalserver"
)

var (
	kills = flag.Int("chaos.kills", 25, "how many processes to kill")
	seed  = flag.Uint64("chaos.seed", 0, "seed of victims, steps and delays (0 = a new one)")
	raced = flag.Bool("chaos.race", false, "build the programs with the race detector")
)

var built Binaries

func TestMain(m *testing.M) {
	local.RunHelper()
	flag.Parse()
	os.Exit(run(m))
}

// run builds the programs, as they are delivered, and runs the tests.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lifeboat-bin-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	return m.Run()
}

func build(dir string) (err error) {
	built = Binaries{Lifeboat: filepath.Join(dir, "lifeboat"), Worker: filepath.Join(dir, "lifeboat-worker")}
	for path, pkg := range map[string]string{built.Lifeboat: "lifeboat/starter", built.Worker: "lifeboat/worker"} {
		args := []string{"build", "-o", path}
		if *raced {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", pkg, err, out)
		}
	}
	// Building Temporal takes minutes on a machine that never did.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	built.Temporal, err = temporalserver.Find(ctx, dir, zap.NewNop())
	return err
}

// TestChaos is the fault campaign. Its directory stays when it fails.
func TestChaos(t *testing.T) {
	number := *seed
	if number == 0 {
		number = uint64(time.Now().UnixNano())
	}
	dir, err := os.MkdirTemp("", "lifeboat-chaos-")
	require.NoError(t, err)
	t.Logf("seed %d: repeat with -chaos.seed=%d -chaos.kills=%d", number, number, *kills)
	began := time.Now()
	summary, err := Run(t.Context(), Options{Seed: number, Kills: *kills, Dir: dir, Binaries: built,
		Log: func(format string, args ...any) {
			t.Logf("%7.1fs  "+format, append([]any{time.Since(began).Seconds()}, args...)...)
		}})
	t.Logf("%d kills %v in %d operations and %s; %d acknowledged writes; %d questions answered, %d operations started again",
		summary.Total(), summary.Kills, summary.Operations, summary.Took.Round(time.Second), summary.Acked, summary.Answers, summary.Repeats)
	require.NoError(t, err)
	require.GreaterOrEqual(t, summary.Total(), *kills)
	require.NoError(t, os.RemoveAll(dir))
}

// TestTheSeedDecides draws the kills of two campaigns: the same seed gives the same.
func TestTheSeedDecides(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) (text string) {
		c := newCampaign(Options{Seed: seed})
		for range 3 {
			for _, s := range c.lifeCycle() {
				text += fmt.Sprintln(s.name, c.draw(s))
			}
		}
		return text
	}
	require.Equal(t, draw(7), draw(7))
	require.NotEqual(t, draw(7), draw(8))
}
