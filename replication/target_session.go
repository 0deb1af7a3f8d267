package replication

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
)

// targetSession is one connection of a sender.
type targetSession struct {
	t    *targetStream
	link *link
	done chan struct{} // closed when nothing writes any more
	rx   *receiver
}

const (
	// helloLimit bounds what a peer may send before its epoch is checked.
	helloLimit = 64 << 10
	// receiveQueue bounds the frames that wait to be written.
	receiveQueue = 16
)

// serve handles a connection: it checks identity and epoch, attaches the session
// to its stream and follows the protocol.
func (e *Engine) serve(ctx context.Context, conn *tls.Conn) error {
	hctx, cancel := context.WithTimeout(ctx, e.config.LinkTimeout)
	err := conn.HandshakeContext(hctx)
	cancel()
	if err != nil {
		return errors.Join(err, conn.NetConn().Close())
	}
	peer := fingerprintOf(conn.ConnectionState().PeerCertificates[0])
	l := newLink(ctx, conn, e.config.LinkTimeout, nil)
	defer l.close()
	f, err := l.receive(helloLimit)
	if err != nil {
		return err
	}
	var hello helloMessage
	if f.typ != frameHello {
		return fmt.Errorf("%w: type %d instead of hello", ErrProtocol, f.typ)
	}
	if err := decodeJSON(f, &hello); err != nil {
		return err
	}
	s, err := e.attach(ctx, l, hello, peer)
	if err != nil {
		l.refuse(err)
		return err
	}
	defer s.detached()
	return s.run(hello)
}

// attach makes the connection the stream's session, after the one before has ended.
func (e *Engine) attach(ctx context.Context, l *link, hello helloMessage, peer Fingerprint) (*targetSession, error) {
	t, err := e.target(hello.Stream)
	if err != nil {
		return nil, err
	}
	s := &targetSession{t: t, link: l, done: make(chan struct{})}
	for {
		t.mu.Lock()
		err := t.admit(hello, peer)
		before := t.session
		if err == nil && before == nil {
			t.session = s
		}
		t.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if before == nil {
			return s, nil
		}
		before.link.cancel(errSuperseded)
		select {
		case <-before.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

var (
	errSuperseded = errors.New("the sender connected anew")
	errRetry      = errors.New("not now")
)

// admit checks who comes, for which epoch. The caller holds t.mu.
func (t *targetStream) admit(hello helloMessage, peer Fingerprint) error {
	spec := t.state.Spec
	if t.fenced != nil {
		return t.fenced
	}
	if peer != spec.Peer {
		return fmt.Errorf("%w: stream %s expects %s, not %s; prepare the target with the key of the source", ErrWrongPeer, t.name, spec.Peer, peer)
	}
	if hello.Epoch < spec.Epoch || hello.Epoch == spec.Epoch && t.state.Stopped {
		return fmt.Errorf("%w: stream %s is at epoch %d (stopped: %t), the sender has %d", ErrStaleEpoch, t.name, spec.Epoch, t.state.Stopped, hello.Epoch)
	}
	if hello.Epoch > spec.Epoch {
		return fmt.Errorf("%w: stream %s is prepared for epoch %d, the sender has %d; prepare the target first", ErrProtocol, t.name, spec.Epoch, hello.Epoch)
	}
	if hello.MinVersion > protocolVersion || hello.MaxVersion < protocolVersion {
		return fmt.Errorf("%w: sender speaks versions %d to %d, this target %d; update the older end", ErrProtocol, hello.MinVersion, hello.MaxVersion, protocolVersion)
	}
	if len(hello.Disks) != len(spec.Disks) {
		return fmt.Errorf("%w: sender has %d disks, the target %d; prepare the target anew", ErrProtocol, len(hello.Disks), len(spec.Disks))
	}
	for i, d := range hello.Disks {
		if d.Name != spec.Disks[i].Name || d.Size != spec.Disks[i].Size {
			return fmt.Errorf("%w: sender's disk %s has %d bytes, the target expects %s with %d; prepare the target anew",
				ErrProtocol, d.Name, d.Size, spec.Disks[i].Name, spec.Disks[i].Size)
		}
	}
	return nil
}

// detached frees the stream for the next session.
func (s *targetSession) detached() {
	s.link.close()
	s.t.mu.Lock()
	if s.t.session == s {
		s.t.session = nil
	}
	s.t.mu.Unlock()
	close(s.done)
	s.t.hub.update(func(st *Status) {
		if st.Stage != StageStopped {
			st.Health, st.HealthReason = HealthInterrupted, "no sender is connected"
		}
	})
}

// run answers the sender until the link ends.
func (s *targetSession) run(hello helloMessage) (err error) {
	go s.link.keepAlive()
	if s.rx, err = s.t.openReceiver(); err != nil {
		s.link.refuse(err)
		return err
	}
	defer func() { err = errors.Join(err, s.rx.close(), s.t.markReplicas()) }()
	if err := s.t.repairPoints(s.link.ctx, s.rx); err != nil {
		s.link.refuse(err)
		return err
	}
	welcome := welcomeMessage{Version: protocolVersion}
	for _, r := range s.rx.replicas {
		welcome.Disks = append(welcome.Disks, welcomeDisk{Root: rootString(r.index.root()), Unsettled: r.index.anyDirty()})
	}
	if err := s.link.sendJSON(frameWelcome, welcome); err != nil {
		return err
	}
	s.t.hub.update(func(st *Status) { st.Health, st.HealthReason = HealthOK, "" })
	s.t.engine.log.Info("sender connected", zap.String("stream", hello.Stream), zap.Int64("epoch", hello.Epoch))
	return s.loop()
}

// loop takes frames from the reader. While none is waiting, what was written is
// made durable and acknowledged.
func (s *targetSession) loop() error {
	frames := make(chan frame, receiveQueue)
	var readErr error
	go func() {
		defer close(frames)
		for {
			f, err := s.link.receive(maxBody)
			if err != nil {
				readErr = err
				return
			}
			select {
			case frames <- f:
			case <-s.link.ctx.Done():
				readErr = context.Cause(s.link.ctx)
				return
			}
		}
	}()
	err := s.consume(frames, &readErr)
	s.farewell(err)
	for range frames { // lets the reader end
	}
	s.link.close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// farewellTime is how long a sender may take to hear why its session ends.
const farewellTime = 2 * time.Second

// farewell tells the sender why its session ends. What it is still sending is read and
// dropped meanwhile: closing at once would reset the connection, and the reason be lost.
func (s *targetSession) farewell(err error) {
	if err == nil || errors.Is(err, io.EOF) || s.link.ctx.Err() != nil {
		s.link.close()
		return
	}
	time.AfterFunc(farewellTime, s.link.close)
	s.link.refuse(err)
	_ = s.link.conn.CloseWrite() // the timer closes it in any case
}

func (s *targetSession) consume(frames <-chan frame, readErr *error) error {
	quiet := time.NewTimer(time.Hour)
	defer quiet.Stop()
	for {
		quiet.Reset(s.rx.ackIn())
		var f frame
		var ok bool
		select {
		case f, ok = <-frames:
			if !ok {
				return *readErr
			}
		case <-quiet.C:
			if err := s.acknowledge(); err != nil {
				return err
			}
			continue
		}
		batch := []frame{f}
		for f.typ == frameData && len(batch) < receiveQueue {
			select {
			case f, ok = <-frames:
				if !ok {
					return *readErr
				}
				batch = append(batch, f)
				continue
			default:
			}
			break
		}
		if err := s.handle(batch); err != nil {
			return err
		}
	}
}

// handle takes data frames, possibly followed by one of another type.
func (s *targetSession) handle(batch []frame) error {
	data := batch
	if last := batch[len(batch)-1]; last.typ != frameData {
		data = batch[:len(batch)-1]
	}
	if len(data) > 0 {
		if err := s.rx.write(data); err != nil {
			return err
		}
		if s.rx.full() {
			if err := s.acknowledge(); err != nil {
				return err
			}
		}
	}
	if len(data) == len(batch) {
		return nil
	}
	f := batch[len(batch)-1]
	switch f.typ {
	case frameNodesWanted:
		return s.answerNodes(f)
	case framePiecesWanted:
		return s.answerPieces(f)
	case frameDigestsWanted:
		return s.answerDigests(f)
	case frameFlush:
		return s.acknowledge()
	case framePassEnd:
		return s.endPass(f)
	default:
		return fmt.Errorf("%w: type %d is not for a target", ErrProtocol, f.typ)
	}
}

// acknowledge makes what was written durable, and says so.
func (s *targetSession) acknowledge() error {
	frames, n, err := s.rx.checkpoint()
	if err != nil || n == 0 {
		return err
	}
	s.t.hub.update(func(st *Status) { st.Durable += n })
	return s.link.send(frameAck, ackMessage{frames}.marshal(), false)
}
