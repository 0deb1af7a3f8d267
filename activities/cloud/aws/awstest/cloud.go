package awstest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options of a double. The zero value works: everything is fast, and nothing fails.
type Options struct {
	// Directory of volumes, snapshots and running instances.
	Directory string
	// Delay is how long a piece of work takes: "volume", "snapshot", "copy", "image",
	// "instance", "change", "script", …; nil = DefaultDelay.
	Delay func(work string) time.Duration
	// Lag is how long a new identifier is not found and not listed by describing calls
	// (https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html).
	Lag time.Duration
	// PageSize bounds every listing, so that pages are followed; 0 = the service's own.
	PageSize int
	// Guest says how an instance is run.
	Guest func(Guest) Program
	// Quotas by name, see the services; missing = the documented default.
	Quotas map[string]int
}

// Guest is an instance that is going to run.
type Guest struct {
	ID, PrivateIP string
	UserData      string
	Tags          map[string]string
	Disks         []GuestDisk
}

// GuestDisk is a volume in its place.
type GuestDisk struct{ Device, VolumeID, Path string }

// Program is how the local runtimes run a guest.
type Program struct {
	Launch map[string]string // runtime and command, as cloud.Server.Launch of a local site
	Ports  []int
}

// DefaultDelay makes states visible and tests quick.
func DefaultDelay(string) time.Duration { return 3 * time.Millisecond }

// Account is who signs. Accounts are made by the first use of an access key.
type Account struct {
	ID string // twelve digits
}

// Cloud is a running double.
type Cloud struct {
	Options
	URL string

	mu       sync.Mutex
	accounts map[string]*Account // by access key
	regions  map[regionKey]*Region
	requests []Request
	rules    []*Rule
	ids      int
	closers  []func() error
	server   *httptest.Server
}

type regionKey struct{ account, region string }

// Region is what an account has in a region. Global services live in "us-east-1".
type Region struct {
	Account string
	Name    string
	parts   map[reflect.Type]any
}

// part is the state that a service keeps in a region, made at its first use.
func part[T any](r *Region) *T {
	t := reflect.TypeFor[T]()
	if p, ok := r.parts[t]; ok {
		return p.(*T)
	}
	p := new(T)
	r.parts[t] = p
	return p
}

// Start runs a double on a free port of loopback.
func Start(o Options) (*Cloud, error) {
	if o.Directory == "" {
		return nil, errors.New("awstest: Options.Directory is missing")
	}
	if err := os.MkdirAll(o.Directory, 0o700); err != nil {
		return nil, err
	}
	if o.Delay == nil {
		o.Delay = DefaultDelay
	}
	c := &Cloud{Options: o, accounts: map[string]*Account{}, regions: map[regionKey]*Region{}}
	c.server = httptest.NewServer(c)
	c.URL = c.server.URL
	return c, nil
}

// New is Start for a test, which also ends it.
func New(t testing.TB, o Options) *Cloud {
	t.Helper()
	if o.Directory == "" {
		o.Directory = t.TempDir()
	}
	c, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Close ends the double and every instance that runs.
func (c *Cloud) Close() error {
	c.server.CloseClientConnections()
	c.server.Close()
	c.mu.Lock()
	closers := c.closers
	c.closers = nil
	c.mu.Unlock()
	var errs []error
	for i := len(closers) - 1; i >= 0; i-- {
		errs = append(errs, closers[i]())
	}
	return errors.Join(errs...)
}

// Address is where it listens.
func (c *Cloud) Address() net.Addr { return c.server.Listener.Addr() }

// region finds a region of an account. The lock is held.
func (c *Cloud) region(account, name string) *Region {
	k := regionKey{account, name}
	r, ok := c.regions[k]
	if !ok {
		r = &Region{Account: account, Name: name, parts: map[reflect.Type]any{}}
		c.regions[k] = r
	}
	return r
}

// account gives the account of an access key: keys of AssumeRole name theirs, all others
// belong to one account, 111111111111. The lock is held.
func (c *Cloud) account(key string) *Account {
	a, ok := c.accounts[key]
	if !ok {
		a = &Account{ID: "111111111111"}
		c.accounts[key] = a
	}
	return a
}

// newID gives an identifier as EC2 makes them: prefix and 17 hexadecimal digits. The lock is held.
func (c *Cloud) newID(prefix string) string {
	c.ids++
	return fmt.Sprintf("%s-%017x", prefix, 0xf0000000000+c.ids)
}

// scope is what a request was signed for.
type scope struct{ key, region, service string }

// scopeOf reads the credential scope of Signature Version 4
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
func scopeOf(r *http.Request) (scope, bool) {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if auth := r.Header.Get("Authorization"); auth != "" {
		_, rest, _ := strings.Cut(auth, "Credential=")
		credential, _, _ = strings.Cut(rest, ",")
	}
	credential, err := url.PathUnescape(credential)
	f := strings.Split(credential, "/")
	if err != nil || len(f) != 5 || f[4] != "aws4_request" {
		return scope{}, false
	}
	return scope{key: f[0], region: f[2], service: f[3]}, true
}
