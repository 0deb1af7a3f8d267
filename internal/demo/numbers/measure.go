package numbers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// History is what a client was told, less what recoveries have lawfully lost.
type History struct {
	path   string
	offset int64
	acked  []Ack
	times  []time.Time // of every acknowledgement, also of writes that were lost since
}

// NewHistory follows the log that a client appends to.
func NewHistory(path string) *History { return &History{path: path} }

// Update reads what the client has logged since, and returns the newest acknowledged write.
func (h *History) Update() (newest Ack, err error) {
	acks, next, err := ReadAcks(h.path, h.offset)
	h.acked, h.offset = append(h.acked, acks...), next
	for _, a := range acks {
		h.times = append(h.times, a.Acked)
	}
	if err != nil || len(h.acked) == 0 {
		return Ack{}, err
	}
	return h.acked[len(h.acked)-1], nil
}

// Acked counts the writes that were ever acknowledged.
func (h *History) Acked() int { return len(h.times) }

// Recovery is what is known about a recovery before its database is looked at.
type Recovery struct {
	URL       string       // of the recovered numbers server
	Client    *http.Client // nil = the default one; a drill is reached from inside its network
	Declared  time.Time    // T0
	PointTime time.Time    // instant of the cut of the recovery point
	// Branch is set when the recovered server is one beside production (a drill):
	// what it does not have is not lost.
	Branch bool
	// Until, when set, leaves out what was acknowledged later: production went on elsewhere.
	Until time.Time
}

// Measurement is what a recovery has achieved, found in the recovered database.
type Measurement struct {
	// Newest write of before the recovery that was found.
	Newest Number `json:"newest"`
	// RPO is T0 less the time of Newest; zero when that is later.
	RPO time.Duration `json:"rpo"`
	// Acked writes of the client; Found of them in the database (as far as it keeps
	// them); LostAfter the point, as its age allows; LostBefore the point: must be 0.
	Acked      int   `json:"acked"`
	Found      int   `json:"found"`
	LostAfter  int   `json:"lost_after"`
	LostBefore int   `json:"lost_before"`
	Check      Check `json:"check"`
	// Problems in words; none means that the recovery kept its promises.
	Problems []string `json:"problems,omitempty"`
}

// OK tells whether the recovery kept its promises.
func (m Measurement) OK() bool { return len(m.Problems) == 0 }

// Measure reads the recovered database and compares it with what the client was
// told: the database's check must pass, and nothing acknowledged before the
// instant of the recovery point may be missing. What was lost lawfully is
// forgotten, unless the recovery is a branch.
func (h *History) Measure(ctx context.Context, r Recovery) (Measurement, error) {
	var m Measurement
	if _, err := h.Update(); err != nil {
		return m, err
	}
	if r.Client == nil {
		r.Client = http.DefaultClient
	}
	if err := call(ctx, r.Client, http.MethodGet, r.URL+"/check", &m.Check); err != nil {
		return m, fmt.Errorf("check the recovered database: %w", err)
	}
	m.Problems = append(m.Problems, m.Check.Problems...)
	have, err := readNumbers(ctx, r.Client, r.URL, m.Check.Oldest.Number)
	if err != nil {
		return m, fmt.Errorf("read the recovered database: %w", err)
	}
	kept := h.acked[:0:0]
	for _, a := range h.acked {
		if a.Number.Number < m.Check.Oldest.Number {
			kept = append(kept, a)
			continue // the database has forgotten it on purpose
		}
		if !r.Until.IsZero() && a.Acked.After(r.Until) {
			kept = append(kept, a)
			continue
		}
		m.Acked++
		n, found := have[a.Number.Number]
		switch {
		case found && n.Sum == a.Sum && n.Time.Equal(a.Time):
			m.Found++
			kept = append(kept, a)
		case a.Acked.Before(r.PointTime):
			m.LostBefore++
		default:
			m.LostAfter++
		}
	}
	if m.LostBefore > 0 {
		m.Problems = append(m.Problems, fmt.Sprintf("%d acknowledged writes older than the recovery point are missing", m.LostBefore))
	}
	m.Newest = newestBefore(have, r.Declared)
	if m.Newest.Number == 0 {
		m.Problems = append(m.Problems, "no write of before the outage was found")
	} else {
		m.RPO = r.Declared.Sub(m.Newest.Time)
	}
	if !r.Branch {
		h.acked = kept
	}
	return m, nil
}

// newestBefore finds the newest write of before an instant: later ones were made
// at the recovered server itself.
func newestBefore(have map[uint64]Number, t time.Time) (newest Number) {
	for _, n := range have {
		if n.Number > newest.Number && !n.Time.After(t) {
			newest = n
		}
	}
	return newest
}

func readNumbers(ctx context.Context, client *http.Client, url string, from uint64) (map[uint64]Number, error) {
	have := map[uint64]Number{}
	for {
		var page NumbersPage
		if err := call(ctx, client, http.MethodGet, fmt.Sprintf("%s/numbers?from=%d", url, from), &page); err != nil {
			return nil, err
		}
		for _, n := range page.Numbers {
			have[n.Number] = n
		}
		if len(page.Numbers) < pageLimit {
			return have, nil
		}
		from = page.Numbers[len(page.Numbers)-1].Number + 1
	}
}

// ErrEmpty is returned by [AskNewest] for a database without any write.
var ErrEmpty = errors.New("the database has no write yet")

// AskNewest returns the newest write of a numbers server. It asks until the
// server answers, or ctx ends.
func AskNewest(ctx context.Context, url string) (Number, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var n Number
		err := call(ctx, http.DefaultClient, http.MethodGet, url+"/newest", &n)
		if err == nil && n.Number == 0 {
			err = ErrEmpty
		}
		if err == nil || errors.Is(err, ErrEmpty) {
			return n, err
		}
		select {
		case <-ctx.Done():
			return n, err
		case <-tick.C:
		}
	}
}

// AskHealth asks a numbers server once how it is.
func AskHealth(ctx context.Context, client *http.Client, url string) (Health, error) {
	var h Health
	err := call(ctx, client, http.MethodGet, url+"/healthz", &h)
	return h, err
}

// Fill writes so many bytes of random payload, 1 MiB at a time, before a client begins.
func Fill(ctx context.Context, url string, bytes int64) error {
	for ; bytes > 0; bytes -= maxPayload {
		var n Number
		if err := call(ctx, http.DefaultClient, http.MethodPost, fmt.Sprintf("%s/write?bytes=%d", url, min(bytes, maxPayload)), &n); err != nil {
			return fmt.Errorf("fill the database: %w", err)
		}
	}
	return nil
}

// Silence is the longest time in which the client had no answer, within a span of time.
func (h *History) Silence(from, to time.Time) time.Duration {
	longest, last := time.Duration(0), from
	for _, at := range h.times {
		if at.Before(from) {
			continue
		}
		if at.After(to) {
			break
		}
		longest, last = max(longest, at.Sub(last)), at
	}
	return max(longest, to.Sub(last))
}
