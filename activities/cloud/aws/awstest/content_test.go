package awstest

import (
	"bytes"
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
)

// files counts the blocks that are kept on disk.
func files(t *testing.T, c *Cloud) int {
	t.Helper()
	n := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(c.Directory, "blocks"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	}))
	return n
}

func TestABlockIsKeptOnceAndAsLongAsASnapshotHasIt(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	v := s.volumeWith(map[int]string{0: "same", 3: "same", 2047: "last"})
	first := s.snapshot(v)
	require.Equal(t, 2, files(t, c), "two blocks are the same")

	s.write(v, map[int]string{3: "next"})
	second := s.snapshot(v)
	require.Equal(t, 3, files(t, c), "only what is new is added")

	_, err := s.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &first})
	require.NoError(t, err)
	require.Equal(t, 3, files(t, c))
	s.readsSnapshot(second, 0, "same")
	s.readsSnapshot(second, 3, "next")
	_, err = s.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &second})
	require.NoError(t, err)
	require.Zero(t, files(t, c))
}

func TestASnapshotReadsAsItsVolumeWas(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	s := clients(t, c, "eu-west-1")
	v := s.volumeWith(map[int]string{1: "one", 9: "nine"})
	want := make([]byte, 12*blockSize)
	require.NoError(t, c.ReadVolume(v, want, 0))
	id := s.snapshot(v)
	s.write(v, map[int]string{1: "two"})

	r, err := c.SnapshotReader(id)
	require.NoError(t, err)
	require.Equal(t, []int{1, 9}, r.Blocks(), "zeros are absent")
	got, err := io.ReadAll(io.NewSectionReader(r, 0, 12*blockSize))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	n, err := r.ReadAt(make([]byte, 10), r.Size()-4)
	require.Equal(t, 4, n)
	require.ErrorIs(t, err, io.EOF)
	_, err = r.ReadAt(make([]byte, 1), -1)
	require.Error(t, err)
}

func TestWhatIsNotThereCannotBeRead(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	require.ErrorIs(t, c.ReadVolume("vol-1", make([]byte, 1), 0), fs.ErrNotExist)
	_, err := c.SnapshotReader("snap-1")
	require.ErrorIs(t, err, fs.ErrNotExist)
	v := clients(t, c, "eu-west-1").volumeWith(nil)
	require.ErrorContains(t, c.WriteVolume(v, make([]byte, 2), gib-1), "ends before")
}

func TestADamagedBlockIsNotServed(t *testing.T) {
	t.Parallel()
	s := &blockStore{dir: t.TempDir(), refs: map[blockID]int{}}
	id, err := s.put(make([]byte, blockSize-1))
	require.NoError(t, err)
	_, err = s.get(id)
	require.ErrorContains(t, err, "bytes")
	s.release(id)
	_, err = s.get(id)
	require.ErrorIs(t, err, fs.ErrNotExist)
	zeros, err := s.get(zeroBlock)
	require.NoError(t, err)
	require.Len(t, zeros, blockSize)
}
