package local

import (
	"crypto/sha256"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// jobRange maps an identifier to a place in the lock file.
func jobRange(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return int64(binary.BigEndian.Uint64(sum[:8]) >> 2)
}

// probeClones tells whether files in dir can share extents, and fails when dir
// cannot be written.
func probeClones(dir string) (bool, error) {
	from, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return false, err
	}
	defer from.Close()
	defer os.Remove(from.Name())
	if _, err := from.Write(make([]byte, 4096)); err != nil {
		return false, err
	}
	to, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return false, err
	}
	defer to.Close()
	defer os.Remove(to.Name())
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil, nil
}
