package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
	"lifeboat/replication/deltatest"
)

// model is what two volumes with heads in one store should hold.
type model struct {
	t    *testing.T
	dir  string
	rnd  *rand.Rand
	s    *Store
	vols []*modelVolume
	// points by id, with what they hold.
	points map[string][]byte
	number int
}

type modelVolume struct {
	name string
	size int64
	head *Head
	now  []byte
	// older has what pieces may be after a kill, beside what they are: what they were
	// since the last Sync.
	older map[int64][][]byte
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, dir: t.TempDir(), rnd: rand.New(rand.NewPCG(seed, 5)), points: map[string][]byte{}}
	m.s = open(t, m.dir)
	for i, pieces := range []int64{1 + m.rnd.Int64N(20), 300 + m.rnd.Int64N(400)} {
		size := pieces*block.Piece - m.rnd.Int64N(2)*m.rnd.Int64N(block.Piece)
		v := &modelVolume{name: fmt.Sprint("v", i), size: size, now: make([]byte, size), older: map[int64][][]byte{}}
		v.head = head(t, m.s, v.name, size, "")
		m.vols = append(m.vols, v)
	}
	return m
}

func (v *modelVolume) piece(n int64) []byte {
	return v.now[n*block.Piece : min((n+1)*block.Piece, v.size)]
}

// set notes that a range gets other bytes.
func (v *modelVolume) set(off int64, p []byte) {
	for n := off / block.Piece; n*block.Piece < off+int64(len(p)); n++ {
		v.older[n] = append(v.older[n], bytes.Clone(v.piece(n)))
	}
	copy(v.now[off:], p)
}

func (m *model) step() {
	v := m.vols[m.rnd.IntN(len(m.vols))]
	switch k := m.rnd.IntN(100); {
	case k < 55:
		m.write(v)
	case k < 70:
		off, n := m.place(v)
		require.NoError(m.t, v.head.Zero(off, n))
		v.set(off, make([]byte, n))
	case k < 78:
		require.NoError(m.t, v.head.Sync())
		clear(v.older)
	case k < 84:
		m.number++
		id := fmt.Sprint("p", m.number)
		p, err := v.head.Point(id, nil)
		require.NoError(m.t, err)
		require.Equal(m.t, deltatest.Root(block.BLAKE3, v.now), p.Root)
		clear(v.older)
		m.points[id] = bytes.Clone(v.now)
	case k < 88:
		m.remove()
	case k < 92:
		m.reopen(v)
	default:
		off, n := m.place(v)
		got := make([]byte, n)
		_, err := v.head.ReadAt(got, off)
		require.NoError(m.t, err)
		require.True(m.t, bytes.Equal(v.now[off:off+n], got), "read of %d at %d", n, off)
	}
}

func (m *model) place(v *modelVolume) (off, n int64) {
	off = m.rnd.Int64N(v.size)
	n = 1 + m.rnd.Int64N([]int64{100, 5000, block.Piece, v.size}[m.rnd.IntN(4)])
	if m.rnd.IntN(2) == 0 {
		off &^= block.Piece - 1
	}
	return off, min(n, v.size-off)
}

// write draws from few contents, so that pieces are shared between volumes and come again.
func (m *model) write(v *modelVolume) {
	off, n := m.place(v)
	n = min(n, 40*block.Piece)
	p := make([]byte, n)
	seed := m.rnd.Uint64N(4)
	piece := random(seed, block.Piece)
	for at := range p {
		p[at] = piece[(off+int64(at))%block.Piece]
	}
	_, err := v.head.WriteAt(p, off)
	require.NoError(m.t, err)
	v.set(off, p)
}

func (m *model) remove() {
	ids := make([]string, 0, len(m.points))
	for id := range m.points {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	id := ids[m.rnd.IntN(len(ids))]
	require.NoError(m.t, m.s.Delete(id))
	delete(m.points, id)
}

// reopen closes a head or kills its writer, and takes over what is there.
func (m *model) reopen(v *modelVolume) {
	if m.rnd.IntN(2) == 0 {
		require.NoError(m.t, v.head.Sync())
		clear(v.older)
		require.NoError(m.t, v.head.Close())
	} else {
		require.NoError(m.t, v.head.Abandon())
	}
	v.head = head(m.t, m.s, v.name, v.size, "")
	got := contents(m.t, v.head)
	for n := int64(0); n*block.Piece < v.size; n++ {
		is := got[n*block.Piece : min((n+1)*block.Piece, v.size)]
		if bytes.Equal(is, v.piece(n)) {
			continue
		}
		known := slices.ContainsFunc(v.older[n], func(p []byte) bool { return bytes.Equal(p, is) })
		require.True(m.t, known, "piece %d of %s is as it never was", n, v.name)
	}
	v.now = got
	clear(v.older)
}

func (m *model) check() {
	require.NoError(m.t, m.s.Check())
	for id, want := range m.points {
		require.True(m.t, bytes.Equal(want, pointContents(m.t, m.s, id)), "point %s", id)
	}
	for _, v := range m.vols {
		require.True(m.t, bytes.Equal(v.now, contents(m.t, v.head)), "head %s", v.name)
	}
	var listed []string
	require.NoError(m.t, m.s.Points(func(p Point) error { listed = append(listed, p.ID); return nil }))
	require.Len(m.t, listed, len(m.points))
}

func TestRandomWritesPointsKillsAndDeletes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			m := newModel(t, seed)
			for range 5 {
				for range 40 {
					m.step()
				}
				m.check()
			}
			var errs error
			for _, v := range m.vols {
				errs = errors.Join(errs, v.head.Close(), m.s.DeleteHead(v.name))
			}
			for id := range m.points {
				errs = errors.Join(errs, m.s.Delete(id))
			}
			require.NoError(t, errs)
			requireEmpty(t, m.s)
		})
	}
}
