package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Sockets of a virtual machine, in the directory of its server. A monitor
// serves one client at a time, so each use has one of its own.
const (
	qmpSupervisor = "qmp.sock"  // its supervisor
	qmpHold       = "hold.sock" // the helper that pauses it
	agentSocket   = "agent.sock"
)

const qmpLimit = 10 * time.Second // for one command; a pause first writes out what is in flight

// qmpMessage is any message from QEMU or from a guest agent.
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Event    string          `json:"event"`
	Data     json.RawMessage `json:"data"`
	Return   json.RawMessage `json:"return"`
	Error    *qmpError       `json:"error"`
}

type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return e.Class + ": " + e.Desc }

// qmpRequest is a command to QEMU or to a guest agent.
type qmpRequest struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
}

// dialUnix connects to a socket in dir, however long the path of dir is: the
// address of a socket has room for 108 bytes only.
func dialUnix(ctx context.Context, dir, name string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name))
}

// qmp is a connection to the monitor of a virtual machine.
type qmp struct {
	conn    net.Conn
	events  func(qmpMessage)
	mu      sync.Mutex // one command at a time
	answers chan qmpMessage
	closed  chan struct{} // closed when QEMU has gone
}

// connectMachine connects to a monitor; events are given to a function that
// must not block.
func connectMachine(ctx context.Context, dir, socket string, events func(qmpMessage)) (*qmp, error) {
	conn, err := dialUnix(ctx, dir, socket)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, events: events, answers: make(chan qmpMessage, 1), closed: make(chan struct{})}
	greeted := make(chan struct{})
	go q.read(greeted)
	select {
	case <-greeted:
	case <-q.closed:
		return nil, errors.New("the virtual machine closed its monitor")
	case <-ctx.Done():
		conn.Close()
		return nil, ctx.Err()
	}
	if _, err := q.command(ctx, "qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) read(greeted chan struct{}) {
	defer close(q.closed)
	lines := bufio.NewScanner(q.conn)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		m, err := parseMessage(lines.Bytes())
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "monitor:", err)
			return
		case m.Greeting != nil && greeted != nil:
			close(greeted)
			greeted = nil
		case m.Event != "":
			if q.events != nil {
				q.events(m)
			}
		default:
			q.answers <- m
		}
	}
}

// parseMessage reads one line from QEMU or from a guest agent.
func parseMessage(line []byte) (m qmpMessage, err error) {
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("unreadable message: %w", err)
	}
	if m.Greeting == nil && m.Event == "" && m.Return == nil && m.Error == nil {
		return m, errors.New("message of an unknown kind")
	}
	return m, nil
}

// command runs one command and returns its result.
func (q *qmp) command(ctx context.Context, name string, arguments any) (json.RawMessage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := json.NewEncoder(q.conn).Encode(qmpRequest{Execute: name, Arguments: arguments}); err != nil {
		return nil, fmt.Errorf("monitor command %s: %w", name, err)
	}
	select {
	case m := <-q.answers:
		if m.Error != nil {
			return nil, fmt.Errorf("monitor command %s: %w", name, m.Error)
		}
		return m.Return, nil
	case <-q.closed:
		return nil, fmt.Errorf("monitor command %s: the virtual machine has ended", name)
	case <-ctx.Done():
		q.conn.Close() // a late answer must not be taken for that of another command
		return nil, fmt.Errorf("monitor command %s: %w", name, ctx.Err())
	}
}

func (q *qmp) close() { q.conn.Close() }

// runState asks for the state of the machine, "running" when all is well.
func (q *qmp) runState(ctx context.Context) (string, error) {
	raw, err := q.command(ctx, "query-status", nil)
	if err != nil {
		return "", err
	}
	var status struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(raw, &status); err != nil || status.Status == "" {
		return "", fmt.Errorf("monitor: unreadable state %q", raw)
	}
	return status.Status, nil
}

// machineCommand connects to a monitor, runs one command and leaves.
func machineCommand(dir, socket, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), qmpLimit)
	defer cancel()
	q, err := connectMachine(ctx, dir, socket, nil)
	if err != nil {
		return fmt.Errorf("monitor %s: %w", filepath.Join(dir, socket), err)
	}
	defer q.close()
	_, err = q.command(ctx, name, nil)
	return err
}
