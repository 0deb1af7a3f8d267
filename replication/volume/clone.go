package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Clone makes a new file that shares all its bytes with another one on the same file
// system (a reflink, as on btrfs and xfs): one instant, no bytes copied. What is
// written to either afterwards does not show in the other.
func Clone(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = onDescriptor(src, func(from int) error {
		return onDescriptor(dst, func(to int) error { return unix.IoctlFileClone(to, from) })
	})
	if err = errors.Join(err, dst.Close()); err != nil {
		return errors.Join(fmt.Errorf("clone %s as %s: %w", from, to, err), os.Remove(to))
	}
	return nil
}

// CanClone tries on a small file beside path whether clones work there. It leaves nothing
// behind.
func CanClone(path string) bool {
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
		return false
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".lifeboat-probe-")
	if err != nil {
		return false
	}
	from := filepath.Join(dir, "from")
	err = os.WriteFile(from, zeros[:Align], 0o600)
	if err == nil {
		err = Clone(from, filepath.Join(dir, "to"))
	}
	return errors.Join(err, os.RemoveAll(dir)) == nil
}
