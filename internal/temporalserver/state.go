package temporalserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Files in a data directory.
const (
	databaseFile = "temporal.db"
	stateFile    = "server.json"
	lockFile     = "server.lock"
	logFile      = "temporal.log"
)

// stateFormat is the newest form of the state file that this program reads.
const stateFormat = 1

// state is what a data directory remembers of its server.
type state struct {
	Format        int    `json:"format"`
	ServerVersion string `json:"server_version"` // that last wrote the database
	Port          int    `json:"port"`
	UIPort        int    `json:"ui_port"`
	// Initialized is set once the server has answered. Before that the
	// database may hold half a schema, and nobody can have put data into it.
	Initialized bool `json:"initialized"`
}

// ErrNewerData says that a data directory was written by a newer server.
var ErrNewerData = errors.New("data directory of a newer Temporal server")

// parseState reads a state file.
func parseState(data []byte) (state, error) {
	var form struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &form); err != nil {
		return state{}, fmt.Errorf("it is not readable: %w; restore it from a copy of the directory, or move the directory away to start anew", err)
	}
	if form.Format > stateFormat {
		return state{}, fmt.Errorf("it has format %d and this program reads up to %d: use the newer lifeboat that wrote it", form.Format, stateFormat)
	}
	var s state
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return state{}, fmt.Errorf("it is not readable: %w; restore it from a copy of the directory, or move the directory away to start anew", err)
	}
	if s.Format < 1 {
		return state{}, errors.New("it names no format; restore it from a copy of the directory, or move the directory away to start anew")
	}
	if _, err := ParseVersion(s.ServerVersion); err != nil {
		return state{}, fmt.Errorf("server_version: %w", err)
	}
	for name, port := range map[string]int{"port": s.Port, "ui_port": s.UIPort} {
		if port < 0 || port > 65535 {
			return state{}, fmt.Errorf("%s is %d: a port lies between 1 and 65535", name, port)
		}
	}
	return s, nil
}

// readState gives the state of a data directory; ok is false when it has none yet.
func readState(dir string) (s state, ok bool, err error) {
	path := filepath.Join(dir, stateFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, false, nil
	}
	if err != nil {
		return state{}, false, err
	}
	if s, err = parseState(data); err != nil {
		return state{}, false, fmt.Errorf("%s: %w", path, err)
	}
	return s, true, nil
}

// writeState replaces the state of a data directory, and returns when it is on disk.
func writeState(dir string, s state) error {
	s.Format = stateFormat
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, stateFile+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(data, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, stateFile))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("remember the Temporal server's state in %s: %w", dir, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// checkVersion refuses to open a data directory with a server older than the
// one that wrote it.
func (s state) checkVersion(dir string, v Version) error {
	written, err := ParseVersion(s.ServerVersion)
	if err != nil {
		return err
	}
	if v.Before(written) {
		return fmt.Errorf("%w: %s was written by Temporal server %s and this one is %s; "+
			"use a temporal of server %s or newer (set LIFEBOAT_TEMPORAL to it) or another --data directory",
			ErrNewerData, dir, written, v, written)
	}
	return nil
}

// discardHalfMade removes a database whose server was killed before it first
// answered: it may hold half a schema, which the server never completes.
func discardHalfMade(dir string) error {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		err := os.Remove(filepath.Join(dir, databaseFile+suffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the half-made Temporal database: %w", err)
		}
	}
	return nil
}
