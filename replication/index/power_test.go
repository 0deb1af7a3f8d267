package index_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
)

const sector = 512

var errFault = errors.New("fault of the test")

// hazard is a disk that can lose its power, and whose calls can fail. The file has all
// that was written; before has what the sectors held that were written since the last sync.
type hazard struct {
	index.Disk
	rnd    *rand.Rand
	before map[int64][][]byte
	// failIn counts down to the call that fails; negative: none does.
	failIn int
}

func (h *hazard) fails() bool {
	h.failIn--
	return h.failIn == -1
}

// remember keeps what the sectors of a range hold now.
func (h *hazard) remember(off, length int64) error {
	for at := off / sector * sector; at < off+length; at += sector {
		old := make([]byte, sector)
		if _, err := h.Disk.Pread(old, at); err != nil {
			return err
		}
		h.before[at] = append(h.before[at], old)
	}
	return nil
}

func (h *hazard) Pread(b []byte, off int64) (int, error) {
	if h.fails() {
		return 0, errFault
	}
	return h.Disk.Pread(b, off)
}

func (h *hazard) Pwrite(b []byte, off int64) (int, error) {
	if err := h.remember(off, int64(len(b))); err != nil {
		return 0, err
	}
	if h.fails() {
		if h.rnd.IntN(2) == 0 { // part of it arrives
			_, err := h.Disk.Pwrite(b[:h.rnd.IntN(len(b)+1)/32*32], off)
			return 0, errors.Join(err, errFault)
		}
		return 0, errFault
	}
	return h.Disk.Pwrite(b, off)
}

func (h *hazard) Punch(off, length int64) error {
	if err := h.remember(off, length); err != nil {
		return err
	}
	if h.fails() {
		return errFault
	}
	return h.Disk.Punch(off, length)
}

func (h *hazard) Fdatasync() error {
	if h.fails() {
		return errFault
	}
	clear(h.before)
	return nil
}

// lose takes the power away: each sector has any of what it held since the last sync.
func (h *hazard) lose(t *testing.T) {
	for at, versions := range h.before {
		if i := h.rnd.IntN(len(versions) + 1); i < len(versions) {
			_, err := h.Disk.Pwrite(versions[i], at)
			require.NoError(t, err)
		}
	}
}

// hazardous is an index on such disks, and which hashes each piece may have: more than one
// while a change is not durable.
type hazardous struct {
	*world
	disks []*hazard
	may   [][]block.Hash
}

func newHazardous(t *testing.T, seed uint64, size int64) *hazardous {
	t.Logf("seed %d, size %d", seed, size)
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 2)), path: filepath.Join(t.TempDir(), "vol"),
		o: index.Options{Size: size, Proof: block.Fast, Digests: true}, m: newModel(size, block.Fast)}
	h := &hazardous{world: w, may: make([][]block.Hash, w.m.geo.Pieces())}
	for i := range h.may {
		h.may[i] = []block.Hash{{}}
	}
	require.True(t, h.open().New)
	return h
}

func (h *hazardous) open() index.Report {
	h.disks = nil
	x, rep, err := index.OpenOn(h.path, h.o, func(_ string, d index.Disk) index.Disk {
		disk := &hazard{Disk: d, rnd: h.rnd, before: map[int64][][]byte{}, failIn: -1}
		h.disks = append(h.disks, disk)
		return disk
	})
	require.NoError(h.t, err)
	h.x = x
	h.t.Cleanup(func() { _ = x.Abandon() })
	return rep
}

// change does one random change; that it may fail is the test's business.
func (h *hazardous) change() error {
	pieces := h.m.geo.Pieces()
	first := h.rnd.Int64N(pieces)
	count := min(h.rnd.Int64N(400)+1, pieces-first)
	add := func(p int64, hash block.Hash) { h.may[p] = append(h.may[p], hash) }
	switch h.rnd.IntN(5) {
	case 0:
		for i := range count {
			add(first+i, block.Unknown)
		}
		return h.x.SetUnknown(first, count)
	case 1:
		for i := range count {
			add(first+i, block.Hash{})
		}
		return h.x.SetZero(first, count)
	case 2:
		updates := make([]index.PieceHash, h.rnd.IntN(20))
		for i := range updates {
			updates[i] = index.PieceHash{Piece: h.rnd.Int64N(pieces), Hash: randomHash(h.rnd)}
			add(updates[i].Piece, updates[i].Hash)
		}
		return h.x.SetPieces(updates)
	}
	var rec index.Region
	randomRegion(h.rnd, &rec)
	r := h.rnd.Int64N(h.m.geo.Regions())
	n := min(pieces-r*block.PiecesPerRegion, block.PiecesPerRegion)
	clear(rec.Pieces[n:])
	for i := range n {
		add(r*block.PiecesPerRegion+i, rec.Pieces[i])
	}
	h.m.digests[key(r, rec.Pieces)] = nil
	if rec.DigestsKnown {
		h.m.digests[key(r, rec.Pieces)] = &rec.Digests
	}
	return h.x.PutRegion(r, &rec)
}

// settle takes what the index says for the truth, after it was found to be possible.
func (h *hazardous) settle() {
	for p := range h.may {
		hash, err := h.x.Piece(int64(p))
		require.NoError(h.t, err)
		if !slices.Contains(h.may[p], hash) {
			require.Fail(h.t, "a hash that was never set", "piece %d has %x, possible are %x", p, hash, h.may[p])
		}
		h.m.pieces[p], h.may[p] = hash, []block.Hash{hash}
	}
	h.checkAll()
}

// latest drops what a piece may only be after a power loss.
func (h *hazardous) latest() {
	for p := range h.may {
		h.may[p] = h.may[p][len(h.may[p])-1:]
	}
}

// Whatever part of the writes since the last Sync a power loss keeps, every hash is one that was set
// since then or the one of then; pieces that were not touched are as they were.
func TestAPowerLossLeavesOldOrNewHashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := newHazardous(t, seed, []int64{100*block.Region + 70000, 17 * block.Region, 1100 * block.Region}[seed%3])
			for range 12 {
				for range h.rnd.IntN(12) {
					require.NoError(t, h.change())
					switch h.rnd.IntN(5) {
					case 0:
						require.NoError(t, h.x.Sync())
						h.latest()
					case 1:
						_, err := h.x.Commit()
						require.NoError(t, err)
					}
				}
				if h.rnd.IntN(4) == 0 {
					require.NoError(t, h.x.Close())
					h.latest()
					require.False(t, h.open().Unclean)
					h.settle()
					continue
				}
				require.NoError(t, h.x.Abandon())
				for _, d := range h.reopenedDisks() {
					d.lose(t)
				}
				require.False(t, h.open().New)
				h.settle()
			}
		})
	}
}

// reopenedDisks gives disks that know what was not synced, on files that are open again.
func (h *hazardous) reopenedDisks() []*hazard {
	for i, name := range []string{".tree", ".digests"} {
		fd, err := unix.Open(h.path+name, unix.O_RDWR, 0)
		require.NoError(h.t, err)
		h.t.Cleanup(func() { _ = unix.Close(fd) })
		h.disks[i].Disk = plainDisk(fd)
	}
	return h.disks
}

type plainDisk int

func (fd plainDisk) Pread(b []byte, off int64) (int, error)  { return unix.Pread(int(fd), b, off) }
func (fd plainDisk) Pwrite(b []byte, off int64) (int, error) { return unix.Pwrite(int(fd), b, off) }
func (fd plainDisk) Punch(int64, int64) error                { return unix.EOPNOTSUPP }
func (fd plainDisk) Fdatasync() error                        { return unix.Fdatasync(int(fd)) }

// A call that fails is an error of what needed it, and leaves an index that goes on with old or new
// hashes for what was being changed, and with all others as they were.
func TestAFailedCallIsReportedAndGoesOn(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := newHazardous(t, seed, 50*block.Region+70000)
			failed := 0
			for range 60 {
				before := slices.Clone(h.may)
				d := h.disks[h.rnd.IntN(2)]
				d.failIn = h.rnd.IntN(5)
				var err error
				switch h.rnd.IntN(8) {
				case 0:
					_, err = h.x.Commit()
				case 1:
					_, _, _, err = h.x.Unknown(0)
				default:
					err = h.change()
				}
				if err == nil {
					d.failIn = -1
					h.latest()
					continue
				}
				failed++
				d.failIn = -1
				require.ErrorIs(t, err, errFault)
				require.ErrorContains(t, err, h.path)
				h.halfDone(before)
				if strings.Contains(err.Error(), "sync index file") { // the end of this Index
					require.ErrorIs(t, h.x.Close(), errFault)
					h.open()
				} else if h.rnd.IntN(2) == 0 {
					require.NoError(t, h.x.Close())
					h.open()
				}
				h.settle()
			}
			require.Positive(t, failed)
		})
	}
}

// halfDone allows for what a failed change touched: the last of before, and what it was to be.
func (h *hazardous) halfDone(before [][]block.Hash) {
	for p := range h.may {
		h.may[p] = h.may[p][len(before[p])-1:]
	}
}

// What a failed sync lost is not known: nothing may be called durable or clean after it.
func TestAfterAFailedSyncNothingIsClean(t *testing.T) {
	t.Parallel()
	h := newHazardous(t, 1, 20*block.Region)
	require.NoError(t, h.x.SetUnknown(0, 5))
	h.disks[0].failIn = 0
	require.ErrorIs(t, h.x.Sync(), errFault)
	require.ErrorIs(t, h.x.Sync(), errFault)
	require.ErrorIs(t, h.x.Close(), errFault)
	require.True(t, h.open().Unclean)
}
