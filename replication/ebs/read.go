package ebs

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
)

// Sum is the SHA-256 of a block.
type Sum [sha256.Size]byte

func (s Sum) text() string { return base64.StdEncoding.EncodeToString(s[:]) }

// staleTokens is how often a token of a block may turn out to be expired.
const staleTokens = 5

// read gets a block of a completed snapshot into buf, and checks it. A token that is no longer good
// (they live 7 days, and may change with each listing) is asked for again; a block that is then not
// listed is zeros.
func (c *Client) read(ctx context.Context, snapshot string, b listed, buf []byte) (Sum, error) {
	for range staleTokens {
		if b.token == "" {
			clear(buf)
			return sha256.Sum256(buf), nil
		}
		what := fmt.Sprintf("get block %d of %s", b.index, snapshot)
		sum, err := call(ctx, c, c.get, what, func(ctx context.Context) (Sum, error) { return c.readOnce(ctx, snapshot, b, buf) })
		if !errors.Is(err, errStale) && !errors.Is(err, ErrInvalid) {
			return sum, err
		}
		// Where the reason of a refusal is missing, the token is what could be wrong with the request.
		p, lerr := c.blocksOf(snapshot, fewBlocks).from(ctx, b.index)
		if lerr != nil {
			return Sum{}, lerr
		}
		again := listed{index: b.index}
		if len(p.blocks) > 0 && p.blocks[0].index == b.index {
			again = p.blocks[0]
		}
		if errors.Is(err, ErrInvalid) && again.token == b.token {
			return Sum{}, err
		}
		b = again
	}
	return Sum{}, fmt.Errorf("get block %d of %s: %w: every token that was listed was refused", b.index, snapshot, ErrProtocol)
}

// readOnce is one request with its body. A body that breaks off is asked for again, as a
// connection that does.
func (c *Client) readOnce(ctx context.Context, snapshot string, b listed, buf []byte) (sum Sum, err error) {
	out, err := c.api.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{SnapshotId: &snapshot, BlockIndex: aws.Int32(int32(b.index)), BlockToken: &b.token}, c.once)
	if err != nil {
		return sum, err
	}
	defer out.BlockData.Close()
	if n := aws.ToInt32(out.DataLength); n != BlockSize {
		return sum, fmt.Errorf("%w: a block of %d bytes", ErrProtocol, n)
	}
	if _, err := io.ReadFull(out.BlockData, buf); err != nil {
		return sum, fmt.Errorf("%w: the block broke off: %w", ErrUnavailable, err)
	}
	if out.ChecksumAlgorithm != "SHA256" {
		return sum, fmt.Errorf("%w: checksum by %q", ErrProtocol, out.ChecksumAlgorithm)
	}
	if sum = sha256.Sum256(buf); sum.text() != aws.ToString(out.Checksum) {
		return sum, fmt.Errorf("%w: the bytes that came are not those that the service read", ErrChecksum)
	}
	return sum, nil
}
