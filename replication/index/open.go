package index

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lifeboat/replication/block"
)

// Options say what an index is of.
type Options struct {
	// Size of the volume in bytes.
	Size int64
	// Proof says what the hashes are.
	Proof block.Proof
	// Digests of blocks are kept as well.
	Digests bool
	// Prime is called when an index is started anew, to say what is known of the volume by
	// SetUnknown, PutRegion, SetMeta and so on. Without it all is zeros. An error
	// of it is Open's, and the next Open starts anew again.
	Prime func(x *Index) error
}

// Report says what Open found.
type Report struct {
	// New: the index was started anew.
	New bool
	// Damaged says why, and is empty if there was none.
	Damaged string
	// Unclean: it was not closed, so what was being changed then may be old or new.
	Unclean bool
}

const (
	treeSuffix    = ".tree"
	digestsSuffix = ".digests"
)

// Open opens the index whose files begin with path, or starts it anew. An error wraps ErrHeld
// if it is open already, and ErrNewer if a newer program wrote it.
func Open(path string, o Options) (*Index, Report, error) { return open(path, o, nil) }

func open(path string, o Options, wrap wrapper) (_ *Index, rep Report, err error) {
	if o.Size < 0 || o.Size > maxSize || !o.Proof.Valid() {
		return nil, rep, fmt.Errorf("index %s: size %d with %v is not possible; sizes go to %d", path, o.Size, o.Proof, maxSize)
	}
	x := &Index{layout: newLayout(o.Size, o.Proof)}
	x.chunks = make([]atomic.Pointer[chunk], x.layout.chunks)
	defer func() {
		if err != nil {
			_ = x.Abandon()
		}
	}()
	if x.tree, err = openFile(path+treeSuffix, wrap); err != nil {
		return nil, rep, err
	}
	if err = x.tree.lock(); err != nil {
		return nil, rep, err
	}
	if rep, err = x.examine(); err != nil {
		return nil, rep, err
	}
	if o.Digests {
		if err = x.openDigests(path+digestsSuffix, wrap); err != nil {
			return nil, rep, err
		}
	}
	switch {
	case rep.New:
		err = x.create(o.Prime)
	case rep.Unclean:
		err = x.rebuild()
	}
	if err != nil {
		return nil, rep, err
	}
	return x, rep, nil
}

// examine reads the header and says what is to be done.
func (x *Index) examine() (rep Report, err error) {
	var slots [2 * headerSize]byte
	if err := x.tree.read(slots[:], 0); err != nil {
		return rep, err
	}
	size, err := x.tree.size()
	if err != nil {
		return rep, err
	}
	h, slot, err := chooseHeader(&slots)
	switch {
	case errors.Is(err, ErrNewer):
		return rep, x.tree.fail("use", err)
	case errors.Is(err, errNoHeader):
		return Report{New: true}, nil
	case err != nil:
		return Report{New: true, Damaged: err.Error()}, nil
	case h.size != x.geo.Size:
		return Report{New: true, Damaged: fmt.Sprintf("it is of a volume of %d bytes, not %d", h.size, x.geo.Size)}, nil
	case h.proof != x.proof:
		return Report{New: true, Damaged: fmt.Sprintf("its hashes are %v, not %v", h.proof, x.proof)}, nil
	case size != x.end:
		return Report{New: true, Damaged: fmt.Sprintf("its file has %d bytes instead of %d", size, x.end)}, nil
	}
	x.head, x.slot, x.top = *h, slot, h.top
	x.inUse = h.state == stateInUse
	return Report{Unclean: x.inUse}, nil
}

// openDigests needs no more than a file of the right size: what is in it is checked
// when it is read.
func (x *Index) openDigests(path string, wrap wrapper) error {
	f, err := openFile(path, wrap)
	if err != nil {
		return err
	}
	x.digests = f
	want := x.geo.Regions() * slotSize
	if size, err := f.size(); err != nil || size == want {
		return err
	}
	return f.truncate(want)
}

// create starts anew. The header is written last: a crash before leaves a file without one.
func (x *Index) create(prime func(x *Index) error) error {
	if err := x.tree.truncate(0); err != nil {
		return err
	}
	if err := x.tree.truncate(x.end); err != nil {
		return err
	}
	if x.digests != nil {
		if err := x.digests.truncate(0); err != nil {
			return err
		}
		if err := x.digests.truncate(x.geo.Regions() * slotSize); err != nil {
			return err
		}
	}
	x.head = header{state: stateInUse, proof: x.proof, size: x.geo.Size}
	if _, err := rand.Read(x.head.id[:]); err != nil {
		return fmt.Errorf("draw an id for index %s: %w", x.tree.f.Name(), err)
	}
	x.inUse, x.priming = true, true
	if prime != nil {
		if err := prime(x); err != nil {
			return fmt.Errorf("start index %s anew: %w", x.tree.f.Name(), err)
		}
	}
	x.priming = false
	x.newMeta = true // so that Sync writes the header
	if err := x.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(x.tree.f.Name()))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fileError("open directory of", dir, err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fileError("sync directory of", dir, err)
	}
	return nil
}

// Remove deletes the files of an index; that there are none is fine.
func Remove(path string) error {
	var all error
	for _, suffix := range []string{treeSuffix, digestsSuffix} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, fileError("remove", path+suffix, err))
		}
	}
	return all
}

// writeHead writes the header to the slot that is not the last good one.
func (x *Index) writeHead() error {
	if x.broken != nil {
		return x.broken
	}
	x.head.seq++
	if err := x.tree.write(x.head.marshal(), int64(1-x.slot)*headerSize); err != nil {
		return err
	}
	x.slot = 1 - x.slot
	return nil
}

// begin is called before a change. The header says "in use" durably after the first one,
// in both slots, so that no damage of one brings back a root that is past. Under both locks.
func (x *Index) begin() error {
	if x.closed {
		return ErrClosed
	}
	if x.inUse {
		return nil
	}
	x.head.state, x.head.top, x.head.root = stateInUse, block.Hash{}, block.Hash{}
	if err := x.writeHeadTwice(); err != nil {
		return err
	}
	x.inUse = true
	return nil
}

// writeHeadTwice makes the header durable in one slot before it writes the other.
func (x *Index) writeHeadTwice() error {
	if err := x.writeHead(); err != nil {
		return err
	}
	if err := x.syncFiles(); err != nil {
		return err
	}
	return x.writeHead()
}

func (x *Index) syncFiles() error {
	if x.broken != nil {
		return x.broken
	}
	if err := errors.Join(x.digests.sync(), x.tree.sync()); err != nil {
		// What a failed sync lost is not known, and the next one would succeed.
		x.broken = err
	}
	return x.broken
}

// Sync makes durable what was changed. After an error of it nothing will be: Abandon the index.
func (x *Index) Sync() error {
	x.w.Lock()
	defer x.w.Unlock()
	return x.sync()
}

// sync holds w only while the disk works: readers go on.
func (x *Index) sync() error {
	if x.closed {
		return ErrClosed
	}
	if x.priming {
		return nil // create will, with the header
	}
	if err := x.syncFiles(); err != nil {
		return err
	}
	if x.held {
		x.mu.Lock()
		err := x.releaseHeld()
		x.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if x.newMeta {
		if err := x.writeHeadTwice(); err != nil {
			return err
		}
		x.newMeta = false
		return nil
	}
	return x.syncFiles()
}

// Close commits, makes all durable and says so in the header. An index that was only read
// is not written to. The files are closed in any case.
func (x *Index) Close() error {
	x.w.Lock()
	defer x.w.Unlock()
	if x.closed {
		return ErrClosed
	}
	err := x.broken
	if err == nil && x.inUse {
		err = x.finish()
	}
	return errors.Join(err, x.release())
}

func (x *Index) finish() error {
	x.mu.Lock()
	err := x.commit()
	x.mu.Unlock()
	if err != nil {
		return err
	}
	if err := x.sync(); err != nil {
		return err
	}
	x.head.state, x.head.top, x.head.root = stateClean, x.top, x.root()
	if err := x.writeHead(); err != nil {
		return err
	}
	return x.syncFiles()
}

// Abandon closes the files only, as a crash would.
func (x *Index) Abandon() error {
	x.w.Lock()
	defer x.w.Unlock()
	if x.closed {
		return nil
	}
	return x.release()
}

func (x *Index) release() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	return errors.Join(x.digests.close(), x.tree.unlock(), x.tree.close())
}
