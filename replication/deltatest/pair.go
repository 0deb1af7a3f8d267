package deltatest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

// silence is after what a Pair takes a link for broken.
const silence = 5 * time.Second

// Pair is a source and a target with their state, over loopback. One copy runs at a time.
type Pair struct {
	Proof block.Proof
	// Source and Target are what is copied, and what indexes are compared with. Without them each
	// Copy says from where to where, and nothing is compared.
	Source *Disk
	Target *Disk
	Dir    string // for the state of both
	// Lanes of a copy; 0 is what the engine takes.
	Lanes int
	Meter delta.Meter
	// Silence after which a link is broken; 0 is 5 s.
	Silence time.Duration

	left     []delta.Span // that a killed pass did not settle
	resume   bool
	complete string // the root of the last copy that was complete
}

// Copy is one attempt to copy.
type Copy struct {
	// From and To stand between the engine and the disks; nil is nothing.
	From volume.Source
	To   volume.Target
	// Dial replaces the way to the receiver's address.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Accept stands between the receiver and a connection; nil is nothing.
	Accept func(net.Conn) net.Conn
	// Changed is all that changed since the last complete copy; nil is not known.
	Changed []volume.Extent
	// Started hears how to kill either end, which breaks all its connections too.
	Started func(killSource, killTarget func())
}

// conns are the connections of one end, which break when it is killed.
type conns struct {
	mu     sync.Mutex
	open   []net.Conn
	killed bool
}

func (c *conns) add(conn net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, conn)
	if c.killed {
		_ = conn.Close()
	}
	return conn
}

func (c *conns) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	for _, conn := range c.open {
		_ = conn.Close()
	}
}

func (c *conns) dead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.killed
}

// copying is a Copy that runs.
type copying struct {
	*Pair
	Copy
	source, target conns
}

// Changes tells the pair that the source changed: what a killed pass settled no longer counts.
func (p *Pair) Changes() { p.resume = false }

// Run copies, with all checks of what either index says on the way. The root is that of the
// engine. The error of the receiver comes with that of the sender.
func (p *Pair) Run(ctx context.Context, c Copy) (root string, err error) {
	if c.From == nil {
		c.From = p.Source
	}
	if c.To == nil {
		c.To = p.Target
	}
	run := &copying{Pair: p, Copy: c}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	served := make(chan error, 1)
	go func() { served <- run.serve(ctx, listener) }()
	if c.Started != nil {
		c.Started(func() { p.Source.Kill(); run.source.kill() }, func() { p.Target.Kill(); run.target.kill() })
	}
	root, err = run.send(ctx, listener.Addr().String())
	_ = listener.Close() // the receiver ends once its connections did
	if rerr := <-served; rerr != nil && (err != nil || !delta.IsLink(rerr)) {
		err = errors.Join(err, fmt.Errorf("receiver: %w", rerr))
	}
	if err == nil {
		p.complete, p.resume = root, false
	}
	return root, err
}

// serve takes connections until the listener is closed, and gives the first error that is not
// a kill.
func (c *copying) serve(ctx context.Context, l net.Listener) error {
	server := delta.NewServer(c, cmp.Or(c.Silence, silence))
	var ends sync.WaitGroup
	var mu sync.Mutex
	var first error
	for {
		conn, err := l.Accept()
		if err != nil {
			ends.Wait()
			return first
		}
		c.target.add(conn)
		if c.Accept != nil {
			conn = c.Accept(conn)
		}
		ends.Go(func() {
			err := server.Serve(ctx, conn)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && first == nil && !errors.Is(err, ErrKilled) && !errors.Is(err, delta.ErrProtocol) {
				first = err
			}
		})
	}
}

// Admit implements delta.Handler.
func (c *copying) Admit(context.Context, *delta.Session, delta.Hello, delta.Fingerprint) (a delta.Admission, err error) {
	x, _, err := index.Open(filepath.Join(c.Dir, "target"), index.Options{Size: c.To.Size(), Proof: c.Proof,
		Prime: func(x *index.Index) error { return delta.Distrust(x, c.To) }})
	if err != nil {
		return a, delta.SpaceError("index of the target", err)
	}
	return delta.Admission{
		Replicas: []delta.Replica{{Name: "disk", Volume: c.To, Index: x}},
		Dir:      c.Dir,
		Body:     opened{c, x},
		Finish:   func(context.Context, []string, json.RawMessage) (any, error) { return nil, nil },
		Release: func(error) error {
			if c.target.dead() {
				return x.Abandon()
			}
			return delta.SpaceError("index of the target", x.Close())
		},
	}, nil
}

// opened is marshalled when the receiver has taken over its replica: then its index has to be
// true.
type opened struct {
	c *copying
	x *index.Index
}

// MarshalJSON implements json.Marshaler.
func (o opened) MarshalJSON() ([]byte, error) {
	if o.c.target.dead() {
		return nil, ErrKilled
	}
	return []byte("{}"), o.c.truthful(o.x, true)
}

// truthful checks an index if there is something to compare it with.
func (c *copying) truthful(x *index.Index, mayBeUnknown bool) error {
	if c.Target == nil {
		return nil
	}
	return Truthful(x, c.Target.Bytes(), mayBeUnknown)
}

// ErrUntrue is the error of an index that says what is not so.
var ErrUntrue = errors.New("untrue index")

// Truthful checks that an index says of each piece that it has the hash of these bytes, or, if
// that is allowed, that it is unknown; and that digests are those of the blocks.
func Truthful(x *index.Index, b []byte, mayBeUnknown bool) error {
	geo := x.Geometry()
	var rec index.Region
	for r := range geo.Regions() {
		if err := x.Region(r, &rec); err != nil {
			return err
		}
		for i, got := range rec.Pieces {
			off := r*block.Region + int64(i)*block.Piece
			if off >= geo.Size {
				break
			}
			want := x.Proof().OfPiece(b[off:min(off+block.Piece, geo.Size)])
			if got != want && (got.Known() || !mayBeUnknown) {
				return fmt.Errorf("%w: of the piece at %d it says %x, the bytes have %x", ErrUntrue, off, got[:8], want[:8])
			}
		}
		for i, got := range rec.Digests {
			off := r*block.Region + int64(i)*block.Size
			if !rec.DigestsKnown || off >= geo.Size {
				break
			}
			if got != block.DigestOf(b[off:min(off+block.Size, geo.Size)]) {
				return fmt.Errorf("%w: digest of the block at %d", ErrUntrue, off)
			}
		}
	}
	return nil
}

// send is the sender's part.
func (c *copying) send(ctx context.Context, address string) (root string, err error) {
	x, rep, err := index.Open(filepath.Join(c.Dir, "source"), index.Options{Size: c.From.Size(), Proof: c.Proof, Digests: true})
	if err != nil {
		return "", delta.SpaceError("index of the source", err)
	}
	defer func() {
		if c.source.dead() {
			err = errors.Join(err, x.Abandon())
		} else {
			err = errors.Join(err, delta.SpaceError("index of the source", x.Close()))
		}
	}()
	before, err := x.Root()
	if err != nil {
		return "", err
	}
	s, err := delta.Connect(ctx, delta.SenderConfig{
		Disks: []delta.SourceDisk{{Name: "disk", Index: x}}, Lanes: c.Lanes, Meter: &c.Meter, Timeout: cmp.Or(c.Silence, silence),
		Dial: func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, address) },
	})
	if err != nil {
		return "", err
	}
	defer s.Close()
	return c.pass(ctx, s, x, c.Proof.RootString(before), !rep.New)
}

func (c *copying) dial(ctx context.Context, address string) (conn net.Conn, err error) {
	if c.Dial != nil {
		conn, err = c.Dial(ctx, address)
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	if err != nil {
		return nil, err
	}
	return c.source.add(conn), nil
}

// pass compares, sends and proves, as a copy with state does.
func (c *copying) pass(ctx context.Context, s *delta.Sender, x *index.Index, before string, known bool) (string, error) {
	equal, err := s.Equal()
	if err != nil {
		return "", err
	}
	pass := delta.Pass{Volumes: []volume.Source{c.From}}
	var doubts []delta.Span
	if !equal {
		found := func(disk int, piece int64) {
			r := piece / block.PiecesPerRegion
			doubts = append(doubts, delta.Span{Disk: disk, First: r, End: r + 1})
		}
		if err := s.Compare(found); err != nil {
			return "", err
		}
	}
	if err := c.truthful(x, false); err != nil && !c.target.dead() {
		return "", fmt.Errorf("source's index: %w", err)
	}
	switch {
	case c.resume && known:
		pass.Spans = append(append([]delta.Span{}, c.left...), doubts...)
	case c.Changed != nil && equal && before == c.complete:
		pass.Changed = [][]volume.Extent{c.Changed}
	}
	if pass.Changed == nil {
		c.left, c.resume = []delta.Span{{End: x.Geometry().Regions()}}, true
		if pass.Spans != nil {
			c.left = pass.Spans
		}
		pass.Settled = func(left []delta.Span) {
			if !c.source.dead() {
				c.left = left
			}
		}
	}
	if err := s.Pass(ctx, pass); err != nil {
		return "", err
	}
	roots, err := s.Finish(nil, nil)
	if err != nil {
		return "", err
	}
	return roots[0], nil
}

// Complete checks after a copy of a source at rest that nothing is missing: that the bytes are equal,
// and durable; that the root is that of the bytes; and that another copy sends nothing.
func (p *Pair) Complete(ctx context.Context, root string) error {
	want := p.Source.Bytes()
	if at := differ(want, p.Target.Bytes()); at >= 0 {
		return fmt.Errorf("the target differs from the source at %d of %d", at, len(want))
	}
	if at := differ(want, p.Target.Synced()); at >= 0 {
		return fmt.Errorf("byte %d of the target is not durable", at)
	}
	if computed := Root(p.Proof, want); computed != root {
		return fmt.Errorf("the root is %s, that of the bytes is %s", root, computed)
	}
	before := p.Meter.Read()
	again, err := p.Run(ctx, Copy{})
	if err != nil {
		return fmt.Errorf("copy of what is equal: %w", err)
	}
	if m := p.Meter.Read(); again != root || m.Sent != before.Sent || m.Changed != before.Changed {
		return fmt.Errorf("a copy of what is equal sent %d bytes, root %s", m.Sent-before.Sent, again)
	}
	return nil
}

// differ gives where two slices differ first, -1 if nowhere.
func differ(a, b []byte) int {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	if len(b) > len(a) {
		return len(a)
	}
	return -1
}
