package delta

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Admission is what a handler lets a sender write to.
type Admission struct {
	Replicas []Replica
	// Dir keeps the intent log between sessions.
	Dir string
	// Body goes with the welcome.
	Body any
	// Finish is called when a pass is proved to be complete: all is durable, and the roots
	// are equal. What it gives goes to the sender.
	Finish func(ctx context.Context, roots []string, body json.RawMessage) (any, error)
	// Release is called when nothing writes any more. It closes replicas and indexes.
	Release func(cause error) error
}

// Handler decides who may send what.
type Handler interface {
	// Admit checks a hello, before anything else is read from the sender. peer is empty
	// without TLS. The session can be cancelled from then on.
	Admit(ctx context.Context, s *Session, hello Hello, peer Fingerprint) (Admission, error)
}

// Server serves the connections of senders.
type Server struct {
	handler Handler
	timeout time.Duration

	mu       sync.Mutex
	sessions map[string]*Session
}

// NewServer makes a server; timeout is the silence after which a link is broken, 15 s if 0.
func NewServer(h Handler, timeout time.Duration) *Server {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return &Server{handler: h, timeout: timeout, sessions: map[string]*Session{}}
}

// helloLimit bounds what a peer may send before it is admitted.
const helloLimit = 64 << 10

// Session is a sender that was admitted.
type Session struct {
	id    string
	peer  Fingerprint
	link  *link
	rx    *receiver
	admit Admission
	lanes sync.WaitGroup
	// joined is guarded by the server.
	joined [maxLanes]bool
	// work ends when nothing more is to be written. The link lives on for a goodbye.
	work context.Context
	stop context.CancelCauseFunc
}

// Cancel ends the session; the sender is told why.
func (s *Session) Cancel(cause error) { s.stop(cause) }

// Serve handles a connection until it ends: a session, or a lane of one.
func (sv *Server) Serve(ctx context.Context, conn net.Conn) error {
	peer, err := sv.handshake(ctx, conn)
	if err != nil {
		return errors.Join(err, closeNow(conn))
	}
	l := newLink(ctx, conn, sv.timeout)
	defer l.close()
	f, err := l.receive(helloLimit)
	if err != nil {
		return err
	}
	switch f.typ {
	case frameHello:
		return sv.serveSession(ctx, l, f, peer)
	case frameJoin:
		return sv.serveLane(l, f, peer)
	}
	return fmt.Errorf("%w: type %d instead of hello", ErrProtocol, f.typ)
}

func (sv *Server) handshake(ctx context.Context, conn net.Conn) (Fingerprint, error) {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, sv.timeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return "", err
	}
	return fingerprintOf(t.ConnectionState().PeerCertificates[0]), nil
}

func (sv *Server) serveSession(ctx context.Context, l *link, f frame, peer Fingerprint) error {
	var hello Hello
	if err := decodeJSON(f, &hello); err != nil {
		return err
	}
	s := &Session{id: newSessionID(), peer: peer, link: l}
	s.work, s.stop = context.WithCancelCause(l.ctx)
	defer s.stop(nil)
	go l.keepAlive() // a handler may take its time to admit
	var err error
	if hello.MinVersion > maxVersion || hello.MaxVersion < minVersion {
		err = fmt.Errorf("%w: sender speaks versions %d to %d, this target %d to %d; update the older end",
			ErrProtocol, hello.MinVersion, hello.MaxVersion, minVersion, maxVersion)
	} else if s.admit, err = sv.handler.Admit(ctx, s, hello, peer); err == nil {
		err = sv.run(s, hello)
		err = errors.Join(err, s.admit.Release(err))
	}
	if err != nil && (!IsLink(err) || errors.Is(err, ErrCorruptFrame)) {
		s.farewell(err)
	}
	return err
}

func newSessionID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// run answers the sender until the session ends, and gives the reason; nil when the sender
// left.
func (sv *Server) run(s *Session, hello Hello) (err error) {
	if s.rx, err = openReceiver(s.admit.Dir, s.admit.Replicas); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.rx.close()) }()
	sv.register(s, true)
	err = sv.follow(s, hello)
	sv.register(s, false) // no lane can join from here on
	s.lanes.Wait()
	// What came is kept, so that less is sent again.
	cerr := s.rx.checkpoint(func([]laneCount) error { return nil })
	if cerr != nil && errors.Is(err, cerr) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return cerr
	}
	return errors.Join(err, cerr)
}

// follow does what the sender says until the session ends, and gives the reason.
func (sv *Server) follow(s *Session, hello Hello) error {
	if err := s.greet(hello); err != nil {
		s.stop(err)
		return err
	}
	var helpers errgroup.Group
	helpers.Go(func() error {
		s.stop(s.rx.checkpoints(s.work, s.acknowledge))
		return nil
	})
	helpers.Go(func() error {
		s.stop(s.answer())
		return nil
	})
	<-s.work.Done()
	s.link.hurry()
	_ = helpers.Wait() // their errors are the cause of the end
	return context.Cause(s.work)
}

// register lets lanes find the session, or no longer.
func (sv *Server) register(s *Session, there bool) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if there {
		sv.sessions[s.id] = s
	} else {
		delete(sv.sessions, s.id)
	}
}

// greet compares hello and replicas, and welcomes the sender.
func (s *Session) greet(hello Hello) error {
	proof, err := hello.proof()
	if err != nil {
		return err
	}
	if len(hello.Disks) != len(s.admit.Replicas) {
		return fmt.Errorf("%w: sender has %d disks, the target %d; prepare the target anew", ErrProtocol, len(hello.Disks), len(s.admit.Replicas))
	}
	welcome := welcomeMessage{Version: min(hello.MaxVersion, maxVersion), Session: s.id}
	for i, d := range hello.Disks {
		r := s.admit.Replicas[i]
		if d.Name != r.Name || d.Size != r.Index.Size() || r.Index.Proof() != proof {
			return fmt.Errorf("%w: sender's disk %s has %d bytes and proof %s, the target expects %s with %d and %s; prepare the target anew",
				ErrProtocol, d.Name, d.Size, proof, r.Name, r.Index.Size(), r.Index.Proof())
		}
		root, err := r.Index.Root()
		if err != nil {
			return err
		}
		welcome.Roots = append(welcome.Roots, proof.RootString(root))
	}
	if welcome.Body, err = json.Marshal(s.admit.Body); err != nil {
		return err
	}
	return s.link.sendJSON(frameWelcome, welcome)
}

// acknowledge tells the sender what is durable.
func (s *Session) acknowledge(counts []laneCount) error {
	return s.link.send(frameAck, marshalCounts(counts), false)
}

// farewellTime is how long a peer may take to hear why a session ends.
const farewellTime = 2 * time.Second

// farewell tells the sender why its session ends. What it is still sending is read and
// dropped until it closes, because a reset connection would swallow the reason.
func (s *Session) farewell(err error) {
	if s.link.sendJSON(frameError, errorMessage{Code: codeOf(err), Message: err.Error()}) == nil {
		_ = s.link.conn.SetReadDeadline(time.Now().Add(farewellTime))
		_, _ = io.Copy(io.Discard, s.link.conn) // until it closes, or the deadline
	}
}

// serveLane attaches a connection to its session.
func (sv *Server) serveLane(l *link, f frame, peer Fingerprint) error {
	var m joinMessage
	if err := decodeJSON(f, &m); err != nil {
		return err
	}
	done := make(chan error, 1)
	if !sv.join(m, peer, func(s *Session) {
		defer context.AfterFunc(s.work, l.close)()
		readAhead(l.conn)
		err := newLaneReader(s.rx, m.Lane, newLaneStream(l)).run(s.work)
		s.stop(err)
		done <- err
	}) {
		return fmt.Errorf("%w: lane %d of a session that there is not, or has it already", ErrProtocol, m.Lane)
	}
	return <-done
}

// join lets run serve a lane of a session, if there is one that does not have it yet.
func (sv *Server) join(m joinMessage, peer Fingerprint, run func(*Session)) bool {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	s := sv.sessions[m.Session]
	if s == nil || s.peer != peer || m.Lane < 0 || m.Lane >= maxLanes || s.joined[m.Lane] {
		return false
	}
	s.joined[m.Lane] = true
	s.lanes.Go(func() { run(s) })
	return true
}
