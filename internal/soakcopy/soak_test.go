package soakcopy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/internal/built"
	"lifeboat/replication/deltatest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

var (
	cases = flag.Int("soak.cases", 0, "random cases in one process")
	kills = flag.Int("soak.kills", 12, "kills of the delivered program")
	seed  = flag.Uint64("soak.seed", 0, "seed of the first case and of the kills (0 = a new one)")
)

func firstSeed() uint64 {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano()) % 1e9
	}
	return *seed
}

// Each case is as in the model test of the engine; there is a sample of them there.
func TestCases(t *testing.T) {
	if *cases == 0 {
		*cases = 20 // that they are found and run; many are run on demand
	}
	first := firstSeed()
	t.Logf("cases %d to %d; repeat one with -soak.seed=N -soak.cases=1", first, first+uint64(*cases)-1)
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0)) // a case waits for its timers now and then
	var done, failed atomic.Int64
	began := time.Now()
	dir := t.TempDir()
	for i := range uint64(*cases) {
		g.Go(func() error {
			state := filepath.Join(dir, fmt.Sprint(i))
			err := os.Mkdir(state, 0o700)
			if err == nil {
				err = deltatest.NewCase(first+i, state).Run(t.Context())
			}
			if err != nil {
				failed.Add(1)
				t.Error(err)
			}
			if n := done.Add(1); n%500 == 0 {
				t.Logf("%d cases, %d failed, %v", n, failed.Load(), time.Since(began).Round(time.Second))
			}
			return os.RemoveAll(state)
		})
	}
	require.NoError(t, g.Wait())
	t.Logf("%d cases in %v, %d failed", done.Load(), time.Since(began).Round(time.Millisecond), failed.Load())
}

// A device with a mounted file system that is written to is copied by the delivered program, whose
// ends are killed and whose target loses its power. Each copy of the moment at which the file
// system was frozen passes fsck and has all that was synced.
func TestKilledCopiesOfAMountedFileSystem(t *testing.T) {
	if what := missing(); what != "" {
		t.Skip("missing: " + what)
	}
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "clear", true: "TLS"}[secure], func(t *testing.T) {
			require.NoError(t, soak(t, secure, firstSeed()))
		})
	}
}

// killsBetween is how many kills there are at most before a copy is completed and checked.
const killsBetween = 4

func soak(t *testing.T, secure bool, seed uint64) (err error) {
	t.Logf("seed %d: repeat with -soak.seed=%d -soak.kills=%d", seed, seed, *kills)
	ctx := t.Context()
	dir := t.TempDir()
	program := filepath.Join(dir, "lifeboat")
	if err := built.Lifeboat(ctx, program); err != nil {
		return err
	}
	s, err := newStage(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := os.Mkdir(filepath.Join(dir, "mounted"), 0o700); err != nil {
		return err
	}
	c, err := newCampaign(ctx, &campaign{stage: s, lifeboat: program, dir: dir, secure: secure,
		rnd: rand.New(rand.NewPCG(seed, 1)), log: t.Logf})
	if err != nil {
		return err
	}
	w := startWriter(s.sourceDir, seed)
	defer func() { err = errors.Join(err, w.close()) }()
	if err := c.startReceiver(ctx); err != nil {
		return err
	}
	defer func() { c.receiver.kill() }()
	return play(ctx, c, w)
}

func play(ctx context.Context, c *campaign, w *writer) error {
	for c.kills < *kills {
		for range 1 + c.rnd.IntN(killsBetween) {
			if err := c.strike(ctx); err != nil {
				return fmt.Errorf("kill %d: %w", c.kills, err)
			}
		}
		if err := c.finish(ctx, w); err != nil {
			return fmt.Errorf("after %d kills: %w", c.kills, err)
		}
	}
	return nil
}
