package delta

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mebibytes reads limits such as 20MiB/s.
func mebibytes(s string) (int64, error) {
	text, ok := strings.CutSuffix(s, "MiB/s")
	n, err := strconv.ParseInt(text, 10, 40)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is not a rate", s)
	}
	return n << 20, nil
}

func calendar(t *testing.T, text string) *Calendar {
	t.Helper()
	c, err := ParseCalendar(text, mebibytes)
	require.NoError(t, err)
	return c
}

// at gives a moment of a week that begins on Sunday, 4 January 2026.
func at(t *testing.T, text string) time.Time {
	t.Helper()
	name, clock, _ := strings.Cut(text, " ")
	first, _, ok := parseDays(name)
	require.True(t, ok, name)
	of, err := time.Parse(time.TimeOnly, clock)
	require.NoError(t, err)
	return time.Date(2026, 1, 4+int(first), of.Hour(), of.Minute(), of.Second(), 0, time.UTC)
}

func TestCalendarLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules string
		want  map[string]int64 // in MiB a second
	}{
		{"50MiB/s", map[string]int64{"sun 00:00:00": 50, "wed 23:59:59": 50}},
		{"unlimited", map[string]int64{"sun 00:00:00": 0}},
		{"mon-fri 08:00-18:00 20MiB/s, else unlimited", map[string]int64{
			"mon 07:59:59": 0, "mon 08:00:00": 20, "fri 17:59:59": 20, "fri 18:00:00": 0, "sat 12:00:00": 0, "sun 12:00:00": 0,
		}},
		{"mon-fri 08:00-18:00 20MiB/s, sat 50MiB/s, else 90MiB/s", map[string]int64{
			"tue 12:00:00": 20, "fri 23:00:00": 90, "sat 00:00:00": 50, "sat 23:59:59": 50, "sun 00:00:00": 90,
		}},
		{"22:00-06:00 1MiB/s", map[string]int64{"mon 21:59:59": 0, "mon 22:00:00": 1, "tue 05:59:59": 1, "tue 06:00:00": 0}},
		{"fri 22:00-06:00 1MiB/s", map[string]int64{"fri 05:00:00": 0, "fri 23:00:00": 1, "sat 05:59:59": 1, "sat 22:30:00": 0}},
		{"fri-mon 5MiB/s", map[string]int64{"fri 00:00:00": 5, "sun 12:00:00": 5, "mon 23:59:59": 5, "tue 00:00:00": 0}},
		{"12:00-24:00 2MiB/s, else 3MiB/s", map[string]int64{"mon 11:59:59": 3, "mon 23:59:59": 2}},
		{"mon 1MiB/s, 08:00-09:00 2MiB/s", map[string]int64{"mon 08:30:00": 1, "tue 08:30:00": 2}}, // the first that holds
	} {
		rules := calendar(t, c.rules)
		for moment, want := range c.want {
			require.Equal(t, want<<20, rules.LimitAt(at(t, moment)), "%s at %s", c.rules, moment)
		}
	}
}

func TestCalendarSaysWhenTheLimitChanges(t *testing.T) {
	t.Parallel()
	c := calendar(t, "mon-fri 08:00-18:00 20MiB/s, sat 50MiB/s, else unlimited")
	for from, want := range map[string]string{
		"mon 07:00:00": "mon 08:00:00", "mon 08:00:00": "mon 18:00:00", "mon 18:00:00": "tue 08:00:00",
		"fri 20:00:00": "sat 00:00:00",
	} {
		next, ok := c.Next(at(t, from))
		require.True(t, ok)
		require.Equal(t, at(t, want), next, from)
	}
	next, _ := c.Next(at(t, "sat 12:00:00"))
	require.Equal(t, at(t, "sun 00:00:00").AddDate(0, 0, 7), next)
	_, ok := calendar(t, "50MiB/s").Next(at(t, "mon 00:00:00"))
	require.False(t, ok)
	_, ok = calendar(t, "mon-fri 5MiB/s, else 5MiB/s").Next(at(t, "mon 00:00:00"))
	require.False(t, ok)
}

func TestBadCalendarsAreRefusedByRule(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                     "empty",
		"20MiB/s,":                             "neither days",
		"mon-fri":                              `"mon-fri" is not a rate`,
		"mon-fry 20MiB/s":                      "neither days",
		"monday 20MiB/s":                       "neither days",
		"8:00-18:00 20MiB/s":                   "neither days",
		"08:00-25:00 20MiB/s":                  "neither days",
		"24:00-01:00 20MiB/s":                  "neither days",
		"08:00 20MiB/s":                        "neither days",
		"xyz 08:00-18:00 20MiB/s":              `"xyz" is not a day`,
		"else 5MiB/s, mon 20MiB/s":             "has to be the last",
		"mon 0MiB/s":                           "nothing could be sent",
		"mon 20MiB/s, 30MiB/s":                 "neither days, nor times, nor else",
		"mon 08:00-09:00 20MiB/s or something": "is not a rate",
	} {
		_, err := ParseCalendar(text, mebibytes)
		require.ErrorIs(t, err, ErrInvalidSpec, text)
		require.ErrorContains(t, err, want, text)
	}
}

// FuzzCalendar: what is accepted is written as it is read.
func FuzzCalendar(f *testing.F) {
	for _, s := range []string{"50MiB/s", "mon-fri 08:00-18:00 20MiB/s, else unlimited", "fri-mon 22:00-06:00 1MiB/s", "sat 2MiB/s, 00:00-24:00 1MiB/s", "else,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCalendar(s, mebibytes)
		if err != nil {
			return
		}
		units := func(s string) (int64, error) { // as String writes limits
			var n int64
			var unit string
			if _, err := fmt.Sscanf(s, "%d%s", &n, &unit); err != nil {
				return 0, err
			}
			return n << (10 * strings.Index("BKMGT", unit[:1])), nil
		}
		again, err := ParseCalendar(c.String(), units)
		require.NoError(t, err, c.String())
		require.Equal(t, c, again, c.String())
		now := time.Date(2026, 1, 4, 12, 30, 0, 0, time.UTC)
		if next, ok := c.Next(now); ok {
			require.True(t, next.After(now))
			require.NotEqual(t, c.LimitAt(now), c.LimitAt(next))
		}
	})
}
