package plan

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span written with its unit ("90s", "5m", "24h").
type Duration time.Duration

// D returns the standard library's form.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String writes the duration as people do: "5m", not "5m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Patterns of durations and sizes; the JSON Schema has them too.
const (
	DurationPattern = `^(([0-9]+(\.[0-9]+)?(h|m|s|ms|us|µs|ns))+|[0-9]+(\.[0-9]+)?d)$`
	SizePattern     = `^[0-9]+(\.[0-9]+)? ?(B|KB|kB|MB|GB|TB|KiB|MiB|GiB|TiB)(/s)?$`
)

var (
	durationForm = regexp.MustCompile(DurationPattern)
	sizeForm     = regexp.MustCompile(SizePattern)
)

// MarshalText writes the duration with its unit.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a positive duration with a unit; "7d" counts days of 24 hours.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	bad := fmt.Errorf("%s is not a duration: write a number with its unit, for example 30s, 5m or 24h", quoted(s))
	if !durationForm.MatchString(s) {
		return bad
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || n > 36500 {
			return bad
		}
		*d = Duration(n * 24 * float64(time.Hour))
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return bad
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes written with its unit ("512MiB", "10GB").
type Size int64

// units of sizes: binary and decimal, as IEC 80000-13 and SI have them.
var units = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseSize reads a size with a unit; "/s" after it is allowed, for rates.
func ParseSize(s string) (Size, error) {
	bad := fmt.Errorf("%s is not a size: write a number with its unit, for example 512MiB or 10GB", quoted(s))
	if !sizeForm.MatchString(s) {
		return 0, bad
	}
	text := strings.TrimSuffix(s, "/s")
	for _, u := range units {
		num, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
		if err != nil || v*float64(u.factor) >= 1<<62 {
			return 0, bad
		}
		return Size(v * float64(u.factor)), nil
	}
	return 0, bad
}

func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if f := Size(units[i].factor); s != 0 && s%f == 0 {
			return strconv.FormatInt(int64(s/f), 10) + units[i].suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText writes the size with its unit.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a size with a unit.
func (s *Size) UnmarshalText(text []byte) error {
	v, err := ParseSize(string(text))
	if err == nil {
		*s = v
	}
	return err
}

// UnmarshalJSON refuses bare numbers: a size carries its unit.
func (s *Size) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("%s is not a size: write a number with its unit in quotes, for example \"512MiB\"", b)
	}
	return s.UnmarshalText([]byte(text))
}
