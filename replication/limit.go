package replication

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"lifeboat/replication/delta"
)

// calendar reads Settings.Calendar; nil when there is none.
func (s Settings) calendar() (*delta.Calendar, error) {
	if s.Calendar == "" {
		return nil, nil
	}
	return delta.ParseCalendar(s.Calendar, parseRate)
}

// parseRate reads a rate as delta.Calendar writes it: 20MiB/s.
func parseRate(text string) (int64, error) {
	number, ok := strings.CutSuffix(text, "B/s")
	shift := 0
	for i, unit := range []string{"Ki", "Mi", "Gi", "Ti"} {
		if rest, has := strings.CutSuffix(number, unit); has {
			number, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || n < 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("%q is not a rate; one looks like 20MiB/s", text)
	}
	return n << shift, nil
}

// validate checks settings; stream names them in errors.
func (s Settings) validate(stream string) error {
	if s.BytesPerSecond < 0 {
		return fmt.Errorf("%w: stream %s: bandwidth %d is negative; use 0 for unlimited", ErrInvalidSpec, stream, s.BytesPerSecond)
	}
	if _, err := s.calendar(); err != nil {
		return fmt.Errorf("stream %s: %w", stream, err)
	}
	return nil
}

// limit makes the settings' bandwidth the one that holds, until the next call.
func (s *sourceStream) limit(settings Settings) error {
	calendar, err := settings.calendar()
	if err != nil {
		return err
	}
	s.limiting.Lock()
	defer s.limiting.Unlock()
	s.unfollow()
	s.unfollow = func() {}
	if calendar == nil {
		s.throttle.Set(settings.BytesPerSecond)
		return nil
	}
	ctx, cancel := context.WithCancel(s.engine.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.throttle.Follow(ctx, calendar)
	}()
	s.unfollow = func() { cancel(); <-ended }
	return nil
}
