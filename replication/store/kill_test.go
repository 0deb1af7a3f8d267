package store

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killStore is set in the environment of a process that works on a store until it is killed.
const killStore = "LIFEBOAT_TEST_KILL_STORE"

const killSize = 24<<20 + 99

// TestWorkUntilKilled is not a test but the process that TestKilledAnywhere kills: it
// writes a head, makes points of it and deletes others in an endless loop.
func TestWorkUntilKilled(t *testing.T) {
	dir := os.Getenv(killStore)
	if dir == "" {
		return // started as a test
	}
	s, err := Open(t.Context(), dir, 0)
	require.NoError(t, err)
	h, err := s.OpenTarget("v", killSize, "")
	require.NoError(t, err)
	now := contents(t, h)
	rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	fmt.Println("working")
	for round := 0; ; round++ {
		for range 1 + rnd.IntN(20) {
			off := rnd.Int64N(killSize)
			p := random(rnd.Uint64N(5), int(min(1+rnd.Int64N(2<<20), killSize-off)))
			if rnd.IntN(4) == 0 {
				clear(p)
				require.NoError(t, h.Zero(off, int64(len(p))))
			} else {
				write(t, h, p, off)
			}
			copy(now[off:], p)
		}
		_, err := h.Point(fmt.Sprint("p", os.Getpid(), "-", round), map[string]string{"content": fmt.Sprintf("%x", sha256.Sum256(now))})
		require.NoError(t, err)
		var ids []string
		require.NoError(t, s.Points(func(p Point) error { ids = append(ids, p.ID); return nil }))
		if len(ids) > 4 {
			require.NoError(t, s.Delete(ids[rnd.IntN(len(ids))]))
		}
	}
}

func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 12 {
		cmd := exec.Command(exe, "-test.run=^TestWorkUntilKilled$")
		cmd.Env = append(os.Environ(), killStore+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "working") {
		}
		// The moment of the kill is the point of this test, not a wait for something.
		time.Sleep(time.Duration(20+rnd.IntN(300)) * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.ErrorContains(t, cmd.Wait(), "killed")

		s := open(t, dir)
		require.NoError(t, s.Check())
		require.NoError(t, s.Points(func(p Point) error {
			require.Equal(t, p.Labels["content"], fmt.Sprintf("%x", sha256.Sum256(pointContents(t, s, p.ID))), p.ID)
			return nil
		}))
	}
	s := open(t, dir)
	require.NoError(t, s.DeleteHead("v"))
	require.NoError(t, s.Points(func(p Point) error { return s.Delete(p.ID) }))
	requireEmpty(t, s)
}
