package replication

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// spool keeps the changes that were read while the server stood still, so that the
// pause does not last as long as the link needs. It is a file of unpacked data frames,
// worthless after a restart.
type spool struct {
	mu sync.Mutex
	f  *os.File
	w  *bufio.Writer
}

func newSpool(dir string) (*spool, error) {
	f, err := os.OpenFile(filepath.Join(dir, "spool"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, spaceError("spool", err)
	}
	return &spool{f: f, w: bufio.NewWriterSize(f, 1<<20)}, nil
}

// add is a scan's emit.
func (s *spool) add(_ context.Context, m *dataMessage, _ *job) error {
	w, err := encodeFrame(frameData, m.marshal(), false)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.w.Write(w.head[:]); err != nil {
		return spoolError(err)
	}
	_, err = s.w.Write(w.body)
	return spoolError(err)
}

func spoolError(err error) error {
	if err == nil {
		return nil
	}
	return spaceError("spool of the source agent", err)
}

func (s *spool) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return spoolError(s.w.Flush())
}

// each hands the changes on, in order.
func (s *spool) each(ctx context.Context, geos []geometry, emit func(context.Context, *dataMessage, *job) error) error {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return spoolError(err)
	}
	r := bufio.NewReaderSize(s.f, 1<<20)
	pass := &progress{done: func(int64) {}}
	for {
		f, _, err := readFrame(r, maxBody)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		m, err := parseData(f.body, geos)
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		j := &job{disk: m.disk, region: m.first, pass: pass}
		j.sent()
		if err := emit(ctx, m, j); err != nil {
			return err
		}
	}
}

// close gives the space back.
func (s *spool) close() {
	_ = s.f.Truncate(0) // the next spool truncates it as well
	_ = s.f.Close()
}
