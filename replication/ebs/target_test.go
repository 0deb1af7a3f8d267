package ebs_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"lifeboat/replication/ebs"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

// TestATargetIsAVolume writes, zeros, reads and syncs at random, with less memory than blocks,
// beside a model in memory; now and then the process is killed and goes on from its state.
func TestATargetIsAVolume(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		s := newService()
		s.perPage = 5
		rng, bytes := rand.New(rand.NewPCG(seed, 1)), rand.NewChaCha8([32]byte{byte(seed)})
		const used = 12 * ebs.BlockSize
		model := make([]byte, used)
		spec := ebs.Spec{Token: "t", Bytes: gib, State: t.TempDir()}
		if seed%2 == 1 {
			blocks := disk(1, 2, 3, 8, 11)
			spec.Parent = s.add(1, blocks)
			for i, b := range blocks {
				copy(model[i*ebs.BlockSize:], b)
			}
		}
		c := s.client(t, 3, ebs.Options{})
		tg, err := c.OpenTarget(t.Context(), spec)
		require.NoError(t, err)
		for range 200 {
			off := rng.Int64N(used)
			n := min(rng.Int64N(ebs.BlockSize*3/2)+1, used-off)
			if rng.IntN(2) == 0 {
				off, n = off&^4095, min((n+4095)&^4095, used-off&^4095)
			}
			switch rng.IntN(12) {
			case 0, 1, 2, 3, 4:
				p := model[off : off+n]
				_, _ = bytes.Read(p)
				_, err = tg.WriteAt(p, off)
			case 5:
				clear(model[off : off+n])
				err = tg.Zero(off, n)
			case 6:
				err = tg.Sync()
			case 7: // what was synced is there for another process
				require.NoError(t, tg.Sync())
				require.NoError(t, tg.Close())
				tg, err = c.OpenTarget(t.Context(), spec)
			default:
				got := make([]byte, n)
				err = volume.ReadFull(tg, got, off)
				require.True(t, string(got) == string(model[off:off+n]), "seed %d: %d at %d", seed, n, off)
			}
			require.NoError(t, err)
		}
		requireNextData(t, tg, model)
		require.NoError(t, tg.Complete())
		src, err := c.Open(t.Context(), tg.Snapshot())
		require.NoError(t, err)
		got := make([]byte, used)
		require.NoError(t, volume.ReadFull(src, got, 0))
		require.True(t, string(got) == string(model), "seed %d", seed)
		require.NoError(t, src.Close())
	}
}

// requireNextData checks that what is in no range is zeros.
func requireNextData(t *testing.T, v volume.Source, model []byte) {
	t.Helper()
	for off := int64(0); ; {
		start, end, err := v.NextData(off)
		if errors.Is(err, io.EOF) {
			start = int64(len(model))
		} else {
			require.NoError(t, err)
		}
		gap := model[min(off, int64(len(model))):min(start, int64(len(model)))]
		require.Equal(t, make([]byte, len(gap)), gap)
		if start >= int64(len(model)) {
			return
		}
		off = end
	}
}

func TestATargetThatWasKilledWhileItPutsGoesOn(t *testing.T) {
	t.Parallel()
	s := newService()
	c := s.client(t, 4, ebs.Options{Retry: time.Millisecond})
	spec := ebs.Spec{Token: "t", Bytes: gib, State: t.TempDir()}
	tg, err := c.OpenTarget(t.Context(), spec)
	require.NoError(t, err)
	old, new := data(1), data(2)
	_, err = tg.WriteAt(old, 0)
	require.NoError(t, err)
	require.NoError(t, tg.Sync())
	s.change(func() {
		s.before = func(op string, _ int64) error {
			if op == "put" {
				return errKilled
			}
			return nil
		}
	})
	_, err = tg.WriteAt(new, 0)
	require.NoError(t, err)
	require.ErrorIs(t, tg.Sync(), errKilled)
	require.ErrorIs(t, tg.Sync(), errKilled, "it never says that it is well again")
	require.NoError(t, tg.Close())

	s.change(func() { s.before = nil })
	tg, err = c.OpenTarget(t.Context(), spec)
	require.NoError(t, err)
	require.NoError(t, tg.Complete())
	got := s.content(tg.Snapshot())[0]
	require.True(t, string(got) == string(old) || string(got) == string(new))
}

func TestATargetWithoutStateSaysWhatItCannotRead(t *testing.T) {
	t.Parallel()
	s := newService()
	tg, err := s.client(t, 2, ebs.Options{}).OpenTarget(t.Context(), ebs.Spec{Token: "t", Bytes: gib})
	require.NoError(t, err)
	for i := range int64(5) {
		_, err = tg.WriteAt(data(uint64(i)), i*ebs.BlockSize)
		require.NoError(t, err)
		require.NoError(t, tg.Sync())
	}
	_, err = tg.ReadAt(make([]byte, 10), 0)
	require.ErrorContains(t, err, "state directory")
	_, err = tg.ReadAt(make([]byte, 10), 4*ebs.BlockSize)
	require.NoError(t, err)
	require.NoError(t, tg.Complete())
	require.Len(t, s.content(tg.Snapshot()), 5)
}

func TestATargetThatTheServiceGaveUpIsLost(t *testing.T) {
	t.Parallel()
	s := newService()
	c := s.client(t, 0, ebs.Options{})
	spec := ebs.Spec{Token: "t", Bytes: gib, State: t.TempDir()}
	tg, err := c.OpenTarget(t.Context(), spec)
	require.NoError(t, err)
	s.change(func() { s.snapshots[tg.Snapshot()].state = "error" })
	_, err = tg.WriteAt(data(1), 0)
	require.NoError(t, err)
	require.ErrorIs(t, tg.Complete(), ebs.ErrLost)
	again, err := c.OpenTarget(t.Context(), spec)
	require.NoError(t, err)
	require.NotEqual(t, tg.Snapshot(), again.Snapshot())
	require.NoError(t, again.Complete())
	_, err = c.OpenTarget(t.Context(), spec)
	require.ErrorIs(t, err, ebs.ErrConflict, "it is complete")
}

func TestATargetEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newService()
	s.latency = time.Hour
	ctx, stop := context.WithCancel(t.Context())
	s.change(func() { s.latency = 0 })
	tg, err := s.client(t, 2, ebs.Options{}).OpenTarget(ctx, ebs.Spec{Token: "t", Bytes: gib})
	require.NoError(t, err)
	s.change(func() { s.latency = time.Hour })
	_, err = tg.WriteAt(data(1), 0)
	require.NoError(t, err)
	time.AfterFunc(10*time.Millisecond, stop)
	require.ErrorIs(t, tg.Sync(), context.Canceled)
	require.NoError(t, tg.Close())
}
