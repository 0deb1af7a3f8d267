package deltatest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// ErrKilled is what a disk says after Kill.
var ErrKilled = errors.New("killed by the test")

var _ volume.Target = (*Disk)(nil)

// Disk is a volume in memory that behaves as one does when the power goes: what was
// written since the last Sync is there in part, in any order, and torn between sectors.
type Disk struct {
	mu     sync.Mutex
	now    []byte
	synced []byte
	// data tells which blocks are not holes, now and at the last Sync.
	data, dataSynced []bool
	dirty            map[int]bool // sectors that differ from what is synced, or may
	killed           bool
}

// NewDisk gives a disk of holes.
func NewDisk(size int64) *Disk {
	n := block.Blocks(int(size))
	return &Disk{
		now: make([]byte, size), synced: make([]byte, size),
		data: make([]bool, n), dataSynced: make([]bool, n), dirty: map[int]bool{},
	}
}

// Bytes is a copy of what is read from the disk.
func (d *Disk) Bytes() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.now)
}

// Synced is a copy of what no loss of power takes away.
func (d *Disk) Synced() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.synced)
}

// Size implements volume.Source.
func (d *Disk) Size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.now))
}

// Close implements volume.Source. The disk can be used on.
func (d *Disk) Close() error { return nil }

// Kill makes all calls fail from now on, without doing anything, as if the program that
// makes them had died.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.killed = true
}

// Revive ends what Kill began. What was written is there, synced or not: only the program died.
func (d *Disk) Revive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.killed = false
}

// LosePower throws away part of what was not synced, sector by sector, and revives the disk.
func (d *Disk) LosePower(rnd *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sectors := make([]int, 0, len(d.dirty))
	for s := range d.dirty {
		sectors = append(sectors, s)
	}
	slices.Sort(sectors) // so that a seed does the same again
	keep := rnd.Float64()
	for _, s := range sectors {
		if rnd.Float64() < keep {
			continue
		}
		from, to := s*sector, min((s+1)*sector, len(d.now))
		copy(d.now[from:to], d.synced[from:to])
		b := from / block.Size
		whole := d.now[b*block.Size : min((b+1)*block.Size, len(d.now))]
		// A hole that was filled is one again, or what filled it is there without its bytes.
		if !d.dataSynced[b] && block.IsZero(whole) {
			d.data[b] = rnd.IntN(2) == 0
		} else {
			d.data[b] = d.data[b] || d.dataSynced[b]
		}
	}
	d.settle()
	d.killed = false
}

// settle makes what is there durable. Under mu.
func (d *Disk) settle() {
	for s := range d.dirty {
		from, to := s*sector, min((s+1)*sector, len(d.now))
		copy(d.synced[from:to], d.now[from:to])
		d.dataSynced[from/block.Size] = d.data[from/block.Size]
	}
	clear(d.dirty)
}

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.killed {
		return 0, ErrKilled
	}
	if off >= int64(len(d.now)) {
		return 0, io.EOF
	}
	n := copy(p, d.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// NextData implements volume.Source by blocks.
func (d *Disk) NextData(off int64) (start, end int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.killed {
		return 0, 0, ErrKilled
	}
	b := int(off / block.Size)
	for b < len(d.data) && !d.data[b] {
		b++
	}
	if b >= len(d.data) {
		return 0, 0, io.EOF
	}
	e := b
	for e < len(d.data) && d.data[e] {
		e++
	}
	return max(off, int64(b)*block.Size), min(int64(e)*block.Size, int64(len(d.now))), nil
}

// WriteAt implements io.WriterAt.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.touch("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	copy(d.now[off:], p)
	for b := off / block.Size; b*block.Size < off+int64(len(p)); b++ {
		d.data[b] = true
	}
	return len(p), nil
}

// Zero implements volume.Target: whole blocks become holes.
func (d *Disk) Zero(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.touch("zero", off, n); err != nil {
		return err
	}
	clear(d.now[off : off+n])
	for b := (off + block.Size - 1) / block.Size; (b+1)*block.Size <= off+n || b*block.Size < off+n && off+n == int64(len(d.now)); b++ {
		d.data[b] = false
	}
	return nil
}

// touch checks a range and notes that it is going to be written. Under mu.
func (d *Disk) touch(what string, off, n int64) error {
	if d.killed {
		return ErrKilled
	}
	if off < 0 || n < 0 || off+n > int64(len(d.now)) {
		return fmt.Errorf("%s of %d bytes at %d is beyond the end (%d bytes)", what, n, off, len(d.now))
	}
	for at := off / sector * sector; at < off+n; at += sector {
		d.dirty[int(at/sector)] = true
	}
	return nil
}

// Sync implements volume.Target.
func (d *Disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.killed {
		return ErrKilled
	}
	d.settle()
	return nil
}

// Resize makes the disk longer by a hole, or cuts it off, durably.
func (d *Disk) Resize(size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle()
	blocks := block.Blocks(int(size))
	if size < int64(len(d.now)) {
		d.now, d.synced = d.now[:size:size], d.synced[:size:size]
		d.data, d.dataSynced = d.data[:blocks:blocks], d.dataSynced[:blocks:blocks]
		return
	}
	more := int(size) - len(d.now)
	d.now, d.synced = append(d.now, make([]byte, more)...), append(d.synced, make([]byte, more)...)
	holes := blocks - len(d.data)
	d.data, d.dataSynced = append(d.data, make([]bool, holes)...), append(d.dataSynced, make([]bool, holes)...)
}
