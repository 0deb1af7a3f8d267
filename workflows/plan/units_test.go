package plan

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDurationsAreReadAndWrittenWithTheirUnit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "5m": 5 * time.Minute, "24h": 24 * time.Hour, "7d": 168 * time.Hour,
		"1h30m": 90 * time.Minute, "0.5m": 30 * time.Second, "1.5d": 36 * time.Hour, "200ms": 200 * time.Millisecond, "0s": 0,
	} {
		var d Duration
		require.NoError(t, d.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, d.D(), text)
		var back Duration
		require.NoError(t, back.UnmarshalText([]byte(d.String())), d.String())
		require.Equal(t, d, back)
	}
	require.Equal(t, "5m", Duration(5*time.Minute).String())
	require.Equal(t, "24h", Duration(24*time.Hour).String())
	require.Equal(t, "1h0m5s", Duration(time.Hour+5*time.Second).String())
	for _, text := range []string{"", "0", "30", "-5s", "+5s", "5 m", "NaNd", "99999d", "9999999h", "1:30", "m"} {
		var d Duration
		require.Error(t, d.UnmarshalText([]byte(text)), text)
	}
}

func TestSizesAreReadAndWrittenWithTheirUnit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"512MiB": 512 << 20, "10GB": 10e9, "1.5 GiB": 3 << 29, "50MiB/s": 50 << 20, "7B": 7, "1kB": 1000, "1KB": 1000, "2TiB": 2 << 40, "0B": 0,
	} {
		s, err := ParseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, s, text)
		back, err := ParseSize(s.String())
		require.NoError(t, err)
		require.Equal(t, s, back)
	}
	for _, text := range []string{"", "512", "-1B", "NaNB", "InfB", "0x10MiB", "1e3MiB", "9999999999TiB", "MiB"} {
		_, err := ParseSize(text)
		require.Error(t, err, text)
	}
	var s Size
	require.Error(t, json.Unmarshal([]byte("512"), &s))
	require.NoError(t, json.Unmarshal([]byte(`"512MiB"`), &s))
}

func TestCalendarsOfFiveFieldsAndNames(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"0 3 * * 6", "*/15 0-6,22 1-31/2 jan-mar mon", "0 3 * * 7", "@daily", "5/10 * * * SUN"} {
		require.NoError(t, checkCron(good), good)
	}
	for _, bad := range []string{"", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "1- * * * *", "@often", "a * * * *", "1/2/3 * * * *"} {
		require.Error(t, checkCron(bad), bad)
	}
}

func TestTheNearestWordIsSuggestedOnlyWhenItIsNear(t *testing.T) {
	t.Parallel()
	keys := []string{"name", "cidr", "sitePairs", "site"}
	require.Equal(t, "cidr", near("cird", keys))
	require.Equal(t, "sitePairs", near("sitepairs", keys))
	require.Equal(t, "site", near("sites", keys))
	require.Empty(t, near("weather", keys))
	require.Empty(t, near("x", keys))
}
