package ebs

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
)

// directory answers which blocks a snapshot has. It keeps the pages of the listing that were used
// last, so that its memory does not grow with the volume: at most 16 pages of 5,000 tokens, about
// 10 MiB.
type directory struct {
	list   lister
	blocks int64

	mu    sync.Mutex
	pages []page // the one used last is the last
}

const directoryPages = 16

// find gives the first block at or after an index that is in the snapshot.
func (d *directory) find(ctx context.Context, index int64) (b listed, ok bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for index < d.blocks {
		p, err := d.page(ctx, index)
		if err != nil {
			return b, false, err
		}
		if i := sort.Search(len(p.blocks), func(i int) bool { return p.blocks[i].index >= index }); i < len(p.blocks) {
			if b = p.blocks[i]; b.index >= d.blocks {
				return b, false, fmt.Errorf("%w: block %d of a volume of %d", ErrProtocol, b.index, d.blocks)
			}
			return b, true, nil
		}
		index = p.to
	}
	return b, false, nil
}

// page gives the page that tells about a block. The lock is held, also while it is asked for:
// others would ask for the same.
func (d *directory) page(ctx context.Context, index int64) (page, error) {
	i := slices.IndexFunc(d.pages, func(p page) bool { return p.from <= index && index < p.to })
	var p page
	if i >= 0 {
		p = d.pages[i]
		d.pages = slices.Delete(d.pages, i, i+1)
	} else {
		var err error
		if p, err = d.list.from(ctx, index); err != nil {
			return p, err
		}
		if len(d.pages) == directoryPages {
			d.pages = slices.Delete(d.pages, 0, 1)
		}
	}
	d.pages = append(d.pages, p)
	return p, nil
}
