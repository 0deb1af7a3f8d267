package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"lifeboat/replication/delta"
	"lifeboat/replication/index"

	"go.uber.org/zap"
)

// sourceSession is one session with the target.
type sourceSession struct {
	s       *sourceStream
	spec    SourceSpec
	vols    []SourceVolume
	indexes []*index.Index
	// lost: an index was started anew, so that nothing of an earlier pass counts.
	lost   bool
	sender *delta.Sender
	ctx    context.Context // ends with the session
	doubts doubts
	// roots are those of the indexes when both ends were compared, or a pass was verified.
	roots   []string
	reflink *bool // whether all disks can be cloned; nil before it was tried
	counted bool  // the used bytes of the disks
	done    progress
}

const dialTimeout = 10 * time.Second

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
	ss := &sourceSession{s: s, spec: s.snapshot().Spec}
	defer func() { err = errors.Join(err, ss.close()) }()
	if err := ss.open(); err != nil {
		return err
	}
	if err := ss.connect(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil && parent.Err() == nil {
			return cause
		}
		return err
	}
	err = ss.work()
	if cause := ss.sender.Err(); cause != nil {
		err = cause // the reason, not its consequences
	}
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
		prefix := filepath.Join(ss.s.dir, fileName(d.Name))
		x, report, err := index.Open(prefix, index.Options{Size: d.Size, Proof: proof, Digests: true})
		if err != nil {
			return indexError("index of source disk "+d.Name, err)
		}
		ss.indexes = append(ss.indexes, x)
		ss.lost = ss.lost || report.New
		if report.Damaged != "" {
			ss.s.engine.log.Warn("index damaged; it is rebuilt from the target", zap.String("stream", ss.s.name),
				zap.String("file", prefix), zap.String("damage", report.Damaged))
		}
	}
	return nil
}

// indexError says what an index that cannot be opened means.
func indexError(what string, err error) error {
	if errors.Is(err, index.ErrNewer) {
		return fmt.Errorf("%w: %s: %w; run the newer program", ErrNewerState, what, err)
	}
	return spaceError(what, err)
}

func (ss *sourceSession) close() error {
	var errs []error
	if ss.sender != nil {
		ss.sender.Close()
	}
	for _, v := range ss.vols {
		errs = append(errs, v.Close())
	}
	for _, x := range ss.indexes {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// connect dials, proves who we are, and is admitted.
func (ss *sourceSession) connect(ctx context.Context) (err error) {
	e := ss.s.engine
	var disks []delta.SourceDisk
	for i, d := range ss.spec.Disks {
		disks = append(disks, delta.SourceDisk{Name: d.Name, Index: ss.indexes[i]})
	}
	ss.sender, err = delta.Connect(ctx, delta.SenderConfig{
		Dial: ss.dial, Disks: disks, Body: helloBody{Stream: ss.s.name, Epoch: ss.spec.Epoch},
		Cold:     true, // a cut is a clone that nobody read before
		Throttle: ss.s.throttle, Meter: &ss.s.meter, IOPriority: delta.IOLow, Timeout: e.config.LinkTimeout,
	})
	if errors.Is(err, ErrWrongPeer) {
		return fmt.Errorf("%w; our key is %s", err, e.Fingerprint())
	}
	if err != nil {
		return err
	}
	ss.s.lanes.Store(int64(ss.sender.Lanes()))
	ctx, end := context.WithCancelCause(ctx)
	ss.ctx = ctx
	go func() {
		<-ss.sender.Done()
		end(ss.sender.Err())
	}()
	return nil
}

// dial opens a connection to the target, and checks that it is the one with the pinned key.
func (ss *sourceSession) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", ss.spec.TargetAddress)
	if err != nil {
		return nil, err
	}
	ss.s.links.Add(raw)
	want := ss.spec.TargetFingerprint
	conn := delta.SecureClient(raw, ss.s.engine.id.TLS(func(got Fingerprint) error {
		if got != want {
			return fmt.Errorf("%w: %s is %s, not %s; take the fingerprint from PrepareTarget", ErrWrongPeer, ss.spec.TargetAddress, got, want)
		}
		return nil
	}))
	ctx, cancel := context.WithTimeout(ctx, ss.s.engine.config.LinkTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}

// work compares both ends and then makes pass after pass.
func (ss *sourceSession) work() error {
	s := ss.s
	if !s.snapshot().Connected {
		if err := s.change(func(st *sourceState) { st.Connected = true }); err != nil {
			return err
		}
	}
	if err := ss.compare(); err != nil {
		return err
	}
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

// compare makes the indexes say what the target really has.
func (ss *sourceSession) compare() error {
	for i, x := range ss.indexes {
		if err := delta.Verify(x); err != nil {
			return err
		}
		if n := x.DamagedPages(); n > 0 {
			ss.s.engine.log.Warn("index damaged; the target is asked", zap.String("stream", ss.s.name),
				zap.String("disk", ss.spec.Disks[i].Name), zap.Int64("pages", n))
		}
	}
	equal, err := ss.sender.Equal()
	if err != nil {
		return err
	}
	if !equal {
		ss.s.hub.update(func(st *Status) {
			if st.Stage != StageStarting {
				st.Health, st.HealthReason = HealthResyncing, "comparing both ends after an interruption"
			}
		})
		if err := ss.sender.Compare(ss.doubts.add); err != nil {
			return err
		}
	}
	for _, x := range ss.indexes {
		root, err := x.Root()
		if err != nil {
			return err
		}
		ss.roots = append(ss.roots, proof.RootString(root))
	}
	return nil
}

// rest waits until the next pass is due: by interval, or because a point is asked for.
func (ss *sourceSession) rest(began time.Time) error {
	for {
		st := ss.s.snapshot()
		wait := st.Spec.Settings.interval() - time.Since(began)
		if wait <= 0 || len(st.pending()) > 0 {
			return context.Cause(ss.ctx)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ss.s.wake:
		case <-ss.ctx.Done():
		}
		timer.Stop()
		if err := context.Cause(ss.ctx); err != nil {
			return err
		}
	}
}
