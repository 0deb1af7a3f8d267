package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
)

// The intent log of a receiver says which pieces are about to be overwritten. It is
// synced before they are, and emptied when their new hashes are durable. After a
// crash exactly these pieces are not believed.
//
// There are two files. While what one names is made durable, the other takes new
// intents. A batch in a file is: magic (4 bytes), count (4), count times {disk (4), kind (4), first
// piece (8), count (8)}, XXH3-64 of all that.
const (
	intentMagic    = "LBI2"
	intentItemSize = 24
	// maxIntents bounds a batch.
	maxIntents = 1 << 16
)

// The kinds of intents.
const (
	// intentPieces: all pieces of the range are in doubt.
	intentPieces = 1
	// intentFresh: those are whose hash is that of zeros, unless they are holes. It lets a whole
	// range be filled for the price of one intent.
	intentFresh = 2
)

type intent struct {
	disk  int
	kind  uint32
	first int64
	count int64
}

// intentLog is a pair of files. The caller serialises swap and release with add.
type intentLog struct {
	mu    sync.Mutex
	files [2]*os.File
	sizes [2]int64
	now   int // which file takes new intents
	fresh []intent
}

// openIntents opens the log in a directory and gives what was open. complete is false when a
// file is damaged before its end, so that nothing may be believed.
func openIntents(dir string) (l *intentLog, open []intent, complete bool, err error) {
	l, complete = &intentLog{}, true
	created := false
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	for i, name := range []string{"intents.0", "intents.1"} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			created = true
		}
		if l.files[i], err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return l, nil, false, SpaceError("open intent log", err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return l, nil, false, fmt.Errorf("read intent log: %w", err)
		}
		l.sizes[i] = int64(len(raw))
		items, whole := parseIntents(raw)
		open, complete = append(open, items...), complete && whole
	}
	if created { // a synced file is of no use without its name
		err = SpaceError("sync directory of the intent log", syncDir(dir))
	}
	return l, open, complete, err
}

// parseIntents reads batches up to the first that is not whole. A torn last batch
// is fine, because its pieces were not touched yet. Anything that looks
// like a batch behind a bad one means damage.
func parseIntents(raw []byte) (open []intent, complete bool) {
	for len(raw) > 0 {
		items, n := parseIntentBatch(raw)
		if n == 0 {
			return open, !containsBatch(raw[1:])
		}
		open = append(open, items...)
		raw = raw[n:]
	}
	return open, true
}

func parseIntentBatch(raw []byte) (items []intent, n int) {
	if len(raw) < 16 || string(raw[:4]) != intentMagic {
		return nil, 0
	}
	count := int(binary.LittleEndian.Uint32(raw[4:]))
	if count > maxIntents {
		return nil, 0
	}
	n = 8 + count*intentItemSize + 8
	if len(raw) < n || binary.LittleEndian.Uint64(raw[n-8:]) != xxh3.Hash(raw[:n-8]) {
		return nil, 0
	}
	for b := raw[8 : n-8]; len(b) > 0; b = b[intentItemSize:] {
		items = append(items, intent{
			disk: int(binary.LittleEndian.Uint32(b)), kind: binary.LittleEndian.Uint32(b[4:]),
			first: int64(binary.LittleEndian.Uint64(b[8:])), count: int64(binary.LittleEndian.Uint64(b[16:])),
		})
	}
	return items, n
}

func containsBatch(raw []byte) bool {
	for i := range raw {
		if raw[i] == intentMagic[0] {
			if _, n := parseIntentBatch(raw[i:]); n > 0 {
				return true
			}
		}
	}
	return false
}

func marshalIntents(items []intent) []byte {
	b := make([]byte, 0, 16+len(items)*intentItemSize)
	b = append(b, intentMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(items)))
	for _, it := range items {
		b = binary.LittleEndian.AppendUint32(b, uint32(it.disk))
		b = binary.LittleEndian.AppendUint32(b, it.kind)
		b = binary.LittleEndian.AppendUint64(b, uint64(it.first))
		b = binary.LittleEndian.AppendUint64(b, uint64(it.count))
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// add makes intents durable.
func (l *intentLog) add(items []intent) error {
	if len(items) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.write(items); err != nil {
		return err
	}
	for _, it := range items { // others rely on them from here on
		if it.kind == intentFresh {
			l.fresh = append(l.fresh, it)
		}
	}
	return nil
}

func (l *intentLog) write(items []intent) error {
	var b []byte
	for batch := range slices.Chunk(items, maxIntents) {
		b = append(b, marshalIntents(batch)...)
	}
	if _, err := l.files[l.now].WriteAt(b, l.sizes[l.now]); err != nil {
		return SpaceError("write intent log", err)
	}
	l.sizes[l.now] += int64(len(b))
	if err := unix.Fdatasync(int(l.files[l.now].Fd())); err != nil {
		return SpaceError("sync intent log", err)
	}
	return nil
}

// isFresh tells whether a range of pieces is covered by an intent of that kind.
func (l *intentLog) isFresh(disk int, first, count int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.fresh) - 1; i >= 0; i-- {
		if it := l.fresh[i]; it.disk == disk && it.first <= first && first+count <= it.first+it.count {
			return true
		}
	}
	return false
}

// swap lets the other file take new intents. What is in the first one goes with release,
// except the fresh ranges, which hold on.
func (l *intentLog) swap() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = 1 - l.now
	if len(l.fresh) == 0 {
		return nil
	}
	return l.write(l.fresh)
}

// release empties the file that swap put aside. It need not be synced: an intent too many
// costs a read.
func (l *intentLog) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.empty(1 - l.now)
}

func (l *intentLog) empty(i int) error {
	if l.sizes[i] == 0 {
		return nil
	}
	if err := l.files[i].Truncate(0); err != nil {
		return fmt.Errorf("empty intent log %s: %w", l.files[i].Name(), err)
	}
	l.sizes[i] = 0
	return nil
}

// reset empties the log: nothing is in doubt any more.
func (l *intentLog) reset() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh = nil
	return errors.Join(l.empty(0), l.empty(1))
}

func (l *intentLog) close() error {
	var errs []error
	for _, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
