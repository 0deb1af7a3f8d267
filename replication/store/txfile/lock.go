package txfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lock is an advisory lock on a file that also holds, in its first bytes,
// the generation of the store that it guards. The kernel lets go of it when its
// holder dies.
type lock struct {
	path string
	wait time.Duration // longest time to wait for it
	turn chan struct{} // writers of this process queue here instead of polling
}

func newLock(path string, wait time.Duration) *lock {
	return &lock{path: path, wait: wait, turn: make(chan struct{}, 1)}
}

func (l *lock) exclusive(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, l.busy(ctx)
	}
	file, err := l.take(ctx, unix.F_WRLCK)
	if err != nil {
		<-l.turn
		return nil, err
	}
	return func() { file.Close(); <-l.turn }, nil
}

func (l *lock) shared(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	file, err := l.take(ctx, unix.F_RDLCK)
	if err != nil {
		return nil, err
	}
	return func() { file.Close() }, nil
}

// Bytes of the lock file that are locked. Everyone passes the gate on the way to
// the room; a writer holds the gate while it waits for the room to become
// empty, so that readers who keep coming do not keep it out.
const (
	lockGate = 16
	lockRoom = 17
)

func (l *lock) take(ctx context.Context, how int16) (*os.File, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	file, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = l.pass(ctx, file, how, lockGate)
	if err == nil {
		err = l.pass(ctx, file, how, lockRoom)
	}
	if err == nil {
		err = LockByte(file, unix.F_UNLCK, lockGate)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// pass polls for a lock: waiting in the kernel could not be called off.
func (l *lock) pass(ctx context.Context, file *os.File, how int16, at int64) error {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		err := LockByte(file, how, at)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return l.busy(ctx)
		case <-time.After(pause):
		}
	}
}

// LockByte locks one byte of a file for its open file description, which the
// kernel unlocks when the file is closed or its process dies. how is F_RDLCK, F_WRLCK or
// F_UNLCK; EAGAIN or EACCES say that somebody else has it.
func LockByte(file *os.File, how int16, at int64) error {
	return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: how, Start: at, Len: 1})
}

func (l *lock) busy(ctx context.Context) error {
	return &Error{Kind: ErrBusy, Path: l.path, Message: "the state is held by another process",
		Mend: "try again; if it stays so, end the process that holds it (fuser " + l.path + ")", Cause: ctx.Err()}
}

// generation returns how many times the store was written; 0 when never.
func (l *lock) generation() (uint64, error) {
	file, err := os.Open(l.path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var raw [8]byte
	if _, err := io.ReadFull(file, raw[:]); errors.Is(err, io.EOF) {
		return 0, nil
	} else if err != nil {
		return 0, fmt.Errorf("read generation of %s: %w", l.path, err)
	}
	return binary.BigEndian.Uint64(raw[:]), nil
}

// bump counts the generation up; the caller holds the exclusive lock.
func (l *lock) bump() error {
	generation, err := l.generation()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(l.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(binary.BigEndian.AppendUint64(nil, generation+1), 0)
	return errors.Join(err, file.Close())
}
