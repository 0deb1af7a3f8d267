package local

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPagesAreStoredInOneForm(t *testing.T) {
	t.Parallel()
	var p page
	require.Len(t, p.encode(), bitmapSize)
	p[0], p[17], p[255] = hashOf([]byte("a")), hashOf([]byte("b")), hashOf([]byte("c"))
	raw := p.encode()
	require.Len(t, raw, bitmapSize+3*hashSize)
	back, err := decodePage(raw)
	require.NoError(t, err)
	require.Equal(t, p, *back)
	for _, bad := range [][]byte{nil, raw[:10], raw[:len(raw)-1], append(bytes.Clone(raw), 0)} {
		_, err := decodePage(bad)
		require.Error(t, err)
	}
}

// FuzzPage: what is decoded is encoded to the same bytes; anything else is an error.
func FuzzPage(f *testing.F) {
	var p page
	f.Add(p.encode())
	p[3] = hashOf(nil)
	f.Add(p.encode())
	f.Add(bytes.Repeat([]byte{0xff}, bitmapSize))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := decodePage(raw)
		if err == nil && !bytes.Equal(p.encode(), raw) {
			t.Fatal("two forms of one page")
		}
	})
}

// FuzzManifest does the same for the other parts of the index.
func FuzzManifest(f *testing.F) {
	f.Add(manifestKey("snap-1", 7), encodeHashes([]hash{{1}, {}}), location{pack: 3, slot: 4, refs: 1}.encode(), encodeCounted(2, []byte("page")), packKey(9))
	f.Add([]byte("snap-1/"), []byte{1}, make([]byte, 16), []byte{0, 0, 0, 0}, "00000000000000zz")
	f.Fuzz(func(t *testing.T, key, manifest, place, counted []byte, pack string) {
		if first, err := decodeManifestKey("snap-1", key); err == nil && !bytes.Equal(manifestKey("snap-1", first), key) {
			t.Fatal("key")
		}
		if hashes, err := decodeHashes(manifest); err == nil && !bytes.Equal(encodeHashes(hashes), manifest) {
			t.Fatal("manifest")
		}
		if l, err := decodeLocation(place); err == nil && !bytes.Equal(l.encode(), place) {
			t.Fatal("location")
		}
		if refs, encoded, err := decodeCounted(counted); err == nil && !bytes.Equal(encodeCounted(refs, encoded), counted) {
			t.Fatal("count")
		}
		if n, err := parsePackKey(pack); err == nil && packKey(n) != pack {
			t.Fatal("pack")
		}
	})
}
