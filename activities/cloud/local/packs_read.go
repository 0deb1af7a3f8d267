package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"lifeboat/activities/cloud"
)

const (
	cachedPages = 8
	cachedPacks = 64
)

// packContent reads a snapshot that is stored in packs. Each block is checked
// against its hash before a byte of it is handed out.
type packContent struct {
	p        *Provider
	snapshot string
	size     int64
	manifest []hash

	mu    sync.Mutex
	pages map[int]*placedPage
	files map[uint64]*os.File
	block int64 // number of the block in buffer; -1 = none
	data  []byte
}

// placedPage is a page with the places of its blocks.
type placedPage struct {
	page
	places [pageBlocks]location
}

// openPacks opens a complete snapshot of size bytes.
func (p *Provider) openPacks(ctx context.Context, snapshot string, size int64) (*packContent, error) {
	c := &packContent{p: p, snapshot: snapshot, size: size, pages: map[int]*placedPage{}, files: map[uint64]*os.File{}, block: -1, data: make([]byte, blockSize)}
	err := p.index.view(ctx, func(t *tx) error {
		return t.s.guard(func() error { return c.readManifest(t) })
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *packContent) readManifest(t *tx) error {
	b, err := t.bucket(manifestBucket)
	if err != nil {
		return err
	}
	c.manifest = nil
	if b != nil {
		prefix := []byte(c.snapshot + "/")
		cursor := b.Cursor()
		for key, raw := cursor.Seek(prefix); key != nil && bytes.HasPrefix(key, prefix); key, raw = cursor.Next() {
			first, err := decodeManifestKey(c.snapshot, key)
			if err != nil {
				return c.damaged(err.Error(), nil)
			}
			hashes, err := decodeHashes(raw)
			if err != nil {
				return c.damaged(err.Error(), nil)
			}
			if first != len(c.manifest) {
				return c.damaged(fmt.Sprintf("its manifest lacks page %d", len(c.manifest)), nil)
			}
			c.manifest = append(c.manifest, hashes...)
		}
	}
	if len(c.manifest) != pagesOf(c.size) {
		return c.damaged(fmt.Sprintf("its manifest has %d pages, not %d", len(c.manifest), pagesOf(c.size)), nil)
	}
	return nil
}

// damaged is the error for content that is not what was stored, unless the
// snapshot was deleted under the reader.
func (c *packContent) damaged(message string, cause error) error {
	return cloud.E(cloud.Corrupt, "Read", "snapshot "+c.snapshot, message,
		"use another snapshot, delete this one, and check the disk that holds "+c.p.path(packDir), cause)
}

func (c *packContent) Size() int64 { return c.size }

// Close closes the packs.
func (c *packContent) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closeFiles()
}

func (c *packContent) closeFiles() error {
	var errs []error
	for pack, file := range c.files {
		errs = append(errs, file.Close())
		delete(c.files, pack)
	}
	return errors.Join(errs...)
}

// NextData returns the next run of blocks that are not zero.
func (c *packContent) NextData(off int64) (start, end int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	start, end = -1, -1
	for block := off / blockSize; block*blockSize < c.size; block++ {
		number, at := int(block/pageBlocks), int(block%pageBlocks)
		if c.manifest[number] == (hash{}) {
			if start >= 0 {
				break
			}
			block += int64(pageBlocks - 1 - at)
			continue
		}
		pg, err := c.page(number)
		if err != nil {
			return 0, 0, err
		}
		if pg.page[at] == (hash{}) {
			if start >= 0 {
				break
			}
			continue
		}
		if start < 0 {
			start = max(off, block*blockSize)
		}
		end = min((block+1)*blockSize, c.size)
	}
	if start < 0 {
		return c.size, c.size, nil
	}
	return start, end, nil
}

// ReadAt reads and checks the blocks that hold the range.
func (c *packContent) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d", off)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for n < len(b) && off < c.size {
		block := off / blockSize
		if err := c.load(block); err != nil {
			return n, err
		}
		m := copy(b[n:], c.data[off%blockSize:min(blockSize, c.size-block*blockSize)])
		n, off = n+m, off+int64(m)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// load brings one block into c.data.
func (c *packContent) load(block int64) error {
	if c.block == block {
		return nil
	}
	c.block = -1
	number, at := int(block/pageBlocks), int(block%pageBlocks)
	if c.manifest[number] == (hash{}) {
		clear(c.data)
		c.block = block
		return nil
	}
	pg, err := c.page(number)
	if err != nil {
		return err
	}
	want := pg.page[at]
	if want == (hash{}) {
		clear(c.data)
		c.block = block
		return nil
	}
	l := pg.places[at]
	file, err := c.pack(l.pack)
	if err == nil {
		_, err = file.ReadAt(c.data, int64(l.slot)*blockSize)
	}
	if err == nil && hashOf(c.data) == want {
		c.block = block
		return nil
	}
	if err != nil && !isAny(err, fs.ErrNotExist, io.EOF) {
		return osError("Read", c.p.packPath(l.pack), err)
	}
	if gone := c.gone(); gone != nil {
		return gone
	}
	return c.damaged(fmt.Sprintf("block %d at byte %d is damaged in %s, slot %d", block, block*blockSize, c.p.packPath(l.pack), l.slot), err)
}

// gone tells whether the snapshot was deleted while it was read.
func (c *packContent) gone() error {
	return c.p.store.view(context.Background(), func(t *tx) error {
		var r snapshotRecord
		found, err := t.get(snapshotBucket, c.snapshot, &r)
		if err == nil && (!found || r.State == cloud.Deleting) {
			return notFound("Read", cloud.KindSnapshot, c.snapshot)
		}
		return err
	})
}

// page returns a page with its places; c.mu is held.
func (c *packContent) page(number int) (*placedPage, error) {
	if pg, cached := c.pages[number]; cached {
		return pg, nil
	}
	var pg *placedPage
	err := c.p.index.view(context.Background(), func(t *tx) error {
		return t.s.guard(func() (err error) { pg, err = c.readPage(t, number); return err })
	})
	if err != nil {
		return nil, err
	}
	if pg == nil {
		if gone := c.gone(); gone != nil {
			return nil, gone
		}
		return nil, c.damaged(fmt.Sprintf("page %d is missing or damaged in %s", number, c.p.index.file.Path()), nil)
	}
	if len(c.pages) >= cachedPages {
		clear(c.pages)
	}
	c.pages[number] = pg
	return pg, nil
}

// readPage returns nil when the page or a block of it is not there.
func (c *packContent) readPage(t *tx, number int) (*placedPage, error) {
	pages, err := t.bucket(pageBucket)
	if err != nil || pages == nil {
		return nil, err
	}
	blocks, err := t.bucket(blockBucket)
	if err != nil || blocks == nil {
		return nil, err
	}
	want := c.manifest[number]
	_, encoded, err := decodeCounted(pages.Get(want[:]))
	if err != nil || hashOf(encoded) != want {
		return nil, nil
	}
	decoded, err := decodePage(encoded)
	if err != nil {
		return nil, nil
	}
	pg := &placedPage{page: *decoded}
	for i, h := range pg.page {
		if h == (hash{}) {
			continue
		}
		if pg.places[i], err = decodeLocation(blocks.Get(h[:])); err != nil {
			return nil, nil
		}
	}
	return pg, nil
}

// pack returns an open pack; c.mu is held.
func (c *packContent) pack(pack uint64) (*os.File, error) {
	if file, open := c.files[pack]; open {
		return file, nil
	}
	if len(c.files) >= cachedPacks {
		if err := c.closeFiles(); err != nil {
			return nil, err
		}
	}
	file, err := os.Open(c.p.packPath(pack))
	if err == nil {
		c.files[pack] = file
	}
	return file, err
}
