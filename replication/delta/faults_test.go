package delta_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/deltatest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// faultSize has a short last block and piece, and two regions.
const faultSize = 1<<20 + 5*block.Piece + 3*block.Size + 700

// faulted is a pair with one lane, so that calls come in order, whose target has an older copy, so that there is something to overwrite, to
// zero and to read back.
func faulted(t *testing.T, proof block.Proof) (*deltatest.Pair, *rand.Rand) {
	rnd := rand.New(rand.NewPCG(7, uint64(proof)))
	p := &deltatest.Pair{Proof: proof, Dir: t.TempDir(), Source: deltatest.NewDisk(faultSize), Target: deltatest.NewDisk(faultSize), Lanes: 1}
	deltatest.Fill(rnd, p.Source)
	_, err := p.Source.WriteAt([]byte("will be a hole"), 2*block.Piece)
	require.NoError(t, err)
	_, err = p.Run(t.Context(), deltatest.Copy{})
	require.NoError(t, err)
	alter(t, rnd, p)
	return p, rnd
}

// alter changes single blocks, a run, and makes a hole.
func alter(t *testing.T, rnd *rand.Rand, p *deltatest.Pair) {
	p.Changes()
	require.NoError(t, p.Source.Zero(2*block.Piece, block.Piece))
	for _, off := range []int64{0, 5 * block.Size, block.Region - 100, faultSize - 600} {
		_, err := p.Source.WriteAt([]byte{byte(rnd.Uint32()) | 1}, off)
		require.NoError(t, err)
	}
	run := make([]byte, 100<<10)
	for i := range run {
		run[i] = byte(rnd.Uint32())
	}
	_, err := p.Source.WriteAt(run, 300<<10)
	require.NoError(t, err)
}

// Each call of either disk is made to fail in each way. What the pass says then is true, and a
// second try without the fault is complete; also if the source went back to what it was.
func TestAnyCallMayFail(t *testing.T) {
	t.Parallel()
	for _, proof := range []block.Proof{block.BLAKE3, block.Fast} {
		for _, target := range []bool{false, true} {
			for _, fault := range deltatest.Faults {
				name := fmt.Sprintf("%v/%s %v", proof, map[bool]string{true: "target", false: "source"}[target], fault)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					step := 1
					if deltatest.Raced { // which takes ten times as long
						step = 5
					}
					eachCall(step, func(n int) bool { return failCall(t, proof, target, fault, n) })
				})
			}
		}
	}
}

// eachCall goes on until there are no more calls, step by step. How many there are depends on
// how often there is a checkpoint.
func eachCall(step int, fail func(n int) (struck bool)) {
	for n, missed := 0, 0; missed < 3; n += step {
		if !fail(n) {
			missed++
		}
	}
}

// failCall makes the nth call fail; false when there is no such call.
func failCall(t *testing.T, proof block.Proof, target bool, fault deltatest.Fault, n int) bool {
	p, rnd := faulted(t, proof)
	was := p.Target.Bytes()
	calls := deltatest.NewCalls(rnd)
	run := deltatest.Copy{From: deltatest.Faulty{Target: p.Source, Calls: calls}}
	if target {
		run = deltatest.Copy{To: deltatest.Faulty{Target: p.Target, Calls: calls}}
	}
	calls.Fault(n, fault, nil)
	root, err := p.Run(t.Context(), run)
	if calls.Struck() == "" {
		require.NoError(t, err)
		return false
	}
	switch {
	case err == nil: // a late call, or one that was tried again
		require.NoError(t, p.Complete(t.Context(), root), calls.Struck())
	case target:
		require.ErrorIs(t, err, delta.ErrTarget, calls.Struck())
	default:
		require.ErrorIs(t, err, delta.ErrReadSource, calls.Struck())
	}
	if n%2 == 1 { // what was sent in part must not be taken for what is there
		_, err = p.Source.WriteAt(was, 0)
		require.NoError(t, err)
		p.Changes()
	}
	root, err = p.Run(t.Context(), deltatest.Copy{})
	require.NoError(t, err, calls.Struck())
	require.NoError(t, p.Complete(t.Context(), root), calls.Struck())
	return true
}

// bad is a disk with a sector that cannot be read.
type bad struct {
	*deltatest.Disk
	sector int64
}

func (b bad) ReadAt(p []byte, off int64) (int, error) {
	if off <= b.sector && b.sector < off+int64(len(p)) {
		return 0, unix.EIO
	}
	return b.Disk.ReadAt(p, off)
}

// A sector that cannot be read is named, and is never zeros at the target.
func TestABadSectorIsNamedAndNeverZeros(t *testing.T) {
	t.Parallel()
	for _, proof := range []block.Proof{block.BLAKE3, block.Fast} {
		p, _ := faulted(t, proof)
		before := p.Target.Bytes()
		const sector = block.Region + 9*block.Size + 512
		_, err := p.Source.WriteAt([]byte("new"), sector)
		require.NoError(t, err)
		_, err = p.Run(t.Context(), deltatest.Copy{From: bad{p.Source, sector}})
		require.ErrorIs(t, err, delta.ErrReadSource)
		require.ErrorIs(t, err, unix.EIO)
		var read *delta.ReadError
		require.ErrorAs(t, err, &read)
		require.Equal(t, "disk", read.Disk)
		require.Equal(t, int64(block.Region+9*block.Size), read.Offset)
		require.Contains(t, err.Error(), fmt.Sprint(read.Offset))
		at := sector &^ (block.Size - 1)
		require.Equal(t, before[at:at+block.Size], p.Target.Bytes()[at:at+block.Size])
		root, err := p.Run(t.Context(), deltatest.Copy{})
		require.NoError(t, err)
		require.NoError(t, p.Complete(t.Context(), root))
	}
}

// A disk that is full is told apart from all other errors, and the copy goes on once there is room.
func TestAFullDiskIsNoSpace(t *testing.T) {
	t.Parallel()
	for _, proof := range []block.Proof{block.BLAKE3, block.Fast} {
		found := map[string]bool{}
		eachCall(1, func(n int) bool {
			p, rnd := faulted(t, proof)
			calls := deltatest.NewCalls(rnd)
			calls.Fault(n, deltatest.Torn, unix.ENOSPC)
			_, err := p.Run(t.Context(), deltatest.Copy{To: deltatest.Faulty{Target: p.Target, Calls: calls}})
			if calls.Struck() == "" {
				return false
			}
			op, _, _ := strings.Cut(calls.Struck(), " of ")
			if found[op] = true; op == "write" || op == "zero" || op == "sync" {
				require.ErrorIs(t, err, delta.ErrNoSpace, calls.Struck())
				require.ErrorContains(t, err, "disk disk")
			}
			root, err := p.Run(t.Context(), deltatest.Copy{})
			require.NoError(t, err)
			require.NoError(t, p.Complete(t.Context(), root))
			return true
		})
		require.Subset(t, found, map[string]bool{"write": true, "zero": true, "sync": true})
	}
}
