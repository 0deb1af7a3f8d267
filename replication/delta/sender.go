package delta

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
)

// SourceDisk is a disk that is sent. The index is what the target acknowledged of it;
// its size and proof are those of the disk and of the session.
type SourceDisk struct {
	Name  string
	Index *index.Index
}

// SenderConfig is what a sender needs. Dial and Disks are required.
type SenderConfig struct {
	// Dial makes a connection to the target, with TLS done where there is TLS. It is
	// called once for the session, and once for each lane that is used.
	Dial  func(ctx context.Context) (net.Conn, error)
	Disks []SourceDisk
	// Body goes with the hello: who sends what.
	Body any
	// Lanes that read and send at once; 0 is 2, more where the target is far or Cold is set.
	Lanes int
	// Cold: what is read comes from a disk, which likes to have more asked of it at once.
	Cold bool
	// Throttle bounds what is sent; nil is unlimited.
	Throttle *Throttle
	// Compress is CompressAuto where empty.
	Compress Compression
	Meter    *Meter
	// IOPriority of what is read; empty is IONormal.
	IOPriority IOPriority
	// Timeout is the silence after which a link is broken; default 15 s.
	Timeout time.Duration
}

// DefaultTimeout is used where a timeout is not positive.
const DefaultTimeout = 15 * time.Second

// Sender is a session with a target. Its methods are called one after the other.
type Sender struct {
	disks    []SourceDisk
	geos     []block.Geometry
	proof    block.Proof
	dial     func(ctx context.Context) (net.Conn, error)
	throttle *Throttle
	compress Compression
	meter    *Meter
	timeout  time.Duration
	priority IOPriority
	link     *link
	welcome  welcomeMessage
	window   *window
	replies  chan frame // everything but acknowledgements
	read     chan struct{}
	count    int // of lanes

	lanesMu sync.Mutex
	lanes   [maxLanes]*laneConn
	plan    *plan // of the pass that runs
}

// Connect makes a session: it says hello and hears what the target has. ctx bounds the
// whole session.
func Connect(ctx context.Context, c SenderConfig) (s *Sender, err error) {
	s = &Sender{
		disks: c.Disks, dial: c.Dial, throttle: c.Throttle, compress: c.Compress, meter: c.Meter, timeout: c.Timeout, priority: c.IOPriority,
		window: newWindow(), replies: make(chan frame, 64), read: make(chan struct{}), count: c.Lanes,
	}
	if s.meter == nil {
		s.meter = new(Meter)
	}
	if s.timeout <= 0 {
		s.timeout = DefaultTimeout
	}
	hello := Hello{MinVersion: minVersion, MaxVersion: maxVersion}
	if hello.Body, err = json.Marshal(c.Body); err != nil {
		return nil, err
	}
	for _, d := range c.Disks {
		s.proof = d.Index.Proof()
		s.geos = append(s.geos, block.Geometry{Size: d.Index.Size()})
		hello.Disks = append(hello.Disks, DiskInfo{d.Name, d.Index.Size()})
	}
	hello.Proof = s.proof.String()
	conn, err := c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	s.link = newLink(ctx, conn, s.timeout)
	began := time.Now()
	if err := s.greet(hello); err != nil {
		s.link.close()
		return nil, err
	}
	if s.count <= 0 {
		s.count = lanesFor(time.Since(began), c.Cold)
	}
	s.count = min(s.count, maxLanes)
	go func() {
		defer close(s.read)
		s.link.cancel(s.listen())
	}()
	go s.link.keepAlive()
	return s, nil
}

// lanesFor gives the lanes for a round trip: one connection carries what fits into the kernel's
// socket buffers (4 to 6 MiB by default) in a round trip, whatever the link can do. Four reads at
// once from a disk are a third faster than two; from the page cache they are not.
func lanesFor(roundTrip time.Duration, cold bool) int {
	switch {
	case roundTrip > 60*time.Millisecond:
		return 8
	case roundTrip > 15*time.Millisecond || cold:
		return 4
	}
	return 2
}

// greet says hello and checks the answer.
func (s *Sender) greet(hello Hello) error {
	if err := s.link.sendJSON(frameHello, hello); err != nil {
		return refusal(err)
	}
	f, err := s.link.receive(maxBody)
	if err != nil {
		return refusal(err)
	}
	if f.typ == frameError {
		return asError(f)
	}
	if f.typ != frameWelcome {
		return fmt.Errorf("%w: type %d instead of welcome", ErrProtocol, f.typ)
	}
	if err := decodeJSON(f, &s.welcome); err != nil {
		return err
	}
	if v := s.welcome.Version; v < minVersion || v > maxVersion || len(s.welcome.Roots) != len(s.disks) {
		return fmt.Errorf("%w: target speaks version %d about %d disks, this program %d to %d about %d; run the same version at both ends",
			ErrProtocol, v, len(s.welcome.Roots), minVersion, maxVersion, len(s.disks))
	}
	return nil
}

func asError(f frame) error {
	var m errorMessage
	if err := decodeJSON(f, &m); err != nil {
		return err
	}
	return remoteError(m.Code, m.Message)
}

// Welcome reads what the target's handler said with its welcome.
func (s *Sender) Welcome(v any) error { return json.Unmarshal(s.welcome.Body, v) }

// Lanes is how many lanes a pass uses.
func (s *Sender) Lanes() int { return s.count }

// Done is closed when the session ended; Err says why.
func (s *Sender) Done() <-chan struct{} { return s.link.ctx.Done() }

// Err is why the session ended, nil while it lasts.
func (s *Sender) Err() error { return context.Cause(s.link.ctx) }

// Cancel ends the session for a reason.
func (s *Sender) Cancel(cause error) { s.link.cancel(cause) }

// Close ends the session. The indexes stay open.
func (s *Sender) Close() {
	s.link.close()
	s.lanesMu.Lock()
	for _, c := range s.lanes {
		if c != nil {
			_ = closeNow(c.conn)
		}
	}
	s.lanesMu.Unlock()
	<-s.read
}

// listen takes what the target says until the link ends.
func (s *Sender) listen() error {
	for {
		f, err := s.link.receive(maxBody)
		if err != nil {
			return err
		}
		switch f.typ {
		case frameError:
			return asError(f)
		case frameAck:
			counts, err := parseCounts(f.body)
			if err != nil {
				return err
			}
			for _, c := range counts {
				if err := s.acknowledged(c); err != nil {
					return err
				}
			}
		case framePage, frameFinished, frameBlocks:
			select {
			case s.replies <- f:
			case <-s.link.ctx.Done():
				return context.Cause(s.link.ctx)
			}
		default:
			return fmt.Errorf("%w: type %d from the target", ErrProtocol, f.typ)
		}
	}
}

// acknowledged takes what is durable at the target into the index.
func (s *Sender) acknowledged(c laneCount) error {
	regions, bytes, err := s.window.acknowledged(c)
	if err != nil {
		return err
	}
	if err := s.settle(regions); err != nil {
		return err
	}
	s.meter.Durable.Add(int64(bytes))
	s.window.leave(bytes)
	return nil
}

// settle puts regions into the index whose changes are durable.
func (s *Sender) settle(regions []*sentRegion) error {
	for _, r := range regions {
		if err := s.disks[r.disk].Index.PutRegion(r.region, &r.rec); err != nil {
			return SpaceError("index of the source", err)
		}
		s.plan.settled(r.seg, r.region)
	}
	s.window.release(regions)
	return nil
}

// reply waits for an answer of a type.
func (s *Sender) reply(typ frameType) (frame, error) {
	select {
	case f := <-s.replies:
		if f.typ != typ {
			return f, fmt.Errorf("%w: answer of type %d instead of %d", ErrProtocol, f.typ, typ)
		}
		return f, nil
	case <-s.link.ctx.Done():
		return frame{}, context.Cause(s.link.ctx)
	}
}

// join opens the connection of a lane.
func (s *Sender) join(ctx context.Context, id int) (*laneConn, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(s.link.ctx, func() { _ = closeNow(conn) })
	body, err := json.Marshal(joinMessage{Session: s.welcome.Session, Lane: id})
	if err != nil {
		return nil, err
	}
	w, err := encodeFrame(frameJoin, body, false)
	if err != nil {
		return nil, err
	}
	c := &laneConn{conn: conn}
	if err := s.write(ctx, c, append(w.head[:], w.body...)); err != nil {
		return nil, errors.Join(err, closeNow(conn))
	}
	s.lanesMu.Lock()
	defer s.lanesMu.Unlock()
	s.lanes[id] = c
	go s.watch(conn, id)
	return c, nil
}

// watch ends the session when the target closes a lane, on which it never says anything. What was
// written to the lane is lost then, which no write tells if it was the last one.
func (s *Sender) watch(conn net.Conn, id int) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn() // which nobody reads from after the handshake
	}
	_, err := conn.Read(make([]byte, 1))
	if err == nil {
		err = io.EOF // a goodbye of TLS
	}
	s.hearOut()
	s.link.cancel(fmt.Errorf("lane %d to the target: %w", id, err))
}

// write sends bytes over a lane at the permitted rate.
func (s *Sender) write(ctx context.Context, c *laneConn, b []byte) error {
	for len(b) > 0 {
		n := len(b)
		if s.throttle != nil {
			var err error
			if n, err = s.throttle.take(ctx, n); err != nil {
				return s.link.explain(err)
			}
		}
		if err := c.conn.SetWriteDeadline(time.Now().Add(4 * s.timeout)); err != nil {
			return s.link.explain(err)
		}
		if _, err := c.Write(b[:n]); err != nil {
			return s.link.explain(err)
		}
		s.meter.Sent.Add(int64(n))
		b = b[n:]
	}
	return nil
}

// hearOut gives the target the time to say why it closed a lane.
func (s *Sender) hearOut() {
	select {
	case <-s.link.ctx.Done():
	case <-time.After(farewellTime):
	}
}

// cause prefers the reason for which the session ended to its consequences.
func (s *Sender) cause(err error) error {
	if cause := context.Cause(s.link.ctx); err != nil && cause != nil {
		return cause
	}
	return err
}
