package soakcopy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// stage is a file system that is written to, on a device that is copied; and one that the
// copy is kept on, which can lose its power.
type stage struct {
	source, sourceDir string // device, and where it is mounted
	target, targetDir string
	undo              []func() error
}

const (
	sourceSize = 64 << 20
	targetSize = 192 << 20
)

// tools are the programs that a stage needs.
var tools = []string{"losetup", "mkfs.ext4", "fsck.ext4", "mount", "umount"}

// missing says what is not there that a stage needs; empty if all is.
func missing() string {
	if os.Geteuid() != 0 {
		return "root, for loop devices and mounts"
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return tool
		}
	}
	return ""
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// newStage makes both file systems in dir. They are gone after close.
func newStage(ctx context.Context, dir string) (s *stage, err error) {
	s = &stage{sourceDir: filepath.Join(dir, "source"), targetDir: filepath.Join(dir, "target")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.source, err = s.mounted(ctx, s.sourceDir, sourceSize); err != nil {
		return s, err
	}
	s.target, err = s.mounted(ctx, s.targetDir, targetSize)
	return s, err
}

// mounted makes a file system on a loop device.
func (s *stage) mounted(ctx context.Context, dir string, size int64) (device string, err error) {
	image := dir + ".img"
	f, err := os.Create(image)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Truncate(size), f.Close(), os.Mkdir(dir, 0o700)); err != nil {
		return "", err
	}
	if _, err := run(ctx, "mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image); err != nil {
		return "", err
	}
	if device, err = run(ctx, "losetup", "--show", "-f", image); err != nil {
		return "", err
	}
	s.undo = append(s.undo, func() error { return quietly("losetup", "-d", device) })
	if _, err := run(ctx, "mount", device, dir); err != nil {
		return "", err
	}
	s.undo = append(s.undo, func() error { return quietly("umount", dir) })
	return device, nil
}

// quietly runs without the context of the test, which may be over.
func quietly(name string, args ...string) error {
	_, err := run(context.Background(), name, args...)
	return err
}

func (s *stage) close() (err error) {
	for i := len(s.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, s.undo[i]())
	}
	s.undo = nil
	return err
}

// The ioctl and the flag of ext4 that end all writing at once, the journal's too: what was not
// synced is lost, as with the power.
const (
	ext4Shutdown   = 0x8004587d
	shutdownNoLogs = 2
)

// losePower throws away what is not on the target's disk, and mounts it again as after a boot.
func (s *stage) losePower(ctx context.Context) error {
	d, err := os.Open(s.targetDir)
	if err != nil {
		return err
	}
	err = unix.IoctlSetPointerInt(int(d.Fd()), ext4Shutdown, shutdownNoLogs)
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("shut down %s: %w", s.targetDir, err)
	}
	if _, err := run(ctx, "umount", s.targetDir); err != nil {
		return err
	}
	_, err = run(ctx, "mount", s.target, s.targetDir)
	return err
}

// FIFREEZE and FITHAW of linux/fs.h.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// freeze makes the source's device hold all that was written, and nothing half; thaw lets
// writers go on.
func (s *stage) freeze() error { return s.freezer(fiFreeze) }
func (s *stage) thaw() error   { return s.freezer(fiThaw) }

func (s *stage) freezer(request uint) error {
	d, err := os.Open(s.sourceDir)
	if err != nil {
		return err
	}
	err = unix.IoctlSetInt(int(d.Fd()), request, 0)
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("freeze or thaw %s: %w", s.sourceDir, err)
	}
	return nil
}
