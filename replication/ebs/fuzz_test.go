package ebs_test

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/replication/ebs"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/stretchr/testify/require"
)

// strange answers listings with what a fuzzer makes up.
type strange struct {
	*service
	pages []*sdk.ListSnapshotBlocksOutput
	asked int
}

func (s *strange) ListSnapshotBlocks(context.Context, *sdk.ListSnapshotBlocksInput, ...func(*sdk.Options)) (*sdk.ListSnapshotBlocksOutput, error) {
	s.asked++
	return s.pages[min(s.asked, len(s.pages))-1], nil
}

// FuzzListings feeds answers that no service should give: none may lead to a panic, to an endless
// loop or to a block beside the volume.
func FuzzListings(f *testing.F) {
	f.Add([]byte{1, 2, 0, 0, 1, 0, 1, 0, 0, 0, 5, 0, 0, 0})
	f.Add([]byte{0, 1, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := &strange{service: newService()}
		for len(raw) >= 3 && len(s.pages) < 8 {
			out := &sdk.ListSnapshotBlocksOutput{VolumeSize: aws.Int64(int64(int8(raw[0]))), BlockSize: aws.Int32(ebs.BlockSize)}
			if raw[1]&1 != 0 {
				out.NextToken = aws.String(string(rune('a' + raw[1]%26)))
			}
			if raw[1] == 7 {
				out.BlockSize = aws.Int32(4096)
			}
			n := int(raw[2] % 6)
			raw = raw[3:]
			for ; n > 0 && len(raw) >= 4; n, raw = n-1, raw[4:] {
				out.Blocks = append(out.Blocks, types.Block{BlockIndex: aws.Int32(int32(binary.LittleEndian.Uint32(raw))), BlockToken: aws.String("x")})
			}
			s.pages = append(s.pages, out)
		}
		if len(s.pages) == 0 {
			return
		}
		s.pages[len(s.pages)-1].NextToken = nil
		c := ebs.NewClient(s, ebs.Options{Limits: ebs.NewLimits(1, ebs.Rates{List: 1e9})})
		v, err := c.Open(t.Context(), "snap-1")
		if err != nil {
			return
		}
		defer v.Close()
		for off, n := int64(0), 0; n < 100; n++ {
			start, end, err := v.NextData(off)
			if err != nil {
				return
			}
			require.LessOrEqual(t, off, start)
			require.Less(t, start, end)
			require.LessOrEqual(t, start, v.Size())
			off = end
		}
	})
}

// FuzzState opens files that something else left as the state of a copy.
func FuzzState(f *testing.F) {
	f.Add([]byte("lifeboat ebs 1\n\x00\x00\x08"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := newPair(t, 2, ebs.Options{}, 1, disk(0, 3))
		id := p.to.next()
		require.NoError(t, os.WriteFile(filepath.Join(p.copy.Spec.State, id+".sums"), raw, 0o600))
		res, err := p.copy.Run(t.Context())
		require.NoError(t, err)
		if res.Snapshot == id {
			p.requireEqual(t, res)
		}
	})
}
