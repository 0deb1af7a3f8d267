package store

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
)

func samplePage(level int) *node {
	n := &node{level: level}
	for _, i := range []int{0, 17, 127} {
		n.hashes[i] = block.OfBytes([]byte{byte(i + 1)})
		if level == 0 {
			n.slots[i] = slotOf(uint64(i+1), i)
		}
	}
	return n
}

func TestPagesAreStoredInOneForm(t *testing.T) {
	t.Parallel()
	for level, size := range map[int]int{0: nodeHeader + 3*40, 2: nodeHeader + 3*32} {
		raw := samplePage(level).encode()
		require.Len(t, raw, size)
		back, err := decodeNode(raw)
		require.NoError(t, err)
		require.Equal(t, samplePage(level), back)
		for _, bad := range [][]byte{nil, raw[:10], raw[:len(raw)-1], append(bytes.Clone(raw), 0)} {
			_, err := decodeNode(bad)
			require.Error(t, err)
		}
	}
}

// FuzzPage: what is decoded is encoded to the same bytes; anything else is an error.
func FuzzPage(f *testing.F) {
	f.Add(samplePage(0).encode())
	f.Add(samplePage(1).encode())
	f.Add(bytes.Repeat([]byte{0xff}, nodeHeader))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n, err := decodeNode(raw); err == nil && !bytes.Equal(n.encode(), raw) {
			t.Fatal("two forms of one page")
		}
	})
}

// FuzzRecords does the same for packs and keys, and holds points and heads to their checksum.
func FuzzRecords(f *testing.F) {
	top := block.OfBytes([]byte("top"))
	point, err := json.Marshal(pointRecord{Point: Point{ID: "p", Size: 5, Root: rootOf(5, top)}, Top: hashText(top)})
	require.NoError(f, err)
	h, err := json.Marshal(headRecord{Size: 5, Root: rootOf(5, top), Top: hashText(top)})
	require.NoError(f, err)
	f.Add((&packRecord{open: true, refs: []uint32{1, 0, 7}}).encode(), encodeDoomed(3, top), point, h)
	f.Add([]byte{}, []byte{9}, []byte(`{"id":"p","size":-1}`), []byte(`{"top":"00"}`))
	f.Fuzz(func(t *testing.T, pack, doomed, point, head []byte) {
		if r, err := decodePack(pack); err == nil && !bytes.Equal(r.encode(), pack) {
			t.Fatal("pack")
		}
		if level, h, err := decodeDoomed(doomed); err == nil && !bytes.Equal(encodeDoomed(level, h), doomed) {
			t.Fatal("doomed")
		}
		if r, err := decodePoint("p", point); err == nil && r.Root != rootOf(r.Size, block.Hash(r.Top)) {
			t.Fatal("point")
		}
		if r, err := decodeHead("v", head); err == nil && r.Root != rootOf(r.Size, block.Hash(r.Top)) {
			t.Fatal("head")
		}
	})
}
