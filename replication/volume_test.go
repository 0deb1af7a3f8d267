package replication_test

import (
	"os"
	"path/filepath"
	"testing"

	"lifeboat/replication"
	"lifeboat/replication/replicationtest"

	"github.com/stretchr/testify/require"
)

func TestConformanceOfFiles(t *testing.T) {
	t.Parallel()
	replicationtest.ConformSource(t, func(t *testing.T, contents []byte) replication.SourceVolume {
		path := filepath.Join(t.TempDir(), "disk")
		require.NoError(t, os.WriteFile(path, contents, 0o600))
		v, err := replication.OpenVolume(path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = v.Close() })
		return v
	})
	replicationtest.ConformTarget(t, func(t *testing.T, size int64) (replication.TargetVolume, func() replication.TargetVolume) {
		path := filepath.Join(t.TempDir(), "disk")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Truncate(path, size))
		open := func() replication.TargetVolume {
			v, err := replication.OpenTargetVolume(path)
			require.NoError(t, err)
			t.Cleanup(func() { _ = v.Close() })
			return v
		}
		return open(), open
	})
}
