package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
)

// The index file: a header of 4 KiB, then one record per region, all of one
// size, so that a region's record is found by arithmetic and regions of zeros
// are holes of the file. A record is
//
//	digests of 4096 blocks (source only), hashes of 256 pieces,
//	bitmap of pieces whose hash is not to be believed, XXH3-64 of all that
//
// A record of zeros was never written: the region is zeros, or unknown, as
// the header says.
const (
	indexMagic      = "LBINDEX\n"
	indexVersion    = 1
	indexHeaderSize = 4096

	indexFlagDigests = 1 << 0 // records carry block digests
	indexFlagUnknown = 1 << 1 // regions without a record are unknown, not zeros

	recordDigests = blocksPerRegion * 16
	recordTree    = piecesPerRegion*32 + piecesPerRegion/8 + 8
)

// record is what is known about one region.
type record struct {
	digests []digest // nil without digests
	pieces  [piecesPerRegion]hash
	dirty   bitmap256
}

// index is the durable knowledge about one replica: held by the target about its
// disk, and by the source about what the target acknowledged.
type index struct {
	path    string
	f       *os.File
	geo     geometry
	digests bool
	unknown bool

	mu      sync.Mutex
	nodes   []*[nodesPerChunk]hash // nil chunks are all zero
	dirty   map[int64]struct{}     // regions with pieces that are not to be believed
	present []uint64               // regions with a record; only for unknown
	// damaged counts records that failed their checksum when the file was opened.
	damaged int
}

const nodesPerChunk = 256

// primer tells a new index what is known of the disk: whether regions without a
// record are unknown rather than zeros. It may put records.
type primer func(x *index) (unknown bool, err error)

// openIndex opens an index, or creates one with the help of prime where nothing
// usable is. A nil prime means that all is zeros.
func openIndex(path string, size int64, digests bool, prime primer) (x *index, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, spaceError("open index", err)
	}
	x = &index{path: path, f: f, geo: geometry{size}, digests: digests, dirty: map[int64]struct{}{}}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	header := make([]byte, indexHeaderSize)
	n, err := f.ReadAt(header, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read index %s: %w", path, err)
	}
	h, err := parseIndexHeader(header[:n])
	if errors.Is(err, ErrNewerState) {
		return nil, fmt.Errorf("index %s: %w", path, err)
	}
	if err != nil || h.size != size || h.digests != digests {
		return x, x.create(prime)
	}
	x.unknown = h.unknown
	x.allocate()
	if err := x.load(); err != nil {
		return nil, err
	}
	return x, nil
}

type indexHeader struct {
	size             int64
	digests, unknown bool
}

func parseIndexHeader(b []byte) (indexHeader, error) {
	if len(b) < indexHeaderSize || string(b[:8]) != indexMagic {
		return indexHeader{}, fmt.Errorf("%w: no index header", ErrDamagedState)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > indexVersion {
		return indexHeader{}, fmt.Errorf("%w: format %d, this program knows %d; run the newer program", ErrNewerState, v, indexVersion)
	}
	if binary.LittleEndian.Uint64(b[indexHeaderSize-8:]) != xxh3.Hash(b[:indexHeaderSize-8]) {
		return indexHeader{}, fmt.Errorf("%w: index header fails its checksum", ErrDamagedState)
	}
	flags := binary.LittleEndian.Uint32(b[12:])
	h := indexHeader{
		size:    int64(binary.LittleEndian.Uint64(b[16:])),
		digests: flags&indexFlagDigests != 0,
		unknown: flags&indexFlagUnknown != 0,
	}
	if h.size < 0 || binary.LittleEndian.Uint32(b[24:]) != BlockSize ||
		binary.LittleEndian.Uint32(b[28:]) != PieceSize || binary.LittleEndian.Uint32(b[32:]) != RegionSize {
		return indexHeader{}, fmt.Errorf("%w: index of another geometry", ErrDamagedState)
	}
	return h, nil
}

func (h indexHeader) marshal() []byte {
	b := make([]byte, indexHeaderSize)
	copy(b, indexMagic)
	var flags uint32
	if h.digests {
		flags |= indexFlagDigests
	}
	if h.unknown {
		flags |= indexFlagUnknown
	}
	binary.LittleEndian.PutUint32(b[8:], indexVersion)
	binary.LittleEndian.PutUint32(b[12:], flags)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.size))
	binary.LittleEndian.PutUint32(b[24:], BlockSize)
	binary.LittleEndian.PutUint32(b[28:], PieceSize)
	binary.LittleEndian.PutUint32(b[32:], RegionSize)
	binary.LittleEndian.PutUint64(b[indexHeaderSize-8:], xxh3.Hash(b[:indexHeaderSize-8]))
	return b
}

// create starts the index anew. The header is written last: a crash before
// leaves a file that is started anew again.
func (x *index) create(prime primer) error {
	x.unknown, x.dirty = false, map[int64]struct{}{}
	x.allocate()
	if err := x.f.Truncate(0); err != nil {
		return spaceError("create index "+x.path, err)
	}
	if err := x.f.Truncate(x.offset(x.geo.regions())); err != nil {
		return spaceError("create index "+x.path, err)
	}
	if prime != nil {
		unknown, err := prime(x)
		if err != nil {
			return err
		}
		if unknown {
			x.unknown = true
			x.allocate()
		}
	}
	if err := x.sync(); err != nil {
		return err
	}
	h := indexHeader{size: x.geo.size, digests: x.digests, unknown: x.unknown}
	if _, err := x.f.WriteAt(h.marshal(), 0); err != nil {
		return spaceError("create index "+x.path, err)
	}
	return x.sync()
}

func (x *index) allocate() {
	regions := x.geo.regions()
	x.nodes = make([]*[nodesPerChunk]hash, (regions+nodesPerChunk-1)/nodesPerChunk)
	x.present = nil
	if x.unknown {
		x.present = make([]uint64, (regions+63)/64)
	}
}

func (x *index) recordSize() int64 {
	if x.digests {
		return recordDigests + recordTree
	}
	return recordTree
}

func (x *index) offset(region int64) int64 { return indexHeaderSize + region*x.recordSize() }

// load reads all records, to check them and to know the nodes. Holes are skipped.
func (x *index) load() error {
	regions := x.geo.regions()
	fd := int(x.f.Fd())
	for region := int64(0); region < regions; {
		off := x.offset(region)
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return nil
		case err == nil && data > off:
			region = max(region, (data-indexHeaderSize)/x.recordSize())
			if region >= regions {
				return nil
			}
		}
		rec, err := x.read(region)
		if errors.Is(err, ErrDamagedState) {
			x.damaged++
		} else if err != nil {
			return err
		}
		if rec != nil {
			x.note(region, rec)
		}
		region++
	}
	return nil
}

// read gives the record of a region: nil if none was ever written, all dirty with
// an error if it is damaged.
func (x *index) read(region int64) (*record, error) {
	buf := make([]byte, x.recordSize())
	if n, err := x.f.ReadAt(buf, x.offset(region)); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read index %s: %w", x.path, err)
	} else if n < len(buf) {
		clear(buf[n:])
	}
	return parseRecord(buf, region, x.digests)
}

func parseRecord(buf []byte, region int64, digests bool) (*record, error) {
	if isZero(buf) {
		return nil, nil
	}
	rec := &record{}
	body := buf[:len(buf)-8]
	if binary.LittleEndian.Uint64(buf[len(buf)-8:]) != xxh3.HashSeed(body, uint64(region)+1) {
		if digests {
			rec.digests = make([]digest, blocksPerRegion)
		}
		for i := range rec.dirty {
			rec.dirty[i] = 0xff
		}
		return rec, fmt.Errorf("%w: index record of region %d fails its checksum", ErrDamagedState, region)
	}
	if digests {
		rec.digests = make([]digest, blocksPerRegion)
		for i := range rec.digests {
			copy(rec.digests[i][:], body[i*16:])
		}
		body = body[recordDigests:]
	}
	for i := range rec.pieces {
		copy(rec.pieces[i][:], body[i*32:])
	}
	copy(rec.dirty[:], body[piecesPerRegion*32:])
	return rec, nil
}

func (rec *record) marshal(region int64) []byte {
	buf := make([]byte, 0, recordDigests+recordTree)
	for i := range rec.digests {
		buf = append(buf, rec.digests[i][:]...)
	}
	for i := range rec.pieces {
		buf = append(buf, rec.pieces[i][:]...)
	}
	buf = append(buf, rec.dirty[:]...)
	return binary.LittleEndian.AppendUint64(buf, xxh3.HashSeed(buf, uint64(region)+1))
}
