package replication

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func FuzzStoredState(f *testing.F) {
	good, err := seal(sourceState{Spec: SourceSpec{Stream: "a/b", Epoch: 3}})
	require.NoError(f, err)
	f.Add(good)
	newer := bytes.Clone(good)
	binary.LittleEndian.PutUint32(newer, storeFormat+1)
	f.Add(newer)
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, v := range []any{&sourceState{}, &targetState{}, &pointEntry{}} {
			if err := unseal("state", raw, v); err != nil && !errors.Is(err, ErrDamagedState) && !errors.Is(err, ErrNewerState) {
				t.Fatalf("untyped error %v", err)
			}
		}
	})
}

func TestNewerAndDamagedStateAreNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), storeFile)
	s, err := openStore(path)
	require.NoError(t, err)
	raw, err := seal(targetState{})
	require.NoError(t, err)
	put := func(raw []byte) {
		require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketTargets).Put([]byte("x"), raw) }))
	}
	binary.LittleEndian.PutUint32(raw, storeFormat+1)
	put(raw)
	_, err = s.get(bucketTargets, "x", &targetState{})
	require.ErrorIs(t, err, ErrNewerState)
	require.ErrorContains(t, err, path)
	binary.LittleEndian.PutUint32(raw, storeFormat)
	raw[12] ^= 1
	put(raw)
	_, err = s.get(bucketTargets, "x", &targetState{})
	require.ErrorIs(t, err, ErrDamagedState)
	require.ErrorContains(t, err, path)
	require.NoError(t, s.close())
}
