package ebs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"lifeboat/replication/volume"
)

// Copy makes a snapshot of the blocks of another one.
type Copy struct {
	From     *Client
	Snapshot string // completed, at From
	// Base is an earlier snapshot of the same disk, at From, of which Spec.Parent is the copy:
	// only what changed since is read and written. Both or none are set. A base that cannot be used
	// costs a full copy.
	Base string
	To   *Client
	// Spec of the copy. Bytes may be 0 for those of the source, and more, but not less.
	Spec Spec
	// Report hears of progress, at most 5 times a second, in bytes of blocks. The total is an
	// estimate until all blocks are listed. It may be nil.
	Report func(done, total int64)
}

// Upload makes a snapshot of a volume: of a disk, or of a recovery point in the store. Nobody may
// write to it meanwhile, also until an upload that was broken off is gone on with.
type Upload struct {
	Volume volume.Source
	// Changed is all that may be unlike Spec.Parent; it counts only with a parent. Nil is everything.
	Changed []volume.Extent
	To      *Client
	// Spec and Report are as for a Copy.
	Spec   Spec
	Report func(done, total int64)
}

// Result says what was done.
type Result struct {
	// Snapshot is what was made.
	Snapshot string
	// Bytes is the size of its volume.
	Bytes int64
	// Full: there was no parent, or none that could be used.
	Full bool
	// Read and Written count blocks of this run, Known those that an earlier run wrote.
	Read, Written, Known int64
	// Lost are snapshots that the service gave up during this run: somebody has to delete them.
	Lost []string
}

// lostMost bounds how often a run begins anew because its snapshot was given up.
const lostMost = 3

// Run copies and returns when the copy is completed. The same Spec.Token again goes on with the same
// snapshot; where the service gave that up it begins a new one.
func (c Copy) Run(ctx context.Context) (Result, error) {
	if (c.Base == "") != (c.Spec.Parent == "") {
		return Result{}, fmt.Errorf("%w: a base and its copy go together", ErrInvalid)
	}
	o := origin{name: c.Snapshot, list: c.From.blocksOf(c.Snapshot, pageBlocks), read: func(ctx context.Context, b listed, buf []byte) (Sum, error) {
		return c.From.read(ctx, c.Snapshot, b, buf)
	}}
	if c.Base == "" {
		return o.write(ctx, c.To, c.Spec, c.Report)
	}
	size, err := c.From.sizeOf(ctx, c.Snapshot)
	if err != nil {
		return Result{}, err
	}
	o.size, o.list = size, c.From.changesOf(c.Base, c.Snapshot)
	res, err := o.write(ctx, c.To, c.Spec, c.Report)
	if errors.Is(err, errBase) {
		c.Base, c.Spec.Parent = "", ""
		return c.Run(ctx)
	}
	return res, err
}

// Run writes and returns when the snapshot is completed, as that of a Copy does.
func (u Upload) Run(ctx context.Context) (Result, error) {
	o := origin{name: "the volume", size: u.Volume.Size(), read: func(_ context.Context, b listed, buf []byte) (Sum, error) {
		return readVolume(u.Volume, b, buf)
	}}
	o.list = listVolume(u.Volume, nil)
	if u.Spec.Parent != "" && u.Changed != nil {
		o.list = listVolume(u.Volume, u.Changed)
	} else if u.Spec.Parent != "" {
		o.list = listVolume(u.Volume, []volume.Extent{{Length: u.Volume.Size()}}) // holes are not as in the parent
	}
	res, err := o.write(ctx, u.To, u.Spec, u.Report)
	if errors.Is(err, errBase) {
		u.Spec.Parent = ""
		return u.Run(ctx)
	}
	return res, err
}

// errBase says that what a copy is based on cannot be used.
var errBase = errors.New("no base")

// origin is where blocks come from.
type origin struct {
	name string
	size int64 // of the volume; 0 = the list says it
	list lister
	read func(ctx context.Context, b listed, buf []byte) (Sum, error)
}

// write makes a snapshot of what is listed.
func (o origin) write(ctx context.Context, to *Client, s Spec, report func(done, total int64)) (res Result, err error) {
	// Asked before a snapshot is begun: what cannot be told apart is not written onto a parent.
	first, err := o.list.from(ctx, 0)
	if s.Parent != "" && (errors.Is(err, ErrUnrelated) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrInvalid)) {
		return res, fmt.Errorf("%w: %w", errBase, err)
	}
	if err != nil {
		return res, err
	}
	if o.size == 0 {
		o.size = first.size
	}
	if s.Bytes == 0 {
		s.Bytes = o.size
	}
	if s.Bytes < o.size {
		return res, fmt.Errorf("%w: %d bytes are too few for a copy of %s, which has %d", ErrInvalid, s.Bytes, o.name, o.size)
	}
	var lost []string
	for attempt := 0; ; attempt++ {
		p, n, err := to.begin(ctx, s, attempt)
		if s.Parent != "" && errors.Is(err, ErrNotFound) && !errors.Is(err, ErrLost) {
			return Result{Lost: lost}, fmt.Errorf("%w: %w", errBase, err)
		}
		if err != nil {
			return Result{Lost: lost}, err
		}
		attempt = n
		res = Result{Snapshot: p.id, Bytes: s.gib() * gib, Full: s.Parent == "", Lost: lost}
		t := &transfer{origin: o, to: to, p: p, first: first, full: res.Full, report: report, res: &res}
		if err = t.run(ctx); err == nil {
			return res, p.sums.remove()
		}
		if !errors.Is(err, ErrLost) {
			return res, errors.Join(err, p.sums.close())
		}
		lost = append(lost, p.id)
		res.Lost = lost
		if removed := p.sums.remove(); removed != nil || len(lost) == lostMost {
			return res, errors.Join(err, removed)
		}
	}
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
