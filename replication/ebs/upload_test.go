package ebs_test

import (
	"testing"

	"lifeboat/replication/block"
	"lifeboat/replication/delta"
	"lifeboat/replication/deltatest"
	"lifeboat/replication/ebs"
	"lifeboat/replication/volume"

	"github.com/stretchr/testify/require"
)

func TestAVolumeIsUploadedThenWhatChanged(t *testing.T) {
	t.Parallel()
	const size = 40*ebs.BlockSize + 12345
	s := newService()
	c := s.client(t, 8, ebs.Options{})
	v := deltatest.NewDisk(size)
	write := func(off int64, seed uint64) {
		_, err := v.WriteAt(data(seed)[:300_000], off)
		require.NoError(t, err)
	}
	for i := range uint64(9) {
		write(int64(i)*4*ebs.BlockSize+333, i)
	}
	write(size-300_000, 77)
	up := ebs.Upload{Volume: v, To: c, Spec: ebs.Spec{Token: "1", State: t.TempDir()}}
	res, err := up.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, gib, res.Bytes)
	requireUploaded(t, c, res.Snapshot, v)

	for _, changed := range [][]volume.Extent{{{Offset: 5 * ebs.BlockSize, Length: 300_000}, {Offset: 7*ebs.BlockSize - 1, Length: 300_001}}, nil} {
		write(5*ebs.BlockSize, 100)
		write(7*ebs.BlockSize-1, 101)
		require.NoError(t, v.Zero(0, 2*ebs.BlockSize))
		if changed != nil {
			changed = append([]volume.Extent{{Length: 2 * ebs.BlockSize}}, changed...)
		}
		next := up
		next.Changed, next.Spec.Token, next.Spec.Parent = changed, "2", res.Snapshot
		if changed == nil {
			next.Spec.Token = "3"
		}
		got, err := next.Run(t.Context())
		require.NoError(t, err)
		requireUploaded(t, c, got.Snapshot, v)
		if changed != nil {
			require.EqualValues(t, 5, got.Written)
		} else {
			require.EqualValues(t, 41, got.Written, "all of it: nobody says what is as in the parent")
		}
	}
	up.Spec.Parent, up.Spec.Token = "snap-0123", "4"
	got, err := up.Run(t.Context())
	require.NoError(t, err)
	require.True(t, got.Full, "the parent is gone")
	requireUploaded(t, c, got.Snapshot, v)
}

// requireUploaded compares a snapshot with a disk that may end before it.
func requireUploaded(t *testing.T, c *ebs.Client, snapshot string, v *deltatest.Disk) {
	t.Helper()
	source, err := c.Open(t.Context(), snapshot)
	require.NoError(t, err)
	defer source.Close()
	got := make([]byte, v.Size())
	require.NoError(t, volume.ReadFull(source, got, 0))
	require.True(t, string(got) == string(v.Bytes()))
}

func TestAnUploadHasTheRootOfItsVolume(t *testing.T) {
	t.Parallel()
	s := newService()
	c := s.client(t, 8, ebs.Options{})
	first := s.add(1, many(30))
	source, err := c.Open(t.Context(), first)
	require.NoError(t, err)
	defer source.Close()
	res, err := ebs.Upload{Volume: source, To: c, Spec: ebs.Spec{Token: "1"}}.Run(t.Context())
	require.NoError(t, err)
	want, err := delta.RootOf(t.Context(), source, block.BLAKE3)
	require.NoError(t, err)
	require.Equal(t, want, rootOf(t, c, res.Snapshot))
}
