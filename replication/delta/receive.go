package delta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lifeboat/replication/block"
	"lifeboat/replication/index"
	"lifeboat/replication/volume"
)

// ReceiveConfig is a volume that is copied to.
type ReceiveConfig struct {
	// Path of the file or block device to write. A file is made, and gets the size of the source.
	Path string
	// State is a directory that remembers what is in the volume. Empty: nothing is remembered,
	// and the volume is read at the beginning of each copy.
	State string
	// Peer is who may send; empty is anybody, for connections without TLS.
	Peer Fingerprint
	// Finished is called with the root of each copy that is complete; it may be nil.
	Finished func(root string)
	// Ended is called when a session is over, with the root of the copy that it completed, or ""
	// if it did not; err is what went wrong when volume and state were closed. It may be nil.
	Ended func(root string, err error)
}

// Receiver takes copies of one volume, one at a time.
type Receiver struct {
	c      ReceiveConfig
	server *Server
	busy   chan struct{} // full while a session holds the volume

	mu   sync.Mutex
	held *Session // that session
	copy string   // and whose it is
}

// NewReceiver makes a receiver.
func NewReceiver(c ReceiveConfig) *Receiver {
	r := &Receiver{c: c, busy: make(chan struct{}, 1)}
	r.server = NewServer(r, 0)
	return r
}

// Serve handles a connection until it ends.
func (r *Receiver) Serve(ctx context.Context, conn net.Conn) error { return r.server.Serve(ctx, conn) }

// sessionBody is the body of a hello.
type sessionBody struct {
	// Copy is drawn once for a copy, so that a session of the same copy is known when its
	// link broke.
	Copy string `json:"copy,omitempty"`
	// Compare asks for a session that only reads.
	Compare bool `json:"compare,omitempty"`
}

// Admit implements Handler.
func (r *Receiver) Admit(ctx context.Context, s *Session, hello Hello, peer Fingerprint) (a Admission, err error) {
	if r.c.Peer != "" && peer != r.c.Peer {
		return a, fmt.Errorf("%w: the receiver expects %s, not %s; give it the sender's fingerprint", ErrWrongPeer, r.c.Peer, peer)
	}
	proof, err := hello.proof()
	if err != nil {
		return a, err
	}
	if len(hello.Disks) != 1 || hello.Disks[0].Size <= 0 {
		return a, fmt.Errorf("%w: a copy is of one volume that is not empty", ErrProtocol)
	}
	var body sessionBody
	if len(hello.Body) > 0 {
		if err := json.Unmarshal(hello.Body, &body); err != nil {
			return a, fmt.Errorf("%w: body of the hello: %w", ErrProtocol, err)
		}
	}
	if err := r.hold(ctx, s, body.Copy); err != nil {
		return a, err
	}
	if body.Compare {
		a, err = r.openCompared(hello.Disks[0], proof)
	} else {
		a, err = r.open(hello.Disks[0], proof)
	}
	if err != nil {
		r.letGo()
	}
	return a, err
}

// busyTime is how long a session waits for the end of another one.
const busyTime = 2 * time.Second

// hold waits for the volume. A session of the same copy is ended, because its sender has given it
// up; others are not.
func (r *Receiver) hold(ctx context.Context, s *Session, copy string) error {
	r.mu.Lock()
	if r.held != nil && copy != "" && r.copy == copy {
		r.held.Cancel(fmt.Errorf("%w: the sender came back over a new connection", io.EOF))
	}
	r.mu.Unlock()
	timer := time.NewTimer(busyTime)
	defer timer.Stop()
	select {
	case r.busy <- struct{}{}:
	case <-timer.C:
		return fmt.Errorf("%w: %s is being copied or compared by another sender; wait for its end", ErrBusy, r.c.Path)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held, r.copy = s, copy
	return nil
}

func (r *Receiver) letGo() {
	r.mu.Lock()
	r.held, r.copy = nil, ""
	r.mu.Unlock()
	<-r.busy
}

// open opens volume and state.
func (r *Receiver) open(d DiskInfo, proof block.Proof) (a Admission, err error) {
	if err := PrepareTarget(r.c.Path, d.Size); err != nil {
		return a, err
	}
	v, err := volume.OpenTarget(r.c.Path, volume.WithUncached(true))
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	state, temporary := r.c.State, r.c.State == ""
	if temporary {
		state, err = os.MkdirTemp("", "lifeboat-copy-")
	} else {
		err = os.MkdirAll(state, 0o700)
	}
	if err != nil {
		return a, errors.Join(SpaceError("state directory", err), v.Close())
	}
	x, err := openTargetIndex(filepath.Join(state, "target"), r.c.Path, v, d.Size, proof)
	if err != nil {
		return a, errors.Join(err, v.Close())
	}
	var root string
	return Admission{
		Replicas: []Replica{{Name: d.Name, Volume: v, Index: x}},
		Dir:      state,
		Finish: func(_ context.Context, roots []string, _ json.RawMessage) (any, error) {
			root = roots[0]
			if r.c.Finished != nil {
				r.c.Finished(roots[0])
			}
			return struct{}{}, nil
		},
		Release: func(error) error {
			err := errors.Join(v.Close(), noteIdentity(x, r.c.Path), x.Close())
			if temporary {
				err = errors.Join(err, os.RemoveAll(state))
			}
			r.letGo()
			if r.c.Ended != nil {
				r.c.Ended(root, err)
			}
			return err
		},
	}, nil
}

// PrepareTarget makes a sparse file of a size where there is none, gives a file that size, and
// refuses a device that is smaller.
func PrepareTarget(path string, size int64) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
		if err != nil {
			return SpaceError("target", err)
		}
		return SpaceError("target", errors.Join(f.Truncate(size), f.Sync(), f.Close()))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	if st.Mode().IsRegular() {
		if st.Size() == size {
			return nil
		}
		return SpaceError("target", os.Truncate(path, size))
	}
	id, err := volume.Identify(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	if id.Size < size {
		return fmt.Errorf("%w: %s has %d bytes, the source %d; give a larger one", ErrInvalidSpec, path, id.Size, size)
	}
	return nil
}

// openTargetIndex opens the index of a volume. It is believed only if it is about this volume,
// and nobody else wrote to it since.
func openTargetIndex(prefix, path string, v volume.Target, size int64, proof block.Proof) (*index.Index, error) {
	o := index.Options{Size: size, Proof: proof, Prime: func(x *index.Index) error {
		return errors.Join(Distrust(x, v), noteIdentity(x, path))
	}}
	x, report, err := index.Open(prefix, o)
	if err != nil || report.New {
		return x, err
	}
	id, err := volume.Identify(path)
	if err != nil {
		return nil, errors.Join(err, x.Abandon())
	}
	var was volume.Identity
	if err := json.Unmarshal(x.Meta(), &was); err == nil && id.SameVolume(was) && (report.Unclean || id.Size == was.Size && id.Mtime == was.Mtime) {
		return x, nil
	}
	if err := errors.Join(x.Abandon(), index.Remove(prefix)); err != nil {
		return nil, err
	}
	x, _, err = index.Open(prefix, o)
	return x, err
}

// Distrust tells an index that nothing is known of a volume but where it has holes.
func Distrust(x *index.Index, v volume.Source) error {
	size := min(x.Size(), v.Size())
	for off := int64(0); off < size; {
		start, end, err := v.NextData(off)
		if errors.Is(err, io.EOF) || err == nil && start >= size {
			return nil
		}
		if err != nil {
			return err
		}
		first := start / block.Piece
		last := (min(end, size) + block.Piece - 1) / block.Piece
		if err := x.SetUnknown(first, last-first); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// noteIdentity remembers how the volume was when it was written last.
func noteIdentity(x *index.Index, path string) error {
	id, err := volume.Identify(path)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(id)
	if err != nil || string(raw) == string(x.Meta()) {
		return err
	}
	return x.SetMeta(raw)
}
