package local

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// takeLock takes the lock that tells others that a helper lives. It is released
// when the file is closed, at the latest with the end of the process, however
// it ends. free is false when another helper has it.
func takeLock(path string) (lock *os.File, free bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, osError("Lock", path, err)
	}
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if isAny(err, unix.EAGAIN, unix.EACCES) {
		return nil, false, file.Close()
	}
	if err != nil {
		file.Close()
		return nil, false, osError("Lock", path, err)
	}
	return file, true, nil
}

// isLocked tells whether a helper holds the lock, without taking it even for a moment.
func isLocked(path string) (bool, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, osError("Lock", path, err)
	}
	defer file.Close()
	probe := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &probe); err != nil {
		return false, osError("Lock", path, err)
	}
	return probe.Type != unix.F_UNLCK, nil
}

// writeJSON replaces a small file at once and puts it on stable storage.
func writeJSON(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(path, raw, 0o600)
}

// writeFile replaces a file at once and puts it on stable storage.
func writeFile(path string, content []byte, mode os.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return osError("Write", path, err)
	}
	defer os.Remove(file.Name()) // is gone after the renaming
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return osError("Write", path, err)
}

// readJSON reads a file that writeJSON wrote; found is false when there is none.
func readJSON(path string, v any) (found bool, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return false, osError("Read", path, err)
	}
	return true, nil
}

// tail returns the end of a file, at most limit bytes; "" when there is none.
func tail(path string, limit int64) (string, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", osError("Read", path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", osError("Read", path, err)
	}
	raw, err := io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-limit), limit))
	if err != nil {
		return "", osError("Read", path, err)
	}
	return strings.ToValidUTF8(string(raw), "\uFFFD"), nil
}

// lastLines returns the last lines of a text, for messages.
func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
