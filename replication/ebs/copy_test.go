package ebs_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/replication/ebs"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

// data makes a block that compresses nowhere and is unlike all others.
func data(seed uint64) []byte {
	b := make([]byte, ebs.BlockSize)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1})
	_, _ = rng.Read(b)
	return b
}

func disk(indexes ...int64) map[int64][]byte {
	m := map[int64][]byte{}
	for _, i := range indexes {
		m[i] = data(uint64(i))
	}
	return m
}

// many are n blocks with gaps.
func many(n int) map[int64][]byte {
	m := map[int64][]byte{}
	for i := range int64(n) {
		m[i+i/7*3] = data(uint64(i))
	}
	return m
}

// pair is a copy from one service to another.
type pair struct {
	from, to *service
	copy     ebs.Copy
}

func newPair(t testing.TB, inFlight int, o ebs.Options, size int64, blocks map[int64][]byte) *pair {
	t.Helper()
	p := &pair{from: newService(), to: newService()}
	p.copy = ebs.Copy{From: p.from.client(t, inFlight, o), To: p.to.client(t, inFlight, o), Spec: ebs.Spec{Token: "copy 1", State: t.TempDir()}}
	p.copy.Snapshot = p.from.add(size, blocks)
	return p
}

func (p *pair) run(t testing.TB) ebs.Result {
	t.Helper()
	res, err := p.copy.Run(t.Context())
	require.NoError(t, err)
	p.requireEqual(t, res)
	return res
}

func (p *pair) requireEqual(t testing.TB, res ebs.Result) {
	t.Helper()
	require.Equal(t, "completed", p.to.snapshots[res.Snapshot].state)
	want, got := p.from.content(p.copy.Snapshot), p.to.content(res.Snapshot)
	require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
	for i, b := range want {
		require.True(t, slices.Equal(b, got[i]), "block %d", i)
	}
}

func TestAFullCopyHasTheSameBytes(t *testing.T) {
	t.Parallel()
	blocks := many(70)
	blocks[999] = make([]byte, ebs.BlockSize) // listed, and zeros
	p := newPair(t, 0, ebs.Options{}, 1, blocks)
	var done, total int64
	p.copy.Report = func(d, all int64) { done, total = d, all }
	p.copy.Spec.Tags = map[string]string{"a": "1"}
	res := p.run(t)
	require.Equal(t, ebs.Result{Snapshot: res.Snapshot, Bytes: gib, Full: true, Read: 71, Written: 70}, res)
	require.EqualValues(t, 71*ebs.BlockSize, done)
	require.Equal(t, done, total)
	require.Equal(t, map[string]string{"a": "1"}, p.to.snapshots[res.Snapshot].tags)
	left, err := os.ReadDir(p.copy.Spec.State)
	require.NoError(t, err)
	require.Empty(t, left)

	again := p.run(t)
	require.Equal(t, res.Snapshot, again.Snapshot, "the same token is the same snapshot")
	require.Zero(t, again.Read+again.Written)
}

func TestAnEmptySnapshotIsCopied(t *testing.T) {
	t.Parallel()
	require.Zero(t, newPair(t, 0, ebs.Options{}, 1, nil).run(t).Written)
}

func TestACopyOnABaseMovesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	p := newPair(t, 0, ebs.Options{}, 1, many(90))
	base := p.run(t)
	p.copy.Base, p.copy.Spec.Parent, p.copy.Spec.Token = p.copy.Snapshot, base.Snapshot, "copy 2"

	next := maps.Clone(p.from.snapshots[p.copy.Base].blocks)
	next[10], next[100] = data(7777), data(7778) // changed
	next[2047], next[2048], next[4095] = data(1), data(2), data(3)
	delete(next, 0) // trimmed: zeros again
	p.copy.Snapshot = p.from.add(2, next)
	p.from.change(func() { clear(p.from.counts) })
	res := p.run(t)
	require.False(t, res.Full)
	require.EqualValues(t, 2*gib, res.Bytes, "the disk has grown")
	require.EqualValues(t, 6, res.Written)
	require.Equal(t, 5, p.from.count("get"))

	changed, err := p.copy.From.Changed(t.Context(), p.copy.Base, p.copy.Snapshot)
	require.NoError(t, err)
	require.Equal(t, []volume.Extent{
		{Offset: 0, Length: ebs.BlockSize}, {Offset: 10 * ebs.BlockSize, Length: ebs.BlockSize}, {Offset: 100 * ebs.BlockSize, Length: ebs.BlockSize},
		{Offset: 2047 * ebs.BlockSize, Length: 2 * ebs.BlockSize}, {Offset: 4095 * ebs.BlockSize, Length: ebs.BlockSize},
	}, changed)
}

func TestACopyCanBeLargerButNotSmaller(t *testing.T) {
	t.Parallel()
	p := newPair(t, 0, ebs.Options{}, 2, disk(1, 4000))
	p.copy.Spec.Bytes = 3*gib - 5
	require.EqualValues(t, 3*gib, p.run(t).Bytes)
	p.copy.Spec.Bytes, p.copy.Spec.Token = gib, "smaller"
	_, err := p.copy.Run(t.Context())
	require.ErrorIs(t, err, ebs.ErrInvalid)
}

func TestABaseThatCannotBeUsedCostsAFullCopy(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(p *pair){
		"of another disk":       func(p *pair) { p.from.snapshots[p.copy.Base].tags = map[string]string{"disk": "other"} },
		"gone at the source":    func(p *pair) { delete(p.from.snapshots, p.copy.Base) },
		"its copy is gone here": func(p *pair) { delete(p.to.snapshots, p.copy.Spec.Parent) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, 0, ebs.Options{}, 1, disk(1, 2, 3))
			base := p.run(t)
			p.copy.Base, p.copy.Spec.Parent, p.copy.Spec.Token = p.copy.Snapshot, base.Snapshot, "copy 2"
			p.copy.Snapshot = p.from.add(1, disk(3, 4))
			spoil(p)
			res := p.run(t)
			require.True(t, res.Full)
			require.EqualValues(t, 2, res.Written)
		})
	}
}

func TestACopyThatWasKilledGoesOn(t *testing.T) {
	t.Parallel()
	for _, remembered := range []bool{true, false} {
		p := newPair(t, 4, ebs.Options{}, 1, many(60))
		if !remembered {
			p.copy.Spec.State = ""
		}
		kill := 20
		p.to.before = func(op string, _ int64) error {
			if op == "put" && p.to.count("put") > kill {
				return errKilled
			}
			return nil
		}
		_, err := p.copy.Run(t.Context())
		require.ErrorIs(t, err, errKilled)
		p.to.before = nil
		res := p.run(t)
		require.Len(t, p.to.snapshots, 1, "no second snapshot")
		if remembered {
			require.GreaterOrEqual(t, res.Known, int64(20-4), "but those whose answers were lost")
			require.EqualValues(t, 60, res.Known+res.Written)
		} else {
			require.EqualValues(t, 60, res.Written)
		}
	}
}

func TestACopyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := newPair(t, 4, ebs.Options{}, 1, many(60))
	ctx, stop := context.WithCancelCause(t.Context())
	p.to.before = func(string, int64) error {
		if p.to.count("put") == 30 {
			stop(errKilled)
		}
		return nil
	}
	_, err := p.copy.Run(ctx)
	require.ErrorIs(t, err, errKilled)
	p.to.before = nil
	p.run(t)
	require.Len(t, p.to.snapshots, 1)
}

func TestASnapshotThatWasGivenUpIsBegunAnew(t *testing.T) {
	t.Parallel()
	lose := func(s *service) {
		s.change(func() {
			for _, x := range s.snapshots {
				if x.state == "pending" {
					x.state, x.message = "error", "timed out"
				}
			}
		})
	}
	t.Run("between two runs", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, 4, ebs.Options{}, 1, many(50))
		p.to.before = func(op string, _ int64) error {
			if op == "put" && p.to.count("put") > 20 {
				return errKilled
			}
			return nil
		}
		_, err := p.copy.Run(t.Context())
		require.ErrorIs(t, err, errKilled)
		lose(p.to)
		p.to.before = nil
		res := p.run(t)
		require.EqualValues(t, 50, res.Written, "nothing of the old one counts")
		require.Equal(t, res.Snapshot, p.run(t).Snapshot)
	})
	t.Run("in the middle", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, 4, ebs.Options{}, 1, many(50))
		var once atomic.Bool
		p.to.before = func(op string, _ int64) error {
			if op == "put" && p.to.count("put") > 20 && !once.Swap(true) {
				lose(p.to)
			}
			return nil
		}
		p.run(t)
		require.Len(t, p.to.snapshots, 2)
	})
	t.Run("and deleted", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, 0, ebs.Options{}, 1, disk(1))
		p.copy.Base, p.copy.Spec.Parent = p.from.add(1, disk(2)), p.to.add(1, disk(2))
		first := p.run(t)
		p.to.change(func() { p.to.make(1); delete(p.to.snapshots, first.Snapshot) })
		res := p.run(t)
		require.NotEqual(t, first.Snapshot, res.Snapshot)
		require.False(t, res.Full)
	})
	t.Run("always", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, 4, ebs.Options{}, 1, many(5))
		p.to.before = func(op string, _ int64) error {
			if op == "complete" {
				lose(p.to)
			}
			return nil
		}
		res, err := p.copy.Run(t.Context())
		require.ErrorIs(t, err, ebs.ErrLost)
		require.ErrorContains(t, err, "timed out")
		require.Len(t, res.Lost, 3)
	})
}

func TestAnAnswerThatWasLostDoesNotMatter(t *testing.T) {
	t.Parallel()
	p := newPair(t, 0, ebs.Options{}, 1, many(20))
	// Another run of the same copy completes the snapshot while this one writes.
	other := p.copy
	other.Spec.State = t.TempDir()
	var once atomic.Bool
	p.to.before = func(op string, _ int64) error {
		if op == "put" && p.to.count("put") > 10 && !once.Swap(true) {
			_, err := other.Run(context.Background())
			return err
		}
		return nil
	}
	p.run(t)
	require.Len(t, p.to.snapshots, 1)
}

func TestRequestsInFlightAreBounded(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 5} {
		p := newPair(t, n, ebs.Options{}, 1, many(30))
		p.from.latency, p.to.latency = time.Millisecond, time.Millisecond
		p.run(t)
		require.LessOrEqual(t, p.to.peak, n)
		require.LessOrEqual(t, p.from.peak, n+1, "and one that lists")
	}
}

func TestRatesAreKept(t *testing.T) {
	t.Parallel()
	p := newPair(t, 0, ebs.Options{Limits: ebs.NewLimits(0, ebs.Rates{Get: 100, Put: 1e6, List: 1e6, Change: 1e6})}, 1, many(60))
	began := time.Now()
	p.run(t)
	require.GreaterOrEqual(t, time.Since(began), 450*time.Millisecond, "60 at 100 a second, of which 10 come at once")
}
