package delta

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

// CompareSide is one of two volumes: a path here, or what a Receiver at the other end of Dial
// writes to.
type CompareSide struct {
	Path string
	Dial func(ctx context.Context) (net.Conn, error)
}

// CompareConfig is a comparison of two volumes. Nothing is written to either.
type CompareConfig struct {
	A, B CompareSide
	// Proof of connections; two volumes here are compared byte for byte.
	Proof block.Proof
	// Most bounds Comparison.Ranges.
	Most int
	// Meter counts what is read here; it may be nil.
	Meter *Meter
}

// Comparison says where two volumes differ, by blocks of 4 KiB.
type Comparison struct {
	SizeA, SizeB int64
	// Blocks and Bytes differ, in Count ranges. What only one has, because it is longer, differs.
	Blocks, Bytes, Count int64
	// Ranges are the first of them, ascending.
	Ranges []volume.Extent
	// Beyond is what a block device has behind the end of the other volume. It is not
	// looked at, because a copy to a larger device is a good one.
	Beyond int64

	end int64 // of the last range
}

// Equal tells that no difference was found.
func (c *Comparison) Equal() bool { return c.Count == 0 }

// add notes that a range differs; ranges come in ascending order.
func (c *Comparison) add(off, n int64, most int) {
	c.Blocks += (n + block.Size - 1) / block.Size
	c.Bytes += n
	joins := c.Count > 0 && c.end == off
	c.end = off + n
	if joins {
		if c.Count == int64(len(c.Ranges)) {
			c.Ranges[c.Count-1].Length += n
		}
		return
	}
	c.Count++
	if len(c.Ranges) < most {
		c.Ranges = append(c.Ranges, volume.Extent{Offset: off, Length: n})
	}
}

// CompareVolumes reads two volumes and says where they differ.
func CompareVolumes(ctx context.Context, c CompareConfig) (res Comparison, err error) {
	if c.Meter == nil {
		c.Meter = new(Meter)
	}
	a, err := c.openSide(ctx, c.A)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	b, err := c.openSide(ctx, c.B)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	res.SizeA, res.SizeB = a.size, b.size
	size := min(a.size, b.size)
	if a.volume != nil && b.volume != nil {
		err = c.compareHere(ctx, a.volume, b.volume, size, &res)
	} else if size > 0 {
		err = c.compareHashes(ctx, a, b, size, &res)
	}
	if err != nil {
		return res, err
	}
	longer := a
	if b.size > a.size {
		longer = b
	}
	switch rest := longer.size - size; {
	case rest > 0 && longer.device:
		res.Beyond = rest
	case rest > 0:
		res.add(size, rest, c.Most)
	}
	return res, nil
}

// comparedSide is an open CompareSide.
type comparedSide struct {
	name   string
	volume volume.Source // nil if it is at the other end of dial
	dial   func(ctx context.Context) (net.Conn, error)
	size   int64
	device bool

	dir    string
	index  *index.Index // what it has, in common with the other side
	sender *Sender
}

// openSide opens a volume, or asks how large it is.
func (c *CompareConfig) openSide(ctx context.Context, s CompareSide) (*comparedSide, error) {
	if s.Dial != nil {
		out := &comparedSide{name: "at the other end", dial: s.Dial}
		return out, out.probe(ctx, c.Proof)
	}
	v, err := volume.Open(s.Path)
	if err != nil {
		return nil, err
	}
	id, err := volume.Identify(s.Path)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return &comparedSide{name: s.Path, volume: v, size: v.Size(), device: id.Block}, nil
}

func (s *comparedSide) close() error {
	var err error
	if s.sender != nil {
		s.sender.Close()
	}
	if s.index != nil {
		err = s.index.Abandon()
	}
	if s.volume != nil {
		err = errors.Join(err, s.volume.Close())
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// compareWelcome is the body of the welcome of a session that only reads.
type compareWelcome struct {
	Size   int64 `json:"size"`
	Device bool  `json:"device"`
}

// probe learns the size of a volume at the other end.
func (s *comparedSide) probe(ctx context.Context, proof block.Proof) error {
	err := s.connect(ctx, proof, 1)
	if err == nil {
		var w compareWelcome
		if err = s.sender.Welcome(&w); err == nil {
			s.size, s.device = w.Size, w.Device
		}
		s.sender.Close()
		s.sender = nil
		err = errors.Join(err, s.index.Abandon())
		s.index = nil
	}
	if err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

// connect makes a session about the first bytes of the volume.
func (s *comparedSide) connect(ctx context.Context, proof block.Proof, size int64) (err error) {
	if err := s.openIndex(proof, size); err != nil {
		return err
	}
	s.sender, err = Connect(ctx, SenderConfig{Dial: s.dial, Disks: []SourceDisk{{Name: "disk", Index: s.index}}, Body: sessionBody{Compare: true}, Lanes: 1})
	return err
}

// openIndex makes an empty index for the comparison.
func (s *comparedSide) openIndex(proof block.Proof, size int64) (err error) {
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "lifeboat-compare-"); err != nil {
			return err
		}
	}
	if err := index.Remove(filepath.Join(s.dir, "index")); err != nil {
		return err
	}
	s.index, _, err = index.Open(filepath.Join(s.dir, "index"), index.Options{Size: size, Proof: proof})
	return err
}
