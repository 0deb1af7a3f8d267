package index_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
)

// Whatever is done to the bytes of an index that was closed, it gives no wrong hash: what
// cannot be believed is unknown.
func TestDamageIsNeverBelieved(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed, 1<<30+9*block.Region, []block.Proof{block.BLAKE3, block.Fast}[seed%2])
			for range 60 {
				w.step()
			}
			require.NoError(t, w.x.Close())
			w.damaged = true
			for range w.rnd.IntN(5) + 1 {
				w.harm()
			}
			w.o.Prime = func(x *index.Index) error { return x.SetUnknown(0, w.m.geo.Pieces()) }
			rep := w.open()
			if rep.New {
				require.NotEmpty(t, rep.Damaged)
			}
			w.checkAll()
			for range 20 {
				w.put(w.rnd.Int64N(w.m.geo.Regions()))
			}
			w.checkAll()
			require.NoError(t, w.x.Close())
			w.open()
			w.checkAll()
		})
	}
}

// harm changes some bytes of one of the files where there is data: flipped, zeroed, or taken
// from elsewhere.
func (w *world) harm() {
	name := w.path + []string{".tree", ".digests"}[w.rnd.IntN(2)]
	b, err := os.ReadFile(name)
	require.NoError(w.t, err)
	if len(b) < 8192 {
		return
	}
	at := w.rnd.IntN(len(b) - 4096)
	for try := 0; try < 50 && b[at] == 0; try++ {
		at = w.rnd.IntN(len(b) - 4096)
	}
	if w.rnd.IntN(3) == 0 {
		at = at / 4096 * 4096
	}
	length := []int{1, 32, 512, 4096}[w.rnd.IntN(4)]
	switch w.rnd.IntN(3) {
	case 0:
		b[at] ^= 1 << w.rnd.IntN(8)
		length = 1
	case 1:
		clear(b[at : at+length])
	case 2:
		from := w.rnd.IntN(len(b)-4096) / 32 * 32
		copy(b[at:at+length], b[from:from+length])
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(w.t, err)
	_, err = f.WriteAt(b[at:at+length], int64(at))
	require.NoError(w.t, err)
	require.NoError(w.t, f.Close())
}
