package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
)

// The intent log of a target stream: which pieces are about to be overwritten.
// It is synced before they are, and emptied when their new hashes are durable. After
// a crash exactly these pieces are read and hashed again.
//
// An entry is: magic (4 bytes), count (4), count times {disk (4), region (8),
// bitmap of pieces (32)}, XXH3-64 of all that.
const (
	intentMagic    = "LBI1"
	intentItemSize = 4 + 8 + piecesPerRegion/8
	// maxIntentItems bounds an entry; a batch touches fewer regions than that.
	maxIntentItems = 1 << 16
)

type intent struct {
	disk   int
	region int64
	pieces bitmap256
}

type intentLog struct {
	path string
	f    *os.File
	size int64
}

// openIntentLog opens the log and gives what was open. complete is false when the log
// is damaged before its end, so that nothing may be believed.
func openIntentLog(path string) (l *intentLog, open []intent, complete bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, false, spaceError("open intent log", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, false, errors.Join(fmt.Errorf("read intent log: %w", err), f.Close())
	}
	open, complete = parseIntents(raw)
	return &intentLog{path: path, f: f, size: int64(len(raw))}, open, complete, nil
}

// parseIntents reads entries up to the first that is not whole. A torn last entry
// is fine, because its pieces were not touched yet. Anything that looks
// like an entry behind a bad one means damage.
func parseIntents(raw []byte) (open []intent, complete bool) {
	for len(raw) > 0 {
		items, n := parseIntentEntry(raw)
		if n == 0 {
			return open, !containsEntry(raw[1:])
		}
		open = append(open, items...)
		raw = raw[n:]
	}
	return open, true
}

func parseIntentEntry(raw []byte) (items []intent, n int) {
	if len(raw) < 16 || string(raw[:4]) != intentMagic {
		return nil, 0
	}
	count := int(binary.LittleEndian.Uint32(raw[4:]))
	if count > maxIntentItems {
		return nil, 0
	}
	n = 8 + count*intentItemSize + 8
	if len(raw) < n || binary.LittleEndian.Uint64(raw[n-8:]) != xxh3.Hash(raw[:n-8]) {
		return nil, 0
	}
	for b := raw[8 : n-8]; len(b) > 0; b = b[intentItemSize:] {
		it := intent{disk: int(binary.LittleEndian.Uint32(b)), region: int64(binary.LittleEndian.Uint64(b[4:]))}
		copy(it.pieces[:], b[12:])
		items = append(items, it)
	}
	return items, n
}

func containsEntry(raw []byte) bool {
	for i := range raw {
		if raw[i] == intentMagic[0] {
			if _, n := parseIntentEntry(raw[i:]); n > 0 {
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
		b = binary.LittleEndian.AppendUint64(b, uint64(it.region))
		b = append(b, it.pieces[:]...)
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// add makes intents durable.
func (l *intentLog) add(items []intent) error {
	if len(items) == 0 {
		return nil
	}
	b := marshalIntents(items)
	if _, err := l.f.WriteAt(b, l.size); err != nil {
		return spaceError("write intent log "+l.path, err)
	}
	l.size += int64(len(b))
	if err := unix.Fdatasync(int(l.f.Fd())); err != nil {
		return spaceError("sync intent log "+l.path, err)
	}
	return nil
}

// reset empties the log. It need not be synced: an intent too many costs a read.
func (l *intentLog) reset() error {
	if l.size == 0 {
		return nil
	}
	if err := l.f.Truncate(0); err != nil {
		return fmt.Errorf("empty intent log %s: %w", l.path, err)
	}
	l.size = 0
	return nil
}

func (l *intentLog) close() error { return l.f.Close() }
