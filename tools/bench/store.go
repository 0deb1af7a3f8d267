package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
)

// row is one run in the results file.
type row struct {
	Job     string `json:"job"`
	Who     string `json:"who"`
	Variant string `json:"variant"`
	outcome
	Error string `json:"error,omitempty"`
}

// session is a measurement: what was measured where, and all rows.
type session struct {
	About about
	Rows  []row
	Done  []string // jobs that are whole
}

// about describes a session; two sessions with the same one can be joined.
type about struct {
	Machine string `json:"machine"`
	Product string `json:"product"` // digest of the program, "" without it
	Size    int64  `json:"size"`
	Runs    int    `json:"runs"`
}

// line is one line of the results file; one of its parts is set.
type line struct {
	About *about `json:"about,omitempty"`
	Row   *row   `json:"row,omitempty"`
	Done  string `json:"done,omitempty"`
}

// store appends the rows of a session to the results file.
type store struct {
	session
	file *os.File
}

// openStore starts a results file, or goes on with one of the same session:
// of it the whole jobs are kept.
func openStore(path string, a about, resume bool) (*store, error) {
	s := &store{session: session{About: a}}
	if resume {
		old, err := readResults(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return nil, err
		case old.About != a:
			progress("%s is of another program, machine, size or count of runs: all is measured anew", path)
		default:
			s.Done = old.Done
			for _, r := range old.Rows {
				if slices.Contains(old.Done, r.Job) {
					s.Rows = append(s.Rows, r)
				}
			}
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	s.file = f
	lines := []line{{About: &a}}
	for i := range s.Rows {
		lines = append(lines, line{Row: &s.Rows[i]})
	}
	for _, d := range s.Done {
		lines = append(lines, line{Done: d})
	}
	return s, s.write(lines...)
}

func (s *store) write(lines ...line) error {
	for _, l := range lines {
		b, err := json.Marshal(l)
		if err != nil {
			return err
		}
		if _, err := s.file.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) add(r row) error {
	s.Rows = append(s.Rows, r)
	return s.write(line{Row: &r})
}

func (s *store) finish(job string) error {
	s.Done = append(s.Done, job)
	return s.write(line{Done: job})
}

func (s *store) done(job string) bool { return slices.Contains(s.Done, job) }

func (s *store) close() error { return s.file.Close() }

// readResults reads a results file. A last line that was cut off is left out.
func readResults(path string) (session, error) {
	var s session
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	n := 0
	for scan := bufio.NewScanner(bytes.NewReader(b[:bytes.LastIndexByte(b, '\n')+1])); scan.Scan(); {
		n++
		var l line
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			return s, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		switch {
		case l.About != nil:
			s.About = *l.About
		case l.Row != nil:
			s.Rows = append(s.Rows, *l.Row)
		case l.Done != "":
			s.Done = append(s.Done, l.Done)
		}
	}
	return s, nil
}
