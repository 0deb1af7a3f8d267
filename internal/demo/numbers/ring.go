package numbers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"
)

// recordSize of the log: number, time, sum, checksum, 4 bytes of padding.
const recordSize = 32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ring is the log on a raw disk of fixed size: number n is in slot n modulo the
// count of slots, so that the disk never fills. A zero slot was never used.
type ring struct {
	f     *os.File
	slots uint64
}

func openRing(path string) (*ring, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the log disk: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("size of the log disk: %w", err), f.Close())
	}
	if size < 4096 {
		return nil, errors.Join(fmt.Errorf("log disk %s has %d bytes: give it at least 4 KiB", path, size), f.Close())
	}
	return &ring{f: f, slots: uint64(size) / recordSize}, nil
}

func (r *ring) close() error { return r.f.Close() }

// write puts a record into its slot and returns when it is on the disk.
func (r *ring) write(n Number) error {
	if _, err := r.f.WriteAt(encodeRecord(n), int64(n.Number%r.slots)*recordSize); err != nil {
		return fmt.Errorf("write number %d to the log: %w", n.Number, err)
	}
	if err := r.f.Sync(); err != nil {
		return fmt.Errorf("write number %d to the log: %w", n.Number, err)
	}
	return nil
}

// all returns every record by number, and how many slots are damaged.
func (r *ring) all() (records map[uint64]Number, damaged int, err error) {
	records = map[uint64]Number{}
	buf := make([]byte, recordSize*4096)
	for at := uint64(0); at < r.slots; at += 4096 {
		part := buf[:min(4096, r.slots-at)*recordSize]
		if _, err := r.f.ReadAt(part, int64(at)*recordSize); err != nil {
			return nil, 0, fmt.Errorf("read the log: %w", err)
		}
		for i := 0; i < len(part); i += recordSize {
			n, ok := decodeRecord(part[i : i+recordSize])
			switch {
			case !ok:
				damaged++
			case n.Number != 0:
				records[n.Number] = n
			}
		}
	}
	return records, damaged, nil
}

func encodeRecord(n Number) []byte {
	b := make([]byte, 0, recordSize)
	b = binary.BigEndian.AppendUint64(b, n.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(n.Time.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, n.Sum)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, 0, 0, 0, 0)
}

// decodeRecord returns a zero number for a slot that was never used, and false for a damaged one.
func decodeRecord(b []byte) (Number, bool) {
	if [recordSize]byte(b) == ([recordSize]byte{}) {
		return Number{}, true
	}
	n := Number{
		Number: binary.BigEndian.Uint64(b),
		Time:   time.Unix(0, int64(binary.BigEndian.Uint64(b[8:]))).UTC(),
		Sum:    binary.BigEndian.Uint64(b[16:]),
	}
	return n, n.Number != 0 && crc32.Checksum(b[:24], castagnoli) == binary.BigEndian.Uint32(b[24:])
}
