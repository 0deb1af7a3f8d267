package awstest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
)

// How long tokens are valid: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-faq.html
const (
	blockTokenLife = 7 * 24 * time.Hour
	pageTokenLife  = time.Hour
)

// tokenKey signs tokens, so that none can be made up.
var tokenKey = []byte("tokens of the EBS direct APIs")

// sealToken makes a token of what it is for.
func sealToken(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	h := hmac.New(sha256.New, tokenKey)
	h.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(append(h.Sum(nil)[:12], text...))
}

// openToken gives what a token is for.
func openToken(token string) (string, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < 12 || strings.ContainsAny(token, "\r\n") {
		return "", false
	}
	h := hmac.New(sha256.New, tokenKey)
	h.Write(b[12:])
	return string(b[12:]), hmac.Equal(h.Sum(nil)[:12], b[:12])
}

func blockToken(snapshot string, index int, expires time.Time) *string {
	return aws.String(sealToken("block %s %d %d", snapshot, index, expires.Unix()))
}

// blockOf finds the block that GetSnapshotBlock asks for; its token has to be of this block.
func (c *Call) blockOf(in *ebs.GetSnapshotBlockInput) (blockID, error) {
	s, err := c.readableSnapshot(*in.SnapshotId)
	if err != nil {
		return blockID{}, err
	}
	var id string
	var index int
	var expires int64
	text, ok := openToken(*in.BlockToken)
	if _, err := fmt.Sscanf(text, "block %s %d %d", &id, &index, &expires); err != nil || !ok || id != s.ID || index != int(*in.BlockIndex) {
		return blockID{}, invalidDirect(types.ValidationExceptionReasonInvalidBlockToken, "The block token is not of block %d of snapshot %s", *in.BlockIndex, s.ID)
	}
	if c.Now.Unix() > expires {
		return blockID{}, invalidDirect(types.ValidationExceptionReasonInvalidBlockToken, "The block token has expired")
	}
	block, ok := s.content[index]
	if !ok {
		return blockID{}, invalidDirect(types.ValidationExceptionReasonInvalidBlock, "The snapshot %s has no block %d", s.ID, index)
	}
	return block, nil
}

// blockPage is one page of a listing of blocks.
type blockPage struct {
	indexes []int
	next    *string
	expires time.Time // of block tokens
}

// pageOfBlocks cuts a page out of a listing. Every third page is empty and has a token, as the API
// says may happen: "the request can return less blocks than MaxResults or an empty array of blocks"
// (https://docs.aws.amazon.com/ebs/latest/APIReference/API_ListSnapshotBlocks.html).
func (c *Call) pageOfBlocks(of string, all []int, max, start *int32, token *string) (blockPage, error) {
	size := 10000
	if max != nil {
		if size = int(*max); size < 100 || size > 10000 {
			return blockPage{}, invalidDirect(types.ValidationExceptionReasonInvalidParameterValue, "MaxResults is from 100 to 10000")
		}
	}
	if c.PageSize > 0 {
		size = min(size, c.PageSize)
	}
	from, number := int(aws.ToInt32(start)), 0
	if token != nil {
		var expires int64
		text, ok := openToken(*token)
		place, ok2 := strings.CutPrefix(text, "page "+of+" ")
		if _, err := fmt.Sscanf(place, "%d %d %d", &from, &number, &expires); err != nil || !ok || !ok2 || c.Now.Unix() > expires {
			return blockPage{}, invalidDirect(types.ValidationExceptionReasonInvalidPageToken, "The page token is not valid or has expired")
		}
	}
	at, _ := slices.BinarySearch(all, from)
	rest := all[at:]
	p := blockPage{expires: c.Now.Add(blockTokenLife)}
	if number%3 != 1 || len(rest) == 0 {
		p.indexes = rest[:min(size, len(rest))]
	}
	if left := rest[len(p.indexes):]; len(left) > 0 {
		p.next = aws.String(sealToken("page %s %d %d %d", of, left[0], number+1, c.Now.Add(pageTokenLife).Unix()))
	}
	return p, nil
}

// changedBlocks are the indexes of blocks that two snapshots do not have in common.
func changedBlocks(first, second manifest) []int {
	var out []int
	for i, id := range second {
		if old, ok := first[i]; !ok || old != id {
			out = append(out, i)
		}
	}
	for i := range first {
		if _, ok := second[i]; !ok {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}

func init() {
	on(ebsService, "ListSnapshotBlocks", func(c *Call, in *ebs.ListSnapshotBlocksInput) (*ebs.ListSnapshotBlocksOutput, error) {
		if err := c.throttle(""); err != nil {
			return nil, err
		}
		s, err := c.readableSnapshot(*in.SnapshotId)
		if err != nil {
			return nil, err
		}
		p, err := c.pageOfBlocks(s.ID, s.content.indexes(), in.MaxResults, in.StartingBlockIndex, in.NextToken)
		if err != nil {
			return nil, err
		}
		out := &ebs.ListSnapshotBlocksOutput{Blocks: []types.Block{}, BlockSize: aws.Int32(blockSize), VolumeSize: aws.Int64(int64(s.size)), ExpiryTime: &p.expires, NextToken: p.next}
		for _, i := range p.indexes {
			out.Blocks = append(out.Blocks, types.Block{BlockIndex: aws.Int32(int32(i)), BlockToken: blockToken(s.ID, i, p.expires)}) //nolint:gosec // below 2^27
		}
		return out, nil
	})
	on(ebsService, "ListChangedBlocks", func(c *Call, in *ebs.ListChangedBlocksInput) (*ebs.ListChangedBlocksOutput, error) {
		if err := c.throttle(""); err != nil {
			return nil, err
		}
		if aws.ToString(in.FirstSnapshotId) == "" {
			return nil, invalidDirect(types.ValidationExceptionReasonInvalidSnapshotId, "FirstSnapshotId must be specified")
		}
		first, err := c.readableSnapshot(*in.FirstSnapshotId)
		if err != nil {
			return nil, err
		}
		second, err := c.readableSnapshot(*in.SecondSnapshotId)
		if err != nil {
			return nil, err
		}
		if first.lineage != second.lineage {
			return nil, invalidDirect(types.ValidationExceptionReasonUnrelatedSnapshots, "The snapshots %s and %s are not of the same volume or lineage", first.ID, second.ID)
		}
		p, err := c.pageOfBlocks(first.ID+"+"+second.ID, changedBlocks(first.content, second.content), in.MaxResults, in.StartingBlockIndex, in.NextToken)
		if err != nil {
			return nil, err
		}
		out := &ebs.ListChangedBlocksOutput{ChangedBlocks: []types.ChangedBlock{}, BlockSize: aws.Int32(blockSize), VolumeSize: aws.Int64(int64(second.size)), ExpiryTime: &p.expires, NextToken: p.next}
		for _, i := range p.indexes {
			b := types.ChangedBlock{BlockIndex: aws.Int32(int32(i))} //nolint:gosec // below 2^27
			if _, ok := first.content[i]; ok {
				b.FirstBlockToken = blockToken(first.ID, i, p.expires)
			}
			if _, ok := second.content[i]; ok {
				b.SecondBlockToken = blockToken(second.ID, i, p.expires)
			}
			out.ChangedBlocks = append(out.ChangedBlocks, b)
		}
		return out, nil
	})
}
