package replication

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lifeboat/replication/volume"
)

// CutsDir is the directory beside a disk that holds its clones: those that are sent, and those of
// the last verified pass.
const CutsDir = ".lifeboat-cuts"

// cutPrefix starts the names of all clones of a stream.
func (s *sourceStream) cutPrefix() string {
	sum := sha256.Sum256([]byte(s.engine.config.Dir + "\x00" + s.name))
	return hex.EncodeToString(sum[:8]) + "-"
}

// cutPath is where the clone of a disk goes.
func (s *sourceStream) cutPath(d Disk, id string) string {
	return filepath.Join(filepath.Dir(d.Path), CutsDir, s.cutPrefix()+id+"-"+fileName(d.Name))
}

// cleanCuts removes clones that no pass needs.
func (s *sourceStream) cleanCuts() {
	st := s.snapshot()
	needed := map[string]bool{}
	if st.Pass != nil {
		for _, path := range st.Pass.Cuts {
			needed[path] = true
		}
	}
	if st.Base != nil {
		for _, path := range st.Base.Cuts {
			needed[path] = true
		}
	}
	for _, d := range st.Spec.Disks {
		dir := filepath.Join(filepath.Dir(d.Path), CutsDir)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // there are none
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if strings.HasPrefix(e.Name(), s.cutPrefix()) && !needed[path] {
				_ = os.Remove(path) // tried again at the next pass
			}
		}
		_ = os.Remove(dir) // only if empty
	}
}

// makeClones clones all disks.
func makeClones(disks []Disk, paths []string) error {
	for i, d := range disks {
		if err := os.MkdirAll(filepath.Dir(paths[i]), 0o700); err != nil {
			return spaceError("cut of disk "+d.Name, err)
		}
		if err := os.Remove(paths[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := volume.Clone(d.Path, paths[i]); err != nil {
			return spaceError(fmt.Sprintf("cut of disk %s (%s)", d.Name, d.Path), err)
		}
	}
	return nil
}
