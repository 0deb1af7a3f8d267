package delta

import (
	"fmt"
	"runtime"

	"lifeboat/replication/volume"
)

// IOPriority is how the reads of a source compete with those of everybody else.
type IOPriority string

// The priorities. They count where the disk's scheduler knows them (bfq, mq-deadline).
const (
	IONormal IOPriority = "normal"
	// IOLow is the last of the usual class: others come first, but it always gets some.
	IOLow IOPriority = "low"
	// IOIdle gets the disk only while nobody else wants it.
	IOIdle IOPriority = "idle"
)

// take gives the calling goroutine a thread of that priority. The thread ends with the goroutine,
// so that nothing else runs with it.
func (p IOPriority) take() error {
	var err error
	switch p {
	case "", IONormal:
		return nil
	case IOLow:
		runtime.LockOSThread()
		err = volume.SetIOPriority(volume.IOBestEffort, 7)
	case IOIdle:
		runtime.LockOSThread()
		err = volume.SetIOPriority(volume.IOIdle, 0)
	default:
		err = fmt.Errorf("%w: no I/O priority %q; there are %s, %s and %s", ErrInvalidSpec, p, IONormal, IOLow, IOIdle)
	}
	return err
}
