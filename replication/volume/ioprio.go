package volume

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// IOClass is how the disk's scheduler treats a thread's reads and writes.
type IOClass int

// The classes, by the kernel's numbers (ioprio_set(2)).
const (
	// IOBestEffort shares the disk by level, 0 first to 7 last; 4 is the usual one.
	IOBestEffort IOClass = 2
	// IOIdle gets the disk only while nobody else wants it. It has no levels.
	IOIdle IOClass = 3
)

// SetIOPriority sets the class and level of the calling thread, so the goroutine must be
// locked to it (runtime.LockOSThread). Only schedulers that know priorities (bfq,
// mq-deadline) heed it.
func SetIOPriority(class IOClass, level int) error {
	if class != IOBestEffort && class != IOIdle || level < 0 || level > 7 {
		return fmt.Errorf("I/O priority of class %d, level %d: classes are %d (best effort) and %d (idle), levels 0 to 7", class, level, IOBestEffort, IOIdle)
	}
	const ofThread, classShift = 1, 13
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ofThread, 0, uintptr(int(class)<<classShift|level)); errno != 0 {
		return fmt.Errorf("set the I/O priority to class %d, level %d: %w", class, level, errno)
	}
	return nil
}
