package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Files of dev in its data directory.
const (
	devFile  = "dev.json"
	devLock  = "dev.lock"
	devHome  = ".lifeboat" // the default data directory
	dataEnv  = "LIFEBOAT_DATA"
	devForm  = 1
	logsDir  = "logs"
	sitesDir = "sites"
)

// devState is what dev writes into its data directory, so that commands in
// another terminal find it, and it finds its sites again.
type devState struct {
	Format    int               `json:"format"`
	Address   string            `json:"address"`
	UI        string            `json:"ui"`
	Namespace string            `json:"namespace"`
	PID       int               `json:"pid"`
	Sites     map[string]string `json:"sites"` // name to data directory
}

// readDev reads the state of a data directory; nil when dev never ran there.
func readDev(dir string) (*devState, error) {
	path := filepath.Join(dir, devFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, usagef("%v (choose another data directory)", err)
	}
	state, err := parseDev(content)
	if err != nil {
		return nil, usagef("%s: %v", path, err)
	}
	return state, nil
}

func parseDev(content []byte) (*devState, error) {
	var state devState
	if err := json.Unmarshal(content, &state); err != nil {
		return nil, fmt.Errorf("it is damaged: %w (remove it; `lifeboat dev` writes it anew)", err)
	}
	if state.Format > devForm {
		return nil, fmt.Errorf("it was written by a newer lifeboat (format %d, this one knows %d): use that one", state.Format, devForm)
	}
	return &state, nil
}

// writeDev replaces the state at once, so that nobody reads half of it.
func writeDev(dir string, state devState) error {
	state.Format = devForm
	content, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, devFile)
	if err := os.WriteFile(path+".new", append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// findDev finds the dev that commands without an address mean: in
// $LIFEBOAT_DATA, else in the working directory or .lifeboat below it.
func (a *app) findDev() (state *devState, dir string, err error) {
	dirs := []string{".", devHome}
	if data := a.env(dataEnv); data != "" {
		dirs = []string{data}
	}
	for _, dir := range dirs {
		if state, err := readDev(dir); state != nil || err != nil {
			return state, dir, err
		}
	}
	return nil, "", nil
}

// devSites gives name and directory of the sites of that dev; none when there is no dev.
func (a *app) devSites() (map[string]string, error) {
	state, _, err := a.findDev()
	if state == nil || err != nil {
		return nil, err
	}
	return state.Sites, nil
}

// lockDev takes a data directory for one dev. The lock ends with the process.
func lockDev(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, usagef("data directory %s: %v (choose another with --data)", dir, err)
	}
	path := filepath.Join(dir, devLock)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, usagef("data directory %s: %v (make it writable, or choose another with --data)", dir, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, readErr := os.ReadFile(path)
		file.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) || readErr != nil {
			return nil, usagef("data directory %s: lock: %v (choose another with --data)", dir, err)
		}
		return nil, failf("data directory %s: another `lifeboat dev` runs on it, process %s (stop that one, or choose another directory with --data)", dir, strings.TrimSpace(string(holder)))
	}
	if err = file.Truncate(0); err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		file.Close()
		return nil, failf("data directory %s: %v", dir, err)
	}
	return file, nil
}

// sitesOfDev are the three sites of every dev, those that it had before, and
// those asked for, which win.
func sitesOfDev(dir string, before *devState, asked map[string]string) map[string]string {
	sites := map[string]string{}
	for _, name := range siteOrder {
		sites[name] = filepath.Join(dir, sitesDir, name)
	}
	if before != nil {
		for name, at := range before.Sites {
			sites[name] = at
		}
	}
	for name, at := range asked {
		sites[name] = at
	}
	return sites
}
