package numbers

import (
	"fmt"

	"github.com/zeebo/xxh3"
	bolt "go.etcd.io/bbolt"
)

// maxProblems bounds what a check says; more of the same helps nobody.
const maxProblems = 20

// Check is what was found when the whole database was read.
type Check struct {
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"` // in words, at most 20
	Count    uint64   `json:"count"`
	Oldest   Number   `json:"oldest"`
	Newest   Number   `json:"newest"`
	// LogNewest is the newest number of the second disk; 0 without one.
	LogNewest uint64 `json:"log_newest"`
}

func (c *Check) problem(format string, args ...any) {
	if len(c.Problems) < maxProblems {
		c.Problems = append(c.Problems, fmt.Sprintf(format, args...))
	}
}

// Check runs the database's own consistency check, looks for holes in the
// sequence and damaged payloads, and compares with the log on the second disk.
// Writes wait meanwhile.
func (s *Store) Check() (Check, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c Check
	seen := map[uint64]Number{}
	err := s.db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			c.problem("database: %v", err)
		}
		cursor := tx.Bucket(numbersBucket).Cursor()
		for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
			n, payload, err := decode(k, v)
			if err != nil {
				c.problem("database: %v", err)
				continue
			}
			if c.Count == 0 {
				c.Oldest = n
			} else if n.Number != c.Newest.Number+1 {
				c.problem("hole: number %d is followed by %d", c.Newest.Number, n.Number)
			}
			if xxh3.Hash(payload) != n.Sum {
				c.problem("number %d: the payload is damaged", n.Number)
			}
			c.Newest = n
			c.Count++
			seen[n.Number] = n
		}
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("check the database: %w", err)
	}
	if s.log != nil {
		if err := s.checkLog(&c, seen); err != nil {
			return c, err
		}
	}
	c.OK = len(c.Problems) == 0
	return c, nil
}

// checkLog holds the log against the database. A write reaches the log first,
// so the log may have one number more, which nobody was told of.
func (s *Store) checkLog(c *Check, seen map[uint64]Number) error {
	records, damaged, err := s.log.all()
	if err != nil {
		return err
	}
	for number := range records {
		c.LogNewest = max(c.LogNewest, number)
	}
	// A record that was being written at the instant of the cut may be torn.
	if damaged > 1 || damaged == 1 && c.LogNewest > c.Newest.Number {
		c.problem("log: %d damaged records", damaged)
	}
	if c.LogNewest < c.Newest.Number {
		c.problem("two disks, two instants: the database has number %d, the log only %d", c.Newest.Number, c.LogNewest)
	}
	if c.LogNewest > c.Newest.Number+1 {
		c.problem("two disks, two instants: the log has number %d, the database only %d", c.LogNewest, c.Newest.Number)
	}
	for number, n := range seen {
		if c.Newest.Number-number >= s.log.slots-1 {
			continue // its slot was used again
		}
		if r, ok := records[number]; !ok {
			c.problem("number %d is in the database but not in the log", number)
		} else if r.Sum != n.Sum || !r.Time.Equal(n.Time) {
			c.problem("number %d is another one in the log", number)
		}
	}
	return nil
}
