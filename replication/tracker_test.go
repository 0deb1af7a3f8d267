package replication_test

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"

	"lifeboat/replication"

	"github.com/stretchr/testify/require"
)

// writeLog is a tracker: the place of every write, in order. A token is a position.
type writeLog struct {
	mu      sync.Mutex
	extents []replication.Extent
	unknown bool
}

func (l *writeLog) Changes(_ context.Context, _ string, _ replication.Disk, since string) (replication.Changes, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	token := strconv.Itoa(len(l.extents))
	from, err := strconv.Atoi(since)
	if err != nil || l.unknown {
		return replication.Changes{Token: token}, nil
	}
	return replication.Changes{Known: true, Extents: l.extents[from:], Token: token}, nil
}

// forget lets the tracker know nothing, or again all.
func (l *writeLog) forget(unknown bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unknown = unknown
}

// write changes a disk and, unless it is secret, notes where.
func (l *writeLog) write(t *testing.T, path string, off int64, text string, secret bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(text), off)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	l.mu.Lock()
	defer l.mu.Unlock()
	if !secret {
		l.extents = append(l.extents, replication.Extent{Offset: off, Length: int64(len(text))})
	}
}

func TestTrackerSparesReadingAndIsNeverBelievedBlindly(t *testing.T) {
	t.Parallel()
	p := newPair(t) // its disk is full of data
	path := p.dir + "/disk0"
	writeRandom(t, path, 64<<20)
	p.disks, p.replicas = []string{path}, []string{p.dir + "/replica0"}
	log := &writeLog{}
	reopen := func() {
		require.NoError(t, p.source.Close())
		config := p.sourceConfig()
		config.Tracker = log
		e, err := replication.Open(t.Context(), config)
		require.NoError(t, err)
		p.source = e
		t.Cleanup(func() { _ = e.Close() })
	}
	reopen()
	p.start()
	scanned := func() int64 {
		st, err := p.source.Status(testStream)
		require.NoError(t, err)
		return st.BytesScanned
	}

	log.write(t, path, 20<<20, "tracked", false)
	before := scanned()
	p.requireSame(p.mark("tracked"))
	require.LessOrEqual(t, scanned()-before, int64(2*replication.RegionSize), "the region, before and in the pause")

	before = scanned()
	p.requireSame(p.mark("nothing"))
	require.Zero(t, scanned()-before)

	log.forget(true)
	log.write(t, path, 40<<20, "not tracked", true)
	p.requireSame(p.mark("unknown"))
	log.forget(false)

	// The index is lost: what the tracker says is about a state that is no more.
	require.NoError(t, p.source.Close())
	require.NoError(t, p.target.StopTarget(t.Context(), testStream, 1))
	require.NoError(t, p.target.Close())
	scribbled := &writeLog{}
	scribbled.write(t, p.replicas[0], 50<<20, "somebody else wrote this", true)
	p.openTarget()
	p.prepare()
	reopen()
	p.requireSame(p.mark("replica changed"))
}
