package replicationtest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"lifeboat/replication"
)

// Pauser stands for a server: its writers hold Writes for reading while they write,
// and a pause waits for them and keeps them out.
type Pauser struct {
	Writes sync.RWMutex
	// Count of pauses so far.
	Count atomic.Int64
}

// Pause implements replication.Pauser.
func (p *Pauser) Pause(context.Context, replication.SourceSpec) (func() error, error) {
	p.Writes.Lock()
	p.Count.Add(1)
	return func() error { p.Writes.Unlock(); return nil }, nil
}

// Maker takes snapshots as sparse copies of the replica files in Dir. It is
// idempotent by point id.
type Maker struct {
	Dir string
	// Made counts the calls of Make that copied something.
	Made atomic.Int64

	mu   sync.Mutex
	fail error
}

// Fail lets Make fail with err, until nil is given.
func (m *Maker) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Path of a snapshot.
func (m *Maker) Path(snapshot string) string { return filepath.Join(m.Dir, snapshot) }

// Make implements replication.PointMaker.
func (m *Maker) Make(_ context.Context, r replication.PointRequest) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	out := map[string]string{}
	for _, d := range r.Disks {
		id := r.ID + "-" + d.Name
		out[d.Name] = id
		if _, err := os.Stat(m.Path(id)); err == nil {
			continue
		}
		if err := copySparse(d.Path, m.Path(id)+".tmp"); err != nil {
			return nil, err
		}
		if err := os.Rename(m.Path(id)+".tmp", m.Path(id)); err != nil {
			return nil, err
		}
		m.Made.Add(1)
	}
	return out, nil
}

// Remove implements replication.PointMaker.
func (m *Maker) Remove(_ context.Context, p replication.Point) error {
	for _, d := range p.Disks {
		if err := os.Remove(m.Path(p.ID + "-" + d.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func copySparse(from, to string) (err error) {
	src, err := replication.OpenVolume(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if err := dst.Truncate(src.Size()); err != nil {
		return err
	}
	for off := int64(0); ; {
		start, end, err := src.NextData(off)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, start), io.NewSectionReader(src, start, end-start)); err != nil {
			return err
		}
		off = end
	}
}
