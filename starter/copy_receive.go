package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/spf13/cobra"

	"lifeboat/replication/delta"
)

// receiveFlags are the flags of `copy receive`.
type receiveFlags struct {
	linkFlags
	listen, state string
	once          bool
}

func newCopyReceiveCommand(a *app) *cobra.Command {
	var f receiveFlags
	cmd := &cobra.Command{
		Use: "receive DST", Short: "Receive copies from other hosts",
		Long: "Receive waits for `lifeboat copy SRC HOST:PORT` and writes what it sends to a file or\n" +
			"block device. A file that is missing is made. With --state DIR it remembers what is in\n" +
			"DST; without, DST is read before each copy. It goes on until interrupted, or with --once\n" +
			"until a copy is complete.",
		Example: "  lifeboat copy receive /dev/vg/db --listen :7480 --peer sha256:… --state /var/lib/db.state\n" +
			"  lifeboat copy receive /tmp/db.img --listen 127.0.0.1:7480 --insecure-plaintext --once",
		Args: cobra.ExactArgs(1),
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.listen, "listen", "", "HOST:PORT to listen at; :PORT is all addresses of this host")
	cmd.Flags().StringVar(&f.state, "state", "", "directory that remembers what is in DST")
	cmd.Flags().BoolVar(&f.once, "once", false, "end after one complete copy")
	if err := cmd.MarkFlagRequired("listen"); err != nil {
		panic(err)
	}
	return a.runs(cmd, func(ctx context.Context, args []string) error { return a.receiveCopies(ctx, &f, args[0]) })
}

// receivedCopy is what `copy receive -o json` prints for each complete copy.
type receivedCopy struct {
	Root string `json:"root"`
}

// receiveCopies serves senders until the context ends, or with --once until a copy is complete.
func (a *app) receiveCopies(ctx context.Context, f *receiveFlags, target string) error {
	boundCopyMemory()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	listener, peer, err := f.open(ctx)
	if err != nil {
		return err
	}
	type end struct {
		root string
		err  error
	}
	a.say("listening at %s", listener.Addr())
	ended := make(chan end)
	receiver := delta.NewReceiver(delta.ReceiveConfig{Path: target, State: f.state, Peer: peer, Ended: func(root string, err error) {
		if root == "" {
			return // why is told by Serve
		}
		select {
		case ended <- end{root, err}:
		case <-ctx.Done():
		}
	}})
	failed := make(chan error, 1)
	var connections sync.WaitGroup
	connections.Go(func() { failed <- a.accept(ctx, listener, receiver, &connections) })
	defer connections.Wait()
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		select {
		case e := <-ended:
			err := a.print(receivedCopy{e.root}, func(w io.Writer) { fmt.Fprintln(w, e.root) })
			if err = errors.Join(err, e.err); err != nil || f.once {
				stop()
				return err
			}
		case err := <-failed:
			stop()
			return err
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return &statusError{status: statusInterrupted, message: "interrupted; what was received is kept, run the same command again to receive more", err: ctx.Err()}
		}
	}
}

// open listens.
func (f *receiveFlags) open(ctx context.Context) (l net.Listener, peer delta.Fingerprint, err error) {
	var config *tls.Config
	if f.plaintext {
		err = f.checkPlain(f.listen)
	} else {
		config, peer, err = f.tls()
	}
	if err != nil {
		return nil, "", err
	}
	var lc net.ListenConfig
	if l, err = lc.Listen(ctx, "tcp", f.listen); err != nil {
		return nil, "", failf("--listen %s: %v; is another receiver running? Choose another port", f.listen, err)
	}
	if config != nil {
		l = secureListener{l, config}
	}
	return l, peer, nil
}

// secureListener puts TLS on what it accepts.
type secureListener struct {
	net.Listener
	config *tls.Config
}

func (l secureListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return delta.SecureServer(conn, l.config), nil
}

// accept serves connections until the listener is closed.
func (a *app) accept(ctx context.Context, l net.Listener, r *delta.Receiver, connections *sync.WaitGroup) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listen at %s: %w", l.Addr(), err)
		}
		connections.Go(func() {
			if err := r.Serve(ctx, conn); err != nil && ctx.Err() == nil && (!delta.IsLink(err) || errors.Is(err, delta.ErrCorruptFrame)) {
				a.say("lifeboat: sender %s: %v", conn.RemoteAddr(), err)
			}
		})
	}
}
