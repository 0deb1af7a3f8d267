package cloud

import (
	"context"
	"net"
	"time"
)

// Conn is a network connection; named here so that callers need not import net.
type Conn = net.Conn

// Entry is one line of a ledger: a resource that Lifeboat made or was about to make.
type Entry struct {
	Token     string     `json:"token"` // key: the client token of the creating call
	Kind      Kind       `json:"kind"`
	Plan      string     `json:"plan"`
	Server    string     `json:"server,omitempty"`
	Operation string     `json:"operation"`
	Role      string     `json:"role,omitempty"`
	ID        string     `json:"id,omitempty"` // empty until the call has answered
	Intended  time.Time  `json:"intended"`
	Created   *time.Time `json:"created,omitempty"`
	Deleted   *time.Time `json:"deleted,omitempty"`
	// Kept is set when the resource passed from its operation to the user (commit):
	// it is then no longer counted as left over.
	Kept bool `json:"kept,omitempty"`
}

// LedgerFilter selects entries; empty fields select all.
type LedgerFilter struct {
	Plan      string `json:"plan,omitempty"`
	Server    string `json:"server,omitempty"`
	Operation string `json:"operation,omitempty"`
	Role      string `json:"role,omitempty"`
}

// Ledger is the site's durable list of what Lifeboat made there. An entry is on
// stable storage before the call that it announces is made.
type Ledger interface {
	// Intend records that a resource is about to be made; the same token again returns the entry that is there.
	Intend(ctx context.Context, e Entry) (Entry, error)
	// Made records the identifier; the same again is nil, another identifier is TokenMismatch.
	Made(ctx context.Context, token, id string) error
	// Gone records that the resource is deleted (or was never made); the same again is nil.
	Gone(ctx context.Context, token string) error
	// Keep marks entries as handed over, and can change the role ("" leaves it).
	Keep(ctx context.Context, tokens []string, role string) error
	Entries(ctx context.Context, f LedgerFilter) ([]Entry, error)
}

// Match tells whether the filter selects an entry.
func (f LedgerFilter) Match(e Entry) bool {
	return (f.Plan == "" || f.Plan == e.Plan) && (f.Server == "" || f.Server == e.Server) &&
		(f.Operation == "" || f.Operation == e.Operation) && (f.Role == "" || f.Role == e.Role)
}
