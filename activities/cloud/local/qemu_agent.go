package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	agentLock  = "agent.lock"    // one client of the agent at a time
	agentReply = 5 * time.Second // for an agent that is there
	agentPoll  = 100 * time.Millisecond
)

// agent is a connection to the QEMU guest agent of a virtual machine.
type agent struct {
	conn  net.Conn
	lines *bufio.Reader
	lock  *os.File
}

// errNoAgent tells that nobody answers within the guest.
var errNoAgent = errors.New("no guest agent answers")

// connectAgent connects to the guest agent and waits for it to answer, for at
// most agentReply. Only one connection is possible at a time: others wait.
func connectAgent(ctx context.Context, dir string) (*agent, error) {
	lock, err := waitLock(ctx, filepath.Join(dir, agentLock))
	if err != nil {
		return nil, err
	}
	conn, err := dialUnix(ctx, dir, agentSocket)
	if err != nil {
		lock.Close()
		return nil, err
	}
	a := &agent{conn: conn, lines: bufio.NewReaderSize(conn, 64<<10), lock: lock}
	if err := a.sync(); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *agent) close() {
	a.conn.Close()
	a.lock.Close()
}

// sync makes sure that the next answer is one to our next command: answers to
// an earlier client may still be on their way.
func (a *agent) sync() error {
	if err := a.conn.SetDeadline(time.Now().Add(agentReply)); err != nil {
		return err
	}
	id := rand.Int64N(1 << 53)
	raw, err := json.Marshal(qmpRequest{Execute: "guest-sync-delimited", Arguments: map[string]int64{"id": id}})
	if err != nil {
		return err
	}
	// The byte 0xFF ends whatever the agent has read of a command before.
	if _, err := a.conn.Write(append(append([]byte{0xFF}, raw...), '\n')); err != nil {
		return errors.Join(errNoAgent, err)
	}
	for {
		if _, err := a.lines.ReadBytes(0xFF); err != nil {
			return errors.Join(errNoAgent, err)
		}
		line, err := a.lines.ReadBytes('\n')
		if err != nil {
			return errors.Join(errNoAgent, err)
		}
		var got int64
		if m, err := parseMessage(bytes.TrimSpace(line)); err == nil && json.Unmarshal(m.Return, &got) == nil && got == id {
			return nil
		}
	}
}

// call runs one command of the agent.
func (a *agent) call(name string, arguments, result any) error {
	if err := a.conn.SetDeadline(time.Now().Add(2 * agentReply)); err != nil {
		return err
	}
	raw, err := json.Marshal(qmpRequest{Execute: name, Arguments: arguments})
	if err != nil {
		return err
	}
	if _, err := a.conn.Write(append(raw, '\n')); err != nil {
		return fmt.Errorf("agent command %s: %w", name, err)
	}
	line, err := a.lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("agent command %s: %w", name, err)
	}
	m, err := parseMessage(bytes.TrimSpace(line))
	if err != nil {
		return fmt.Errorf("agent command %s: %w", name, err)
	}
	if m.Error != nil {
		return fmt.Errorf("agent command %s: %w", name, m.Error)
	}
	return json.Unmarshal(m.Return, result)
}

// guestStatus is the answer to guest-exec-status.
type guestStatus struct {
	Exited bool   `json:"exited"`
	Code   int    `json:"exitcode"`
	Signal int    `json:"signal"`
	Out    string `json:"out-data"` // base64; the agent gives output only at the end
	Err    string `json:"err-data"`
}

// guestWrapper stores the script that it reads, so that its first line can
// choose the interpreter, and runs it in a session of its own with a time limit
// in seconds. At the end it kills what is left of the session: the agent would
// wait for all that could still write output.
const guestWrapper = `f=$(mktemp /tmp/lifeboat.XXXXXX) && cat >"$f" && chmod 700 "$f" || exit 126
limit=$1; read -r first <"$f"
case $first in '#!'*) set -- "$f";; *) set -- /bin/sh "$f";; esac
command -v setsid >/dev/null && set -- setsid "$@"
"$@" & pid=$!
(sleep "$limit"; kill -9 -$pid || kill -9 $pid) >/dev/null 2>&1 & watch=$!
wait $pid; s=$?
kill $watch; kill -9 -$pid 2>/dev/null; rm -f "$f"; exit $s`

// runInGuest runs a script in a guest, writes its output and returns its exit
// status. The limit holds in the guest too, so that nothing is left over there.
func runInGuest(ctx context.Context, dir, content string, env []string, limit time.Duration, output io.Writer) (code int, err error) {
	a, err := connectAgent(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer a.close()
	var started struct {
		PID int `json:"pid"`
	}
	// A little later than that of the supervisor, which says what happened.
	seconds := int((limit+time.Second-1)/time.Second) + 2
	err = a.call("guest-exec", map[string]any{"path": "/bin/sh", "arg": []string{"-c", guestWrapper, "lifeboat", fmt.Sprint(seconds)},
		"env": env, "input-data": base64.StdEncoding.EncodeToString([]byte(content)), "capture-output": true}, &started)
	if err != nil {
		return 0, err
	}
	poll := time.NewTicker(agentPoll)
	defer poll.Stop()
	for {
		var s guestStatus
		if err := a.call("guest-exec-status", map[string]int{"pid": started.PID}, &s); err != nil {
			return 0, err
		}
		if s.Exited {
			return endOfGuest(s, output)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-poll.C:
		}
	}
}

// endOfGuest writes the output of an ended script and returns its exit status.
func endOfGuest(s guestStatus, output io.Writer) (int, error) {
	for _, data := range []string{s.Out, s.Err} {
		raw, err := base64.StdEncoding.DecodeString(data)
		if err == nil {
			_, err = output.Write(raw)
		}
		if err != nil {
			return 0, fmt.Errorf("output of the script: %w", err)
		}
	}
	if s.Signal != 0 {
		return 128 + s.Signal, nil
	}
	return s.Code, nil
}
