// Package qemu copies the changed blocks of an image with QEMU's dirty
// bitmaps: the strongest peer that tracks changes.
package qemu

import (
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// monitor speaks QMP, QEMU's control protocol: JSON objects, answers in the
// order of the commands, events between them.
type monitor struct {
	conn   net.Conn
	dec    *json.Decoder
	events []message
}

type message struct {
	Event string `json:"event"`
	Data  struct {
		Device string `json:"device"`
		Error  string `json:"error"`
	} `json:"data"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Description string `json:"desc"`
	} `json:"error"`
}

const patience = time.Minute // for any answer

func openMonitor(conn net.Conn) (*monitor, error) {
	m := &monitor{conn: conn, dec: json.NewDecoder(conn)}
	if _, err := m.read(); err != nil { // the greeting
		return nil, err
	}
	return m, m.do("qmp_capabilities", nil)
}

func (m *monitor) read() (message, error) {
	var msg message
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return msg, err
	}
	err := m.dec.Decode(&msg)
	return msg, err
}

type arguments map[string]any

// do executes a command; events that come before its answer are kept.
func (m *monitor) do(command string, args arguments) error {
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	for {
		msg, err := m.read()
		switch {
		case err != nil:
			return fmt.Errorf("qmp %s: %w", command, err)
		case msg.Event != "":
			m.events = append(m.events, msg)
		case msg.Error != nil:
			return fmt.Errorf("qmp %s: %s", command, msg.Error.Description)
		default:
			return nil
		}
	}
}

// completed waits for the end of a block job.
func (m *monitor) completed(job string) error {
	for {
		var msg message
		if len(m.events) > 0 {
			msg, m.events = m.events[0], m.events[1:]
		} else {
			var err error
			if msg, err = m.read(); err != nil {
				return fmt.Errorf("wait for %s: %w", job, err)
			}
		}
		if msg.Event != "BLOCK_JOB_COMPLETED" || msg.Data.Device != job {
			continue
		}
		if msg.Data.Error != "" {
			return fmt.Errorf("%s: %s", job, msg.Data.Error)
		}
		return nil
	}
}
