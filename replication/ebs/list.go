package ebs

import (
	"context"
	"errors"
	"fmt"

	"lifeboat/replication/volume"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
)

const (
	gib = 1 << 30
	// pageBlocks is how many blocks are asked for at once; the service takes 100 to 10,000.
	pageBlocks = 5000
	fewBlocks  = 100
	// maxVolume is the largest volume, 64 TiB (StartSnapshot, VolumeSize).
	maxVolume = 64 << 40
	// emptyPages bounds how many pages in a row may have no block. Each leads on.
	emptyPages = 10_000
)

// listed is a block of a listing. Without a token it is not in the snapshot: it is zeros.
type listed struct {
	index int64
	token string
}

// page is what a listing says about the blocks [from, to).
type page struct {
	from, to int64
	blocks   []listed
	size     int64 // of the volume, in bytes
	last     bool  // nothing follows
}

// answer is what both listings have.
type answer struct {
	blocks    []listed
	volume    *int64
	blockSize *int32
	next      *string
}

// lister asks for one page of a listing, from a block on or by the token of a page.
type lister func(ctx context.Context, from int64, token *string) (answer, error)

// blocksOf lists the blocks of a snapshot, so many in an answer.
func (c *Client) blocksOf(snapshot string, most int32) lister {
	return func(ctx context.Context, from int64, token *string) (a answer, err error) {
		in := &ebs.ListSnapshotBlocksInput{SnapshotId: &snapshot, MaxResults: &most, NextToken: token}
		if token == nil {
			in.StartingBlockIndex = aws.Int32(int32(from))
		}
		out, err := call(ctx, c, c.list, "list blocks of "+snapshot, func(ctx context.Context) (*ebs.ListSnapshotBlocksOutput, error) {
			return c.api.ListSnapshotBlocks(ctx, in, c.once)
		})
		if err != nil {
			return a, err
		}
		for _, b := range out.Blocks {
			a.blocks = append(a.blocks, listed{int64(aws.ToInt32(b.BlockIndex)), aws.ToString(b.BlockToken)})
		}
		a.volume, a.blockSize, a.next = out.VolumeSize, out.BlockSize, out.NextToken
		return a, nil
	}
}

// changesOf lists the blocks of a snapshot that are others in base.
func (c *Client) changesOf(base, snapshot string) lister {
	return func(ctx context.Context, from int64, token *string) (a answer, err error) {
		in := &ebs.ListChangedBlocksInput{FirstSnapshotId: &base, SecondSnapshotId: &snapshot, MaxResults: aws.Int32(pageBlocks), NextToken: token}
		if token == nil {
			in.StartingBlockIndex = aws.Int32(int32(from))
		}
		what := fmt.Sprintf("list what changed from %s to %s", base, snapshot)
		out, err := call(ctx, c, c.list, what, func(ctx context.Context) (*ebs.ListChangedBlocksOutput, error) {
			return c.api.ListChangedBlocks(ctx, in, c.once)
		})
		if err != nil {
			return a, err
		}
		for _, b := range out.ChangedBlocks {
			a.blocks = append(a.blocks, listed{int64(aws.ToInt32(b.BlockIndex)), aws.ToString(b.SecondBlockToken)})
		}
		a.volume, a.blockSize, a.next = out.VolumeSize, out.BlockSize, out.NextToken
		return a, nil
	}
}

// from gives the page that begins at a block. It asks by block and not by the token of the page
// before, because those expire after an hour. A page may be empty and lead on.
func (l lister) from(ctx context.Context, from int64) (p page, err error) {
	var token *string
	for range emptyPages {
		a, err := l(ctx, from, token)
		if errors.Is(err, errStale) && token != nil {
			token = nil
			continue
		}
		if err != nil {
			return p, err
		}
		if p, err = a.page(from); err != nil || len(p.blocks) > 0 || a.next == nil {
			return p, err
		}
		if token != nil && *token == *a.next {
			return p, fmt.Errorf("%w: an empty page leads to itself", ErrProtocol)
		}
		token = a.next
	}
	return p, fmt.Errorf("%w: %d empty pages in a row", ErrProtocol, emptyPages)
}

// page checks an answer: it comes from outside.
func (a answer) page(from int64) (p page, err error) {
	size, blockSize := aws.ToInt64(a.volume), aws.ToInt32(a.blockSize)
	if blockSize != BlockSize {
		return p, fmt.Errorf("%w: blocks of %d bytes; this program knows %d", ErrProtocol, blockSize, BlockSize)
	}
	if size <= 0 || size > maxVolume/gib {
		return p, fmt.Errorf("%w: a volume of %d GiB", ErrProtocol, size)
	}
	p = page{from: from, blocks: a.blocks, size: size * gib, last: a.next == nil}
	last := from - 1
	for _, b := range a.blocks {
		if b.index <= last || b.index >= maxVolume/BlockSize {
			return page{}, fmt.Errorf("%w: block %d after %d", ErrProtocol, b.index, last)
		}
		last = b.index
	}
	if p.to = last + 1; p.last {
		p.to = maxVolume / BlockSize
	}
	return p, nil
}

// each calls fn with the first page of a listing and those that follow it.
func (l lister) each(ctx context.Context, p page, fn func(page) error) (err error) {
	for {
		if err := fn(p); err != nil || p.last {
			return err
		}
		if p, err = l.from(ctx, p.to); err != nil {
			return err
		}
	}
}

// Changed gives the ranges of a snapshot that may have other bytes than base, an earlier or later
// snapshot of the same disk, in whole blocks; what is beyond the end of base is among them. The cost
// is that of the list. ErrUnrelated says that nobody knows.
func (c *Client) Changed(ctx context.Context, base, snapshot string) ([]volume.Extent, error) {
	var out []volume.Extent
	list := c.changesOf(base, snapshot)
	first, err := list.from(ctx, 0)
	if err != nil {
		return nil, err
	}
	err = list.each(ctx, first, func(p page) error {
		for _, b := range p.blocks {
			if n := len(out); n > 0 && out[n-1].End() == b.index*BlockSize {
				out[n-1].Length += BlockSize
			} else {
				out = append(out, volume.Extent{Offset: b.index * BlockSize, Length: BlockSize})
			}
		}
		return nil
	})
	return out, err
}

// sizeOf gives the size of the volume of a snapshot, in bytes.
func (c *Client) sizeOf(ctx context.Context, snapshot string) (int64, error) {
	a, err := c.blocksOf(snapshot, fewBlocks)(ctx, 0, nil)
	if err != nil {
		return 0, err
	}
	p, err := a.page(0)
	return p.size, err
}
