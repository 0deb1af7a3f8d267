package dial_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lifeboat/internal/dial"
)

// isolate keeps the configuration of whoever runs the tests out of them.
func isolate(t *testing.T, toml string) {
	t.Helper()
	for _, name := range []string{"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_PROFILE", "TEMPORAL_API_KEY"} {
		t.Setenv(name, "")
		require.NoError(t, os.Unsetenv(name))
	}
	file := filepath.Join(t.TempDir(), "temporal.toml")
	require.NoError(t, os.WriteFile(file, []byte(toml), 0o600))
	t.Setenv("TEMPORAL_CONFIG_FILE", file)
}

func TestFlagsWinOverVariablesOverTheProfileOverTheFallback(t *testing.T) {
	isolate(t, "[profile.site-b]\naddress = \"127.0.0.1:1\"\nnamespace = \"dr\"\n")

	o, err := dial.Resolve(dial.Options{})
	require.NoError(t, err)
	require.Equal(t, dial.DefaultAddress, o.HostPort)
	require.Equal(t, "default", o.Namespace)

	o, err = dial.Resolve(dial.Options{Fallback: "127.0.0.1:9"})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9", o.HostPort)

	o, err = dial.Resolve(dial.Options{Fallback: "127.0.0.1:9", Profile: "site-b"})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1", o.HostPort)
	require.Equal(t, "dr", o.Namespace)

	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:2")
	o, err = dial.Resolve(dial.Options{Profile: "site-b"})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:2", o.HostPort)

	o, err = dial.Resolve(dial.Options{Profile: "site-b", Address: "127.0.0.1:3", Namespace: "other"})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:3", o.HostPort)
	require.Equal(t, "other", o.Namespace)
}

func TestUnknownProfileIsNamed(t *testing.T) {
	isolate(t, "")
	_, err := dial.Resolve(dial.Options{Profile: "nowhere"})
	require.ErrorContains(t, err, "nowhere")
}

func TestAServerThatDoesNotAnswerIsUnreachable(t *testing.T) {
	isolate(t, "")
	// A port that was free a moment ago: nobody listens there.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())

	_, err = dial.Client(context.Background(), dial.Options{Address: address, Timeout: 2 * time.Second})
	var unreachable *dial.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.Equal(t, address, unreachable.Address)
	require.ErrorContains(t, err, "lifeboat dev")
}

func TestAnInterruptedAttemptIsAnInterrupt(t *testing.T) {
	isolate(t, "")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := dial.Client(ctx, dial.Options{Address: "127.0.0.1:1"})
	require.ErrorIs(t, err, context.Canceled)
}
