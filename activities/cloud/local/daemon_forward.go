package local

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const dialLimit = 10 * time.Second // for a server to take a forwarded connection

// target is where a forwarded connection goes.
type target struct {
	server    string
	namespace string
	hostport  string
}

// route is one port of one public address.
type route struct {
	address string // identifier
	public  string // host:port
	target  target
}

// forwards is the set of ports that are served.
type forwards struct {
	open map[string]*forward
}

func newForwards() *forwards { return &forwards{open: map[string]*forward{}} }

// set makes the routes those that are served. Connections of a route that
// ended or leads elsewhere now are closed. The result says by address what
// could not be served; calling set again tries again.
func (f *forwards) set(routes []route) (problems map[string]string) {
	problems = map[string]string{}
	wanted := map[string]bool{}
	for _, r := range routes {
		wanted[r.public] = true
	}
	for public, old := range f.open {
		if !wanted[public] {
			old.close()
			delete(f.open, public)
		}
	}
	for _, r := range routes {
		if old := f.open[r.public]; old != nil {
			old.point(r.target)
			continue
		}
		listener, err := net.Listen("tcp4", r.public)
		if err != nil {
			problems[r.address] = listenProblem(r.public, err)
			continue
		}
		f.open[r.public] = newForward(listener, r.target)
	}
	return problems
}

func listenProblem(public string, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return public + " is used by another program of this machine"
	case errors.Is(err, syscall.EACCES):
		return public + " may not be used by user " + userName()
	}
	return public + ": " + err.Error()
}

// forward serves one port.
type forward struct {
	listener net.Listener
	mu       sync.Mutex
	target   target
	ctx      context.Context // ends when the target changes
	cancel   context.CancelFunc
}

func newForward(l net.Listener, t target) *forward {
	f := &forward{listener: l, target: t}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	go f.accept()
	return f
}

// point leads new connections to another target and closes the others.
func (f *forward) point(t target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.target == t {
		return
	}
	f.cancel()
	f.target = t
	f.ctx, f.cancel = context.WithCancel(context.Background())
}

func (f *forward) close() {
	f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancel()
}

func (f *forward) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			if !isAny(err, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ECONNABORTED) {
				return // closed
			}
			<-time.After(50 * time.Millisecond) // until there is room again
			continue
		}
		f.mu.Lock()
		ctx, to := f.ctx, f.target
		f.mu.Unlock()
		go pass(ctx, conn.(*net.TCPConn), to)
	}
}

// pass connects a client with the target until one side or ctx ends.
func pass(ctx context.Context, client *net.TCPConn, to target) {
	defer client.Close()
	dial, cancel := context.WithTimeout(ctx, dialLimit)
	conn, err := dialIn(dial, to.namespace, to.hostport)
	cancel()
	if err != nil {
		client.SetLinger(0) //nolint:errcheck // only how the client sees the end
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	undo := context.AfterFunc(ctx, func() {
		// The client shall notice at once, not at its next time-out.
		client.SetLinger(0) //nolint:errcheck // as above
		client.Close()
		server.Close()
	})
	defer undo()
	var both sync.WaitGroup
	half := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			to.Close()
			from.Close()
			return
		}
		to.CloseWrite() //nolint:errcheck // the other half goes on, or fails by itself
	}
	both.Go(func() { half(server, client) })
	half(client, server)
	both.Wait()
}
