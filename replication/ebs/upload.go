package ebs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sort"

	"lifeboat/replication/volume"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// inVolume is the token of blocks of a volume.
const inVolume = "volume"

// listVolume lists the blocks of a volume that may not be zeros, or those of extents that ascend.
func listVolume(v volume.Source, extents []volume.Extent) lister {
	next := func(off int64) (int64, error) {
		start, _, err := v.NextData(off)
		return start, err
	}
	if extents != nil {
		next = func(off int64) (int64, error) {
			i := sort.Search(len(extents), func(i int) bool { return extents[i].End() > off })
			if i == len(extents) {
				return 0, io.EOF
			}
			return max(off, extents[i].Offset), nil
		}
	}
	return func(ctx context.Context, from int64, _ *string) (a answer, err error) {
		a.volume, a.blockSize = aws.Int64((v.Size()+gib-1)/gib), aws.Int32(BlockSize)
		for ; ; from++ {
			if err := ctx.Err(); err != nil {
				return a, context.Cause(ctx)
			}
			start, err := next(from * BlockSize)
			if errors.Is(err, io.EOF) || err == nil && start >= v.Size() {
				return a, nil
			}
			if err != nil {
				return a, fmt.Errorf("find data after offset %d: %w", from*BlockSize, err)
			}
			if len(a.blocks) == pageBlocks {
				a.next = aws.String(inVolume)
				return a, nil
			}
			from = max(from, start/BlockSize)
			a.blocks = append(a.blocks, listed{from, inVolume})
		}
	}
}

// readVolume reads a block of a volume; what is behind its end is zeros.
func readVolume(v volume.Source, b listed, buf []byte) (Sum, error) {
	off := b.index * BlockSize
	n := min(v.Size()-off, BlockSize)
	if err := volume.ReadFull(v, buf[:n], off); err != nil {
		return Sum{}, fmt.Errorf("read at offset %d: %w", off, err)
	}
	clear(buf[n:])
	return sha256.Sum256(buf), nil
}
