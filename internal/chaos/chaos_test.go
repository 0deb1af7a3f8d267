package chaos

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/activities/cloud/local"
	"lifeboat/internal/built"
)

var (
	kills = flag.Int("chaos.kills", 0, "how many processes to kill (0 = a sample)")
	seed  = flag.Uint64("chaos.seed", 0, "seed of victims, steps and delays (0 = a new one)")
	raced = flag.Bool("chaos.race", false, "build the programs with the race detector")
)

var binaries built.Programs

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
		var flags []string
		if *raced {
			flags = []string{"-race"}
		}
		binaries, err = built.Build(context.Background(), dir, flags...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	return m.Run()
}

// TestChaos is the fault campaign on two local sites.
func TestChaos(t *testing.T) { campaignOn(t, Local, 25) }

// TestChaosOnAWS is the one on two regions of the double of AWS.
func TestChaosOnAWS(t *testing.T) { campaignOn(t, AWS, 10) }

// campaignOn runs a campaign. Its directory stays when it fails.
func campaignOn(t *testing.T, provider string, sample int) {
	number, enough := *seed, cmp.Or(*kills, sample)
	if number == 0 {
		number = uint64(time.Now().UnixNano())
	}
	dir, err := os.MkdirTemp("", "lifeboat-chaos-")
	require.NoError(t, err)
	t.Logf("seed %d: repeat with -run %s -args -chaos.seed=%d -chaos.kills=%d", number, t.Name(), number, enough)
	began := time.Now()
	summary, err := Run(t.Context(), Options{Provider: provider, Seed: number, Kills: enough, Dir: dir, Binaries: binaries,
		Log: func(format string, args ...any) {
			t.Logf("%7.1fs  "+format, append([]any{time.Since(began).Seconds()}, args...)...)
		}})
	t.Logf("%d kills %v in %d operations and %s; %d acknowledged writes; %d questions answered, %d operations started again",
		summary.Total(), summary.Kills, summary.Operations, summary.Took.Round(time.Second), summary.Acked, summary.Answers, summary.Repeats)
	require.NoError(t, err)
	require.GreaterOrEqual(t, summary.Total(), enough)
	require.NoError(t, os.RemoveAll(dir))
}

// TestTheSeedDecides draws the kills of two campaigns: the same seed gives the same.
func TestTheSeedDecides(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) (text string) {
		c, err := newCampaign(Options{Seed: seed})
		require.NoError(t, err)
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
