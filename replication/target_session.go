package replication

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"lifeboat/replication/delta"

	"go.uber.org/zap"
)

// targetSession is one session of a sender.
type targetSession struct {
	t       *targetStream
	session *delta.Session
	ctx     context.Context // ends when the session shall
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when nothing writes any more

	replicas []delta.Replica
	scrub    *scrub
}

// handler lets package delta ask the engine who may send what.
type handler struct{ e *Engine }

// serve handles a connection of a sender.
func (e *Engine) serve(conn net.Conn, config *tls.Config) error {
	return e.server.Serve(e.ctx, delta.SecureServer(conn, config))
}

// Admit implements delta.Handler: it checks identity and epoch, and makes the connection the
// stream's session, after the one before has ended.
func (h handler) Admit(ctx context.Context, session *delta.Session, hello delta.Hello, peer Fingerprint) (delta.Admission, error) {
	var who helloBody
	if err := json.Unmarshal(hello.Body, &who); err != nil {
		return delta.Admission{}, fmt.Errorf("%w: the sender does not say which stream it sends: %w", ErrProtocol, err)
	}
	t, err := h.e.target(who.Stream)
	if err != nil {
		return delta.Admission{}, err
	}
	s := &targetSession{t: t, session: session, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if err := s.attach(who, hello, peer); err != nil {
		s.cancel(nil)
		return delta.Admission{}, err
	}
	admission, err := s.open()
	if err != nil {
		s.detached()
		return delta.Admission{}, err
	}
	h.e.log.Info("sender connected", zap.String("stream", who.Stream), zap.Int64("epoch", who.Epoch))
	return admission, nil
}

// attach waits until the session before has ended. Who comes is checked at the very
// moment at which the stream is free, so that nobody comes in while it changes hands.
func (s *targetSession) attach(who helloBody, hello delta.Hello, peer Fingerprint) error {
	t := s.t
	for {
		t.mu.Lock()
		err := t.admit(who, hello, peer)
		before := t.session
		if err == nil && before == nil {
			t.session = s
		}
		t.mu.Unlock()
		if err != nil || before == nil {
			return err
		}
		before.end(errSuperseded)
		select {
		case <-before.done:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

var (
	errSuperseded = errors.New("the sender connected anew")
	errRetry      = errors.New("not now")
)

// admit checks who comes, for which epoch. The caller holds t.mu.
func (t *targetStream) admit(who helloBody, hello delta.Hello, peer Fingerprint) error {
	spec := t.state.Spec
	if t.fenced != nil {
		return t.fenced
	}
	if peer != spec.Peer {
		return fmt.Errorf("%w: stream %s expects %s, not %s; prepare the target with the key of the source", ErrWrongPeer, t.name, spec.Peer, peer)
	}
	if who.Epoch < spec.Epoch || who.Epoch == spec.Epoch && t.state.Stopped {
		return fmt.Errorf("%w: stream %s is at epoch %d (stopped: %t), the sender has %d", ErrStaleEpoch, t.name, spec.Epoch, t.state.Stopped, who.Epoch)
	}
	if who.Epoch > spec.Epoch {
		return fmt.Errorf("%w: stream %s is prepared for epoch %d, the sender has %d; prepare the target first", ErrProtocol, t.name, spec.Epoch, who.Epoch)
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

// open opens the replicas, and ends what a crash left half done.
func (s *targetSession) open() (delta.Admission, error) {
	var err error
	if s.replicas, err = s.t.openReplicas(); err != nil {
		return delta.Admission{}, err
	}
	if err := s.t.repairPoints(s.ctx, s.replicas); err != nil {
		return delta.Admission{}, errors.Join(err, s.t.closeReplicas(s.replicas))
	}
	s.t.hub.update(func(st *Status) { st.Health, st.HealthReason = s.t.healthy() })
	s.scrub = s.startScrub()
	return delta.Admission{Replicas: s.replicas, Dir: s.t.dir, Finish: s.finish, Release: s.release}, nil
}

// end cancels the session; nothing is written any more when done is closed.
func (s *targetSession) end(cause error) {
	s.cancel(cause)
	s.session.Cancel(cause)
}

// release closes what the session used.
func (s *targetSession) release(error) error {
	defer s.detached()
	err := s.scrub.stop()
	return errors.Join(err, s.t.closeReplicas(s.replicas), s.t.markReplicas())
}

// detached frees the stream for the next session.
func (s *targetSession) detached() {
	s.cancel(nil)
	s.t.mu.Lock()
	if s.t.session == s {
		s.t.session = nil
	}
	s.t.mu.Unlock()
	close(s.done)
	s.t.hub.update(func(st *Status) {
		if st.Stage != StageStopped && st.Health != HealthResyncing {
			st.Health, st.HealthReason = HealthInterrupted, "no sender is connected"
		}
	})
}

// finish makes the point of a pass that is proved to be complete.
func (s *targetSession) finish(ctx context.Context, roots []string, body json.RawMessage) (any, error) {
	var point pointMessage
	if err := json.Unmarshal(body, &point); err != nil {
		return nil, fmt.Errorf("%w: the end of a pass: %w", ErrProtocol, err)
	}
	if point.ID == "" {
		return nil, fmt.Errorf("%w: the end of a pass says no point", ErrProtocol)
	}
	if err := s.scrub.confirm(); err != nil {
		return nil, err
	}
	if err := s.t.markReplicas(); err != nil {
		return nil, err
	}
	done, err := s.t.makePoint(ctx, point, roots)
	if err != nil {
		return nil, err
	}
	s.t.mend()
	s.t.hub.update(func(st *Status) {
		st.LastPoint, st.Stage, st.Health, st.HealthReason = done.Point, StageRealTime, HealthOK, ""
		st.Passes++
	})
	return done, nil
}

// markReplicas notes when we last wrote to the replicas, so that writes by others are
// noticed when a later epoch takes the disks over.
func (t *targetStream) markReplicas() error {
	next := t.snapshot()
	marks, changed, err := t.marks(next)
	if err != nil || !changed {
		return err
	}
	return t.change(func(s *targetState) { s.Replicas = marks })
}
