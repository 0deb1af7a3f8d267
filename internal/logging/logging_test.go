package logging_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"lifeboat/internal/logging"
)

func TestWritesJSONLinesWhereNobodyLooks(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := logging.NewWriter(&out, "")
	require.NoError(t, err)
	log.Debug("not seen")
	log.Info("stream resumed", zap.String("stream", "shop/db"))

	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line), "one line, one object: %s", out.String())
	require.Equal(t, "stream resumed", line["msg"])
	require.Equal(t, "shop/db", line["stream"])
	require.NotEmpty(t, line["time"])
}

func TestTheSameLoggerServesSlogAndTemporal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := logging.NewWriter(&out, "warn")
	require.NoError(t, err)
	logging.Slog(log).Info("not seen")
	logging.Temporal(log).Warn("seen", "plan", "shop")
	require.Contains(t, out.String(), `"plan":"shop"`)
	require.NotContains(t, out.String(), "not seen")
}

func TestUnknownLevelNamesTheLevelsThereAre(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"loud", "fatal", "panic"} {
		_, err := logging.New(level)
		require.ErrorContains(t, err, level)
		require.ErrorContains(t, err, "debug info warn error")
	}
}

func TestABufferAndAFileAreNoTerminals(t *testing.T) {
	t.Parallel()
	f, err := os.CreateTemp(t.TempDir(), "log")
	require.NoError(t, err)
	defer f.Close()
	require.False(t, logging.IsTerminal(f))
	require.False(t, logging.IsTerminal(&bytes.Buffer{}))
}
