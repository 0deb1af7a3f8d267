package delta

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lifeboat/replication/block"
	"lifeboat/replication/volume"
)

// damagedCopy is a volume that was copied, and whose index is damaged afterwards. It has two
// levels of pages above those of its pieces.
type damagedCopy struct {
	dir, tree string
	config    SendConfig
	root      string
}

const (
	damagedSize = 2 << 30 // of which the first pages have data
	damagedUsed = 2 * pageBytes
)

func newDamagedCopy(t *testing.T) *damagedCopy {
	t.Helper()
	dir := t.TempDir()
	c := &damagedCopy{dir: dir, tree: filepath.Join(dir, "ss", "source.tree")}
	data := make([]byte, damagedUsed)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data) // never fails
	source := filepath.Join(dir, "source")
	require.NoError(t, os.WriteFile(source, data, 0o600))
	require.NoError(t, os.Truncate(source, damagedSize))
	c.config = SendConfig{Path: source, State: filepath.Join(dir, "ss"), Proof: block.BLAKE3,
		Dial: receiverAt(t, ReceiveConfig{Path: filepath.Join(dir, "target"), State: filepath.Join(dir, "rs")})}
	res, err := Send(t.Context(), c.config)
	require.NoError(t, err)
	c.root = res.Root
	return c
}

// page is that of level 0 which holds the hashes of the first pieces.
func (c *damagedCopy) page(t *testing.T) (page [block.PageSize]byte) {
	t.Helper()
	f, err := os.Open(c.config.Path)
	require.NoError(t, err)
	defer f.Close()
	buf := make([]byte, block.Piece)
	for i := range int64(block.Fanout) {
		_, err := f.ReadAt(buf, i*block.Piece)
		require.NoError(t, err)
		h := block.BLAKE3.OfPiece(buf)
		copy(page[i*32:], h[:])
	}
	return page
}

// harm flips a bit of the index, in a page of the hashes of pieces or in one above.
func (c *damagedCopy) harm(t *testing.T, level string) {
	t.Helper()
	page := c.page(t)
	hash := block.Hash(page[:32])
	if level == "upper" {
		hash = block.BLAKE3.OfPage(0, &page)
	}
	tree, err := os.ReadFile(c.tree)
	require.NoError(t, err)
	at := bytes.Index(tree, hash[:])
	require.Positive(t, at, "the hash is not in the index")
	tree[at+3] ^= 4
	require.NoError(t, os.WriteFile(c.tree, tree, 0o600))
}

func (c *damagedCopy) requireEqual(t *testing.T) {
	t.Helper()
	var roots []string
	for _, path := range []string{c.config.Path, filepath.Join(c.dir, "target")} {
		v, err := openForTest(t, path)
		require.NoError(t, err)
		root, err := RootOf(t.Context(), v[0], block.BLAKE3)
		require.NoError(t, err)
		roots = append(roots, root)
	}
	require.Equal(t, roots[0], roots[1])
}

// A page of a clean index that is damaged costs reading, but what is below it is not sent again.
func TestADamagedIndexPageCostsReadingOnly(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"pieces", "upper"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			c := newDamagedCopy(t)
			c.harm(t, level)
			c.config.Meter = new(Meter)
			var notices []string
			c.config.Notice = func(s string) { notices = append(notices, s) }
			res, err := Send(t.Context(), c.config)
			require.NoError(t, err)
			require.Equal(t, c.root, res.Root)
			require.Len(t, notices, 1)
			require.Contains(t, notices[0], "damaged")
			m := c.config.Meter.Read()
			require.Equal(t, int64(damagedUsed), m.Scanned)
			require.Less(t, m.Sent, int64(64<<10))
			c.requireEqual(t)
		})
	}
}

// A copy that is told what changed does not look at its whole index: damage in it costs more, but
// the copy ends equal.
func TestATrackedCopyOverADamagedIndexEndsEqual(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"pieces", "upper"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			c := newDamagedCopy(t)
			c.harm(t, level)
			f, err := os.OpenFile(c.config.Path, os.O_WRONLY, 0)
			require.NoError(t, err)
			const at = 5 * block.Piece
			_, err = f.WriteAt([]byte("changed"), at)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			c.config.Since, c.config.Changes = c.root, []volume.Extent{{Offset: at, Length: 7}}
			res, err := Send(t.Context(), c.config)
			require.NoError(t, err)
			require.NotEqual(t, c.root, res.Root)
			c.requireEqual(t)
		})
	}
}
