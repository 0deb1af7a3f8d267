package delta

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Calendar is a bandwidth limit that depends on day and time. The first rule that covers a
// moment holds; where none does, Else. Limits are bytes a second, 0 is none. Days and times are
// those of the zone in which a moment is given.
type Calendar struct {
	Rules []CalendarRule
	Else  int64
}

// CalendarRule limits some hours of some days.
type CalendarRule struct {
	// First and Last are the days; fri to mon goes over the weekend.
	First, Last time.Weekday
	// From and To are times since midnight. Where From is not before To, the rule holds past
	// midnight, and the day is that on which it began.
	From, To time.Duration
	Limit    int64
}

const (
	day = 24 * time.Hour
	// unlimited is how no limit is written.
	unlimited = "unlimited"
)

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseCalendar reads rules, with a comma between them:
//
//	mon-fri 08:00-18:00 20MiB/s, sat 50MiB/s, else unlimited
//
// Days may be left away (every day), and times (all day). "else" comes last; without it there is
// no limit where no rule holds. A limit alone holds always. rate reads a limit.
func ParseCalendar(text string, rate func(string) (int64, error)) (*Calendar, error) {
	c := &Calendar{}
	parts := strings.Split(text, ",")
	for i, part := range parts {
		words := strings.Fields(part)
		if len(words) == 0 {
			return nil, badCalendar(part, "it is empty")
		}
		limit, err := parseLimit(words[len(words)-1], rate)
		if err != nil {
			return nil, badCalendar(part, err.Error())
		}
		words = words[:len(words)-1]
		last := i == len(parts)-1
		switch {
		case len(words) == 1 && words[0] == "else" && !last:
			return nil, badCalendar(part, "it has to be the last one")
		case len(words) == 1 && words[0] == "else", len(words) == 0 && len(parts) == 1:
			c.Else = limit
			continue
		case len(words) == 0:
			return nil, badCalendar(part, "it says neither days, nor times, nor else")
		}
		r, err := parseRule(words)
		if err != nil {
			return nil, badCalendar(part, err.Error())
		}
		r.Limit = limit
		c.Rules = append(c.Rules, r)
	}
	return c, nil
}

func badCalendar(part, why string) error {
	return fmt.Errorf("%w: rule %q of the bandwidth: %s; write for example mon-fri 08:00-18:00 20MiB/s, else unlimited",
		ErrInvalidSpec, strings.TrimSpace(part), why)
}

func parseLimit(word string, rate func(string) (int64, error)) (int64, error) {
	if word == unlimited {
		return 0, nil
	}
	n, err := rate(word)
	if err == nil && n <= 0 {
		err = fmt.Errorf("with %s nothing could be sent", word)
	}
	return n, err
}

// parseRule reads days and times.
func parseRule(words []string) (r CalendarRule, err error) {
	r = CalendarRule{First: time.Sunday, Last: time.Saturday, To: day}
	if first, last, ok := parseDays(words[0]); ok {
		r.First, r.Last = first, last
		words = words[1:]
	}
	if len(words) == 0 {
		return r, nil
	}
	if len(words) > 1 {
		return r, fmt.Errorf("%q is not a day (mon to sun) or a range of them", words[0])
	}
	from, to, ok := strings.Cut(words[0], "-")
	if r.From, err = parseTime(from); err == nil && ok {
		r.To, err = parseTime(to)
	}
	if err != nil || !ok || r.From == day {
		return r, fmt.Errorf("%q is neither days, such as mon-fri, nor times, such as 08:00-18:00", words[0])
	}
	return r, nil
}

func parseDays(word string) (first, last time.Weekday, ok bool) {
	a, b, isRange := strings.Cut(word, "-")
	if !isRange {
		b = a
	}
	i, k := slices.Index(dayNames, a), slices.Index(dayNames, b)
	return time.Weekday(i), time.Weekday(k), i >= 0 && k >= 0
}

// parseTime reads HH:MM up to 24:00.
func parseTime(word string) (time.Duration, error) {
	if word == "24:00" {
		return day, nil
	}
	t, err := time.Parse("15:04", word)
	if err != nil || len(word) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time", word)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// String writes a calendar as ParseCalendar reads it.
func (c *Calendar) String() string {
	if len(c.Rules) == 0 {
		return formatLimit(c.Else)
	}
	var parts []string
	for _, r := range c.Rules {
		parts = append(parts, r.String())
	}
	return strings.Join(append(parts, "else "+formatLimit(c.Else)), ", ")
}

// String writes a rule.
func (r CalendarRule) String() string {
	days := dayNames[r.First]
	if r.Last != r.First {
		days += "-" + dayNames[r.Last]
	}
	return fmt.Sprintf("%s %s-%s %s", days, formatTime(r.From), formatTime(r.To), formatLimit(r.Limit))
}

func formatTime(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute)
}

func formatLimit(n int64) string {
	if n == 0 {
		return unlimited
	}
	unit, units := "B", []string{"KiB", "MiB", "GiB", "TiB"}
	for n%1024 == 0 && len(units) > 0 {
		n, unit, units = n/1024, units[0], units[1:]
	}
	return fmt.Sprintf("%d%s/s", n, unit)
}

// LimitAt is the limit at a moment.
func (c *Calendar) LimitAt(t time.Time) int64 {
	for _, r := range c.Rules {
		if r.covers(t) {
			return r.Limit
		}
	}
	return c.Else
}

func (r CalendarRule) covers(t time.Time) bool {
	at := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute +
		time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
	if r.From < r.To {
		return r.onDay(t.Weekday()) && at >= r.From && at < r.To
	}
	return r.onDay(t.Weekday()) && at >= r.From || r.onDay((t.Weekday()+6)%7) && at < r.To
}

func (r CalendarRule) onDay(d time.Weekday) bool {
	return (d-r.First+7)%7 <= (r.Last-r.First+7)%7
}

// Next gives the next moment at which the limit changes; ok is false if it never does.
// Where clocks are put forward or back it may be off by that much.
func (c *Calendar) Next(t time.Time) (next time.Time, ok bool) {
	now := c.LimitAt(t)
	var moments []time.Time
	for _, r := range c.Rules {
		for ahead := range 9 {
			for _, at := range []time.Duration{r.From, r.To} {
				m := time.Date(t.Year(), t.Month(), t.Day()+ahead, int(at/time.Hour), int(at%time.Hour/time.Minute), 0, 0, t.Location())
				if m.After(t) {
					moments = append(moments, m)
				}
			}
		}
	}
	slices.SortFunc(moments, time.Time.Compare)
	for _, m := range moments {
		if c.LimitAt(m) != now {
			return m, true
		}
	}
	return t, false
}
