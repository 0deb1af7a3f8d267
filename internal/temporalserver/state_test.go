package temporalserver

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersions(t *testing.T) {
	t.Parallel()
	pinned := Version{1, 29, 1}
	for s, fits := range map[string]bool{
		"1.29.1": true, "1.29.12": true, "1.29.0": false, "1.28.5": false, "1.30.0": false, "2.29.1": false,
	} {
		v, err := ParseVersion(s)
		require.NoError(t, err)
		require.Equal(t, s, v.String())
		require.Equal(t, fits, v.fits(pinned), s)
	}
	for _, s := range []string{"", "1.29", "1.29.1-rc.1", "v1.29.1", "1.29.1 ", "1.29.1234567"} {
		_, err := ParseVersion(s)
		require.Error(t, err, s)
	}
	require.True(t, Version{1, 9, 9}.Before(Version{1, 10, 0}))
	require.True(t, Version{1, 29, 1}.Before(Version{2, 0, 0}))
	require.False(t, pinned.Before(pinned))
}

func TestStateSurvivesBeingWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, ok, err := readState(dir)
	require.NoError(t, err)
	require.False(t, ok)
	want := state{Format: 1, ServerVersion: "1.29.1", Port: 7233, UIPort: 8233, Initialized: true}
	require.NoError(t, writeState(dir, want))
	got, ok, err := readState(dir)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, want, got)
}

// FuzzState: a state that is accepted has a version and ports that can be
// used, and means the same when written and read again.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"format":1,"server_version":"1.29.1","port":7233,"ui_port":8233,"initialized":true}`))
	f.Add([]byte(`{"format":2,"shards":4}`))
	f.Add([]byte(`{"format":1,"server_version":"1.29.1","port":-1}`))
	f.Add([]byte(`{"format":1,"server_version":"latest"}`))
	f.Add([]byte(`{"format":1,"server_version":"1.29.1","unknown":0}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.NoError(t, s.checkVersion("dir", Version{999999, 999999, 999999}))
		again, err := json.Marshal(s)
		require.NoError(t, err)
		reread, err := parseState(again)
		require.NoError(t, err)
		require.Equal(t, s, reread)
	})
}
