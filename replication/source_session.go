package replication

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// sourceSession is one connection to the target.
type sourceSession struct {
	s       *sourceStream
	link    *link
	spec    SourceSpec
	vols    []SourceVolume
	indexes []*index
	geos    []geometry
	replies chan frame // everything but acknowledgements
	window  *window
	queue   chan queued
	// tracking says for which disks a tracker is believed.
	tracking map[string]bool
	reflink  *bool // whether all disks can be cloned; nil before it was tried
	// incompressible counts frames down that are not worth a try.
	incompressible atomic.Int32
}

const (
	dialTimeout = 10 * time.Second
	// sendQueue bounds the frames between scanners and link.
	sendQueue = 16
)

// session connects, compares both ends, and makes passes until something ends it.
func (s *sourceStream) session(parent context.Context) (err error) {
	ctx, hold := context.WithCancelCause(parent)
	s.mu.Lock()
	s.hold = hold
	s.mu.Unlock()
	defer hold(nil)
	if _, _, held := s.held(); held { // Pause may have come before hold was set
		return errPaused
	}
	ss := &sourceSession{s: s, spec: s.snapshot().Spec, replies: make(chan frame, 64)}
	defer func() { err = errors.Join(err, ss.close()) }()
	if err := ss.open(); err != nil {
		return err
	}
	welcome, err := ss.connect(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && parent.Err() == nil {
			return cause
		}
		return err
	}
	readerDone := make(chan struct{})
	go func() {
		defer close(readerDone)
		ss.link.cancel(ss.read())
	}()
	go ss.link.keepAlive()
	err = ss.work(welcome)
	if cause := context.Cause(ss.link.ctx); cause != nil {
		err = cause // the reason, not its consequences
	}
	ss.link.close()
	<-readerDone
	return err
}

// open opens disks and indexes.
func (ss *sourceSession) open() error {
	for _, d := range ss.spec.Disks {
		v, err := ss.s.engine.config.OpenSource(d)
		if err != nil {
			return fmt.Errorf("source disk %s: %w", d.Name, err)
		}
		ss.vols = append(ss.vols, v)
		if v.Size() != d.Size {
			return fmt.Errorf("%w: source disk %s (%s) has %d bytes now, the stream was started with %d; start it again with a higher epoch",
				ErrInvalidSpec, d.Name, d.Path, v.Size(), d.Size)
		}
		x, err := openIndex(filepath.Join(ss.s.dir, fileName(d.Name)+".index"), d.Size, true, nil)
		if err != nil {
			return err
		}
		if x.damaged > 0 {
			ss.s.engine.log.Warn("index damaged; it is rebuilt from the target", zap.String("stream", ss.s.name),
				zap.String("file", x.path), zap.Int("regions", x.damaged))
		}
		ss.indexes = append(ss.indexes, x)
		ss.geos = append(ss.geos, geometry{d.Size})
	}
	return nil
}

func (ss *sourceSession) close() error {
	var errs []error
	if ss.link != nil {
		ss.link.close()
	}
	for _, v := range ss.vols {
		errs = append(errs, v.Close())
	}
	for _, x := range ss.indexes {
		errs = append(errs, x.close())
	}
	return errors.Join(errs...)
}

// connect dials, proves who we are, and is admitted.
func (ss *sourceSession) connect(ctx context.Context) (welcomeMessage, error) {
	e := ss.s.engine
	dialer := net.Dialer{Timeout: dialTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", ss.spec.TargetAddress)
	if err != nil {
		return welcomeMessage{}, err
	}
	want := ss.spec.TargetFingerprint
	conn := tls.Client(raw, e.id.tlsConfig(func(got Fingerprint) error {
		if got != want {
			return fmt.Errorf("%w: %s is %s, not %s; take the fingerprint from PrepareTarget", ErrWrongPeer, ss.spec.TargetAddress, got, want)
		}
		return nil
	}))
	hctx, cancel := context.WithTimeout(ctx, e.config.LinkTimeout)
	defer cancel()
	if err := conn.HandshakeContext(hctx); err != nil {
		return welcomeMessage{}, errors.Join(err, raw.Close())
	}
	ss.link = newLink(ctx, conn, e.config.LinkTimeout, ss.s.throttle)
	hello := helloMessage{MinVersion: protocolVersion, MaxVersion: protocolVersion, Stream: ss.s.name, Epoch: ss.spec.Epoch}
	for _, d := range ss.spec.Disks {
		hello.Disks = append(hello.Disks, helloDisk{Name: d.Name, Size: d.Size})
	}
	if err := ss.link.sendJSON(frameHello, hello); err != nil {
		return welcomeMessage{}, ss.refusal(err)
	}
	f, err := ss.link.receive(maxBody)
	if err != nil {
		return welcomeMessage{}, ss.refusal(err)
	}
	if f.typ == frameError {
		return welcomeMessage{}, asError(f)
	}
	var welcome welcomeMessage
	if f.typ != frameWelcome {
		return welcome, fmt.Errorf("%w: type %d instead of welcome", ErrProtocol, f.typ)
	}
	if err := decodeJSON(f, &welcome); err != nil {
		return welcome, err
	}
	if welcome.Version != protocolVersion || len(welcome.Disks) != len(ss.spec.Disks) {
		return welcome, fmt.Errorf("%w: target speaks version %d about %d disks", ErrProtocol, welcome.Version, len(welcome.Disks))
	}
	return welcome, nil
}

// refusal recognises what a target does that does not know our key: with TLS 1.3 it
// says so only after our side of the handshake is done.
func (ss *sourceSession) refusal(err error) error {
	var alert tls.AlertError
	var op *net.OpError
	if errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error" {
		return fmt.Errorf("%w: the target does not know our key %s; prepare the target with it (%w)", ErrWrongPeer, ss.s.engine.Fingerprint(), err)
	}
	return err
}

func asError(f frame) error {
	var m errorMessage
	if err := decodeJSON(f, &m); err != nil {
		return err
	}
	return remoteError(m.Code, m.Message)
}

// read takes what the target says until the link ends.
func (ss *sourceSession) read() error {
	for {
		f, err := ss.link.receive(maxBody)
		if err != nil {
			return err
		}
		switch f.typ {
		case frameError:
			return asError(f)
		case frameAck:
			ack, err := parseAck(f.body)
			if err == nil {
				err = ss.acknowledged(ack.frames)
			}
			if err != nil {
				return err
			}
		default:
			select {
			case ss.replies <- f:
			case <-ss.link.ctx.Done():
				return context.Cause(ss.link.ctx)
			}
		}
	}
}

// reply waits for the next answer, which must be of one type.
func (ss *sourceSession) reply(typ frameType) (frame, error) {
	select {
	case f := <-ss.replies:
		if f.typ != typ {
			return f, fmt.Errorf("%w: type %d instead of %d", ErrProtocol, f.typ, typ)
		}
		return f, nil
	case <-ss.link.ctx.Done():
		return frame{}, context.Cause(ss.link.ctx)
	}
}

// work compares both ends and then makes pass after pass.
func (ss *sourceSession) work(welcome welcomeMessage) error {
	s := ss.s
	if !s.snapshot().Connected {
		if err := s.change(func(st *sourceState) { st.Connected = true }); err != nil {
			return err
		}
	}
	ss.window = newWindow()
	if err := ss.reconcile(welcome); err != nil {
		return err
	}
	ss.trustTracker()
	s.hub.update(func(st *Status) {
		if st.Health != HealthStalled { // that ends when something got through
			st.Health, st.HealthReason = HealthOK, ""
		}
		if st.Stage == StageStarting {
			st.Stage = StageFull
		}
	})
	s.engine.log.Info("sending", zap.String("stream", s.name), zap.Int64("epoch", ss.spec.Epoch), zap.String("target", ss.spec.TargetAddress))
	for {
		began := time.Now()
		if err := ss.pass(); err != nil {
			return err
		}
		if s.snapshot().Stopped {
			return nil
		}
		if err := ss.rest(began); err != nil {
			return err
		}
	}
}

// rest waits until the next pass is due: by interval, or because a point is asked for.
func (ss *sourceSession) rest(began time.Time) error {
	for {
		st := ss.s.snapshot()
		wait := st.Spec.Settings.interval() - time.Since(began)
		if wait <= 0 || len(st.pending()) > 0 {
			return context.Cause(ss.link.ctx)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ss.s.wake:
		case <-ss.link.ctx.Done():
		}
		timer.Stop()
		if err := context.Cause(ss.link.ctx); err != nil {
			return err
		}
	}
}
