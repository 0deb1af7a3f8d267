package cloud

import (
	"context"
	"time"
)

// Network is where private addresses live. Isolated tells whether servers in it
// can be reached only through addresses that were associated on purpose.
type Network struct {
	Resource
	CIDR     string `json:"cidr"`
	Zone     string `json:"zone,omitempty"`
	Isolated bool   `json:"isolated"`
	Note     string `json:"note,omitempty"` // e.g. why there is no isolation
	Free     int    `json:"free"`           // private addresses not in use
}

// CreateNetwork asks for a network with a CIDR.
type CreateNetwork struct {
	Create
	CIDR string `json:"cidr"`
	Zone string `json:"zone,omitempty"`
}

// Networks finds and makes networks.
type Networks interface {
	StartCreateNetwork(ctx context.Context, in CreateNetwork) (Network, error)
	// Network finds a network by identifier or by name.
	Network(ctx context.Context, idOrName string) (Network, error)
	Networks(ctx context.Context, f Filter) ([]Network, error)
	// CheckAddress returns nil when ip lies in the network and is free, InvalidInput or AddressTaken otherwise.
	CheckAddress(ctx context.Context, network, ip string) error
	// DeleteNetwork deletes a network; with servers in it, it is InUse. Poll until NotFound.
	DeleteNetwork(ctx context.Context, id string) error
	// Dial opens a TCP connection to a private address of the network, for health
	// checks. Where only machines of the network reach it, it is Unsupported unless
	// the caller runs there.
	Dial(ctx context.Context, network, hostport string) (Conn, error)
}

// Address is a public address that can be moved between servers.
type Address struct {
	Resource
	Public string `json:"public"` // the address that users see
	Server string `json:"server,omitempty"`
}

// Addresses reserves and moves public addresses.
type Addresses interface {
	AllocateAddress(ctx context.Context, in Create) (Address, error)
	Address(ctx context.Context, idOrName string) (Address, error)
	Addresses(ctx context.Context, f Filter) ([]Address, error)
	// AssociateAddress moves the address to a server; poll Address until it is
	// Attached to that server, where it is already when the cloud does it at once.
	// There already is nil. With an
	// address of another server it needs reassociate, otherwise InUse.
	AssociateAddress(ctx context.Context, id, server string, reassociate bool) error
	// DisassociateAddress takes the address from its server; without one it is nil.
	DisassociateAddress(ctx context.Context, id string) error
	// ReleaseAddress gives the address back; one that belongs to a server is InUse.
	ReleaseAddress(ctx context.Context, id string) error
}

// Record is one DNS record (set). SetID and Weight belong to weighted records.
type Record struct {
	Name   string        `json:"name"` // fully qualified, no trailing dot
	Type   string        `json:"type"` // A, CNAME, TXT
	TTL    time.Duration `json:"ttl"`
	Values []string      `json:"values"`
	SetID  string        `json:"set_id,omitempty"`
	Weight *int          `json:"weight,omitempty"`
}

// Change is a change of DNS on its way to every name server.
type Change struct {
	ID    string `json:"id"`
	State State  `json:"state"` // Creating until every name server has it, then Available
}

// Names changes DNS. Setting weighted beside simple records of one name and type
// is InvalidInput, and nothing of the change is done. Weights are 0 to 255, in
// proportion; a cloud without weight 0 switches the record off instead. Changes
// are idempotent by their content, the token serves where the API has one.
type Names interface {
	// StartSetRecords replaces the given record sets atomically; the same content again is fine.
	StartSetRecords(ctx context.Context, zone, token string, records []Record) (Change, error)
	// StartDeleteRecords removes record sets by name, type and set: all of them, or
	// none when one is NotFound. The same token again is the same change.
	StartDeleteRecords(ctx context.Context, zone, token string, records []Record) (Change, error)
	Change(ctx context.Context, id string) (Change, error)
	// Records lists the record sets of a name; an empty name lists the zone.
	Records(ctx context.Context, zone, name string) ([]Record, error)
	// Resolver returns the address (host:port) of a name server that answers for the zone.
	Resolver(ctx context.Context, zone string) (string, error)
}

// RunScript asks for a script to be run on a server.
type RunScript struct {
	Token   string            `json:"token"`
	Server  string            `json:"server"`
	Content string            `json:"content"`
	Env     map[string]string `json:"env,omitempty"`
	Timeout time.Duration     `json:"timeout"`
}

// ScriptRun is a script on its way.
type ScriptRun struct {
	ID       string `json:"id"`
	State    State  `json:"state"` // Running, Available (ended, see ExitCode) or Failing (time limit, lost)
	ExitCode int    `json:"exit_code"`
	Output   string `json:"output"` // the last 16 KiB of standard output and error
	Message  string `json:"message,omitempty"`
}

// Scripts runs commands on servers.
type Scripts interface {
	// StartScript begins a script, as the most privileged user the provider has. The
	// same token never runs it twice. A server that cannot take one yet is NotReady,
	// one that never will Unsupported. Poll ScriptRun until it is not Running.
	StartScript(ctx context.Context, in RunScript) (ScriptRun, error)
	ScriptRun(ctx context.Context, id string) (ScriptRun, error)
}
