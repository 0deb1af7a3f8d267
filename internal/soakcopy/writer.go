package soakcopy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
)

// writer keeps changing files, and remembers those that are synced.
type writer struct {
	dir string
	rnd *rand.Rand

	mu     sync.Mutex
	synced map[string][32]byte
	stop   chan struct{}
	done   chan error
}

func startWriter(dir string, seed uint64) *writer {
	w := &writer{dir: dir, rnd: rand.New(rand.NewPCG(seed, 2)), synced: map[string][32]byte{}, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { w.done <- w.run() }()
	return w
}

// filesMost keeps the file system from filling up.
const filesMost = 60

func (w *writer) run() error {
	for n := 0; ; n++ {
		select {
		case <-w.stop:
			return nil
		default:
		}
		if err := w.one(fmt.Sprintf("f%03d", w.rnd.IntN(filesMost))); err != nil {
			return err
		}
		// And something that nobody syncs.
		if err := os.WriteFile(filepath.Join(w.dir, "noise"), []byte(fmt.Sprint(n)), 0o600); err != nil {
			return err
		}
	}
}

// one replaces a file by a synced one, or removes it.
func (w *writer) one(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	path := filepath.Join(w.dir, name)
	delete(w.synced, name)
	if w.rnd.IntN(5) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data := bytes.Repeat([]byte{byte(w.rnd.Uint32())}, 1+w.rnd.IntN(300<<10))
	for i := 0; i < len(data); i += 512 {
		data[i] = byte(w.rnd.Uint32())
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	w.synced[name] = sha256.Sum256(data)
	return nil
}

// cut gives what is synced at the moment at which fn returns, which freezes the file system.
func (w *writer) cut(freeze func() error) (map[string][32]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	files := make(map[string][32]byte, len(w.synced))
	for name, sum := range w.synced {
		files[name] = sum
	}
	return files, freeze()
}

// close ends the writing.
func (w *writer) close() error {
	close(w.stop)
	return <-w.done
}

// holds checks that the copy of a file system passes fsck and has files.
func holds(ctx context.Context, image, dir string, files map[string][32]byte) (err error) {
	if _, err := run(ctx, "fsck.ext4", "-fn", image); err != nil {
		return err
	}
	if _, err := run(ctx, "mount", "-o", "loop,ro,noload", image, dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, quietly("umount", dir)) }()
	for name, want := range files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("file that was synced: %w", err)
		}
		if sha256.Sum256(data) != want {
			return fmt.Errorf("file %s that was synced has other bytes in the copy", name)
		}
	}
	return nil
}
