package cloud

import (
	"strings"
	"time"
)

// Site is one place where servers can run. Account, Region and Zone are a
// cloud's; Directory is the data directory of a local site.
type Site struct {
	Name      string `json:"name"`
	Provider  string `json:"provider"`
	Account   string `json:"account,omitempty"`
	Region    string `json:"region,omitempty"`
	Zone      string `json:"zone,omitempty"`
	Directory string `json:"directory,omitempty"`
	// Role of the account that is assumed for every call, and the external ID that it asks for.
	Role       string `json:"role,omitempty"`
	ExternalID string `json:"external_id,omitempty"`
	// Bucket of object storage in the region, for the ledger and what is kept beside it.
	Bucket string `json:"bucket,omitempty"`
	// VPC is where networks are made; empty = the account's default one.
	VPC string `json:"vpc,omitempty"`
}

// Kind names a kind of resource in ledgers, filters and reports.
type Kind string

const (
	KindServer   Kind = "server"
	KindDisk     Kind = "disk"
	KindSnapshot Kind = "snapshot"
	KindImage    Kind = "image"
	KindNetwork  Kind = "network"
	KindAddress  Kind = "address"
	KindRecord   Kind = "record"
)

// State of a resource. A state ending in "ing" passes by itself; the others stay.
type State string

const (
	Creating  State = "creating"  // on its way to Available or Running
	Available State = "available" // disk, snapshot, image, network, address: ready, not attached
	Attached  State = "attached"  // disk, address: belongs to a server
	Starting  State = "starting"  // server: on its way to Running
	Running   State = "running"   // server: executes
	Stopping  State = "stopping"  // server: on its way to Stopped
	Stopped   State = "stopped"   // server: keeps disks and address, does not execute
	Failing   State = "failed"    // ended badly; Message says why
	Deleting  State = "deleting"  // on its way to NotFound
)

// Tags that Lifeboat puts on everything it creates.
const (
	TagPlan      = "lifeboat-plan"
	TagServer    = "lifeboat-server"
	TagOperation = "lifeboat-operation" // workflow ID of the operation that made it
	TagToken     = "lifeboat-token"     // client token, so that it is found again
	TagRole      = "lifeboat-role"      // replica | point | recovered | drill
	TagPoint     = "lifeboat-point"     // snapshots: the recovery point that they belong to
)

// Resource is what all resources have in common.
type Resource struct {
	ID      string            `json:"id"`
	Name    string            `json:"name,omitempty"`
	State   State             `json:"state"`
	Message string            `json:"message,omitempty"` // why a state is Failing
	Tags    map[string]string `json:"tags,omitempty"`
	Created time.Time         `json:"created"`
}

// Create is what all creating calls have in common.
type Create struct {
	Token string            `json:"token"` // client token: 1 to 64 printable ASCII characters
	Name  string            `json:"name,omitempty"`
	Tags  map[string]string `json:"tags,omitempty"`
	// Repeat says that an earlier attempt with this token may have reached the
	// provider (a retry, or a ledger entry without an identifier). A provider whose
	// API has no token then looks for the tag [TagToken] until its listings are sure
	// to show what that attempt made, before it creates. It is no parameter of the
	// resource: calls that differ in it alone are the same.
	Repeat bool `json:"-"`
}

// Filter selects resources that carry all the given tags; an empty one selects all.
type Filter struct {
	Tags map[string]string `json:"tags,omitempty"`
}

// Match tells whether tags satisfy the filter.
func (f Filter) Match(tags map[string]string) bool {
	for k, v := range f.Tags {
		if got, there := tags[k]; !there || got != v {
			return false
		}
	}
	return true
}

// Provider is what every provider is; capabilities are found with [As].
type Provider interface {
	// Site tells which place this value acts on.
	Site() Site
	// Close releases what the value holds; resources of the site stay.
	Close() error
}

// As returns the capability T of a provider, or an Unsupported error that names it.
func As[T any](p Provider, capability string) (T, error) {
	c, ok := p.(T)
	if !ok {
		return c, E(Unsupported, capability, "site "+p.Site().Name,
			"provider "+p.Site().Provider+" has no "+capability, "use another site or way for this step", nil)
	}
	return c, nil
}

// CheckToken returns InvalidInput unless token is 1 to 64 printable ASCII characters.
func CheckToken(op string, kind Kind, token string) error {
	if len(token) < 1 || len(token) > 64 || strings.IndexFunc(token, func(r rune) bool { return r < 0x20 || r > 0x7e }) >= 0 {
		return E(InvalidInput, op, string(kind), "the client token is not made of 1 to 64 printable ASCII characters",
			"derive it from the operation and the step", nil)
	}
	return nil
}
