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

	"golang.org/x/sys/unix"
)

// CutsDir is the directory beside a disk that holds its clones while they are sent.
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

// clone makes a reflink clone of a file: one instant, no bytes copied.
func clone(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	return errors.Join(err, dst.Close())
}

// canReflink tries on a small file beside the disk whether clones work there.
func canReflink(d Disk) bool {
	if st, err := os.Stat(d.Path); err != nil || !st.Mode().IsRegular() {
		return false
	}
	dir := filepath.Join(filepath.Dir(d.Path), CutsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false
	}
	probe, err := os.CreateTemp(dir, "probe-")
	if err != nil {
		return false
	}
	from, to := probe.Name(), probe.Name()+"-clone"
	_, werr := probe.Write(zeros[:BlockSize])
	err = errors.Join(werr, probe.Close())
	if err == nil {
		err = clone(from, to)
	}
	_ = os.Remove(from) // leftovers are removed by cleanCuts
	_ = os.Remove(to)
	_ = os.Remove(dir) // only if empty
	return err == nil
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
		if err := clone(d.Path, paths[i]); err != nil {
			return spaceError(fmt.Sprintf("cut of disk %s (%s)", d.Name, d.Path), err)
		}
	}
	return nil
}
