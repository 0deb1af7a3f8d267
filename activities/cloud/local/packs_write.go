package local

import (
	"context"
	"errors"
	"os"
	"runtime"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"lifeboat/replication/store/txfile"
)

const (
	// A part of a manifest is committed when it has so many pages or new blocks.
	partPages  = 4096
	partBlocks = 1024
)

// errMoved tells that a block which was there when a part was begun has been
// deleted with another snapshot meanwhile: the part is written again.
var errMoved = errors.New("a shared block was deleted meanwhile")

// writePacks stores content as a snapshot: only blocks that no snapshot of the
// site has. What an interrupted attempt left is removed first. The caller holds
// the job lock of the snapshot.
func (p *Provider) writePacks(ctx context.Context, snapshot string, content Content, progress func(done int64) error) error {
	if err := p.freePacks(ctx, snapshot); err != nil {
		return err
	}
	total := pagesOf(content.Size())
	for first := 0; first < total; {
		part := &packPart{p: p, snapshot: snapshot, first: first, fresh: map[hash]uint32{}}
		err := part.write(ctx, content, total)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return err
		}
		if err := p.sweepPacks(ctx); err != nil {
			return err
		}
		first += len(part.pages)
		if err := progress(min(int64(first)*pageSize, content.Size())); err != nil {
			return err
		}
	}
	return nil
}

// packPart is the part of a snapshot that is written into one pack and
// committed in one transaction.
type packPart struct {
	p        *Provider
	snapshot string
	first    int             // number of its first page
	pages    []*page         // nil = zeros only
	hashes   []hash          // of pages
	fresh    map[hash]uint32 // new blocks and their slots
	pack     uint64
	file     *os.File // nil until there is a new block
}

func (w *packPart) write(ctx context.Context, content Content, total int) (err error) {
	defer func() {
		if w.file == nil {
			return
		}
		w.file.Close()
		if err != nil {
			// Best effort: freePacks removes what stays behind.
			w.p.dropPack(context.WithoutCancel(ctx), w.pack) //nolint:errcheck
		}
	}()
	buffer := make([]byte, pageSize)
	for w.first+len(w.pages) < total && len(w.pages) < partPages && len(w.fresh) < partBlocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		pg, hs, err := readPage(content, w.first+len(w.pages), buffer)
		if err != nil {
			return err
		}
		if pg != nil {
			if err := w.store(ctx, pg, hs, buffer); err != nil {
				return err
			}
		}
		w.pages, w.hashes = append(w.pages, pg), append(w.hashes, hs)
	}
	if w.file != nil {
		if err := w.file.Sync(); err != nil {
			return err
		}
		if err := txfile.SyncDirectory(w.p.path(packDir)); err != nil {
			return err
		}
	}
	return w.p.index.update(ctx, func(t *tx) error {
		return t.s.guard(func() error { return w.commit(t) })
	})
}

// readPage reads the data of one page into buffer and hashes it; a page of
// zeros is nil.
func readPage(content Content, number int, buffer []byte) (*page, hash, error) {
	from := int64(number) * pageSize
	to := min(from+pageSize, content.Size())
	var filled [pageBlocks]bool
	any := false
	for off := from; off < to; {
		start, end, err := content.NextData(off)
		if err != nil {
			return nil, hash{}, err
		}
		// Whole blocks, clipped to this page: an extent may begin anywhere.
		start, end = max(start-start%blockSize, off), min((end+blockSize-1)/blockSize*blockSize, to)
		if start >= to {
			break
		}
		if _, err := content.ReadAt(buffer[start-from:end-from], start); err != nil {
			return nil, hash{}, err
		}
		for b := (start - from) / blockSize; b*blockSize < end-from; b++ {
			filled[b], any = true, true
		}
		off = end
	}
	if !any {
		return nil, hash{}, nil
	}
	if to-from < pageSize {
		clear(buffer[to-from:])
	}
	var pg page
	var group errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() error {
			for b := w; b < pageBlocks; b += workers {
				if block := buffer[b*blockSize : (b+1)*blockSize]; filled[b] && !allZero(block) {
					pg[b] = hashOf(block)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, hash{}, err
	}
	if pg == (page{}) {
		return nil, hash{}, nil
	}
	return &pg, hashOf(pg.encode()), nil
}

// store appends the blocks of a page that nobody has to the pack.
func (w *packPart) store(ctx context.Context, pg *page, hs hash, buffer []byte) error {
	var missing []int
	find := func(t *tx) error {
		pages, err := t.bucket(pageBucket)
		if err != nil || pages != nil && pages.Get(hs[:]) != nil {
			return err
		}
		blocks, err := t.bucket(blockBucket)
		if err != nil {
			return err
		}
		for i, h := range pg {
			if _, mine := w.fresh[h]; h != (hash{}) && !mine && (blocks == nil || blocks.Get(h[:]) == nil) {
				missing = append(missing, i)
			}
		}
		return nil
	}
	err := w.p.index.view(ctx, func(t *tx) error {
		return t.s.guard(func() error { return find(t) })
	})
	if err != nil {
		return err
	}
	for _, i := range missing {
		if _, mine := w.fresh[pg[i]]; mine {
			continue // the same block twice in this page
		}
		if err := w.begin(ctx); err != nil {
			return err
		}
		slot := uint32(len(w.fresh))
		if _, err := w.file.WriteAt(buffer[i*blockSize:(i+1)*blockSize], int64(slot)*blockSize); err != nil {
			return err
		}
		w.fresh[pg[i]] = slot
	}
	return nil
}

// begin registers the pack before its file is made, so that no file is ever
// unknown to the index.
func (w *packPart) begin(ctx context.Context) error {
	if w.file != nil {
		return nil
	}
	err := w.p.index.update(ctx, func(t *tx) (err error) {
		if w.pack, err = t.next(packBucket); err != nil {
			return err
		}
		return t.put(packBucket, packKey(w.pack), packRecord{Owner: w.snapshot, Pending: true})
	})
	if err != nil {
		return err
	}
	w.file, err = os.OpenFile(w.p.packPath(w.pack), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return err
}

// commit makes the part belong to the snapshot.
func (w *packPart) commit(t *tx) error {
	used := map[uint32]bool{}
	for i, pg := range w.pages {
		if pg == nil {
			continue
		}
		if err := w.refer(t, w.hashes[i], pg, used); err != nil {
			return err
		}
	}
	manifests, err := t.bucket(manifestBucket)
	if err != nil {
		return err
	}
	if err := manifests.Put(manifestKey(w.snapshot, w.first), encodeHashes(w.hashes)); err != nil {
		return err
	}
	if w.file == nil {
		return nil
	}
	// A block that another snapshot brought in first is not needed twice.
	for slot := range uint32(len(w.fresh)) {
		if !used[slot] {
			if err := punchLater(t, w.pack, slot); err != nil {
				return err
			}
		}
	}
	return t.put(packBucket, packKey(w.pack), packRecord{Owner: w.snapshot, Live: len(used)})
}

// refer counts one more reference to a page, and to its blocks when it is new.
func (w *packPart) refer(t *tx, hs hash, pg *page, used map[uint32]bool) error {
	pages, err := t.bucket(pageBucket)
	if err != nil {
		return err
	}
	if raw := pages.Get(hs[:]); raw != nil {
		refs, encoded, err := decodeCounted(raw)
		if err != nil {
			return w.p.index.corrupt("a page of a snapshot is damaged", err)
		}
		return pages.Put(hs[:], encodeCounted(refs+1, encoded))
	}
	blocks, err := t.bucket(blockBucket)
	if err != nil {
		return err
	}
	for _, h := range pg {
		if h == (hash{}) {
			continue
		}
		if err := w.referBlock(blocks, h, used); err != nil {
			return err
		}
	}
	return pages.Put(hs[:], encodeCounted(1, pg.encode()))
}

func (w *packPart) referBlock(blocks *bolt.Bucket, h hash, used map[uint32]bool) error {
	raw := blocks.Get(h[:])
	if raw == nil {
		slot, mine := w.fresh[h]
		if !mine {
			return errMoved
		}
		used[slot] = true
		return blocks.Put(h[:], location{pack: w.pack, slot: slot, refs: 1}.encode())
	}
	l, err := decodeLocation(raw)
	if err != nil {
		return w.p.index.corrupt("the place of a block is damaged", err)
	}
	l.refs++
	return blocks.Put(h[:], l.encode())
}
