package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"lifeboat/replication/volume"
)

// parseChanges reads lines of OFFSET LENGTH, decimal numbers of bytes. Empty lines and what
// follows a # do not count. Ranges may come in any order and overlap. The result is never nil:
// an empty list says that nothing changed.
func parseChanges(r io.Reader) ([]volume.Extent, error) {
	changes := []volume.Extent{}
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		n++
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		e, err := parseChange(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		changes = append(changes, e)
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: too long for OFFSET LENGTH; is this a list of changes?", n+1)
	}
	return changes, lines.Err()
}

func parseChange(fields []string) (e volume.Extent, err error) {
	if len(fields) != 2 {
		return e, fmt.Errorf("%d words; write OFFSET LENGTH, for example 4096 8192", len(fields))
	}
	if e.Offset, err = parseBytes("offset", fields[0]); err != nil {
		return e, err
	}
	if e.Length, err = parseBytes("length", fields[1]); err != nil {
		return e, err
	}
	if e.Length > math.MaxInt64-e.Offset {
		return e, fmt.Errorf("the range %d+%d ends behind all volumes", e.Offset, e.Length)
	}
	return e, nil
}

func parseBytes(what, text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || text[0] == '+' {
		return 0, fmt.Errorf("%s %q is not a number of bytes, such as 4096", what, text)
	}
	return int64(n), nil
}
